/* Looks at the shard's queues ten times a second, for what outlook.h says of them. A queue that has consumers or messages is observed, and five minutes longer; at most
 * OBSERVED_MAX a shard. With more queues than that a look takes several turns, and how long their consumers take is told
 * of the first of them alone.
 *
 * How long consumers take can be told only from looks at times that have nothing to do with what they do: one at a random time in each tenth of a second. Nobody is
 * woken up for it. A turn begins by looking on behalf of those times that have passed since the one before it: nothing has changed since then. */
#ifndef BROKER_OBSERVER_H
#define BROKER_OBSERVER_H

#include "broker/outlook.h"
#include "broker/queue.h"

#define OBSERVED_MAX 4096u

struct shard;

struct observer {
    uint64_t next_us, planned_us;   /* when a look is due, monotonic (UINT64_MAX: never), and when the one after it is */
    uint64_t cell_us;            /* end of the tenth of a second in which that is */
    uint64_t weight_us;          /* time that this look stands for */
    uint64_t random;
    uint32_t cursor;             /* where it goes on; 0: it begins */
    uint32_t observed;           /* queues */
};

/* A look, or a part of one: at the beginning of a turn. */
void observer_look(struct shard *shard);

void observer_forget(struct shard *shard, struct queue *queue);

/* What there is to say of one queue. */
struct observation {
    struct outlook_numbers numbers;
    uint64_t ready, unacked;
    uint32_t consumers;
    double oldest_ready_seconds, oldest_unacked_seconds;   /* NAN: not known, or there is none */
    bool ready_at_least, unacked_at_least;                 /* it is so old at least */
};
/* Of a queue that is not observed the numbers are all NAN. */
struct observation observer_tell(struct shard *shard, struct queue *queue, double target_s, double utilisation);

#endif
