#include "broker/relay.h"
#include "base/bugs.h"

#include "broker/dedup.h"
#include "broker/filters.h"
#include "broker/groups.h"
#include "broker/rules.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

/* ---- hiding what is not committed ----------------------------------------------------------------------------------- */

void relay_hide(struct shard *shard, const struct relay_target *targets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct block_slot *slot;
        bool unacked;
        struct queue *queue = targets[i].seq ? shard_queue(shard, targets[i].queue) : NULL;
        struct lane *lane = queue ? queue_lane(queue, targets[i].seq) : NULL;
        struct entry *entry = lane ? lane_entry_at(lane, targets[i].seq, &slot, &unacked) : NULL;
        if (!entry || unacked)
            continue;   /* the queue is full, and had no use for it */
        lane_hold(lane, targets[i].seq, slot, entry, RELAY_HOLDER);
        entry->flags |= ENTRY_LATE;
    }
}

void relay_show(struct shard *shard, const struct relay_target *targets, uint32_t count, bool ok)
{
    for (uint32_t i = 0; i < count; i++) {
        struct block_slot *slot;
        bool unacked = false;
        struct queue *queue = targets[i].seq ? shard_queue(shard, targets[i].queue) : NULL;
        struct lane *lane = queue ? queue_lane(queue, targets[i].seq) : NULL;
        struct entry *entry = lane ? lane_entry_at(lane, targets[i].seq, &slot, &unacked) : NULL;
        if (!entry || !unacked || entry->holder != RELAY_HOLDER)
            continue;
        if (ok) {
            lane_requeue(lane, targets[i].seq, slot, entry, false);
            if (queue->groups)
                groups_returned(queue, targets[i].seq, entry);
            queue_occupied(queue, seq_level(targets[i].seq));
            if (filters_apply(queue))
                filters_returned(queue, targets[i].seq, entry);
            shard_mark_dirty(shard, queue);
        } else {
            if (queue->dedup && entry->chunk)
                dedup_take_back(shard, queue, bytes_of(entry->chunk->data + entry->offset, entry->size));
            rules_leaves(queue, lane, targets[i].seq, entry);
            shard_remove(shard, lane, targets[i].seq, slot, entry, true);
        }
    }
}

void relay_enqueue(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable)
{
    uint32_t size = load_le32(record), head = RECORD_HEADER_SIZE + record_head_size(record[8], load_le16(record + 10));
    shard_enqueue(shard, record, chunk, durable, durable ? log_end(shard->log).offset : UINT64_MAX);
    for (uint16_t i = 0; i < load_le16(record + 10); i++) {
        struct queue *queue = shard_queue(shard, load_le64(record + RECORD_HEADER_SIZE + i * PUBLISH_TARGET_SIZE));
        if (queue)
            expiry_note(queue, bytes_of(record + head, size - head));
    }
}

/* ---- arriving ------------------------------------------------------------------------------------------------------ */

static void answer(struct shard *shard, uint64_t queue, uint64_t serial, bool ok)
{
    unsigned to = queue_id_shard(queue);
    struct command_relayed *command = worker_command(shard->worker, worker_of_shard(shard->worker, to), COMMAND_RELAYED, sizeof(*command), NULL);
    command->serial = serial;
    command->shard = (uint16_t)to;
    command->from = (uint16_t)shard->index;
    command->ok = ok;
}

static bool log_takes_nothing(const struct shard *shard)
{
    return log_state(shard->log) ||
           atomic_load_explicit(&shard->worker->broker->log_states[0], memory_order_relaxed) == (int)GW_ERR_FAILED;
}

static const uint8_t *origin_of(const uint8_t *record)
{
    return record + RECORD_HEADER_SIZE + load_le16(record + 10) * PUBLISH_TARGET_SIZE;
}

