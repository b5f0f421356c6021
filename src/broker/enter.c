/* How messages enter their queues: the records of publishes, and what their publishers are told. */
#include "broker/pending.h"
#include "base/bugs.h"

#include "broker/dedup.h"
#include "broker/half.h"
#include "broker/rules.h"
#include "broker/schedule.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <stdlib.h>

/* ---- publish ------------------------------------------------------------------------------------------------------- */

/* The lane of a queue that has settings: by the message's priority, of which the queue may have fewer. */
static struct lane *lane_for(struct queue *queue, const struct content *content)
{
    struct message message;
    if (!(queue->settings->flags & SETTINGS_MAX_PRIORITY) || !message_read(bytes_of(content->chunk->data + content->offset, content->size), &message))
        return &queue->lane;
    unsigned priority = amqp_properties_priority(message.properties), most = queue->settings->max_priority;
    unsigned level = priority > most ? most : priority;
    struct lane *lane = queue_lane_make(queue, level);
    CHECK(lane);   /* no memory for a few hundred bytes: ending here loses nothing confirmed */
    queue_occupied(queue, level);
    return lane;
}

/* What has come to the lanes: 0 when the queue is full. `discard`: it took the message only to discard it. */
static inline uint64_t take_in(struct shard *shard, struct queue *queue, uint8_t *record, const struct content *content, uint64_t log_offset, bool *discard)
{
    if (!overflow_admits(shard, queue, content, record, discard))
        return 0;
    struct lane *lane = lane_for(queue, content);
    uint64_t seq = lane_push(lane, content, log_offset, &shard->account, &shard->blocks);
    CHECK(seq);
    overflow_entered(queue, lane, seq, content, *discard);
    return seq;
}

static bool comes_back(const struct shard *shard, const struct queue *queue, unsigned flags, const struct content *content)
{
    const struct queue_entry *entry = topology_queue_by_id(&shard->worker->topology, queue->id);
    return dedup_comes_back(flags, bytes_of(content->chunk->data + content->offset, content->size), entry ? entry->name : (struct bytes){0});
}

/* The same for a queue that takes messages with the same id once. */
static __attribute__((noinline)) uint64_t take_in_once(struct shard *shard, struct queue *queue, uint8_t *record, const struct content *content, uint64_t log_offset)
{
    struct dedup_look look;
    bool discard;
    if (UNLIKELY(record[9] & (RECORD_FLAG_MOVED | RECORD_FLAG_LETTER)) && comes_back(shard, queue, record[9], content))
        return take_in(shard, queue, record, content, log_offset, &discard);
    if (dedup_is_duplicate(shard, queue, record, content, &look))
        return 0;
    uint64_t seq = take_in(shard, queue, record, content, log_offset, &discard);
    if (discard)
        record[9] |= RECORD_FLAG_DISCARDED;
    else if (seq)
        dedup_admitted(shard, queue, &look);
    return seq;
}

/* A message for a queue that has settings: 0 when it does not want it. */
static uint64_t enter(struct shard *shard, struct queue *queue, uint8_t *record, const struct content *content, uint64_t log_offset)
{
    bool discard;
    if (UNLIKELY(queue->stream != NULL))
        return stream_push(queue->stream, content, log_offset);
    if (UNLIKELY(queue->half != NULL)) {
        uint64_t seq = half_enter(shard, queue, content, log_offset, &discard);
        if (discard)
            overflow_refuse(shard, record);
        return seq;
    }
    if (UNLIKELY(queue->settings->flags & SETTINGS_DELAYED))
        return schedule_push(shard, queue, content, log_offset);
    if (UNLIKELY(queue->settings->flags & SETTINGS_DEDUP))
        return take_in_once(shard, queue, record, content, log_offset);
    return take_in(shard, queue, record, content, log_offset, &discard);
}

