/* What a queue's settings, and messages with a time to live of their own, demand of its shard beyond first in, first out. A queue without rules (`ruled` 0) pays
 * one test where messages enter, one where it is served and one where they are settled.
 *
 *   rules.c          lifecycle; what happens when a ruled queue is looked at
 *   expiry.c         messages and queues whose time is up
 *   overflow.c       queues that are full
 *   returns.c        how often messages came back
 *   retry.c          when they are delivered again
 *   single_active.c  one consumer at a time
 *   groups.c         one consumer at a time for each key, see groups.h
 */
#ifndef BROKER_RULES_H
#define BROKER_RULES_H

#include "broker/client.h"
#include "broker/delay.h"
#include "broker/shard.h"

/* Of queue->ruled. */
enum ruled {
    RULED_BY_SETTINGS = 1,
    RULED_BY_MESSAGES = 2,       /* since it was last empty, messages came in that expire by themselves */
    RULED_BY_FILTERS = 4,        /* consumers want only some of its messages, see filters.h */
    RULED_BY_TRANSACTIONS = 8,   /* its messages are nobody's before their transactions are committed: half.h, and none of the other rules */
    RULED_BY_LIVES = 16,         /* somebody wants to know what happens to its messages, see lives.h */
};

/* A message that came back to its queue; the queue keeps count of it. */
struct returned {
    uint64_t seq;
    uint64_t count;
    uint64_t due_ms;             /* when it is delivered again, since 1970; 0: it need not wait. See retry.h */
    uint64_t own_ms;             /* for how long, where its consumer said that; 0: as the queue's backoff says */
    uint8_t reason;              /* enum retry_reason */
    uint8_t state;               /* enum returned_state */
};
enum returned_state {
    RETURNED_READY,              /* it may be delivered, or is */
    RETURNED_LOOSE,              /* it waits, and is ready all the same: its queue came back without it being in memory */
    RETURNED_PARKED,             /* it waits */
};

struct queue_rules {
    uint64_t used_us;            /* when the queue was last used, monotonic; 0: not known yet */
    uint64_t body_bytes;         /* of the ready messages below their lanes' counted_below */
    struct map returns;          /* sequence number → struct returned */
    struct delay due;            /* of those that wait; and old entries, which the map contradicts */
    uint64_t parked, loose;      /* how many are in these states */
    uint32_t set_back;           /* the worker's, when they were last looked at */
    bool restored;               /* what the map knows of the log or a snapshot is not judged yet */
    struct consumer *single;     /* the one that is active, where only one may be; NULL: there is none */
    uint64_t *rejected;          /* let in only to be discarded: the queue is full, and those go to its dead-letter exchange */
    uint32_t rejected_count, rejected_capacity;
};

/* ---- rules.c ---- */

/* The queue's settings are these now. */
void rules_set(struct shard *shard, struct queue *queue, const struct queue_settings *settings);
void rules_free(struct queue *queue);
/* A ruled queue is served: gets and consumers, and whatever its rules say of what is left. */
void rules_serve(struct shard *shard, struct queue *queue);
/* A ready message is about to be delivered or to go; its content is in memory. */
void rules_leaves(struct queue *queue, const struct lane *lane, uint64_t seq, struct entry *entry);
/* May the queue give up a message now? If not it is looked at again when it may. */
bool rules_may_discard(struct shard *shard, struct queue *queue);
/* A ready message of a ruled queue that may be discarded: its rules learn that it leaves, and it goes. */
void rules_give_up(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry,
                   enum discard_reason reason);
/* A message is back. */
void rules_returned(struct queue *queue, const struct lane *lane, uint64_t seq, const struct entry *entry);
/* A message was taken in, or given up. */
void rules_ended(struct queue *queue, uint64_t seq);
/* No ready message is left. */
void rules_purged(struct shard *shard, struct queue *queue);

/* ---- expiry.c ---- */

/* Messages of the run's record expire by themselves: the queues that they are for are looked at. */
void expiry_note_run(struct shard *shard, const struct command_publish *command);
void expiry_note_record(struct shard *shard, const uint8_t *record);
/* The same for one message that its queue has got back from the log. */
void expiry_note(struct queue *queue, struct bytes content);
/* Has the time of a message come? */
bool expiry_is_due(const struct shard *shard, const struct queue *queue, const struct entry *entry);
/* A message that nobody may have any more; what has just come is offered first. */
bool expiry_forbids(const struct shard *shard, const struct queue *queue, const struct lane *lane, uint64_t seq, const struct entry *entry);
/* Discards what is due at the heads of the lanes, and has the queue looked at when the next one is. */
void expiry_look(struct shard *shard, struct queue *queue);
/* From now on what is in the lanes has been offered to consumers: it is judged like the rest. */
void expiry_offered(struct queue *queue);
/* The queue was used, so it does not go yet (x-expires). */
void expiry_used(struct shard *shard, struct queue *queue);

/* ---- overflow.c ---- */

/* May a message enter? False: it is refused, and its record noted for the shard's confirms. `discard`: it enters only to be discarded as soon as the queue is served. */
bool overflow_admits(struct shard *shard, struct queue *queue, const struct content *content, uint8_t *record, bool *discard);
/* The record is refused by one of its queues: its publisher learns that. */
void overflow_refuse(struct shard *shard, uint8_t *record);
void overflow_entered(struct queue *queue, const struct lane *lane, uint64_t seq, const struct content *content, bool discard);
/* Discards what entered for that alone. */
void overflow_discard_rejected(struct shard *shard, struct queue *queue);
/* Makes the queue as short as it must be. */
void overflow_look(struct shard *shard, struct queue *queue);

/* ---- returns.c ---- */

/* What is known of a message that came back; NULL: it did not. */
const struct returned *returns_find(const struct queue *queue, uint64_t seq);
static inline uint64_t returns_of(const struct queue *queue, uint64_t seq)
{
    const struct returned *returned = returns_find(queue, seq);
    return returned ? returned->count : 0;
}
/* It comes back once more: what becomes of it? `delay_ms`: for how long it waits; NULL: as the queue's backoff says. */
enum return_verdict { RETURN_READY, RETURN_WAITS /* it is parked */, RETURN_TOO_OFTEN /* more often than the queue allows */ };
enum return_verdict returns_count(struct shard *shard, struct queue *queue, struct entry *entry, uint64_t seq, enum settle_kind kind, const uint64_t *delay_ms);
void returns_forget(struct queue *queue, uint64_t seq);
void returns_forget_all(struct queue *queue);
/* Forgets those whose messages are gone. */
void returns_prune(struct queue *queue);
/* What a log or a snapshot knows. `why`: what returned_why has made of the reason and of the wait of its own. */
enum gw_err returns_restore(struct queue *queue, uint64_t seq, uint64_t count, uint64_t due_ms, uint64_t why);
static inline uint64_t returned_why(const struct returned *returned) { return returned->reason | returned->own_ms << 8; }

/* ---- single_active.c ---- */

static inline bool queue_is_single(const struct queue *queue)
{
    return queue->settings && (queue->settings->flags & SETTINGS_SINGLE_ACTIVE);
}
/* A consumer has come: it is the active one, or waits. */
void single_active_come(struct queue *queue, struct consumer *consumer);
/* A consumer is gone (it is in no list of the queue any more): the one who follows it, or NULL when nothing changes. */
struct consumer *single_active_gone(struct queue *queue, const struct consumer *consumer);

#endif
