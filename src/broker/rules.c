#include "broker/rules.h"

#include "broker/dedup.h"
#include "broker/groups.h"
#include "broker/half.h"
#include "broker/lives.h"
#include "broker/relay.h"
#include "broker/retry.h"
#include "broker/worker_internal.h"
#include "store/message.h"

#include <stdlib.h>

#define RULING (SETTINGS_MESSAGE_TTL | SETTINGS_EXPIRES | SETTINGS_LIMITED | SETTINGS_DELIVERY_LIMIT | SETTINGS_SINGLE_ACTIVE | SETTINGS_GROUPS | \
                SETTINGS_RETRY_BACKOFF)

static bool demand_something(const struct queue_settings *settings)
{
    return settings && (settings->type == QUEUE_QUORUM || (settings->type == QUEUE_CLASSIC && (settings->flags & RULING)));
}

void rules_set(struct shard *shard, struct queue *queue, const struct queue_settings *settings)
{
    unsigned at = 0;
    queue->settings = settings;
    if (settings && (settings->flags & SETTINGS_HALF)) {
        half_open(shard, queue);
        shard_mark_dirty(shard, queue);
        return;
    }
    dedup_set(queue);
    if (!queue_retries(queue))
        retry_release_all(shard, queue);
    if (queue->rules && settings_type(settings) != QUEUE_QUORUM && !queue_retries(queue))
        returns_forget_all(queue);
    if (demand_something(settings)) {
        if (!queue->rules)
            queue->rules = calloc(1, sizeof(*queue->rules));
        CHECK(queue->rules);   /* ending here loses nothing confirmed */
        queue->ruled |= RULED_BY_SETTINGS;
    } else {
        queue->ruled &= (uint8_t)~RULED_BY_SETTINGS;
    }
    groups_set(shard, queue);
    /* Times are judged anew, and bytes counted anew if they were not, or were forgotten meanwhile. */
    bool counts = settings && settings->type != QUEUE_STREAM && (settings->flags & SETTINGS_MAX_LENGTH_BYTES);
    for (struct lane *lane; (lane = queue_next_ready_lane(queue, &at));) {
        lane->judged = 0;
        if (!counts)
            lane->counted_below = 0;
    }
    if (!counts && queue->rules)
        queue->rules->body_bytes = 0;
    shard_mark_dirty(shard, queue);
}

void rules_free(struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    lives_end(queue);
    groups_free(queue);
    if (!rules)
        return;
    returns_forget_all(queue);
    free(rules->rejected);
    free(rules);
    queue->rules = NULL;
    queue->ruled = 0;
}

/* What expires by itself is gone: the queue is a plain one again. */
static void forget_messages(struct queue *queue)
{
    const struct queue_totals totals = queue_totals(queue);
    if (!totals.ready && !totals.unacked)
        queue->ruled &= (uint8_t)~RULED_BY_MESSAGES;
}

void rules_serve(struct shard *shard, struct queue *queue)
{
    bool limited = queue->ruled & RULED_BY_SETTINGS;
    if (queue->half) {
        half_look(shard, queue);
        return;
    }
    if (UNLIKELY(queue->lives != NULL))
        lives_look(shard, queue);
    retry_look(shard, queue);
    if (limited)
        overflow_discard_rejected(shard, queue);
    expiry_look(shard, queue);
    shard_serve(shard, queue);
    if (limited)
        overflow_look(shard, queue);
    expiry_offered(queue);
    expiry_look(shard, queue);
    if (queue->ruled & RULED_BY_MESSAGES)
        forget_messages(queue);
}

/* ---- bytes of bodies ------------------------------------------------------------------------------------------------- */

static uint32_t body_of(struct bytes content)
{
    struct message message;
    return message_read(content, &message) ? (uint32_t)message.body.size : 0;
}

void rules_leaves(struct queue *queue, const struct lane *lane, uint64_t seq, struct entry *entry)
{
    if (seq >= lane->counted_below || !queue->rules)
        return;
    if (entry->chunk)
        entry->body = body_of(bytes_of(entry->chunk->data + entry->offset, entry->size));
    uint64_t bytes = queue->rules->body_bytes;
    queue->rules->body_bytes = bytes > entry->body ? bytes - entry->body : 0;
}

bool rules_may_discard(struct shard *shard, struct queue *queue)
{
    return !queue->settings || !(queue->settings->flags & SETTINGS_DEAD_LETTER) || relay_has_room(shard, queue);
}

void rules_returned(struct queue *queue, const struct lane *lane, uint64_t seq, const struct entry *entry)
{
    if (seq < lane->counted_below && queue->rules)
        queue->rules->body_bytes += entry->chunk ? body_of(bytes_of(entry->chunk->data + entry->offset, entry->size)) : entry->body;
    if (queue->groups)
        groups_returned(queue, seq, entry);
}

void rules_ended(struct queue *queue, uint64_t seq)
{
    if (queue->rules && queue->rules->returns.count)
        returns_forget(queue, seq);
    if (queue->groups)
        groups_ended(queue, seq);
}

void rules_give_up(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry,
                   enum discard_reason reason)
{
    queue->lost++;
    rules_leaves(queue, lane, seq, entry);
    if (queue->groups)
        groups_given_up(queue, seq);
    shard_discard(shard, queue, lane, seq, slot, entry, false, reason);
}

void rules_purged(struct shard *shard, struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    if (queue->groups)
        groups_forget(queue);
    if (!rules)
        return;
    rules->body_bytes = 0;
    rules->rejected_count = 0;
    returns_prune(queue);   /* those that are out with consumers may come back again */
    shard_mark_dirty(shard, queue);
}
