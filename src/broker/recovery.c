/* From a data directory to a shard: its snapshot, then its log from the snapshot's cutoff on. */
#include "broker/shard_snapshot.h"
#include "base/bugs.h"
#include "broker/dedup.h"
#include "broker/relay.h"
#include "broker/rules.h"
#include "broker/schedule.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"

#include "store/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

#define LOOKS_MAX 32u   /* for room in the log, at the end */

/* ---- replaying ----------------------------------------------------------------------------------------------------- */

/* The shard's queues in a vhost that is about to go. */
static void forget_queues(struct shard *shard, const struct vhost *vhost)
{
    uint32_t cursor = 0;
    for (const struct queue_entry *queue; vhost && (queue = map_next(&vhost->queues.map, &cursor));)
        if (queue_id_shard(queue->id) == shard->index)
            shard_queue_delete(shard, queue->id);
}

enum gw_err shard_restore_change(struct shard *shard, const struct topology_change *change)
{
    const struct topology *topology = master_topology(shard->worker->master);
    if (change->kind == CHANGE_VHOST_DELETE)
        forget_queues(shard, topology_vhost_by_id(topology, change->vhost));
    enum gw_err err = master_restore(shard->worker->master, change);
    if (err || queue_id_shard(change->id) != shard->index)
        return err;
    /* One whose vhost the snapshot knows to be gone is not to be there either. */
    if (change->kind == CHANGE_QUEUE_DECLARE)
        return topology_queue_by_id(topology, change->id) ? shard_queue_create(shard, change->id, change->flags & TOPOLOGY_AUTO_DELETE, settings_queue_type(change->arguments)) : GW_OK;
    if (change->kind == CHANGE_QUEUE_DELETE)
        shard_queue_delete(shard, change->id);
    return GW_OK;
}

/* A block that was spilled before the snapshot holds all that it ever will. One that this replay has spilled, because memory was short, does not: the log's order
 * is not quite that of the sequence numbers. */
static enum gw_err restore_message(struct shard *shard, struct queue *queue, uint64_t seq, const struct content *content, uint64_t offset)
{
    if (queue->stream)
        return stream_restore(queue->stream, seq, content, offset);
    struct lane *lane = queue_lane_make(queue, seq_level(seq));
    if (!lane)
        return GW_ERR_NOMEM;
    struct block_slot *slot = lane_slot(lane, seq / BLOCK_SIZE);
    enum gw_err err = slot && slot->state == SLOT_SPILLED && slot->spill_number ? shard_reopen_block(shard, queue, lane, seq / BLOCK_SIZE) : GW_OK;
    if (!err)
        err = lane_restore(lane, seq, content, offset, &shard->account, &shard->blocks);
    if (!err && seq_level(seq) == LEVEL_SCHEDULED)
        err = schedule_note(queue, seq, schedule_due_of(bytes_of(content->chunk->data + content->offset, content->size)));
    queue_occupied(queue, seq_level(seq));
    return err;
}

/* A queue that nobody knows any more still has records here. A new queue must not get its id, or the next replay would give it the old one's messages. */
static void keep_id_used(struct shard *shard, uint64_t id)
{
    struct topology *topology = master_topology(shard->worker->broker->workers[0]->master);
    uint64_t number = (id & ~QUEUE_ID_TRANSIENT) >> 8;
    if (!(id & QUEUE_ID_TRANSIENT) && number >= topology->next_queue)
        topology->next_queue = number + 1;
}

/* The queue as far as the topology is known by now. */
static const struct queue_entry *entry_of(const struct shard *shard, uint64_t id)
{
    const struct topology *topology = shard->index ? &shard->worker->topology : master_topology(shard->worker->master);
    return topology_queue_by_id(topology, id);
}

static enum gw_err restore_publish(struct shard *shard, const struct record *record, struct chunk *chunk, uint64_t offset)
{
    const struct content content = {
        .chunk = chunk,
        .offset = (uint32_t)(record->content.data - chunk->data),
        .size = (uint32_t)record->content.size,
        .crc = record->content_crc,
        .flags = ENTRY_PERSISTENT,
    };
    for (const uint8_t *target = record->head.data; target < record->head.data + record->count * PUBLISH_TARGET_SIZE; target += PUBLISH_TARGET_SIZE) {
        uint64_t id = load_le64(target);
        struct queue *queue = id & QUEUE_ID_TRANSIENT ? NULL : shard_queue(shard, id);
        if (!queue)
            keep_id_used(shard, id);
        if (!queue || (!load_le64(target + 8) && !queue->stream))   /* 0: the queue was full and refused it */
            continue;
        enum gw_err err = restore_message(shard, queue, load_le64(target + 8), &content, offset);
        if (!err && !queue->stream)
            err = dedup_restore(shard, queue, entry_of(shard, id), record, offset);
        if (err)
            return err;
        expiry_note(queue, record->content);
    }
    return GW_OK;
}

