/* How messages leave their consumers: taken, given back, given up. */
#include "broker/filters.h"
#include "base/bugs.h"

#include "broker/retry.h"
#include "broker/lives.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"

/* ---- settle -------------------------------------------------------------------------------------------------------- */

/* Messages at the end of what was delivered that came back unseen were never delivered. */
static void forget_delivery(struct lane *lane)
{
    while (lane->delivered_below) {
        struct block_slot *slot;
        bool unacked;
        struct entry *entry = lane_entry_at(lane, lane->delivered_below - 1, &slot, &unacked);
        if (!entry || unacked || (entry->flags & ENTRY_REDELIVERED))
            return;
        lane->delivered_below--;
    }
}

/* A planted bug. */
static void move_to_tail(struct shard *shard, struct lane *lane, uint64_t seq, const struct entry *entry)
{
    const struct content content = {entry->chunk, entry->offset, entry->size, entry->content_crc, entry->flags};
    struct block_slot *slot;
    bool unacked;
    if (!entry->chunk || !lane_push(lane, &content, UINT64_MAX, &shard->account, &shard->blocks))
        return;
    struct entry *old = lane_entry_at(lane, seq, &slot, &unacked);
    shard_remove(shard, lane, seq, slot, old, false);
}

static inline __attribute__((always_inline)) void settle_as(struct shard *shard, struct queue *queue, uint64_t seq, enum settle_kind kind, enum settle_kind said,
                                                            const uint64_t *delay_ms, bool ruled)
{
    struct block_slot *slot;
    bool unacked;
    struct lane *lane = queue_lane(queue, seq);
    struct entry *entry = lane ? lane_entry_at(lane, seq, &slot, &unacked) : NULL;
    if (!entry || !unacked)
        return;
    struct consumer *consumer = entry->holder ? shard_consumer(shard, entry->holder) : NULL;
    enum return_verdict verdict = ruled && kind == SETTLE_REQUEUE ? returns_count(shard, queue, entry, seq, said, delay_ms) : RETURN_READY;
    if (ruled && verdict == RETURN_TOO_OFTEN) {
        shard_discard(shard, queue, lane, seq, slot, entry, true, DISCARD_DELIVERY_LIMIT);
    } else if (ruled && verdict == RETURN_WAITS) {
        /* It is held, by nobody but the queue. */
    } else if (kind == SETTLE_REQUEUE || kind == SETTLE_UNDELIVERED) {
        if (ruled)
            rules_returned(queue, lane, seq, entry);
        bool filtered = ruled && filters_apply(queue);   /* then a place does not tell what was delivered before */
        lane_requeue(lane, seq, slot, entry, (kind == SETTLE_REQUEUE || filtered) && !bug_enabled(BUG_REDELIVERED_FORGOTTEN));
        queue_occupied(queue, seq_level(seq));
        if (filtered)
            filters_returned(queue, seq, entry);
        if (kind == SETTLE_UNDELIVERED)
            forget_delivery(lane);
        else if (bug_enabled(BUG_REQUEUE_TO_TAIL))
            move_to_tail(shard, lane, seq, entry);
    } else if (kind == SETTLE_DISCARD) {
        shard_discard(shard, queue, lane, seq, slot, entry, true, DISCARD_REJECTED);
    } else {
        if (ruled)
            rules_ended(queue, seq);
        shard_take_away(shard, queue, lane, seq, slot, entry, true);
    }
    if (consumer)
        consumer_settled(shard, consumer);
}

/* For whatever reason it comes back, it is requeued. */
static enum settle_kind kind_of(enum settle_kind said)
{
    return said > SETTLE_UNDELIVERED ? SETTLE_REQUEUE : said;
}

/* A message of a traced queue is about to be taken or given back. */
static void note_life(struct shard *shard, struct queue *queue, uint64_t seq, enum settle_kind kind)
{
    struct block_slot *slot;
    bool unacked = false;
    const struct lane *lane = queue_lane(queue, seq);
    const struct entry *entry = lane ? lane_entry_at(lane, seq, &slot, &unacked) : NULL;
    const struct consumer *consumer = entry && unacked && entry->holder ? shard_consumer(shard, entry->holder) : NULL;
    if (entry && unacked)
        lives_note(shard, queue, seq, kind == SETTLE_ACK ? LIFE_ACKED : LIFE_RETURNED, consumer ? consumer->client : 0, consumer ? consumer->channel : 0, consumer ? consumer->number : 0);
}

/* Apart, so that what plain queues pay does not depend on it. */
static __attribute__((noinline)) void settle_ruled(struct shard *shard, struct queue *queue, const struct command_settle *command)
{
    enum settle_kind said = command->command.flags, kind = kind_of(said);
    for (uint64_t i = 0; i < command->count; i++) {
        if (UNLIKELY(queue->lives != NULL) && kind != SETTLE_DISCARD)
            note_life(shard, queue, command->first + i, kind);
        settle_as(shard, queue, command->first + i, kind, said, command->delayed ? &command->delay_ms : NULL, true);
    }
    if (kind == SETTLE_REQUEUE && (queue->ruled & RULED_BY_SETTINGS))
        overflow_look(shard, queue);   /* what comes back to a full queue does not stay */
}

void shard_settle(struct shard *shard, const struct command_settle *command)
{
    struct queue *queue = shard_queue(shard, command->queue);
    if (!queue)
        return;
    if (UNLIKELY(queue->stream != NULL)) {
        stream_settle(shard, queue->stream, command->first, command->count);
        return;
    }
    enum settle_kind said = command->command.flags, kind = kind_of(said);
    if (UNLIKELY(queue->ruled))
        settle_ruled(shard, queue, command);
    else
        for (uint64_t i = 0; i < command->count; i++)
            settle_as(shard, queue, command->first + i, kind, said, NULL, false);
    queue->progress_us = shard->worker->now_us;
    shard_mark_dirty(shard, queue);
}

/* What a settle record says, done to the queues in memory. */
void shard_settle_ranges(struct shard *shard, struct bytes head)
{
    for (const uint8_t *target = head.data; target < head.data + head.size; target += SETTLE_TARGET_SIZE) {
        struct queue *queue = shard_queue(shard, load_le64(target));
        uint64_t first = load_le64(target + 8), count = load_le64(target + 16);
        if (queue && queue->stream) {
            stream_settle(shard, queue->stream, first, count);
            continue;
        }
        struct lane *lane = queue ? queue_lane(queue, first) : NULL;
        for (uint64_t i = 0; lane && i < count; i++) {
            struct block_slot *slot;
            bool unacked;
            struct entry *entry = lane_entry_at(lane, first + i, &slot, &unacked);
            if (!entry || !unacked)
                continue;
            struct consumer *consumer = entry->holder ? shard_consumer(shard, entry->holder) : NULL;
            if (UNLIKELY(queue->lives != NULL))
                note_life(shard, queue, first + i, SETTLE_ACK);
            if (UNLIKELY(queue->ruled))
                rules_ended(queue, first + i);
            shard_remove(shard, lane, first + i, slot, entry, true);
            if (consumer)
                consumer_settled(shard, consumer);
        }
        if (queue)
            shard_mark_dirty(shard, queue);
    }
}
