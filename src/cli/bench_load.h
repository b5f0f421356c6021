/* A load: publishers and consumers, a thread each, from one starting shot until every message has arrived. */
#ifndef CLI_BENCH_LOAD_H
#define CLI_BENCH_LOAD_H

#include "cli/bench_ledger.h"
#include "cli/bench_plan.h"
#include "cli/bench_process.h"
#include "cli/console.h"
#include "cli/histogram.h"

#include <pthread.h>
#include <stdatomic.h>

struct bench_publisher;
struct bench_consumer;

/* What the threads of a load share. */
struct bench_load {
    const struct bench_plan *plan;
    struct bench_publisher *publishers;
    struct bench_consumer *consumers;
    struct bench_ledger *ledgers;          /* one a queue; NULL: nothing is verified */
    pthread_mutex_t lock;                  /* of `started` */
    pthread_cond_t shot;
    bool started;
    atomic_uint publishing;                /* publishers that have not finished */
    atomic_uint failures;                  /* threads that ended with an error */
    atomic_bool stop;
};

struct bench_verdict {
    uint64_t lost, doubled, reordered, foreign, damaged, redelivered;
};

struct bench_result {
    uint64_t published, confirmed, refused, consumed, expected;
    double publish_s, consume_s;           /* from the start to the last one */
    double cpu_s;                          /* the broker's; negative: not known */
    double publisher_cpu_s, consumer_cpu_s;
    double blocked_s;                      /* the broker took no publishes, the sum over publishers */
    struct bench_usage before, peak;       /* the broker's memory */
    struct histogram latency, confirm;     /* nanoseconds */
    struct bench_verdict verdict;
    char broker[128];
    char error[800];                       /* "": none */
};

/* For its threads: waits for the starting shot. */
void bench_load_await_start(struct bench_load *load);

/* Runs the load. Returns false when it could not be done or did not come to its end: result->error says why; what was
 * measured until then is in the result. `wake_fd` readable ends it early. */
bool bench_load_run(const struct bench_plan *plan, struct console *console, int wake_fd, struct bench_result *result);

/* Whether everything arrived as it was sent. */
bool bench_verdict_is_good(const struct bench_verdict *verdict);

#endif
