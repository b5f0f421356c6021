#include "broker/shard.h"
#include "base/bugs.h"

#include "broker/delayed.h"
#include "broker/relay.h"
#include "broker/rules.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <stdlib.h>

#define OWN_DELAY_US 5000u                /* settles that nothing waits for are appended after this long … */
#define OWN_SIZE_MAX (32u * 1024u)        /* … or when they are this many bytes */
#define SETTLES_A_RECORD 1000u

/* ---- lifecycle ----------------------------------------------------------------------------------------------------- */

struct shard *shard_new(const struct shard_config *config)
{
    struct shard *shard = calloc(1, sizeof(*shard));
    if (!shard)
        return NULL;
    shard->worker = config->worker;
    shard->index = config->index;
    shard->memory_limit = config->memory_limit;
    shard->alarms = config->alarms;
    shard->account.pool = config->worker->chunks;
    shard->own.durable = true;
    return shard;
}

void shard_free(struct shard *shard)
{
    if (!shard)
        return;
    shard_abandon(shard);
    uint32_t cursor = 0;
    for (struct queue *queue; (queue = map_next(&shard->queues, &cursor));) {
        while (queue->consumers)
            shard_cancel_consumer(shard, queue->consumers);
        while (queue->gets) {
            struct pending_get *get = queue->gets;
            queue->gets = get->next;
            free(get);
        }
        rules_free(queue);
        if (queue->stream)
            stream_close(queue->stream);
        queue_deinit(queue, &shard->account, &shard->blocks);
        free(queue);
    }
    while (shard->streams_dying && shard->worker->disk->wait(shard->worker->disk))
        ;
    map_deinit(&shard->queues);
    block_pool_deinit(&shard->blocks);
    stage_drop(&shard->own, shard->worker->chunks);
    timers_deinit(&shard->timers);
    relay_free(shard->relay);
    origins_deinit(&shard->origins);
    free(shard->consumers);
    free(shard->pending);
    free(shard->withheld);
    free(shard->refused);
    free(shard);
}

struct queue *shard_queue(struct shard *shard, uint64_t id)
{
    if (LIKELY(shard->last_queue && shard->last_queue->id == id))
        return shard->last_queue;
    struct queue *queue = map_get(&shard->queues, id);
    if (queue)
        shard->last_queue = queue;
    return queue;
}

/* One that the snapshot lists is opened with its segments, see shard_snapshot.c. */
static bool add_stream(struct shard *shard, struct queue *queue)
{
    queue->stream = stream_new(shard, queue);
    if (!queue->stream)
        return false;
    if (shard->recovering || !stream_open(queue->stream, 0, 0, NULL, 0))
        return true;
    stream_close(queue->stream);
    return false;
}

enum gw_err shard_queue_create(struct shard *shard, uint64_t id, bool auto_delete, enum queue_type type)
{
    if (map_get(&shard->queues, id))
        return GW_OK;
    struct queue *queue = malloc(sizeof(*queue));
    if (!queue)
        return GW_ERR_NOMEM;
    queue_init(queue, id);
    queue->durable = !(id & QUEUE_ID_TRANSIENT);
    queue->auto_delete = auto_delete;
    if (type == QUEUE_STREAM && !add_stream(shard, queue)) {
        free(queue);
        return GW_ERR_NOMEM;
    }
    if (map_put(&shard->queues, id, queue)) {
        if (queue->stream)
            stream_close(queue->stream);
        free(queue);
        return GW_ERR_NOMEM;
    }
    return GW_OK;
}

void shard_queue_set(struct shard *shard, uint64_t id, const struct queue_settings *settings)
{
    struct queue *queue = shard_queue(shard, id);
    if (!queue || (!settings && !queue->settings))
        return;
    rules_set(shard, queue, settings);
    if (settings && (settings->flags & SETTINGS_DELAYED))
        CHECK(!delayed_init(queue));
}

static void forget_dirty(struct shard *shard, struct queue *queue)
{
    struct queue **at = &shard->dirty;
    while (*at && *at != queue)
        at = &(*at)->dirty_next;
    if (*at)
        *at = queue->dirty_next;
}

