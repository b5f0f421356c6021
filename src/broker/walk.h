/* A walk through what lies in a queue, lane by lane: the highest priority first, then what is scheduled. It can be left at any message and gone on with by its cursor, which
 * is text; what has entered the queue since it began is not met.
 *
 *   cursor   position of the next message | level:end of each lane that is left, separated by commas     17|0:4711,256:300
 */
#ifndef BROKER_WALK_H
#define BROKER_WALK_H

#include "broker/position.h"
#include "broker/shard.h"
#include "broker/writer.h"

struct walk_range {
    uint64_t next, end;          /* sequence numbers of one lane */
};

struct walk {
    struct walk_range *ranges;   /* malloc'ed */
    unsigned count, at;
};

enum walk_lanes { WALK_READY = 1, WALK_SCHEDULED = 2 };

/* Begins at `from`: empty, a position, or a cursor. GW_ERR_INVALID: it is none of these; GW_ERR_NOMEM. Deinit in any case. */
enum gw_err walk_init(struct walk *walk, const struct queue *queue, unsigned lanes, struct bytes from);
void walk_deinit(struct walk *walk);

enum walk_step { WALK_MESSAGE, WALK_LOADING, WALK_PAUSE, WALK_END };

struct walk_place {
    uint64_t seq;
    struct lane *lane;
    struct block_slot *slot;
    struct entry *entry;         /* its content may be unreadable: then it has no chunk */
    bool unacked;
};

/* The next live message; the walk stays there until walk_pass. LOADING: its block is on its way from the disk. PAUSE: *budget, which counts what was looked at, is used up. */
enum walk_step walk_next(struct walk *walk, struct shard *shard, struct queue *queue, unsigned *budget, struct walk_place *place);
static inline void walk_pass(struct walk *walk) { walk->ranges[walk->at].next++; }

/* Writes the cursor as a value; null at the end. */
void walk_write_cursor(const struct walk *walk, struct writer *writer);

#endif
