/* A publisher of a load: writes blocks of publishes as fast as it may, and reads their confirms. */
#ifndef CLI_BENCH_PUBLISHER_H
#define CLI_BENCH_PUBLISHER_H

#include "cli/bench_block.h"
#include "cli/bench_link.h"
#include "cli/bench_load.h"
#include "cli/confirm_window.h"

struct bench_publisher {
    struct bench_load *load;
    uint32_t index;
    struct bench_link link;
    struct bench_block block;
    struct confirm_window window;          /* with plan->confirm_window */
    struct histogram ages;                 /* of the confirms */
    uint64_t quota;                        /* messages; UINT64_MAX: until the time is over */
    _Atomic uint64_t issued;               /* read by the consumers' ledgers */
    uint64_t confirmed, refused;
    uint64_t start_ns, end_ns;             /* end: the last message was written, and confirmed */
    bool was_held_up;                      /* the socket or the window was full since the last batch */
    double cpu_s;
    pthread_t thread;
};

/* Connects. False: publisher->link.error says why. */
bool bench_publisher_open(struct bench_publisher *publisher, struct bench_load *load, uint32_t index);
void bench_publisher_close(struct bench_publisher *publisher);

/* The thread's function; its argument is the publisher. */
void *bench_publisher_run(void *publisher);

#endif