static void tell_cancelled(struct shard *shard, struct consumer *consumer)
{
    struct command_cancelled *command = worker_command(shard->worker, worker_of_client(consumer->client), COMMAND_CANCELLED,
                                                       sizeof(*command), NULL);
    command->client = consumer->client;
    command->consumer = consumer->number;
    command->handle = consumer->handle;
    command->channel = consumer->channel;
}

static void release_segments(struct shard *shard, const struct lane *lane)
{
    for (uint64_t number = lane->first_block; number < lane->end_block; number++) {
        const struct block_slot *slot = lane_slot(lane, number);
        if (slot->state == SLOT_SPILLED)
            segment_released(shard, slot->location, slot->location.size - slot->released);
    }
}

/* Nobody finds anything in the queue any more. */
static void answer_gets_empty(struct shard *shard, struct queue *queue)
{
    unsigned at = 0;
    for (struct lane *lane; (lane = queue_next_lane(queue, &at));)
        lane->ready = 0;
    shard_answer_gets(shard, queue);
}

void shard_queue_delete(struct shard *shard, uint64_t id)
{
    struct queue *queue = map_remove(&shard->queues, id);
    if (!queue)
        return;
    if (shard->last_queue == queue)
        shard->last_queue = NULL;
    queue->unused_told = true;
    while (queue->consumers) {
        tell_cancelled(shard, queue->consumers);
        shard_cancel_consumer(shard, queue->consumers);
    }
    answer_gets_empty(shard, queue);
    if (queue->dirty)
        forget_dirty(shard, queue);
    timers_remove(&shard->timers, queue);
    unsigned at = 0;
    for (struct lane *lane; (lane = queue_next_lane(queue, &at));)
        release_segments(shard, lane);
    rules_free(queue);
    if (queue->stream)
        stream_delete(queue->stream);
    queue_deinit(queue, &shard->account, &shard->blocks);
    free(queue);
}

void shard_mark_dirty(struct shard *shard, struct queue *queue)
{
    if (queue->dirty)
        return;
    queue->dirty = true;
    queue->dirty_next = shard->dirty;
    shard->dirty = queue;
}

void shard_remove(struct shard *shard, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked)
{
    uint32_t bytes;
    struct segment_location location = lane_remove(lane, seq, slot, entry, unacked, &bytes, &shard->account, &shard->blocks);
    if (location.file)
        segment_released(shard, location, bytes);
}

void shard_discard(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked,
                   enum discard_reason reason)
{
    if (UNLIKELY(queue->settings && (queue->settings->flags & SETTINGS_DEAD_LETTER)))
        relay_take(shard, queue, lane, seq, slot, entry, unacked, reason);
    else
        shard_take_away(shard, queue, lane, seq, slot, entry, unacked);
}

/* ---- what waits for the log ----------------------------------------------------------------------------------------- */

static struct pending_confirm *pending_at(struct shard *shard, uint32_t index)
{
    return &shard->pending[(shard->pending_first + index) & (shard->pending_capacity - 1)];
}

static struct pending_confirm *pending_add(struct shard *shard)
{
    if (shard->pending_count == shard->pending_capacity) {
        uint32_t capacity = shard->pending_capacity ? shard->pending_capacity * 2 : 64;
        struct pending_confirm *pending = malloc(capacity * sizeof(*pending));
        CHECK(pending);   /* ending here loses nothing confirmed */
        for (uint32_t i = 0; i < shard->pending_count; i++)
            pending[i] = *pending_at(shard, i);
        free(shard->pending);
        shard->pending = pending;
        shard->pending_capacity = capacity;
        shard->pending_first = 0;
    }
    shard->pending_open++;
    return pending_at(shard, shard->pending_count++);
}

/* Entries whose slice is known are no longer open. */
static void shrink_open(struct shard *shard)
{
    while (shard->pending_open && pending_at(shard, shard->pending_count - shard->pending_open)->end != UINT64_MAX)
        shard->pending_open--;
}

/* A slice was appended, up to `end`, or refused: what waited for it now knows. Changes lie in slices of the shard's own, publishes in others. */
static void close_pending(struct shard *shard, bool own, bool ok, uint64_t end)
{
    for (uint32_t i = shard->pending_count - shard->pending_open; i < shard->pending_count; i++) {
        struct pending_confirm *pending = pending_at(shard, i);
        if (pending->end == UINT64_MAX && (pending->kind >= PENDING_TOPOLOGY) == own)
            pending->end = ok ? end : 0;
    }
    shrink_open(shard);
}