/* Settles one message of a block whose entries are not in memory: its bit goes. */
static void settle_bit(struct shard *shard, struct lane *lane, struct block_slot *slot, uint64_t seq)
{
    unsigned index = seq & (BLOCK_SIZE - 1);
    if (!slot->block) {
        slot->block = block_new(&shard->blocks, 0);
        CHECK(slot->block);
        memset(slot->block->ready, 0xFF, sizeof(slot->block->ready));
        slot->block->ready_count = slot->live;
        slot->block->bodies = false;
        slot->live = 0;
    }
    if (!bit_get(slot->block->ready, index))
        return;
    bit_clear(slot->block->ready, index);
    slot->block->ready_count--;
    lane->ready--;
    if (slot->block->ready_count)
        return;
    uint32_t bytes;
    struct segment_location location = lane_drop_slot(lane, seq / BLOCK_SIZE, &bytes, &shard->account, &shard->blocks);
    segment_released(shard, location, bytes);
}

/* A run of messages that are gone. */
static void restore_run(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t first, uint64_t count)
{
    for (uint64_t seq = first; seq - first < count; seq++) {
        struct block_slot *slot;
        bool unacked;
        struct entry *entry = lane_entry_at(lane, seq, &slot, &unacked);
        rules_ended(queue, seq);
        if (entry)
            shard_remove(shard, lane, seq, slot, entry, false);
        else if (slot && slot->state == SLOT_SPILLED && (slot->block ? !slot->block->entries : slot->live))
            settle_bit(shard, lane, slot, seq);
        else if (!slot)
            seq = (seq | (BLOCK_SIZE - 1));   /* nothing there up to the end of the block */
    }
}

static enum gw_err restore_settle(struct shard *shard, const struct record *record)
{
    for (const uint8_t *target = record->head.data; target < record->head.data + record->head.size && !bug_enabled(BUG_SETTLES_IGNORED); target += SETTLE_TARGET_SIZE) {
        struct queue *queue = shard_queue(shard, load_le64(target));
        if (!queue)
            keep_id_used(shard, load_le64(target));
        if (queue && queue->stream)
            continue;   /* of a transaction: consuming leaves no trace in a stream */
        uint64_t first = load_le64(target + 8), count = load_le64(target + 16);
        struct lane *lane = queue ? queue_lane_make(queue, seq_level(first)) : NULL;
        if (queue && !lane)
            return GW_ERR_NOMEM;
        if (lane && !count && first > lane->redelivered_below)
            lane->redelivered_below = first;   /* a mark of redelivery.c */
        if (lane)
            restore_run(shard, queue, lane, first, count);
    }
    return GW_OK;
}

static enum gw_err restore_return(struct shard *shard, const struct record *record)
{
    enum gw_err err = GW_OK;
    bool parks = record->type == RECORD_PARK;
    for (const uint8_t *target = record->head.data; !err && target < record->head.data + record->head.size; target += parks ? PARK_TARGET_SIZE : SETTLE_TARGET_SIZE) {
        struct queue *queue = shard_queue(shard, load_le64(target));
        if (queue)
            err = returns_restore(queue, load_le64(target + 8), load_le64(target + 16), parks ? load_le64(target + 24) : 0, parks ? load_le64(target + 32) : RETRY_NONE);
        else
            keep_id_used(shard, load_le64(target));
    }
    return err;
}

static enum gw_err restore_transaction(struct shard *shard, const struct record *record, struct chunk *chunk, uint64_t offset)
{
    struct bytes rest = record->content;
    enum gw_err err = GW_OK;
    while (!err && rest.size) {
        struct record part;
        if (record_read(rest, &part) != RECORD_OK)
            return GW_ERR_CORRUPT;
        if (part.type == RECORD_PUBLISH && !(part.flags & RECORD_FLAG_TRANSIENT))
            err = restore_publish(shard, &part, chunk, offset);
        else if (part.type == RECORD_SETTLE)
            err = restore_settle(shard, &part);
        rest = bytes_of(rest.data + part.size, rest.size - part.size);
    }
    return err;
}

