/* handle BUS PATTERN [HOLD_MS]: says each event, and acknowledges it after that time. SIGTERM ends it well. */
#include <godwit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gw_loop *loop;
static uint64_t hold_ms;

static void on_notice(void *context, int level, const char *sentence)
{
    (void)context;
    printf("notice %d: %s\n", level, sentence);
    fflush(stdout);
}

static void on_held(gw_timer *timer, void *context)
{
    (void)timer;
    gw_event_ack(context);
}

static void on_event(gw_event *event, void *context)
{
    (void)context;
    printf("%s %.*s attempt %u%s\n", gw_event_type(event), (int)gw_event_size(event), (const char *)gw_event_data(event), gw_event_attempt(event),
           gw_event_redelivered(event) ? " again" : "");
    fflush(stdout);
    if (hold_ms)
        gw_timer_start(loop, hold_ms, 0, on_held, event);
    else
        gw_event_ack(event);
}

static void on_stop(int number)
{
    (void)number;
    gw_loop_stop(loop);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    loop = gw_loop_new();
    gw_bus *bus = strncmp(argv[1], "amqp", 4) == 0 ? gw_connect(loop, argv[1], &(gw_connect_options){.notice = on_notice, .retry_max_ms = 500, .ca_file = getenv("CA_FILE")})
                                                   : gw_open(loop, argv[1], NULL);
    hold_ms = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    const uint64_t delays_ms[] = {50};
    gw_on(bus, argv[2], on_event, NULL, &(gw_handler_options){.name = "handled", .concurrency = 100, .retry_delays_ms = delays_ms, .retry_delay_count = 1});
    signal(SIGTERM, on_stop);
    int result = gw_loop_run(loop);
    gw_loop_free(loop);
    return result ? 1 : 0;
}