/* ---- the shard's own records --------------------------------------------------------------------------------------- */

static void settle_seal(struct shard *shard)
{
    if (!shard->settle)
        return;
    uint32_t size = RECORD_HEADER_SIZE + shard->settle_count * SETTLE_TARGET_SIZE;
    record_begin(shard->settle, size, RECORD_SETTLE, shard->settle_count, 0);
    record_seal(shard->settle);
    stage_advance(&shard->own, size);
    shard->settle = NULL;
    shard->settle_count = 0;
}

static void own_append(struct shard *shard)
{
    settle_seal(shard);
    struct stage *own = &shard->own;
    if (!own->count)
        return;
    uint64_t offset = 0, size = own->at - own->begin;
    enum gw_err err = log_append(shard->log, own->chunk, own->begin, (uint32_t)size, own->count, &offset);
    bool ok = err == GW_OK;
    /* Settles that cannot be logged mean redeliveries after a restart, which is allowed; changes are told to the master. */
    close_pending(shard, true, ok, offset + stage_align(size));
    if (!ok && !shard->storage_failed)
        alarm_raise(shard->alarms, ALARM_WARNING, "shard %u: acknowledgements are not logged: %s", shard->index, gw_err_text(err));
    shard->own_urgent = false;
    if (!stage_next_slice(own))
        stage_drop(own, shard->worker->chunks);
}

/* Room for a record of the shard's own; the open settle record is sealed first. */
uint8_t *shard_own_room(struct shard *shard, uint32_t size)
{
    settle_seal(shard);
    uint8_t *at = stage_room(&shard->own, size);
    if (!at) {
        own_append(shard);
        if (!stage_renew(&shard->own, shard->worker->chunks, size))
            return NULL;
        at = stage_room(&shard->own, size);
    }
    if (!shard->own.count)
        shard->own_since_us = shard->worker->now_us;
    return at;
}

void shard_own_made(struct shard *shard, uint32_t size)
{
    stage_advance(&shard->own, size);
    shard->own_urgent = true;
}

void shard_own_pending(struct shard *shard, enum pending_kind kind, uint64_t first, uint64_t count)
{
    struct pending_confirm *last = shard->pending_open ? pending_at(shard, shard->pending_count - 1) : NULL;
    shard->own_urgent = true;
    if (kind == PENDING_SETTLED && last && last->end == UINT64_MAX && last->kind == PENDING_SETTLED)
        last->count += count;
    else
        *pending_add(shard) = (struct pending_confirm){.end = UINT64_MAX, .first = first, .count = count, .kind = (uint16_t)kind};
}

bool shard_log_settle(struct shard *shard, uint64_t queue, uint64_t seq, uint64_t count)
{
    if (shard->settle) {
        uint8_t *last = shard->settle + RECORD_HEADER_SIZE + (shard->settle_count - 1) * SETTLE_TARGET_SIZE;
        uint64_t first = load_le64(last + 8), so_far = load_le64(last + 16);
        if (load_le64(last) == queue && first + so_far == seq) {
            store_le64(last + 16, so_far + count - bug_enabled(BUG_SETTLE_ONE_SHORT));
            return true;
        }
    }
    uint32_t size = RECORD_HEADER_SIZE + (shard->settle_count + 1u) * SETTLE_TARGET_SIZE;
    if (!shard->settle || shard->settle_count == SETTLES_A_RECORD || !stage_room(&shard->own, size)) {
        shard->settle = shard_own_room(shard, RECORD_HEADER_SIZE + SETTLE_TARGET_SIZE);
        if (!shard->settle)
            return false;   /* without memory an acknowledgement may be forgotten over a restart, never a message */
        shard->settle_count = 0;
    }
    uint8_t *target = shard->settle + RECORD_HEADER_SIZE + shard->settle_count++ * SETTLE_TARGET_SIZE;
    store_le64(target, queue);
    store_le64(target + 8, seq);
    store_le64(target + 16, count);
    return true;
}

