/* One loop for everything: timers that publish, handlers that publish in turn, and a graceful end.
 *
 *     event_loop [BUS] */
#include "bus.h"

static gw_bus *bus;
static int ticks;

static void on_tick(gw_timer *timer, void *context)
{
    (void)context;
    char text[16];
    int size = snprintf(text, sizeof text, "%d", ++ticks);
    gw_publish(bus, "tick", text, (size_t)size, NULL, NULL, NULL);
    if (ticks == 3)
        gw_timer_stop(timer);
}

static void on_tick_event(gw_event *event, void *context)
{
    (void)context;
    printf("tick %.*s\n", (int)gw_event_size(event), (const char *)gw_event_data(event));
    if (*(const char *)gw_event_data(event) == '3')
        gw_publish(bus, "bell", "ding", 4, NULL, NULL, NULL);
    gw_event_ack(event);
}

static void on_closed(void *context, int result)
{
    (void)context;
    printf("closed: %s\n", gw_result_text(result));
}

static void on_bell(gw_event *event, void *context)
{
    (void)context;
    printf("bell: %.*s\n", (int)gw_event_size(event), (const char *)gw_event_data(event));
    gw_event_ack(event);
    gw_close(bus, 1000, on_closed, NULL);      /* then the loop has nothing left to wait for, and returns */
}

int main(int argc, char **argv)
{
    gw_loop *loop = gw_loop_new();
    bus = open_bus(loop, argc > 1 ? argv[1] : NULL);
    gw_on(bus, "tick", on_tick_event, NULL, NULL);
    gw_on(bus, "bell", on_bell, NULL, NULL);
    gw_timer_start(loop, 10, 10, on_tick, NULL);
    int result = gw_loop_run(loop);
    gw_loop_free(loop);
    return result;
}
