/* Messages and queues whose time is up.
 *
 * A message expires when it has been in the broker for longer than its queue's time to live, or its own if that is shorter. It is judged at the head of its lane, so
 * nothing is kept in memory for those behind it, and what is behind one that lives longer waits: as in RabbitMQ. Its arrival lies in its content in whole
 * milliseconds, and one that arrived late in its millisecond must not go early, so it goes in the one after the last.
 *
 * What has just come in is offered to the consumers that wait before it is judged: with a time to live of 0 it is for them or for nobody. */
#include "broker/rules.h"
#include "base/bugs.h"

#include "broker/worker_internal.h"
#include "protocol/amqp/expiration.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#define NEVER UINT64_MAX
#define GIVEN_UP_MAX 4096u   /* messages at a time, so that others have their turn */

/* NEVER: it has none. */
static uint64_t own_time_to_live_ms(struct bytes properties)
{
    struct bytes text;
    uint64_t ms;
    if (properties.size <= 2 || !(properties.data[0] & AMQP_EXPIRATION >> 8) || !amqp_properties_get(properties, AMQP_EXPIRATION, &text))
        return NEVER;
    return amqp_expiration_read(text, &ms, NULL, 0) ? ms : NEVER;
}

/* The first millisecond in which the message is not there any more. */
static uint64_t due_ms(const struct queue *queue, const struct entry *entry)
{
    struct message message;
    if (!entry->chunk || !message_read(bytes_of(entry->chunk->data + entry->offset, entry->size), &message) || !message.arrived_ms)
        return NEVER;
    uint64_t live_ms = own_time_to_live_ms(message.properties);
    if (queue->settings && (queue->settings->flags & SETTINGS_MESSAGE_TTL) && queue->settings->message_ttl_ms < live_ms)
        live_ms = queue->settings->message_ttl_ms;
    if (live_ms == NEVER)
        return NEVER;
    return message.arrived_ms + (bug_enabled(BUG_EXPIRED_EARLY) ? live_ms / 2 : live_ms) + (live_ms ? 1 : 0);
}

bool expiry_is_due(const struct shard *shard, const struct queue *queue, const struct entry *entry)
{
    return shard->worker->wall_us / 1000 >= due_ms(queue, entry);
}

/* Has the queue looked at in that millisecond. */
static void wake_at(struct shard *shard, struct queue *queue, uint64_t ms)
{
    uint64_t wall_us = shard->worker->wall_us, at_us = ms * 1000;
    shard_timer(shard, queue, shard->worker->now_us + (at_us > wall_us ? at_us - wall_us : 0));
}

/* The head that was judged last may have left meanwhile without another having been looked for. The block of a head that was taken is in memory. */
static bool is_still_first(const struct lane *lane)
{
    if (!lane->judged || lane->judged != lane->head)
        return false;
    const struct block_slot *slot = lane_slot(lane, lane->judged / BLOCK_SIZE);
    return slot && (slot->block ? bit_get(slot->block->ready, lane->judged % BLOCK_SIZE) : slot->live > 0);
}

/* Goes through the lane's head. Answers when its next message is due. */
static uint64_t judge(struct shard *shard, struct queue *queue, struct lane *lane)
{
    uint64_t now_ms = shard->worker->wall_us / 1000;
    if (is_still_first(lane) && now_ms < lane->due_ms)
        return lane->due_ms;   /* still the same one: its block need not be in memory */
    for (unsigned given_up = 0; given_up < GIVEN_UP_MAX; given_up++) {
        uint64_t seq;
        struct block_slot *slot;
        struct entry *entry = shard_first(shard, queue, lane, &seq, &slot);
        if (!entry || seq >= lane->seen_below)
            return NEVER;
        uint64_t due = due_ms(queue, entry);
        if (now_ms < due) {
            lane->judged = lane->head = seq;
            lane->due_ms = due;
            return due;
        }
        if (!rules_may_discard(shard, queue))
            return NEVER;
        rules_give_up(shard, queue, lane, seq, slot, entry, DISCARD_EXPIRED);
    }
    return now_ms;
}

static bool has_times(const struct queue *queue)
{
    return (queue->ruled & RULED_BY_MESSAGES) || (queue->settings && (queue->settings->flags & SETTINGS_MESSAGE_TTL));
}

/* x-expires: a queue that nobody has used for so long goes. */
static void judge_queue(struct shard *shard, struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    uint64_t now_us = shard->worker->now_us;
    if (!rules->used_us || queue->consumer_count || queue->gets)
        rules->used_us = now_us;
    if (queue->consumer_count || queue->unused_told)
        return;
    uint64_t at_us = rules->used_us + queue->settings->expires_ms * 1000;
    if (now_us < at_us) {
        shard_timer(shard, queue, at_us);
        return;
    }
    queue->unused_told = true;
    struct command_client *command = worker_command(shard->worker, 0, COMMAND_QUEUE_UNUSED, sizeof(*command), NULL);
    command->id = queue->id;
}

bool expiry_forbids(const struct shard *shard, const struct queue *queue, const struct lane *lane, uint64_t seq, const struct entry *entry)
{
    return seq < lane->seen_below && has_times(queue) && expiry_is_due(shard, queue, entry) && !bug_enabled(BUG_EXPIRED_DELIVERED);
}

void expiry_look(struct shard *shard, struct queue *queue)
{
    if (has_times(queue)) {
        uint64_t next = NEVER;
        unsigned at = 0;
        for (struct lane *lane; (lane = queue_next_ready_lane(queue, &at));) {
            uint64_t due = judge(shard, queue, lane);
            next = due < next ? due : next;
        }
        if (next != NEVER)
            wake_at(shard, queue, next);
    }
    if (queue->settings && (queue->settings->flags & SETTINGS_EXPIRES) && queue->rules)
        judge_queue(shard, queue);
}

void expiry_offered(struct queue *queue)
{
    unsigned at = 0;
    for (struct lane *lane; (lane = queue_next_ready_lane(queue, &at));)
        lane->seen_below = lane->next_seq;
}

void expiry_used(struct shard *shard, struct queue *queue)
{
    if (!queue->rules || !queue->settings || !(queue->settings->flags & SETTINGS_EXPIRES))
        return;
    queue->rules->used_us = shard->worker->now_us;
    shard_mark_dirty(shard, queue);
}

/* ---- messages that expire by themselves ------------------------------------------------------------------------------ */

void expiry_note(struct queue *queue, struct bytes content)
{
    struct message message;
    if (!queue->half && message_read(content, &message) && message.arrived_ms && own_time_to_live_ms(message.properties) != NEVER)
        queue->ruled |= RULED_BY_MESSAGES;
}

void expiry_note_record(struct shard *shard, const uint8_t *record)
{
    uint16_t count = load_le16(record + 10);
    const uint8_t *target = record + RECORD_HEADER_SIZE, *contents = target + count * PUBLISH_TARGET_SIZE;
    struct bytes content = bytes_of(contents, load_le32(record) - RECORD_HEADER_SIZE - count * PUBLISH_TARGET_SIZE);
    for (; target < contents; target += PUBLISH_TARGET_SIZE) {
        struct queue *queue = shard_queue(shard, load_le64(target));
        if (queue)
            expiry_note(queue, content);
    }
}

void expiry_note_run(struct shard *shard, const struct command_publish *command)
{
    const uint8_t *at = command->chunk->data + command->begin, *end = command->chunk->data + command->end;
    for (; at < end; at += load_le32(at))
        expiry_note_record(shard, at);
}
