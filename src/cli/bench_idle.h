/* Connections with a channel that do nothing. */
#ifndef CLI_BENCH_IDLE_H
#define CLI_BENCH_IDLE_H

#include "cli/bench_plan.h"
#include "cli/console.h"

struct bench_idle {
    int *sockets;             /* nothing else of a connection is kept */
    uint64_t count;
    char broker[128];
    char error[800];          /* why there are fewer than wanted; "": there are not */
};

/* Opens `count` connections one after the other. False: idle->error says why; those that were opened stay open. */
bool bench_idle_open(struct bench_idle *idle, const struct bench_plan *plan, uint64_t count, struct console *console);
void bench_idle_close(struct bench_idle *idle);

#endif
