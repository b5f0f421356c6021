/* Which bus an example uses: the first argument is a broker's URI (amqp://…) or the directory of a bus in this process. */
#ifndef EXAMPLES_BUS_H
#define EXAMPLES_BUS_H

#include <godwit.h>
#include <stdio.h>
#include <string.h>

static inline gw_bus *open_bus(gw_loop *loop, const char *where)
{
    if (!where)
        where = "example.gw";
    gw_bus *bus = strncmp(where, "amqp", 4) == 0 ? gw_connect(loop, where, NULL) : gw_open(loop, where, NULL);
    if (!bus)
        fprintf(stderr, "%s\n", gw_error(loop));
    return bus;
}

#endif
