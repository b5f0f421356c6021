/* Messages that came back to a queue with x-retry-backoff (backoff.h): each waits in its old place, held as unacknowledged by nobody but this (RETRY_HOLDER), until it
 * is due; then it is ready again, before everything that is behind it.
 *
 *   delivered ──nack, reject (requeue), timeout, connection or channel gone──→ parked ──due──→ ready in its old place
 *       │                              more often than x-delivery-limit ──→ dead letter
 *       └──reject (no requeue)──→ dead letter
 *
 * How often a message came back, why, and when it is due, the queue's map of returns knows (returns.c), the log (RECORD_PARK) and the snapshot. After a restart a
 * message is ready that is not due yet: it is parked again at once where its block is in memory, and when it comes to the head of its lane where it is not. */
#ifndef BROKER_RETRY_H
#define BROKER_RETRY_H

#include "broker/rules.h"

#define RETRY_HOLDER (UINT32_MAX - 1u)   /* an entry's holder: no consumer has this handle, nor has the relay */

static inline bool queue_retries(const struct queue *queue)
{
    return queue->settings && (queue->settings->flags & SETTINGS_RETRY_BACKOFF);
}

/* A delivered message came back, and is counted. `own_ms`: for how long it waits, NULL: as the queue's backoff says. True: it is parked. */
bool retry_park(struct shard *shard, struct queue *queue, struct returned *returned, struct entry *entry, const uint64_t *own_ms);

/* Is the message, which is ready and about to be delivered, not due yet? Then it is parked now. */
bool retry_holds_back(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry);
static inline bool retry_forbids(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry)
{
    return UNLIKELY(queue->rules && queue->rules->loose) && retry_holds_back(shard, queue, lane, seq, slot, entry);
}

/* Makes ready what is due, and sees to it that the queue is looked at again when the next is. */
void retry_look(struct shard *shard, struct queue *queue);

/* Everything is ready at once: the queue is purged, or has no backoff any more. */
void retry_release_all(struct shard *shard, struct queue *queue);

/* Messages that wait: those that are held, and those that are to be. */
static inline uint64_t retry_held(const struct queue *queue) { return queue->rules ? queue->rules->parked : 0; }
static inline uint64_t retry_loose(const struct queue *queue) { return queue->rules && queue_retries(queue) ? queue->rules->loose : 0; }

#endif
