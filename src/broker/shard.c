#include "broker/shard.h"
#include "base/bugs.h"

#include "broker/dedup.h"
#include "broker/filters.h"
#include "broker/groups.h"
#include "broker/inspect.h"
#include "broker/lives.h"
#include "broker/pending.h"
#include "broker/relay.h"
#include "broker/rules.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

#define LOOK_US 100000u                   /* between two looks whether the log's next file can be made after all */
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
    shard->observer.next_us = config->worker->broker->config.observes ? 0 : UINT64_MAX;
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
        filters_free(queue);
        rules_free(queue);
        dedup_free(queue);
        observer_forget(shard, queue);
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
    inspect_free_all(shard);
    origins_deinit(&shard->origins);
    free(shard->consumers);
    free(shard->pending);
    free(shard->withheld);
    free(shard->refused);
    free(shard);
}

struct queue *shard_queue_find(struct shard *shard, uint64_t id)
{
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

/* A policy gives the queue message groups, which consumers with filters would hold up. */
static void cancel_filtered(struct shard *shard, struct queue *queue)
{
    for (struct consumer *consumer = queue->consumers, *next; consumer; consumer = next) {
        next = consumer->all_next;
        if (!consumer->filter)
            continue;
        tell_cancelled(shard, consumer);
        shard_cancel_consumer(shard, consumer);
    }
}

void shard_queue_set(struct shard *shard, uint64_t id, const struct queue_settings *settings)
{
    struct queue *queue = shard_queue(shard, id);
    if (!queue || (!settings && !queue->settings && !queue->dedup))
        return;
    rules_set(shard, queue, settings);
    if (queue->groups && filters_apply(queue))
        cancel_filtered(shard, queue);
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
    for (struct lane *lane; (lane = queue_next_ready_lane(queue, &at));)
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
    filters_free(queue);
    rules_free(queue);
    dedup_free(queue);
    observer_forget(shard, queue);
    if (queue->stream)
        stream_delete(queue->stream);
    queue_deinit(queue, &shard->account, &shard->blocks);
    free(queue);
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
    if (UNLIKELY(queue->lives != NULL))
        lives_discarded(shard, queue, seq, reason);
    if (UNLIKELY(queue->settings && (queue->settings->flags & SETTINGS_DEAD_LETTER))) {
        if (unacked && queue->groups)
            groups_ended(queue, seq);
        relay_take(shard, queue, lane, seq, slot, entry, unacked, reason);   /* what is known of it goes when it has arrived */
    } else {
        rules_ended(queue, seq);
        shard_take_away(shard, queue, lane, seq, slot, entry, unacked);
    }
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
    pending_close(shard, true, ok, offset + stage_align(size));
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

void shard_checkpoint_wanted(void *owner, uint64_t cutoff)
{
    struct shard *shard = owner;
    if (cutoff > shard->checkpoint_cutoff)
        shard->checkpoint_cutoff = cutoff;
}

/* ---- transactions -------------------------------------------------------------------------------------------------- */

void shard_transaction(struct shard *shard, const struct command_transaction *command)
{
    uint8_t *record = command->chunk->data + command->begin + BATCH_HEADER_SIZE;
    bool durable = command->durable;
    bool undeclared = atomic_load_explicit(&shard->worker->broker->log_states[0], memory_order_relaxed) == (int)GW_ERR_FAILED;
    if (durable && (log_state(shard->log) || undeclared)) {
        pending_answer_commit(shard, command->client, command->serial, command->channel, 541);
        return;
    }
    uint64_t log_offset = durable ? log_end(shard->log).offset : UINT64_MAX;
    uint32_t before = shard->pending_count;
    uint8_t *at = record + RECORD_HEADER_SIZE, *end = record + load_le32(record);
    /* Whether the log takes it was asked above. Should it refuse all the same, the client is told 541, and what became true here does not outlive the program. */
    while (at < end) {
        uint32_t size = load_le32(at);
        if (at[8] == RECORD_PUBLISH) {
            shard_enter(shard, at, command->chunk, durable && !(at[9] & RECORD_FLAG_TRANSIENT), log_offset);
            expiry_note_record(shard, at);
        } else {
            shard_settle_ranges(shard, bytes_of(at + RECORD_HEADER_SIZE, size - RECORD_HEADER_SIZE));
        }
        record_seal(at);
        at += size;
    }
    uint16_t code = shard->refused_count ? 406 : 0;
    shard->refused_count = 0;
    if (!durable) {
        pending_answer_commit(shard, command->client, command->serial, command->channel, code);
        return;
    }
    record_begin(record, load_le32(record), RECORD_TRANSACTION, 0,
                 crc32c(0, record + RECORD_HEADER_SIZE, load_le32(record) - RECORD_HEADER_SIZE));
    record_seal(record);
    uint64_t offset;
    enum gw_err err = log_append(shard->log, command->chunk, command->begin, command->size, 1, &offset);
    pending_close_from(shard, before, err ? 0 : offset + stage_align(command->size));
    *pending_add(shard) = (struct pending_confirm){.end = err ? 0 : offset + stage_align(command->size), .client = command->client,
                                                   .first = command->serial, .channel = command->channel, .flags = code, .kind = PENDING_ANSWER};
    if (err) {
        dedup_take_back_record(shard, record);
        pending_conclude(shard, 0);
    }
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
    pending_conclude(shard, 0);   /* what the log refused */
}

void shard_turn_end(struct shard *shard)
{
    if (own_is_due(shard))
        own_append(shard);
    shard->appended = false;
    shard_page_out(shard);
    shard_checkpoint_step(shard);
    bool looks = !log_lacks_file(shard->log) || shard->worker->now_us >= shard->look_us;
    log_set_patient(shard->log, !looks);
    if (UNLIKELY(log_lacks_file(shard->log)) && looks)
        shard->look_us = shard->worker->now_us + LOOK_US;
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
    if (log_lacks_file(shard->log) && shard->look_us < deadline)
        deadline = shard->look_us > now ? shard->look_us : now + 1;
    if (UNLIKELY(shard->relay != NULL) && relay_deadline(shard) < deadline)
        deadline = relay_deadline(shard);
    if (UNLIKELY(shard->inspects != NULL) && inspect_deadline(shard) < deadline)
        deadline = inspect_deadline(shard);
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
