/* Deduplication: a queue with x-dedup-window takes a message in once. Another with the same id (the property message-id, or the header that x-dedup-header names) that
 * arrives within the window after it is confirmed like any other and goes nowhere: in its log record the queue's sequence number is 0.
 *
 *   publish ──→ id known? ──yes──→ target 0, counted
 *                  │ no
 *               overflow.c ──refused──→ target 0, its id is not remembered
 *                  │
 *               lane_push, remembered from its stamp on: the arrival, or when it is due (schedule.h)
 *
 * What is remembered comes back after a restart from the snapshot, which says up to where in the log it is complete, and from the records behind that: a target with
 * a sequence number was taken in, whatever the window says now. So nothing but the publishes themselves is logged for it.
 * Ids are of messages that outlive the queue's restart, as all do that are routed to such a queue (route.keeps), and that are stamped (SETTINGS_STAMPED). */
#ifndef BROKER_DEDUP_H
#define BROKER_DEDUP_H

#include "broker/id_window.h"
#include "broker/shard.h"

struct queue_entry;
struct record;

/* What a queue remembers. */
struct dedup {
    struct id_window ids;
    uint64_t dropped;           /* duplicates, since the start */
    uint64_t forgotten;         /* ids that went before their window was over: more than x-dedup-max came */
    uint64_t warned_us;         /* when that was said last, monotonic; 0: never */
};

/* A message that is about to enter. */
struct dedup_look {
    struct hash128 hash;
    uint64_t at_ms;             /* 0: it has no id */
    unsigned ring;
};

static inline bool dedup_wanted(const struct queue *queue)
{
    return queue->settings && (queue->settings->flags & SETTINGS_DEDUP);
}

/* The queue's settings have changed. */
void dedup_set(struct queue *queue);
void dedup_free(struct queue *queue);

/* Does the message of that record, which the broker makes, come back to where it was before? Then it is no duplicate of itself. `name`: the queue's. */
bool dedup_comes_back(unsigned record_flags, struct bytes content, struct bytes name);

/* Has the queue taken in the message of that record before? It is counted then. Otherwise `look` is for dedup_admitted, once it is in. */
bool dedup_is_duplicate(struct shard *shard, struct queue *queue, const uint8_t *record, const struct content *content, struct dedup_look *look);
void dedup_admitted(struct shard *shard, struct queue *queue, const struct dedup_look *look);

/* Forgets ids whose window is long over, a bounded number: for a queue to which nothing comes any more. */
void dedup_tidy(struct shard *shard, struct queue *queue);

/* The message with that content is not in the queue after all. */
void dedup_take_back(struct shard *shard, struct queue *queue, struct bytes content);
/* The same for the publish records of a slice that was not logged, and for one record, whose publishes may lie in a transaction. */
void dedup_take_back_slice(struct shard *shard, const struct command_slice *slice);
void dedup_take_back_record(struct shard *shard, const uint8_t *record);

/* Recovery: the queue has taken in the message of a record at that offset of the log. `entry`: the queue as far as the topology is known by now; NULL: not at all. */
enum gw_err dedup_restore(struct shard *shard, struct queue *queue, const struct queue_entry *entry, const struct record *record, uint64_t offset);
/* What a snapshot knows. */
enum gw_err dedup_restore_id(struct queue *queue, unsigned ring, struct hash128 hash, uint64_t at_ms);

/* The key of the shard's hashes, made when it is first asked for. */
const struct siphash_key *dedup_key(struct shard *shard);

#endif
