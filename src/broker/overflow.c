/* Queues that are full: x-max-length counts ready messages, x-max-length-bytes the bytes of their bodies.
 *
 * drop-head: a message enters, and what is then too much goes at the head, the first in line first (of a priority queue, the highest: as in RabbitMQ). Consumers
 * that wait are served before. reject-publish: it does not enter, and its publisher learns that. reject-publish-dlx: the same, and it goes to the dead-letter
 * exchange; for that it enters, and is discarded before anybody sees it.
 *
 * How many bytes the bodies have is not known of what a snapshot or a change of policy makes a full queue of: it is counted first, block by block. */
#include "broker/rules.h"
#include "base/bugs.h"

#include "broker/relay.h"
#include "broker/worker_internal.h"
#include "store/message.h"

#include <stdlib.h>

#define DROPPED_MAX 4096u   /* messages at a time, so that others have their turn */

static uint64_t body_size(struct bytes content)
{
    struct message message;
    return message_read(content, &message) ? message.body.size : 0;
}

static bool is_over(const struct queue *queue, uint64_t more, uint64_t more_bytes)
{
    const struct queue_settings *settings = queue->settings;
    if ((settings->flags & SETTINGS_MAX_LENGTH) && queue_totals(queue).ready + more > settings->max_length + bug_enabled(BUG_LENGTH_ONE_MORE))
        return true;
    return (settings->flags & SETTINGS_MAX_LENGTH_BYTES) && queue->rules->body_bytes + more_bytes > settings->max_length_bytes;
}

/* ---- entering -------------------------------------------------------------------------------------------------------- */

void overflow_refuse(struct shard *shard, uint8_t *record)
{
    if (shard->refused_count == shard->refused_capacity) {
        uint32_t capacity = shard->refused_capacity ? shard->refused_capacity * 2 : 64;
        uint8_t **grown = realloc(shard->refused, capacity * sizeof(*grown));
        CHECK(grown);   /* ending here loses nothing confirmed */
        shard->refused = grown;
        shard->refused_capacity = capacity;
    }
    shard->refused[shard->refused_count++] = record;
}

bool overflow_admits(struct shard *shard, struct queue *queue, const struct content *content, uint8_t *record, bool *discard)
{
    const struct queue_settings *settings = queue->settings;
    *discard = false;
    if (settings->overflow == OVERFLOW_DROP_HEAD || !(settings->flags & SETTINGS_LIMITED) || !queue->rules)
        return true;
    uint64_t bytes = settings->flags & SETTINGS_MAX_LENGTH_BYTES ? body_size(bytes_of(content->chunk->data + content->offset, content->size)) : 0;
    if (!is_over(queue, 1, bytes))
        return true;
    if (queue->active)
        shard_serve(shard, queue);   /* what came in this turn is for the consumers that wait */
    if (!is_over(queue, 1, bytes))
        return true;
    overflow_refuse(shard, record);
    *discard = settings->overflow == OVERFLOW_REJECT_PUBLISH_DLX && (settings->flags & SETTINGS_DEAD_LETTER);
    return *discard || bug_enabled(BUG_REFUSED_AND_KEPT);
}

void overflow_entered(struct queue *queue, const struct lane *lane, uint64_t seq, const struct content *content, bool discard)
{
    struct queue_rules *rules = queue->rules;
    if (!rules)
        return;
    if (seq < lane->counted_below)
        rules->body_bytes += body_size(bytes_of(content->chunk->data + content->offset, content->size));
    if (!discard)
        return;
    if (rules->rejected_count == rules->rejected_capacity) {
        uint32_t capacity = rules->rejected_capacity ? rules->rejected_capacity * 2 : 16;
        uint64_t *grown = realloc(rules->rejected, capacity * sizeof(*grown));
        CHECK(grown);
        rules->rejected = grown;
        rules->rejected_capacity = capacity;
    }
    rules->rejected[rules->rejected_count++] = seq;
}