/* A message that is not due yet. */
static uint64_t enter_schedule(struct shard *shard, struct queue *queue, const uint8_t *record, const struct content *content, uint64_t log_offset)
{
    struct dedup_look look;
    if (queue->stream)   /* they keep no schedule */
        return stream_push(queue->stream, content, log_offset);
    if (!dedup_wanted(queue))
        return schedule_push(shard, queue, content, log_offset);
    if (dedup_is_duplicate(shard, queue, record, content, &look))
        return 0;
    uint64_t seq = schedule_push(shard, queue, content, log_offset);
    dedup_admitted(shard, queue, &look);
    return seq;
}

/* The message of a publish record. `behind`: bytes between the targets and the content. */
static inline struct content content_of(const uint8_t *record, struct chunk *chunk, bool durable, uint32_t behind)
{
    uint32_t head = RECORD_HEADER_SIZE + load_le16(record + 10) * PUBLISH_TARGET_SIZE + behind;
    return (struct content){
        .chunk = chunk,
        .offset = (uint32_t)(record - chunk->data) + head,
        .size = load_le32(record) - head,
        .crc = load_le32(record + 12),
        .flags = durable ? ENTRY_PERSISTENT : 0,
    };
}

/* Pushes one record's message to its queues and writes the sequence numbers into the record. Answers the last queue, for flow control. */
static inline struct queue *enqueue_from(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable, uint64_t log_offset, uint32_t behind)
{
    uint16_t count = load_le16(record + 10);
    uint8_t *target = record + RECORD_HEADER_SIZE, *contents = target + count * PUBLISH_TARGET_SIZE;
    const struct content content = content_of(record, chunk, durable, behind);
    struct queue *last = NULL;
    for (; target < contents; target += PUBLISH_TARGET_SIZE) {
        struct queue *queue = shard_queue(shard, load_le64(target));
        if (!queue) {
            store_le64(target + 8, 0);
            continue;
        }
        uint64_t seq;
        if (LIKELY(!queue->settings)) {
            seq = lane_push(&queue->lane, &content, log_offset, &shard->account, &shard->blocks);
            CHECK(seq);   /* no memory for 8 KiB: ending here loses nothing confirmed */
        } else {
            seq = enter(shard, queue, record, &content, log_offset);
        }
        store_le64(target + 8, seq);
        shard_mark_dirty(shard, queue);
        last = queue;
    }
    return last;
}

/* The same for a message that is not due yet. */
static __attribute__((noinline)) struct queue *enqueue_scheduled(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable, uint64_t log_offset)
{
    uint16_t count = load_le16(record + 10);
    uint8_t *target = record + RECORD_HEADER_SIZE, *contents = target + count * PUBLISH_TARGET_SIZE;
    const struct content content = content_of(record, chunk, durable, 0);
    struct queue *last = NULL;
    for (; target < contents; target += PUBLISH_TARGET_SIZE) {
        struct queue *queue = shard_queue(shard, load_le64(target));
        if (!queue) {
            store_le64(target + 8, 0);
            continue;
        }
        store_le64(target + 8, enter_schedule(shard, queue, record, &content, log_offset));
        shard_mark_dirty(shard, queue);
        last = queue;
    }
    return last;
}

struct queue *shard_enter(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable, uint64_t log_offset)
{
    if (UNLIKELY(record[9] & RECORD_FLAG_SCHEDULED))
        return enqueue_scheduled(shard, record, chunk, durable, log_offset);
    return enqueue_from(shard, record, chunk, durable, log_offset, 0);
}

void shard_enqueue(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable, uint64_t log_offset)
{
    enqueue_from(shard, record, chunk, durable, log_offset, record[8] == RECORD_RELAYED ? ORIGIN_SIZE : 0);
    shard->refused_count = 0;   /* nobody waits to be told */
}

