/* A queue of jobs: put by one program, done by any number of workers, over crashes of either. A job that fails is tried again, later each time; one that fails too often is given up, and
 * kept in the queue jobs.dead.
 *
 *     job_queue BUS put COUNT     puts that many jobs, and returns when they are safe
 *     job_queue BUS work          does jobs until it is told to stop (SIGTERM, Ctrl-C) */
#include "bus.h"

#include <signal.h>
#include <stdlib.h>

static gw_loop *loop;
static gw_bus *bus;

static void on_job(gw_event *event, void *context)
{
    (void)context;
    int number = atoi(gw_event_header(event, "number"));
    if (number % 10 == 3 && gw_event_attempt(event) == 1) {      /* every tenth one fails the first time */
        gw_event_retry(event);
        return;
    }
    if (number % 100 == 42) {                                    /* and some are hopeless */
        gw_event_reject(event);
        return;
    }
    printf("done %d\n", number);
    fflush(stdout);
    gw_event_ack(event);
}

static int put(int count)
{
    int safe = 0;
    for (int i = 1; i <= count; i++) {
        char id[32], number[16];
        snprintf(number, sizeof number, "%d", i);
        snprintf(id, sizeof id, "job-%d", i);
        const gw_header header = {"number", number};
        int result = gw_publish_wait(bus, "job", NULL, 0, &(gw_publish_options){.id = id, .headers = &header, .header_count = 1}, 10000);
        if (result < 0)
            fprintf(stderr, "%s: %s\n", id, gw_error(loop));
        safe += result == 0;
    }
    printf("put %d\n", safe);
    return safe == count ? 0 : 1;
}

static void on_stop(int number)
{
    (void)number;
    gw_loop_stop(loop);
}

int main(int argc, char **argv)
{
    loop = gw_loop_new();
    bus = open_bus(loop, argc > 1 ? argv[1] : NULL);
    const uint64_t delays_ms[] = {50, 1000, 60000};
    const gw_handler_options options = {.name = "jobs", .concurrency = 4, .retries = 5, .retry_delays_ms = delays_ms, .retry_delay_count = 3};
    gw_handler *handler = gw_on(bus, "job", on_job, NULL, &options);
    int result = 1;
    if (handler && argc == 4 && strcmp(argv[2], "put") == 0) {
        gw_off(handler);           /* its queue is there now, and stays */
        result = put(atoi(argv[3]));
    } else if (handler) {
        signal(SIGTERM, on_stop);
        signal(SIGINT, on_stop);
        puts("waiting for jobs");
        fflush(stdout);
        result = gw_loop_run(loop);
    }
    gw_loop_free(loop);            /* jobs in hand are finished before */
    return result;
}