void overflow_discard_rejected(struct shard *shard, struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    uint32_t i = 0, kept = 0;
    for (; i < rules->rejected_count && rules_may_discard(shard, queue); i++) {
        struct block_slot *slot;
        bool unacked;
        uint64_t seq = rules->rejected[i];
        struct lane *lane = queue_lane(queue, seq);
        struct entry *entry = lane ? lane_entry_at(lane, seq, &slot, &unacked) : NULL;
        if (entry && unacked && entry->holder == RELAY_HOLDER)
            rules->rejected[kept++] = seq;   /* a dead letter of another queue, which is not committed yet */
        if (!entry || unacked)
            continue;
        queue->lost++;
        rules_leaves(queue, lane, seq, entry);
        shard_discard(shard, queue, lane, seq, slot, entry, false, DISCARD_MAXLEN);
    }
    while (i < rules->rejected_count)
        rules->rejected[kept++] = rules->rejected[i++];
    rules->rejected_count = kept;
}

/* ---- counting bytes -------------------------------------------------------------------------------------------------- */

/* False: the block must be loaded first. */
static bool count_block(struct shard *shard, struct queue *queue, const struct lane *lane, uint64_t number)
{
    struct block_slot *slot = lane_slot(lane, number);
    const struct block *block = slot ? slot->block : NULL;
    if (!slot || (!block && !slot->live) || (block && !block->ready_count))
        return true;
    if (!block || !block->entries || !block->bodies) {
        shard_load_block(shard, queue, slot, number);
        return false;
    }
    for (unsigned i = bits_next(block->ready, 0); i < BLOCK_SIZE; i = i + 1 < BLOCK_SIZE ? bits_next(block->ready, i + 1) : BLOCK_SIZE) {
        const struct entry *entry = &block->entries[i];
        queue->rules->body_bytes += body_size(bytes_of(entry->chunk->data + entry->offset, entry->size));
    }
    return true;
}

static bool count_lane(struct shard *shard, struct queue *queue, struct lane *lane)
{
    uint64_t number = lane->counted_below / BLOCK_SIZE;
    if (number < lane->first_block)
        number = lane->first_block;
    for (; number < lane->end_block; number++) {
        if (!count_block(shard, queue, lane, number)) {
            lane->counted_below = number * BLOCK_SIZE;
            return false;
        }
    }
    lane->counted_below = UINT64_MAX;
    return true;
}

/* Is it known how many bytes there are? */
static bool bytes_known(struct shard *shard, struct queue *queue)
{
    unsigned at = 0;
    bool known = true;
    for (struct lane *lane; (lane = queue_next_ready_lane(queue, &at));)
        known &= lane->counted_below == UINT64_MAX || count_lane(shard, queue, lane);
    return known;
}

/* ---- being too long -------------------------------------------------------------------------------------------------- */

void overflow_look(struct shard *shard, struct queue *queue)
{
    const struct queue_settings *settings = queue->settings;
    if (!(settings->flags & SETTINGS_LIMITED))
        return;
    if ((settings->flags & SETTINGS_MAX_LENGTH_BYTES) && !bytes_known(shard, queue) && !(settings->flags & SETTINGS_MAX_LENGTH))
        return;
    if (settings->overflow != OVERFLOW_DROP_HEAD)
        return;
    for (unsigned dropped = 0; is_over(queue, 0, 0); dropped++) {
        if (dropped == DROPPED_MAX) {
            shard_timer(shard, queue, shard->worker->now_us);
            return;
        }
        uint64_t seq;
        struct block_slot *slot;
        struct lane *lane = queue_head_lane(queue);
        struct entry *entry = shard_first(shard, queue, lane, &seq, &slot);
        if (!entry || !rules_may_discard(shard, queue))
            return;
        rules_give_up(shard, queue, lane, seq, slot, entry, DISCARD_MAXLEN);
    }
}