/* Fills in what a record says. */
static void read_origin(struct origin *origin, const uint8_t *targets, const uint8_t *from)
{
    origin->reason = from[16];
    for (uint32_t i = 0; i < origin->count; i++)
        origin->targets[i] = (struct relay_target){load_le64(targets + i * PUBLISH_TARGET_SIZE), load_le64(targets + i * PUBLISH_TARGET_SIZE + 8)};
}

/* The copy that the log writes. The queues' entries stay where the source laid the record out. */
static bool log_record(struct shard *shard, uint8_t *record)
{
    uint32_t size = load_le32(record);
    uint8_t *at = shard_own_room(shard, size);
    if (!at)
        return false;
    record_seal(record);
    memcpy(at, record, size);
    shard_own_made(shard, size);
    return true;
}

bool relay_is_placed(struct shard *shard, const struct relay_target *targets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct queue *queue = shard_queue(shard, targets[i].queue);
        if (queue && (targets[i].seq || queue->stream))   /* a stream's first message has the number 0 */
            return true;
    }
    return false;
}

void relay_arrived(struct shard *shard, const struct command_relay *command)
{
    uint8_t *record = command->chunk->data + command->begin;
    if (record[8] == RECORD_PUBLISH) {
        relay_enqueue(shard, record, command->chunk, false);
        return;
    }
    const uint8_t *from = origin_of(record);
    uint64_t queue = load_le64(from), seq = load_le64(from + 8);
    struct origin *origin = origins_find(&shard->origins, queue, seq);
    if (origin) {   /* it is here: what answers the first time answers this one too */
        origin->serial = command->serial;
        if (origin->committed)
            answer(shard, queue, command->serial, true);
        return;
    }
    origin = log_takes_nothing(shard) ? NULL : origins_add(&shard->origins, queue, seq, load_le16(record + 10));
    if (!origin) {
        answer(shard, queue, command->serial, false);
        return;
    }
    uint64_t dropped = shard->dedup.dropped;
    relay_enqueue(shard, record, command->chunk, true);
    read_origin(origin, record + RECORD_HEADER_SIZE, from);
    origin->serial = command->serial;
    relay_hide(shard, origin->targets, origin->count);
    bool placed = relay_is_placed(shard, origin->targets, origin->count) || shard->dedup.dropped != dropped;   /* or its queue had it before */
    if (placed && log_record(shard, record)) {
        shard_own_pending(shard, PENDING_RELAYED, queue, seq);
        return;
    }
    /* Its queues are gone meanwhile or full, and there is nothing to keep; or memory is short. */
    relay_show(shard, origin->targets, origin->count, false);
    origins_remove(&shard->origins, queue, seq);
    answer(shard, queue, command->serial, !placed && !command->keep);
}

void relay_arrival_committed(struct shard *shard, uint64_t queue, uint64_t seq, bool ok)
{
    struct origin *origin = origins_find(&shard->origins, queue, seq);
    CHECK(origin);
    uint64_t serial = origin->serial;
    relay_show(shard, origin->targets, origin->count, ok);
    origin->committed = ok;
    if (!ok)
        origins_remove(&shard->origins, queue, seq);
    answer(shard, queue, serial, ok);
}

void relay_forget(struct shard *shard, uint64_t queue, uint64_t seq)
{
    if (!origins_find(&shard->origins, queue, seq))
        return;
    origins_remove(&shard->origins, queue, seq);
    /* Should this not be logged, it is asked about once more after a restart. */
    uint32_t size = RECORD_HEADER_SIZE + FORGET_TARGET_SIZE;
    uint8_t *at = shard_own_room(shard, size);
    if (!at)
        return;
    store_le64(at + RECORD_HEADER_SIZE, queue);
    store_le64(at + RECORD_HEADER_SIZE + 8, seq);
    record_begin(at, size, RECORD_FORGET, 1, 0);
    record_seal(at);
    stage_advance(&shard->own, size);
}

/* ---- after a restart ----------------------------------------------------------------------------------------------- */

