/* Where messages came from that other shards relayed into this one (relay.h), until those shards have noted that they are gone there. A message whose origin
 * is known here is here already: it is passed over when it comes again, and after a restart its old place is told so. */
#ifndef BROKER_ORIGINS_H
#define BROKER_ORIGINS_H

#include "base/bytes.h"
#include "base/err.h"

struct relay_target {
    uint64_t queue;
    uint64_t seq;                /* what the message got there; 0: nothing yet, or it lies in another shard */
};

/* One message: it died (or was due) in `queue` as `seq`, and went to all of `targets`. */
struct origin {
    struct origin *next;         /* in its bucket */
    uint64_t queue, seq;
    uint64_t serial;             /* of the one who asked, for the answer */
    uint8_t reason;              /* enum discard_reason */
    bool committed;              /* what is here of it is on disk */
    uint32_t count;
    struct relay_target targets[];
};

/* Zero-initialized is empty. */
struct origins {
    struct origin **buckets;
    uint32_t count, capacity;    /* capacity: 0 or a power of two */
};

void origins_deinit(struct origins *origins);

/* NULL: unknown. */
struct origin *origins_find(const struct origins *origins, uint64_t queue, uint64_t seq);

/* One that is not there yet; its targets are zeroed. NULL: out of memory. */
struct origin *origins_add(struct origins *origins, uint64_t queue, uint64_t seq, uint32_t count);

/* Frees it; unknown: nothing happens. */
void origins_remove(struct origins *origins, uint64_t queue, uint64_t seq);

/* Goes through all: NULL begins, and ends. Nothing is added or removed meanwhile. */
struct origin *origins_next(const struct origins *origins, const struct origin *after);

#endif
