/* What a queue has been sent and is not to give to anybody yet: its schedule. The messages lie in a lane of their own (LEVEL_SCHEDULED), where they are paged, spilled and
 * recovered like any others but are not ready; what their stamp says is the time at which they are due.
 *
 *   heap: (earliest due, block) ──→ block 7: 256 messages, the earliest of them due then
 *
 * Only blocks are kept in order, 24 bytes each; which of a block's messages are due is seen when it is read, shortly before the first of them is. So ten million
 * scheduled messages cost a few megabytes. What is due the relay moves: to the ready lanes of the same queue, or, from the hidden queue of an exchange of type
 * x-delayed-message (delayed.h), to wherever that exchange routes it. */
#ifndef BROKER_SCHEDULE_H
#define BROKER_SCHEDULE_H

#include "broker/delay.h"
#include "broker/shard.h"

struct schedule {
    struct delay heap;               /* at_ms: a block's earliest due; seq: its number. Entries that the array below contradicts are old ones */
    uint64_t *due;                   /* of the blocks from `base` on; UINT64_MAX: nothing of it is due */
    uint64_t base;
    uint32_t count, capacity;
};

/* The queue's schedule lane, made if need be with all that belongs to it. NULL: out of memory. */
struct lane *schedule_lane(struct queue *queue);
void schedule_deinit(struct queue *queue);

/* The message at `seq` of the schedule lane is due at `due_ms`, since 1970. GW_ERR_NOMEM. */
enum gw_err schedule_note(struct queue *queue, uint64_t seq, uint64_t due_ms);
/* The same for a whole block: what a snapshot knows. */
enum gw_err schedule_note_block(struct queue *queue, uint64_t block, uint64_t due_ms);

/* When something of a block of the schedule lane is due, for a snapshot; UINT64_MAX: nothing. What was given to the relay may be waiting there for room in the log, and is
 * due anew after a restart: at once. */
uint64_t schedule_block_due(const struct queue *queue, uint64_t block);

/* Pushes a message whose stamp says when it is due. Answers its sequence number. */
uint64_t schedule_push(struct shard *shard, struct queue *queue, const struct content *content, uint64_t log_offset);

/* Gives to the relay what is due, and sees to it that the queue is looked at again when the next is. */
void schedule_look(struct shard *shard, struct queue *queue);

/* The time at which a message with such a content is due: its stamp. 0: it has none. */
uint64_t schedule_due_of(struct bytes content);

/* Messages that wait; a stream and most queues have none. */
static inline uint64_t schedule_count(const struct queue *queue)
{
    return queue->schedule && queue->levels && queue->levels->lanes[LEVEL_SCHEDULED] ? queue->levels->lanes[LEVEL_SCHEDULED]->ready : 0;
}

#endif
