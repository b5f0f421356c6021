/* Events of one bus go to another: each is acknowledged here when it is on disk there, so that nothing is lost whoever dies. (The other way round it is gw_source_amqp.)
 *
 *     shovel BUS PATTERN ELSEWHERE      until SIGTERM */
#include "bus.h"

#include <signal.h>

static gw_loop *loop;
static gw_bus *elsewhere;

static void on_published(void *event, int result)
{
    if (result == GW_DONE)
        gw_event_ack(event);
    else
        gw_event_retry(event);
}

static void on_event(gw_event *event, void *context)
{
    (void)context;
    const gw_publish_options options = { .id = gw_event_id(event), .source = gw_event_source(event), .subject = gw_event_subject(event), .content_type = gw_event_content_type(event),
                                         .key = gw_event_key(event), .time_ms = gw_event_time_ms(event) };
    if (gw_publish(elsewhere, gw_event_type(event), gw_event_data(event), gw_event_size(event), &options, on_published, event) != GW_DONE)
        gw_event_retry(event);
}

static void on_closed(void *context, int result)
{
    (void)context, (void)result;
    gw_loop_stop(loop);
}

static void on_signal(int number)
{
    (void)number;
    gw_loop_stop(loop);
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    signal(SIGTERM, on_signal);
    loop = gw_loop_new();
    gw_bus *bus = open_bus(loop, argv[1]);
    elsewhere = open_bus(loop, argv[3]);
    gw_handler *handler = gw_on(bus, argv[2], on_event, NULL, &(gw_handler_options){ .name = "shovel", .concurrency = 100, .retries = GW_RETRY_FOREVER });
    int result = gw_loop_run(loop);
    if (result < 0)
        fprintf(stderr, "%s\n", gw_error(loop));
    /* What is on its way is answered first, while the events that it was made of are still in hand. */
    gw_off(handler);
    if (gw_close(elsewhere, 2000, on_closed, NULL) == GW_DONE)
        gw_loop_run(loop);
    gw_loop_free(loop);
    return -result;
}