enum gw_err relay_restore_origin(struct shard *shard, const struct record *record)
{
    const uint8_t *from = record->head.data + record->count * PUBLISH_TARGET_SIZE;
    uint64_t queue = load_le64(from), seq = load_le64(from + 8);
    if (origins_find(&shard->origins, queue, seq) || bug_enabled(BUG_ORIGIN_FORGOTTEN))
        return GW_OK;
    struct origin *origin = origins_add(&shard->origins, queue, seq, record->count);
    if (!origin)
        return GW_ERR_NOMEM;
    read_origin(origin, record->head.data, from);
    origin->committed = true;
    return GW_OK;
}

void relay_restore_forget(struct shard *shard, const struct record *record)
{
    for (const uint8_t *at = record->head.data; at < record->head.data + record->head.size; at += FORGET_TARGET_SIZE)
        origins_remove(&shard->origins, load_le64(at), load_le64(at + 8));
}

/* Is the message still in its old place? A block that is not in memory is read when the place says so. */
static enum gw_err is_there(struct shard *shard, const struct origin *origin, bool *there)
{
    struct queue *queue = shard_queue(shard, origin->queue);
    struct lane *lane = queue ? queue_lane(queue, origin->seq) : NULL;
    uint64_t number = origin->seq / BLOCK_SIZE;
    struct block_slot *slot = lane ? lane_slot(lane, number) : NULL;
    bool live = slot && (slot->block ? bit_get(slot->block->ready, origin->seq & (BLOCK_SIZE - 1)) || bit_get(slot->block->unacked, origin->seq & (BLOCK_SIZE - 1))
                                     : slot->live != 0);
    *there = live;
    if (!live || (slot->block && slot->block->entries))
        return GW_OK;
    bool unacked;
    *there = shard_load_now(shard, queue, lane, number) && lane_entry_at(lane, origin->seq, &slot, &unacked);   /* it may be what has rotted */
    slot = lane_slot(lane, number);
    return *there || !slot || (slot->block && slot->block->entries) ? GW_OK : GW_ERR_IO;
}

/* Nothing new gets the number of a message that another shard still remembers. */
static enum gw_err pass_over_number(struct shard *shard, const struct origin *origin)
{
    struct queue *queue = shard_queue(shard, origin->queue);
    struct lane *lane = queue ? queue_lane_make(queue, seq_level(origin->seq)) : NULL;
    if (queue && !lane)
        return GW_ERR_NOMEM;
    if (lane && lane->next_seq <= origin->seq) {
        lane->next_seq = origin->seq + 1;
        lane_close_tail(lane);
    }
    return GW_OK;
}

static enum gw_err reconcile_one(struct broker *broker, struct shard *known_by, const struct origin *origin)
{
    unsigned source = queue_id_shard(origin->queue);
    struct shard *shard = source < broker->shards ? broker->workers[source % broker->config.workers]->shards[source] : NULL;
    bool there = false;
    enum gw_err err = shard ? pass_over_number(shard, origin) : GW_OK;
    if (!err && shard && origin->reason != DISCARD_COPIED)   /* what was copied is here, and stays where it is */
        err = is_there(shard, origin, &there);
    if (!err && there)
        return relay_resume(shard, origin, known_by->index);
    if (!err)
        relay_forget(known_by, origin->queue, origin->seq);
    return err;
}

enum gw_err relay_reconcile(struct broker *broker)
{
    enum gw_err err = GW_OK;
    for (unsigned i = 0; !err && i < broker->shards; i++) {
        struct shard *shard = broker->workers[i % broker->config.workers]->shards[i];
        for (struct origin *origin = origins_next(&shard->origins, NULL), *next; !err && origin; origin = next) {
            next = origins_next(&shard->origins, origin);   /* this one may go */
            err = reconcile_one(broker, shard, origin);
        }
    }
    return err;
}
