/* Publishes numbered events and handles them, until it is killed: crash DIRECTORY FIRST COUNT
 * Says "safe N" when an event is confirmed, and "done N" before it is acknowledged. Ends when all that ever were published have been handled, with COUNT 0. */
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static gw_loop *loop;
static gw_bus *bus;
static long next, end;

/* In one write: what is said is said, whenever the program is killed. */
static void say(const char *what, long number)
{
    char line[64];
    int size = snprintf(line, sizeof line, "%s %ld\n", what, number);
    if (write(STDOUT_FILENO, line, (size_t)size) != size)
        abort();
}

static void on_event(gw_event *event, void *context)
{
    (void)context;
    if (gw_event_attempt(event) == 1 && atol(gw_event_id(event)) % 7 == 0) {
        gw_event_retry(event);
        return;
    }
    say("done", atol(gw_event_id(event)));
    gw_event_ack(event);
}

static void on_published(void *context, int result)
{
    if (result == 0)
        say("safe", (long)(intptr_t)context);
}

static void publish_some(gw_timer *timer, void *context)
{
    (void)context;
    for (int i = 0; i < 50 && next < end; i++, next++) {
        char id[24];
        snprintf(id, sizeof id, "%ld", next);
        if (gw_publish(bus, "job", "some data that is not short", 27, &(gw_publish_options){.id = id}, on_published, (void *)(intptr_t)next) != 0)
            fprintf(stderr, "%s\n", gw_error(loop));
    }
    if (next == end)
        gw_timer_stop(timer);
}

static void quiet(gw_timer *timer, void *context)
{
    (void)timer, (void)context;
    gw_loop_stop(loop);
}

int main(int argc, char **argv)
{
    loop = gw_loop_new();
    bus = gw_open(loop, argv[1], NULL);
    if (!bus || argc < 4) {
        fprintf(stderr, "%s\n", gw_error(loop));
        return 1;
    }
    next = atol(argv[2]);
    end = next + atol(argv[3]);
    gw_on(bus, "job", on_event, NULL, &(gw_handler_options){.name = "jobs", .concurrency = 10, .retry_delays_ms = (uint64_t[]){5}, .retry_delay_count = 1});
    if (next < end)
        gw_timer_start(loop, 1, 1, publish_some, NULL);
    else
        gw_timer_start(loop, 700, 0, quiet, NULL);
    int result = gw_loop_run(loop);
    gw_loop_free(loop);
    return result;
}
