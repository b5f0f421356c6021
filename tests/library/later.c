/* later BUS: two events of one key and one of another; the first is to come again after 300 ms. Says what came, when, and in which order; ends by itself. */
#include <godwit.h>
#include <stdio.h>
#include <string.h>

static gw_bus *bus;
static int acknowledged;
static gw_timer *clock_timer;
static unsigned ticks;   /* of 50 ms */

static void on_tick(gw_timer *timer, void *context)
{
    (void)timer, (void)context;
    ticks++;
}

static void on_event(gw_event *event, void *context)
{
    (void)context;
    printf("%.*s attempt %u%s\n", (int)gw_event_size(event), (const char *)gw_event_data(event), gw_event_attempt(event), ticks >= 5 ? " later" : "");
    fflush(stdout);
    if (memcmp(gw_event_data(event), "a1", 2) == 0 && gw_event_attempt(event) == 1) {
        gw_event_retry_after(event, 300);
        return;
    }
    gw_event_ack(event);
    if (++acknowledged < 4)
        return;
    gw_timer_stop(clock_timer);
    gw_close(bus, 1000, NULL, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    gw_loop *loop = gw_loop_new();
    const uint64_t hour_ms = 3600000;
    bus = strncmp(argv[1], "amqp", 4) == 0 ? gw_connect(loop, argv[1], NULL) : gw_open(loop, argv[1], NULL);
    gw_on(bus, "t", on_event, NULL, &(gw_handler_options){.name = "later", .concurrency = 2, .order_by_key = 1, .retry_delays_ms = &hour_ms, .retry_delay_count = 1});
    const char *const all[] = {"a1", "a2", "b1", "b2"};
    for (int i = 0; i < 4; i++)
        if (gw_publish(bus, "t", all[i], 2, &(gw_publish_options){.key = i < 2 ? "a" : "b"}, NULL, NULL) != GW_DONE)
            return 1;
    clock_timer = gw_timer_start(loop, 50, 50, on_tick, NULL);
    int result = gw_loop_run(loop);
    if (result)
        fprintf(stderr, "%s\n", gw_error(loop));
    gw_loop_free(loop);
    return result ? 1 : 0;
}
