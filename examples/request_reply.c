/* Asking and answering: a request is an event that a handler replies to, here or in another process.
 *
 *     request_reply [BUS] */
#include "bus.h"

#include <stdlib.h>

static gw_bus *bus;
static unsigned left = 3;

static void on_square(gw_event *event, void *context)
{
    (void)context;
    char text[32];
    int number = atoi(gw_event_header(event, "number"));
    int size = snprintf(text, sizeof text, "%d", number * number);
    gw_event_reply(event, text, (size_t)size);
}

static void on_reply(void *context, int result, const void *data, size_t size)
{
    if (result == 0)
        printf("%s: %.*s\n", (const char *)context, (int)size, (const char *)data);
    else
        printf("%s: %s\n", (const char *)context, gw_result_text(result));
    if (--left == 0)
        gw_close(bus, 1000, NULL, NULL);
}

static void ask(const char *type, const char *number, const char *name)
{
    const gw_header header = {"number", number};
    const gw_request_options options = {.timeout_ms = 5000, .publish = {.headers = &header, .header_count = 1}};
    if (gw_request(bus, type, NULL, 0, &options, on_reply, (void *)name) < 0)
        fprintf(stderr, "%s\n", gw_error(gw_bus_loop(bus)));
}

int main(int argc, char **argv)
{
    gw_loop *loop = gw_loop_new();
    bus = open_bus(loop, argc > 1 ? argv[1] : NULL);
    gw_on(bus, "square", on_square, NULL, NULL);
    ask("square", "7", "the square of 7");
    ask("square", "12", "the square of 12");
    ask("cube", "3", "the cube of 3");       /* nobody handles that */
    int result = gw_loop_run(loop);
    gw_loop_free(loop);
    return result;
}