/* The records of the run will not be logged: nobody may read them as messages later. */
static void refuse_run(struct shard *shard, const struct command_publish *command)
{
    uint8_t *at = command->chunk->data + command->begin;
    for (uint32_t i = 0; i < command->count; i++) {
        uint32_t size = load_le32(at);
        record_begin(at, size, RECORD_VOID, 0, 0);
        record_seal(at);
        at += size;
    }
    if (command->first_tag)
        pending_confirm(shard, command->client, command->channel, command->first_tag, command->count, command->command.flags & CONFIRM_PARTIAL);
}

static void confirm_run(struct shard *shard, const struct command_publish *command)
{
    if (!command->first_tag || !command->count)
        return;
    if (command->durable)
        pending_confirm_later(shard, command);
    else
        pending_confirm(shard, command->client, command->channel, command->first_tag, command->count, (command->command.flags & CONFIRM_PARTIAL) | CONFIRM_ACCEPTED);
}

/* Full queues refused some of the run: the publishers of those learn that at once, and what lies between them is confirmed like any run. */
static void confirm_parts(struct shard *shard, const struct command_publish *command)
{
    struct command_publish part = *command;
    const uint8_t *at = command->chunk->data + command->begin;
    uint32_t next = 0;
    part.count = 0;
    for (uint32_t i = 0; command->first_tag && i < command->count; i++, at += load_le32(at)) {
        if (next == shard->refused_count || shard->refused[next] != at) {
            part.count++;
            continue;
        }
        while (next < shard->refused_count && shard->refused[next] == at)   /* once for each queue that was full */
            next++;
        confirm_run(shard, &part);
        pending_confirm(shard, command->client, command->channel, command->first_tag + i, 1, command->command.flags & CONFIRM_PARTIAL);
        part.first_tag = command->first_tag + i + 1;
        part.count = 0;
    }
    confirm_run(shard, &part);
    shard->refused_count = 0;
}

/* A run of such messages, apart from the loop of plain ones. */
static __attribute__((noinline)) struct queue *publish_scheduled(struct shard *shard, const struct command_publish *command, uint64_t log_offset)
{
    uint8_t *at = command->chunk->data + command->begin, *end = command->chunk->data + command->end;
    struct queue *queue = NULL;
    for (; at < end; at += load_le32(at)) {
        queue = enqueue_scheduled(shard, at, command->chunk, command->durable, log_offset);
        if (command->durable)
            record_seal(at);
    }
    return queue;
}

void shard_publish(struct shard *shard, const struct command_publish *command)
{
    uint8_t *at = command->chunk->data + command->begin, *end = command->chunk->data + command->end;
    struct queue *queue = NULL;
    if (command->durable && UNLIKELY(log_state(shard->log))) {
        refuse_run(shard, command);
    } else {
        uint64_t log_offset = command->durable ? log_end(shard->log).offset : UINT64_MAX;
        if (UNLIKELY(command->command.flags & PUBLISH_SCHEDULED))
            queue = publish_scheduled(shard, command, log_offset);
        else while (at < end) {
            uint32_t size = load_le32(at);
            queue = enqueue_from(shard, at, command->chunk, command->durable, log_offset, 0);
            if (command->durable)
                record_seal(at);
            at += size;
        }
        if (UNLIKELY(command->command.flags & PUBLISH_EXPIRES))
            expiry_note_run(shard, command);
        if (UNLIKELY(shard->refused_count))
            confirm_parts(shard, command);
        else
            confirm_run(shard, command);
    }
    withheld_give_back(shard, command->client, command->end - command->begin, queue);
}


void shard_slice(struct shard *shard, const struct command_slice *command)
{
    uint64_t offset = 0;
    enum gw_err err = log_append(shard->log, command->chunk, command->begin, command->size, command->count, &offset);
    shard->appended = true;
    if (err && !shard->storage_failed)
        alarm_raise(shard->alarms, ALARM_WARNING, "shard %u: durable messages are refused: %s", shard->index, gw_err_text(err));
    pending_close(shard, false, !err, offset + stage_align(command->size));
    if (err) {
        dedup_take_back_slice(shard, command);
        pending_conclude(shard, 0);
    }
}