static enum gw_err replay(void *owner, const struct record *record, struct chunk *chunk, uint64_t offset)
{
    struct shard *shard = owner;
    struct topology_change change;
    enum gw_err err = GW_OK;
    switch ((enum record_type)record->type) {
    case RECORD_VOID:
        break;
    case RECORD_PUBLISH:
        err = restore_publish(shard, record, chunk, offset);
        break;
    case RECORD_SETTLE:
        err = restore_settle(shard, record);
        break;
    case RECORD_RELAYED:
        err = restore_publish(shard, record, chunk, offset);
        if (!err)
            err = relay_restore_origin(shard, record);
        break;
    case RECORD_FORGET:
        relay_restore_forget(shard, record);
        break;
    case RECORD_RETURN:
    case RECORD_PARK:
        err = restore_return(shard, record);
        break;
    case RECORD_TRANSACTION:
        err = restore_transaction(shard, record, chunk, offset);
        break;
    case RECORD_TOPOLOGY:
        err = shard->index == 0 && topology_change_read(record->content, &change) ? shard_restore_change(shard, &change) : GW_ERR_CORRUPT;
        break;
    default:
        err = GW_ERR_VERSION;
    }
    if (!err)
        shard_page_out(shard);
    return err;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

enum gw_err shard_open_segments(struct shard *shard, const struct segment_file_info *files, unsigned count)
{
    const struct segment_config config = {.disk = shard->worker->disk, .directory = shard->directory, .pool = shard->worker->chunks,
                                          .alarms = shard->alarms, .owner = shard};
    return segment_store_open(&config, files, count, &shard->segments);
}

/* Queues of this shard that the topology (recovered with shard 0) knows. */
static enum gw_err create_queues(struct shard *shard)
{
    const struct topology *topology = &shard->worker->topology;
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct queue_entry *queue; !err && (queue = map_next(&topology->queues_by_id, &cursor));)
        if (queue_id_shard(queue->id) == shard->index)
            err = shard_queue_create(shard, queue->id, queue->flags & TOPOLOGY_AUTO_DELETE, settings_type(queue->settings));
    return err;
}

static enum gw_err read_snapshot(struct shard *shard, struct snapshot_head *head, char *why, unsigned room)
{
    struct worker *worker = shard->worker;
    struct chunk *blob;
    uint64_t size;
    enum gw_err err = snapshot_load(worker->disk, worker->chunks, shard->directory, shard->alarms, &blob, &size, &shard->snapshot_generation);
    if (err == GW_ERR_NOT_FOUND)
        return shard_open_segments(shard, NULL, 0);
    if (err) {
        snprintf(why, room, "the snapshot in %s cannot be read: %s; restore the directory from a copy", shard->directory, gw_err_text(err));
        return err;
    }
    err = shard_snapshot_read(shard, bytes_of(blob->data, size), head);
    chunk_release(blob, worker->chunks);
    if (err)
        snprintf(why, room, "the snapshot in %s does not fit its files: %s; restore the directory from a copy", shard->directory, gw_err_text(err));
    return err;
}

static bool is_known(void *owner, uint64_t id, uint64_t base)
{
    const struct queue *queue = map_get(&((struct shard *)owner)->queues, id);
    return queue && queue->stream && stream_store_has(queue->stream->store, base);
}

/* Streams that the snapshot does not list have nothing yet but what was replayed. Files that belong to none are of deleted ones, or were begun after the snapshot. */
static enum gw_err open_streams(struct shard *shard)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    if (shard->worker->broker->config.log_body != LOG_FILE)
        return GW_OK;
    for (struct queue *queue; !err && (queue = map_next(&shard->queues, &cursor));)
        if (queue->stream)
            err = stream_open(queue->stream, queue->stream->first, queue->stream->next, NULL, 0);
    return err ? err : stream_store_tidy(shard->worker->disk, shard->directory, is_known, shard);
}

static void after_replay(struct shard *shard, bool clean)
{
    uint32_t cursor = 0;
    for (struct queue *queue; (queue = map_next(&shard->queues, &cursor));) {
        if (queue->stream) {
            stream_recovered(queue->stream);
            continue;
        }
        unsigned at = 0;
        for (struct lane *lane; (lane = queue_next_lane(queue, &at));) {
            redelivery_recovered(lane, clean);
            lane_close_tail(lane);
            lane->head = lane->first_block * BLOCK_SIZE;
            lane->seen_below = lane->next_seq;
            if (lane->ready)
                queue_occupied(queue, seq_level(lane->next_seq));
        }
        if (queue->ruled || queue->schedule)
            shard_mark_dirty(shard, queue);
    }
}

