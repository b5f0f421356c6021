/* A consumer of a load: reads deliveries in place, notes them in the ledgers, measures their age, acknowledges. */
#ifndef CLI_BENCH_CONSUMER_H
#define CLI_BENCH_CONSUMER_H

#include "cli/bench_link.h"
#include "cli/bench_load.h"

struct bench_consumer {
    struct bench_load *load;
    uint32_t index;
    struct bench_link link;
    struct bench_share share;              /* the queues it consumes from */
    struct histogram ages;
    uint64_t warm_ns;                      /* messages sent earlier are not measured */
    _Atomic uint64_t consumed;
    uint64_t redelivered, damaged;
    uint64_t first_ns, last_ns;            /* when messages came first and last */
    double cpu_s;

    /* The message that is arriving, where it is not held whole. */
    enum { AWAIT_METHOD, AWAIT_HEADER, AWAIT_BODY } state;
    uint32_t queue;
    bool is_redelivered, is_damaged;
    uint64_t body_size, body_seen;
    uint8_t head[BENCH_STAMP_SIZE];

    /* While a buffer is read. */
    uint64_t now_ns, count;
    uint64_t run_stamp, run;               /* messages that were sent together are measured together */
    struct bench_ledger *locked;

    uint64_t last_tag, unacked;
    uint8_t *acks;
    size_t acks_size;
    pthread_t thread;
};

/* Connects and subscribes. False: consumer->link.error says why. */
bool bench_consumer_open(struct bench_consumer *consumer, struct bench_load *load, uint32_t index);
void bench_consumer_close(struct bench_consumer *consumer);

/* The thread's function; its argument is the consumer. */
void *bench_consumer_run(void *consumer);

/* Takes in every whole frame that was read. For the thread, and for the test. */
enum bench_progress bench_consumer_scan(struct bench_consumer *consumer);

#endif
