/* By what something that belongs to a virtual host is found: the host's name, a zero, its id. */
#ifndef BUS_SCOPED_KEY_H
#define BUS_SCOPED_KEY_H

#include "base/bytes.h"

#include <string.h>

#define SCOPED_KEY_MAX (2u * UINT8_MAX + 1u)

/* Lies in `room`. Empty: one of the two has more than 255 bytes, and nothing has such a key. */
static inline struct bytes scoped_key(struct bytes vhost, struct bytes id, uint8_t room[SCOPED_KEY_MAX])
{
    if (vhost.size > UINT8_MAX || id.size > UINT8_MAX)
        return (struct bytes){0};
    memcpy(room, vhost.data, vhost.size);
    room[vhost.size] = 0;
    memcpy(room + vhost.size + 1, id.data, id.size);
    return bytes_of(room, vhost.size + 1 + id.size);
}

#endif