enum gw_err shard_open(struct shard *shard, char *why, unsigned room)
{
    struct worker *worker = shard->worker;
    const struct broker_config *config = &worker->broker->config;
    struct snapshot_head head = {0};
    snprintf(shard->directory, sizeof(shard->directory), "shard-%u", shard->index);
    shard->recovering = true;
    enum gw_err err = create_queues(shard);
    if (!err && config->log_body == LOG_FILE) {
        struct disk_op make = {.kind = DISK_MAKE_DIR, .name = shard->directory, .file = -1};
        /* Also when it is there already: the process may have been killed before it was durable. */
        struct disk_op sync = {.kind = DISK_SYNC_DIR, .name = ".", .file = -1};
        err = gw_err_from_errno(worker->disk->call(worker->disk, &make));
        if (!err)
            err = gw_err_from_errno(worker->disk->call(worker->disk, &sync));
        if (err)
            snprintf(why, room, "cannot make %s: %s", shard->directory, gw_err_text(err));
    }
    if (!err && config->log_body == LOG_FILE)
        err = read_snapshot(shard, &head, why, room);
    if (err)
        return err;
    const struct log_config log = {
        .body = config->log_body, .disk = worker->disk, .directory = shard->directory, .pool = worker->chunks, .alarms = shard->alarms,
        .file_size = config->log_file_size, .file_count = config->log_file_count,
        .events = {shard_committed, shard_log_failed, shard_checkpoint_wanted, shard},
    };
    shard->spill_number = 1;   /* blocks of the snapshot bear 0 */
    struct log_recovery recovery = {0};
    err = log_open(&log, head.cutoff, 1, replay, shard, &recovery, &shard->log);
    if (err) {
        snprintf(why, room, "the log in %s cannot be opened: %s", shard->directory, gw_err_text(err));
        return err;
    }
    shard->cutoff = head.cutoff;
    err = open_streams(shard);
    if (err) {
        snprintf(why, room, "the streams in %s cannot be opened: %s", shard->directory, gw_err_text(err));
        return err;
    }
    after_replay(shard, head.clean_end && head.clean_end == log_end(shard->log).offset);
    shard->recovering = false;
    if (recovery.records)
        alarm_raise(shard->alarms, ALARM_INFO, "shard %u: %llu records of %llu bytes replayed", shard->index,
                    (unsigned long long)recovery.records, (unsigned long long)recovery.bytes);
    return GW_OK;
}

/* The log says when all is written. False: it does not get to that, as storage failed or is full. */
static bool is_all_logged(struct shard *shard)
{
    shard_flush_own(shard);
    log_flush(shard->log);
    while (log_committed(shard->log).offset != log_end(shard->log).offset && !log_state(shard->log) && shard->worker->disk->wait(shard->worker->disk))
        log_flush(shard->log);
    return log_committed(shard->log).offset == log_end(shard->log).offset && !log_state(shard->log);
}

/* What a checkpoint does next may be for the log, which is flushed first: nothing else would be waited for. */
static void finish_checkpoint(struct shard *shard)
{
    while ((shard->spilling || shard->checkpoint) && !log_state(shard->log)) {
        if (shard->checkpoint) {
            shard_checkpoint_step(shard);
            log_flush(shard->log);
        }
        if (!shard->worker->disk->wait(shard->worker->disk))
            break;
    }
}

/* There is no later look whether the log's next file can be made. Making one is a handful of the disk's operations. */
static void look_for_room(struct shard *shard)
{
    log_set_patient(shard->log, false);
    for (unsigned i = 0; i < LOOKS_MAX && log_lacks_file(shard->log); i++) {
        log_flush(shard->log);
        if (!shard->worker->disk->wait(shard->worker->disk))
            break;
    }
}

enum gw_err shard_close(struct shard *shard)
{
    enum gw_err err = GW_OK;
    if (shard->log)
        look_for_room(shard);
    if (shard->log && is_all_logged(shard) && shard->segments) {
        finish_checkpoint(shard);
        shard_checkpoint_closing(shard);
        finish_checkpoint(shard);
        /* A snapshot that says that it was a clean end shows what the log has, and nothing else. */
        if (!shard->spilling && !checkpoint_waits(shard) && is_all_logged(shard))
            err = shard_checkpoint_final(shard);
    }
    /* Storage has failed: what is under way still answers. */
    while ((shard->spilling || checkpoint_waits(shard)) && shard->worker->disk->wait(shard->worker->disk))
        ;
    if (shard->log) {
        enum gw_err closed = log_close(shard->log);
        err = err ? err : closed;
    }
    shard->log = NULL;
    shard_abandon(shard);
    checkpoint_free(shard);
    return err;
}

void shard_abandon(struct shard *shard)
{
    if (shard->log)
        log_close(shard->log);
    shard->log = NULL;
    if (shard->segments)
        segment_store_close(shard->segments);
    shard->segments = NULL;
}
