/* Server-sent events become durable events, and a handler works through them. Killed at any instant and started again it goes on where it was: what the source sent is not lost.
 *
 *     sse_to_queue [BUS [URL]]      until SIGTERM */
#include "bus.h"

#include <signal.h>

static gw_loop *loop;

static void on_event(gw_event *event, void *context)
{
    (void)context;
    printf("%s: %.*s\n", gw_event_type(event), (int)gw_event_size(event), (const char *)gw_event_data(event));
    fflush(stdout);
    gw_event_ack(event);                       /* or gw_event_retry, gw_event_reject, or answer later */
}

static void on_signal(int number)
{
    (void)number;
    gw_loop_stop(loop);
}

int main(int argc, char **argv)
{
    signal(SIGTERM, on_signal);
    loop = gw_loop_new();
    gw_bus *bus = open_bus(loop, argc > 1 ? argv[1] : NULL);
    gw_source_sse(bus, argc > 2 ? argv[2] : "http://127.0.0.1:8080/events", NULL);
    gw_on(bus, "#", on_event, NULL, &(gw_handler_options){ .retries = 5 });
    int result = gw_loop_run(loop);
    if (result < 0)
        fprintf(stderr, "%s\n", gw_error(loop));
    gw_loop_free(loop);
    return -result;
}
