/* When queues are to be looked at though nothing happens to them: a heap of queues by time, one a shard. */
#ifndef BROKER_TIMERS_H
#define BROKER_TIMERS_H

#include "broker/queue.h"

struct timers {
    struct queue **heap;   /* [1, count], the earliest first */
    uint32_t count, capacity;
};

void timers_deinit(struct timers *timers);

/* Has the queue looked at no later than `at_us` (monotonic); an earlier time that was asked for stays. Out of memory: it is not, and false is answered. */
bool timers_set(struct timers *timers, struct queue *queue, uint64_t at_us);

/* Nothing is asked for any more. */
void timers_remove(struct timers *timers, struct queue *queue);

/* Takes out a queue that is due at `now_us`; NULL: none is. */
struct queue *timers_take(struct timers *timers, uint64_t now_us);

/* When timers_take may have something; UINT64_MAX: never. */
static inline uint64_t timers_next(const struct timers *timers)
{
    return timers->count ? timers->heap[1]->timer_us : UINT64_MAX;
}

#endif
