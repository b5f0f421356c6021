/* libgodwit in one process, measured from the outside: what bench/library runs. Prints one line of JSON.
 *
 *   library transient COUNT            events through gw_publish and one handler that stay in memory
 *   library durable DIRECTORY COUNT    the same through the disk: confirmed, handled, acknowledged
 *   library durable amqp://… COUNT     the same through a broker's
 *   library wait DIRECTORY COUNT       one after the other, each waited for (gw_publish_wait)
 *   library open DIRECTORY COUNT       opening a directory that is there, that many times
 */
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AHEAD 20000                  /* published and not yet handled */
#define AT_A_TIME 1000

static const char data[16] = "0123456789abcdef";

static gw_loop *loop;
static gw_bus *bus;
static long count, published, handled, confirmed;
static gw_publish_options options;

static double clock_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, gw_error(loop));
    exit(1);
}

static void is_done(void)
{
    if (handled == count && (options.transient || confirmed == count))
        gw_loop_stop(loop);
}

static void on_published(void *context, int result)
{
    (void)context;
    if (result != GW_DONE)
        fail("refused");
    confirmed++;
    is_done();
}

static void publish_some(int most)
{
    for (int i = 0; i < most && published < count; i++, published++)
        if (gw_publish(bus, "order.created", data, sizeof data, &options, options.transient ? NULL : on_published, NULL) != GW_DONE)
            fail("publish");
}

static void on_event(gw_event *event, void *context)
{
    (void)context;
    gw_event_ack(event);
    if (++handled % AT_A_TIME == 0)
        publish_some(AT_A_TIME);
    is_done();
}

static void print(const char *what, double seconds, double cpu)
{
    printf("{\"what\": \"%s\", \"count\": %ld, \"seconds\": %.6f, \"cpu\": %.6f}\n", what, count, seconds, cpu);
}

static void flow(const char *where)
{
    gw_handler_options handler = {.transient = options.transient};
    bus = strncmp(where, "amqp", 4) == 0 ? gw_connect(loop, where, NULL) : gw_open(loop, where, NULL);
    if (strncmp(where, "amqp", 4) == 0)
        handler.prefetch = 1000;     /* what is on its way there and back, and what waits here */
    if (!bus || !gw_on(bus, "order.*", on_event, NULL, &handler))
        fail("open");
    double begin = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    publish_some(AHEAD);
    gw_loop_run(loop);
    print(options.transient ? "transient" : "durable", clock_of(CLOCK_MONOTONIC) - begin, clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

static void one_by_one(const char *directory)
{
    bus = gw_open(loop, directory, NULL);
    if (!bus || !gw_on(bus, "order.*", on_event, NULL, NULL))
        fail("open");
    double begin = clock_of(CLOCK_MONOTONIC), cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    for (long i = 0; i < count; i++) {
        if (gw_publish_wait(bus, "order.created", data, sizeof data, NULL, -1) != GW_DONE)
            fail("publish");
        gw_loop_step(loop);
    }
    print("wait", clock_of(CLOCK_MONOTONIC) - begin, clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
}

static int earlier(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

static void opens(const char *directory)
{
    double *times = calloc((size_t)count, sizeof *times);
    for (long i = 0; i < count; i++) {
        double begin = clock_of(CLOCK_MONOTONIC);
        if (!gw_open(loop, directory, NULL))
            fail("open");
        times[i] = clock_of(CLOCK_MONOTONIC) - begin;
        gw_loop_free(loop);
        loop = gw_loop_new();
    }
    qsort(times, (size_t)count, sizeof *times, earlier);
    print("open", times[count / 2], 0);
    free(times);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    loop = gw_loop_new();
    options.transient = strcmp(what, "transient") == 0;
    count = argc > 2 ? atol(argv[argc - 1]) : 0;
    if (options.transient && argc == 3)
        flow(":memory:");
    else if (strcmp(what, "durable") == 0 && argc == 4)
        flow(argv[2]);
    else if (strcmp(what, "wait") == 0 && argc == 4)
        one_by_one(argv[2]);
    else if (strcmp(what, "open") == 0 && argc == 4)
        opens(argv[2]);
    else
        return 2;
    gw_loop_free(loop);
    return 0;
}
