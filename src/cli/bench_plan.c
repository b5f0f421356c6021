#include "cli/bench_plan.h"

#include <stdio.h>

void bench_pattern_fill(uint8_t *pattern)
{
    for (uint32_t i = 0; i < BENCH_PATTERN_SIZE; i++) {
        uint32_t place = i & (BENCH_PATTERN_PERIOD - 1);
        pattern[i] = (uint8_t)(' ' + (place * 2654435761u >> 16) % 95);   /* printable, so that a body can be looked at */
    }
}

void bench_queue_name(const struct bench_plan *plan, uint32_t queue, char *name)
{
    snprintf(name, 256, "%.*s-%0*u", (int)BENCH_PREFIX_MAX, plan->prefix, (int)BENCH_QUEUE_DIGITS, queue);
}

void bench_exchange_name(const struct bench_plan *plan, char *name)
{
    if (strcmp(plan->exchange_type, "default") == 0)
        name[0] = '\0';
    else
        snprintf(name, 256, "%.*s", (int)BENCH_PREFIX_MAX, plan->prefix);
}

struct bench_share bench_share(uint32_t worker, uint32_t workers, uint32_t queues)
{
    if (queues <= workers)
        return (struct bench_share){worker % queues, 1, 1};
    return (struct bench_share){worker, workers, (queues - worker + workers - 1) / workers};
}