/* ---- confirms ------------------------------------------------------------------------------------------------------ */

static void confirm(struct shard *shard, uint64_t client, uint16_t channel, uint64_t first, uint64_t count, unsigned flags)
{
    struct command_confirm *last = outbox_last(&shard->worker->outboxes[worker_of_client(client)], COMMAND_CONFIRM);
    if (last && last->client == client && last->channel == channel && last->command.flags == flags && last->first + last->count == first &&
        !(flags & CONFIRM_PARTIAL)) {
        last->count += count;
        return;
    }
    struct command_confirm *command = worker_command(shard->worker, worker_of_client(client), COMMAND_CONFIRM, sizeof(*command), NULL);
    command->command.flags = (uint16_t)flags;
    command->client = client;
    command->channel = channel;
    command->first = first;
    command->count = count;
}

/* A confirm for publishes whose slice is about to be appended. */
static void confirm_later(struct shard *shard, const struct command_publish *command)
{
    unsigned flags = command->command.flags & CONFIRM_PARTIAL;
    if (shard->pending_open) {
        struct pending_confirm *last = pending_at(shard, shard->pending_count - 1);
        if (last->end == UINT64_MAX && last->kind == PENDING_CONFIRM && last->client == command->client && last->channel == command->channel &&
            last->first + last->count == command->first_tag && last->flags == flags && !(flags & CONFIRM_PARTIAL)) {
            last->count += command->count;
            return;
        }
    }
    *pending_add(shard) = (struct pending_confirm){.end = UINT64_MAX, .client = command->client, .first = command->first_tag,
                                                   .count = command->count, .channel = command->channel, .flags = (uint16_t)flags,
                                                   .kind = PENDING_CONFIRM};
}

/* Code 0: it is true. 541: the log refused it; 406: a full queue refused a part of it, the rest is true. What the client is told is the requests' affair. */
static void answer_commit(struct shard *shard, uint64_t client, uint64_t serial, uint16_t channel, uint16_t code)
{
    struct command_answer *answer = worker_command(shard->worker, worker_of_client(client), COMMAND_ANSWER, sizeof(*answer), NULL);
    answer->client = client;
    answer->serial = serial;
    answer->kind = REQUEST_COMMIT;
    answer->channel = channel;
    answer->code = code;
}

static void conclude(struct shard *shard, const struct pending_confirm *pending, bool ok)
{
    switch (pending->kind) {
    case PENDING_CONFIRM:
        confirm(shard, pending->client, pending->channel, pending->first, pending->count, (pending->flags & CONFIRM_PARTIAL) | (ok ? CONFIRM_ACCEPTED : 0));
        break;
    case PENDING_ANSWER:
        answer_commit(shard, pending->client, pending->first, pending->channel, ok ? pending->flags : 541);
        break;
    case PENDING_TOPOLOGY:
        master_committed(shard->worker->master, pending->first, ok);
        break;
    case PENDING_MARK:
        redelivery_committed(shard, pending->first, pending->count);   /* of a log that has failed too: nothing would come after it */
        break;
    case PENDING_RELAYED: relay_arrival_committed(shard, pending->first, pending->count, ok); break;
    case PENDING_MOVED: relay_moved(shard, pending->first, ok); break;
    case PENDING_SETTLED: relay_settled(shard, pending->count, ok); break;
    }
}

static void conclude_up_to(struct shard *shard, uint64_t offset)
{
    while (shard->pending_count) {
        struct pending_confirm *pending = pending_at(shard, 0);
        if (pending->end > offset)
            break;
        struct pending_confirm copy = *pending;
        if (shard->pending_count == shard->pending_open)
            shard->pending_open--;
        shard->pending_first = (shard->pending_first + 1) & (shard->pending_capacity - 1);
        shard->pending_count--;
        conclude(shard, &copy, copy.end != 0);   /* 0: it was never appended */
    }
}

void shard_committed(void *owner, struct log_position upto)
{
    conclude_up_to(owner, upto.offset);
}

void shard_log_failed(void *owner, enum gw_err err)
{
    struct shard *shard = owner;
    shard->storage_failed = true;
    alarm_raise(shard->alarms, ALARM_ERROR,
                "shard %u: the log cannot be written (%s): durable messages are refused until the broker is restarted on a sound disk",
                shard->index, gw_err_text(err));
    for (uint32_t i = 0; i < shard->pending_count; i++)
        pending_at(shard, i)->end = 0;
    conclude_up_to(shard, 0);
}

void shard_checkpoint_wanted(void *owner, uint64_t cutoff)
{
    struct shard *shard = owner;
    if (cutoff > shard->checkpoint_cutoff)
        shard->checkpoint_cutoff = cutoff;
}

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

/* A message for a queue that has settings: 0 when it does not want it. */
static uint64_t enter(struct shard *shard, struct queue *queue, uint8_t *record, const struct content *content, uint64_t log_offset)
{
    bool discard;
    if (UNLIKELY(queue->stream != NULL))
        return stream_push(queue->stream, content, log_offset);
    if (!overflow_admits(shard, queue, content, record, &discard))
        return 0;
    struct lane *lane = lane_for(queue, content);
    uint64_t seq = lane_push(lane, content, log_offset, &shard->account, &shard->blocks);
    CHECK(seq);
    overflow_entered(queue, lane, seq, content, discard);
    return seq;
}

/* Pushes one record's message to its queues and writes the sequence numbers into the record. Answers the last queue, for flow control. `behind`: bytes
 * between the targets and the content. */
static inline struct queue *enqueue_from(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable, uint64_t log_offset, uint32_t behind)
{
    uint16_t count = load_le16(record + 10);
    uint8_t *target = record + RECORD_HEADER_SIZE, *contents = target + count * PUBLISH_TARGET_SIZE;
    struct content content = {
        .chunk = chunk,
        .offset = (uint32_t)(contents - chunk->data) + behind,
        .size = load_le32(record) - RECORD_HEADER_SIZE - count * PUBLISH_TARGET_SIZE - behind,
        .crc = load_le32(record + 12),
        .flags = durable ? ENTRY_PERSISTENT : 0,
    };
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
        if (UNLIKELY(queue->delay != NULL))
            delayed_entered(queue, &content, seq);
        shard_mark_dirty(shard, queue);
        last = queue;
    }
    return last;
}

static struct queue *enqueue(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable, uint64_t log_offset)
{
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
        confirm(shard, command->client, command->channel, command->first_tag, command->count, command->command.flags & CONFIRM_PARTIAL);
}

static void confirm_run(struct shard *shard, const struct command_publish *command)
{
    if (!command->first_tag || !command->count)
        return;
    if (command->durable)
        confirm_later(shard, command);
    else
        confirm(shard, command->client, command->channel, command->first_tag, command->count, (command->command.flags & CONFIRM_PARTIAL) | CONFIRM_ACCEPTED);
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
        confirm(shard, command->client, command->channel, command->first_tag + i, 1, command->command.flags & CONFIRM_PARTIAL);
        part.first_tag = command->first_tag + i + 1;
        part.count = 0;
    }
    confirm_run(shard, &part);
    shard->refused_count = 0;
}

void shard_publish(struct shard *shard, const struct command_publish *command)
{
    uint8_t *at = command->chunk->data + command->begin, *end = command->chunk->data + command->end;
    struct queue *queue = NULL;
    if (command->durable && UNLIKELY(log_state(shard->log))) {
        refuse_run(shard, command);
    } else {
        uint64_t log_offset = command->durable ? log_end(shard->log).offset : UINT64_MAX;
        while (at < end) {
            uint32_t size = load_le32(at);
            queue = enqueue(shard, at, command->chunk, command->durable, log_offset);
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
    close_pending(shard, false, !err, offset + stage_align(command->size));
    if (err)
        conclude_up_to(shard, 0);
}

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

static inline __attribute__((always_inline)) void settle_as(struct shard *shard, struct queue *queue, uint64_t seq, enum settle_kind kind, bool ruled)
{
    struct block_slot *slot;
    bool unacked;
    struct lane *lane = queue_lane(queue, seq);
    struct entry *entry = lane ? lane_entry_at(lane, seq, &slot, &unacked) : NULL;
    if (!entry || !unacked)
        return;
    struct consumer *consumer = entry->holder ? shard_consumer(shard, entry->holder) : NULL;
    if (ruled && kind == SETTLE_REQUEUE && returns_count(shard, queue, entry, seq)) {
        rules_ended(queue, seq);
        shard_discard(shard, queue, lane, seq, slot, entry, true, DISCARD_DELIVERY_LIMIT);
    } else if (kind == SETTLE_REQUEUE || kind == SETTLE_UNDELIVERED) {
        if (ruled)
            rules_returned(queue, lane, seq, entry);
        lane_requeue(lane, seq, slot, entry, kind == SETTLE_REQUEUE && !bug_enabled(BUG_REDELIVERED_FORGOTTEN));
        queue_occupied(queue, seq_level(seq));
        if (kind == SETTLE_UNDELIVERED)
            forget_delivery(lane);
        else if (bug_enabled(BUG_REQUEUE_TO_TAIL))
            move_to_tail(shard, lane, seq, entry);
    } else if (kind == SETTLE_DISCARD) {
        if (ruled)
            rules_ended(queue, seq);
        shard_discard(shard, queue, lane, seq, slot, entry, true, DISCARD_REJECTED);
    } else {
        if (ruled)
            rules_ended(queue, seq);
        shard_take_away(shard, queue, lane, seq, slot, entry, true);
    }
    if (consumer)
        consumer_settled(shard, consumer);
}

/* Apart, so that what plain queues pay does not depend on it. */
static __attribute__((noinline)) void settle_ruled(struct shard *shard, struct queue *queue, const struct command_settle *command)
{
    enum settle_kind kind = command->command.flags;
    for (uint64_t i = 0; i < command->count; i++)
        settle_as(shard, queue, command->first + i, kind, true);
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
    enum settle_kind kind = command->command.flags;
    if (UNLIKELY(queue->ruled))
        settle_ruled(shard, queue, command);
    else
        for (uint64_t i = 0; i < command->count; i++)
            settle_as(shard, queue, command->first + i, kind, false);
    queue->progress_us = shard->worker->now_us;
    shard_mark_dirty(shard, queue);
}

/* ---- transactions -------------------------------------------------------------------------------------------------- */

/* What a settle record says, done to the queues in memory. */
static void settle_ranges(struct shard *shard, struct bytes head)
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

void shard_transaction(struct shard *shard, const struct command_transaction *command)
{
    uint8_t *record = command->chunk->data + command->begin + BATCH_HEADER_SIZE;
    bool durable = command->durable;
    bool undeclared = atomic_load_explicit(&shard->worker->broker->log_states[0], memory_order_relaxed) == (int)GW_ERR_FAILED;
    if (durable && (log_state(shard->log) || undeclared)) {
        answer_commit(shard, command->client, command->serial, command->channel, 541);
        return;
    }
    uint64_t log_offset = durable ? log_end(shard->log).offset : UINT64_MAX;
    uint8_t *at = record + RECORD_HEADER_SIZE, *end = record + load_le32(record);
    /* Whether the log takes it was asked above. Should it refuse all the same, the client is told 541, and what became true here does not outlive the program. */
    while (at < end) {
        uint32_t size = load_le32(at);
        if (at[8] == RECORD_PUBLISH) {
            enqueue(shard, at, command->chunk, durable && !(at[9] & RECORD_FLAG_TRANSIENT), log_offset);
            expiry_note_record(shard, at);
        } else {
            settle_ranges(shard, bytes_of(at + RECORD_HEADER_SIZE, size - RECORD_HEADER_SIZE));
        }
        record_seal(at);
        at += size;
    }
    uint16_t code = shard->refused_count ? 406 : 0;
    shard->refused_count = 0;
    if (!durable) {
        answer_commit(shard, command->client, command->serial, command->channel, code);
        return;
    }
    record_begin(record, load_le32(record), RECORD_TRANSACTION, 0,
                 crc32c(0, record + RECORD_HEADER_SIZE, load_le32(record) - RECORD_HEADER_SIZE));
    record_seal(record);
    uint64_t offset;
    enum gw_err err = log_append(shard->log, command->chunk, command->begin, command->size, 1, &offset);
    *pending_add(shard) = (struct pending_confirm){.end = err ? 0 : offset + stage_align(command->size), .client = command->client,
                                                   .first = command->serial, .channel = command->channel, .flags = code, .kind = PENDING_ANSWER};
    if (err)
        conclude_up_to(shard, 0);
}

/* ---- topology ------------------------------------------------------------------------------------------------------ */

enum gw_err shard_log_change(struct shard *shard, const struct topology_change *change, uint64_t sequence)
{
    enum gw_err err = log_state(shard->log);
    if (err)
        return err;
    uint32_t content = topology_change_size(change), size = RECORD_HEADER_SIZE + content;
    uint8_t *at = shard_own_room(shard, size);
    if (!at)
        return GW_ERR_NOMEM;
    topology_change_write(change, at + RECORD_HEADER_SIZE);
    record_begin(at, size, RECORD_TOPOLOGY, 0, crc32c(0, at + RECORD_HEADER_SIZE, content));
    record_seal(at);
    stage_advance(&shard->own, size);
    shard->own_urgent = true;
    *pending_add(shard) = (struct pending_confirm){.end = UINT64_MAX, .first = sequence, .kind = PENDING_TOPOLOGY};
    return GW_OK;
}

/* ---- marks ---------------------------------------------------------------------------------------------------------- */

bool shard_log_mark(struct shard *shard, uint64_t queue, uint64_t mark)
{
    uint32_t size = RECORD_HEADER_SIZE + SETTLE_TARGET_SIZE;
    uint8_t *at = shard_own_room(shard, size);
    if (!at)
        return false;
    store_le64(at + RECORD_HEADER_SIZE, queue);
    store_le64(at + RECORD_HEADER_SIZE + 8, mark);
    store_le64(at + RECORD_HEADER_SIZE + 16, 0);
    record_begin(at, size, RECORD_SETTLE, 1, 0);
    record_seal(at);
    stage_advance(&shard->own, size);
    shard->own_urgent = true;
    *pending_add(shard) = (struct pending_confirm){.end = UINT64_MAX, .first = queue, .count = mark, .kind = PENDING_MARK};
    return true;
}

/* ---- end of a turn ------------------------------------------------------------------------------------------------- */

static bool own_is_due(const struct shard *shard)
{
    if (!shard->own.count && !shard->settle)
        return false;
    return shard->own_urgent || shard->own.at - shard->own.begin + shard->settle_count * SETTLE_TARGET_SIZE > OWN_SIZE_MAX ||
           shard->worker->now_us - shard->own_since_us >= OWN_DELAY_US ||
           shard->appended;   /* a write is coming anyway */
}

void shard_flush_own(struct shard *shard)
{
    own_append(shard);
    conclude_up_to(shard, 0);   /* what the log refused */
}

void shard_turn_end(struct shard *shard)
{
    if (own_is_due(shard))
        own_append(shard);
    shard->appended = false;
    shard_page_out(shard);
    shard_checkpoint_step(shard);
    log_flush(shard->log);
    atomic_store_explicit(&shard->worker->broker->log_states[shard->index], (int)log_state(shard->log), memory_order_relaxed);
    if (shard->withheld_count)
        withheld_release(shard);
}

uint64_t shard_deadline(const struct shard *shard)
{
    uint64_t now = shard->worker->now_us, deadline = timers_next(&shard->timers);
    if (shard->withheld_count && now + 2000 < deadline)
        deadline = now + 2000;
    if ((shard->own.count || shard->settle) && shard->own_since_us + OWN_DELAY_US < deadline)
        deadline = shard->own_since_us + OWN_DELAY_US;
    if (log_state(shard->log) == GW_ERR_FULL && now + 500000 < deadline)
        deadline = now + 500000;
    if (UNLIKELY(shard->relay != NULL) && relay_deadline(shard) < deadline)
        deadline = relay_deadline(shard);
    return deadline;
}

/* ---- time ----------------------------------------------------------------------------------------------------------- */

void shard_timer(struct shard *shard, struct queue *queue, uint64_t at_us)
{
    /* Without memory for it the queue is looked at when something happens to it. */
    timers_set(&shard->timers, queue, at_us);
}

void shard_timers(struct shard *shard)
{
    for (struct queue *queue; (queue = timers_take(&shard->timers, shard->worker->now_us));)
        shard_mark_dirty(shard, queue);
}
