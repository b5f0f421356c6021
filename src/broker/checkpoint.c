/* A checkpoint makes the log below a cutoff unnecessary: what still lives there is spilled to segments, those are synced, a snapshot says where everything
 * is, and then the log's files are recycled. One step leads to the next as the disk answers; nothing waits.
 *
 * The snapshot may hold more than the state at the cutoff (later settles, later changes): replaying the log from the cutoff on top of it is idempotent.
 * It must not hold less: every message below the cutoff is settled, or in a synced image that the snapshot lists. */
#include "broker/compaction.h"
#include "broker/shard_snapshot.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"
#include "store/snapshot.h"

#include <stdlib.h>

#define RETRY_US 1000000u     /* after a checkpoint that failed */
#define RECLAIM_US 250000u    /* between looks at what is dead in the segments */
#define RECLAIM_BYTES (64u << 20)
#define CLOSING_BYTES (1u << 20)   /* of log, of which an orderly end leaves no more to be read */

enum phase { PHASE_SPILL, PHASE_SYNC, PHASE_SAVE, PHASE_END };

struct checkpoint {
    enum phase phase;
    uint64_t cutoff;
    uint32_t mark;                      /* spills below it are covered by the sync */
    struct compaction *compaction;      /* NULL: nothing to move, or all is moved */
    struct segment_file_info *files;
    unsigned file_count;
    struct chunk *blob;                 /* the snapshot that waits for the log; NULL: none */
    uint64_t blob_size;
    uint64_t blob_end;                  /* the log's end when it was made */
    bool saving;
    uint32_t syncing;                   /* streams that have not answered, and one more while they are asked */
    enum gw_err err;
};

bool checkpoint_is_spilling(const struct shard *shard)
{
    return shard->checkpoint && shard->checkpoint->phase == PHASE_SPILL;
}

bool checkpoint_waits(const struct shard *shard)
{
    const struct checkpoint *checkpoint = shard->checkpoint;
    return checkpoint && (checkpoint->syncing || checkpoint->phase == PHASE_SYNC || (checkpoint->phase == PHASE_SAVE && checkpoint->saving));
}

void checkpoint_free(struct shard *shard)
{
    if (shard->checkpoint) {
        compaction_free(shard->checkpoint->compaction);
        free(shard->checkpoint->files);
        if (shard->checkpoint->blob)
            chunk_release(shard->checkpoint->blob, shard->worker->chunks);
    }
    free(shard->checkpoint);
    shard->checkpoint = NULL;
}

static void fail(struct shard *shard, enum gw_err err)
{
    alarm_raise(shard->alarms, ALARM_WARNING, "shard %u: the log cannot be shortened now: %s", shard->index, gw_err_text(err));
    shard->checkpoint->err = err;
    shard->checkpoint->phase = PHASE_END;
}

/* Starts spilling every block of the lane that has something below the cutoff. */
static enum gw_err spill_lane(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t cutoff)
{
    lane_shrink(lane);
    uint64_t from = lane->open_from > lane->first_block ? lane->open_from : lane->first_block;
    for (uint64_t number = from; queue->durable && number < lane->end_block; number++) {
        struct block_slot *slot = lane_slot(lane, number);
        if (number == from && number != lane->next_seq / BLOCK_SIZE && (slot->state != SLOT_OPEN || !slot->block))
            lane->open_from = ++from;   /* a long backlog is not gone through at every checkpoint */
        if (slot->state != SLOT_OPEN || !slot->block || slot->block->log_offset >= cutoff)
            continue;
        if (!slot->block->ready_count && !slot->block->unacked_count)
            continue;
        enum gw_err err = shard_spill(shard, queue, lane, number, shard->recovering);
        if (err)
            return err;
    }
    return GW_OK;
}

/* The same for all queues; true: there was nothing left to start. */
static bool spill_below(struct shard *shard, uint64_t cutoff)
{
    uint32_t cursor = 0;
    for (struct queue *queue; (queue = map_next(&shard->queues, &cursor));) {
        if (UNLIKELY(queue->stream != NULL)) {
            stream_checkpoint(queue->stream, cutoff);
            continue;
        }
        unsigned at = 0;
        for (struct lane *lane; (lane = queue_next_lane(queue, &at));) {
            enum gw_err err = spill_lane(shard, queue, lane, cutoff);
            if (err) {
                fail(shard, err);
                return false;
            }
        }
    }
    return true;
}

static void synced(void *owner, void *context, enum gw_err err)
{
    struct shard *shard = owner;
    (void)context;
    if (err)
        fail(shard, err);
    else
        shard->checkpoint->phase = PHASE_SAVE;
}

static void streams_synced(struct shard *shard)
{
    if (--shard->checkpoint->syncing)
        return;
    if (shard->checkpoint->phase == PHASE_SYNC && !shard->checkpoint->err)
        segment_sync(shard->segments, false, synced, NULL);   /* the names of the streams' files too */
}

static void stream_synced(void *owner, enum gw_err err)
{
    struct stream *stream = owner;
    if (err)
        fail(stream->shard, err);
    streams_synced(stream->shard);
}

static void sync_everything(struct shard *shard)
{
    uint32_t cursor = 0;
    shard->checkpoint->syncing = 1;
    for (struct queue *queue; shard->stream_count && (queue = map_next(&shard->queues, &cursor));)
        if (queue->stream && queue->stream->store) {
            shard->checkpoint->syncing++;
            stream_store_sync(queue->stream->store, false, stream_synced);
        }
    streams_synced(shard);
}

static void saved(void *owner, enum gw_err err)
{
    struct shard *shard = owner;
    if (err)
        fail(shard, err);
    else
        shard->checkpoint->phase = PHASE_END;
}

static enum gw_err list_files(struct shard *shard, struct checkpoint *checkpoint)
{
    checkpoint->mark = shard->spill_number;
    unsigned count = segment_files(shard->segments, NULL, 0);
    checkpoint->files = calloc(count + 1, sizeof(*checkpoint->files));
    if (!checkpoint->files)
        return GW_ERR_NOMEM;
    checkpoint->file_count = segment_files(shard->segments, checkpoint->files, count);
    return GW_OK;
}

static enum gw_err make_blob(struct shard *shard, uint64_t clean_end)
{
    struct checkpoint *checkpoint = shard->checkpoint;
    struct snapshot_head head = {.cutoff = checkpoint->cutoff, .clean_end = clean_end, .shards = shard->worker->broker->shards};
    checkpoint->blob_end = log_end(shard->log).offset;
    return shard_snapshot_write(shard, &head, checkpoint->mark, checkpoint->files, checkpoint->file_count, &checkpoint->blob, &checkpoint->blob_size);
}

static enum gw_err save(struct shard *shard, bool wait)
{
    struct checkpoint *checkpoint = shard->checkpoint;
    struct chunk *blob = checkpoint->blob;
    checkpoint->blob = NULL;
    checkpoint->saving = true;
    return snapshot_save(shard->worker->disk, shard->worker->chunks, shard->directory, ++shard->snapshot_generation, blob, checkpoint->blob_size, wait, saved, shard);
}

/* A snapshot shows one half of a transaction as well as the other, or of a message that was relayed: its place and its origin. So it becomes true only when the
 * log holds all that it shows, and it shows all that lies below its cutoff. */
static enum gw_err save_when_logged(struct shard *shard)
{
    struct checkpoint *checkpoint = shard->checkpoint;
    if (log_state(shard->log) == GW_ERR_FAILED)
        return GW_ERR_FAILED;
    if (!checkpoint->blob) {
        if (log_committed(shard->log).offset < checkpoint->cutoff)
            return GW_OK;
        shard_flush_own(shard);
        enum gw_err err = make_blob(shard, 0);
        if (err)
            return err;
    }
    return log_committed(shard->log).offset < checkpoint->blob_end ? GW_OK : save(shard, false);
}

static void start(struct shard *shard)
{
    shard->checkpoint = calloc(1, sizeof(*shard->checkpoint));
    if (!shard->checkpoint)
        return;
    shard->checkpoint->cutoff = shard->checkpoint_cutoff ? shard->checkpoint_cutoff : shard->cutoff;
    shard->spill_failed = false;
    if (spill_below(shard, shard->checkpoint->cutoff) && !shard->closing)
        shard->checkpoint->compaction = compaction_new(shard);
}

static void end(struct shard *shard)
{
    struct checkpoint *checkpoint = shard->checkpoint;
    if (checkpoint->err) {
        shard->retry_us = shard->worker->now_us + RETRY_US;
    } else {
        shard->cutoff = checkpoint->cutoff;
        if (shard->checkpoint_cutoff <= checkpoint->cutoff)
            shard->checkpoint_cutoff = 0;
        log_recycle(shard->log, checkpoint->cutoff);
        segment_reclaim(shard->segments);
    }
    checkpoint_free(shard);
}

static void go_on_after_spill(struct shard *shard)
{
    struct checkpoint *checkpoint = shard->checkpoint;
    if (checkpoint->compaction) {
        enum gw_err moved = GW_OK;
        if (!compaction_step(shard, checkpoint->compaction, &moved))
            return;
        compaction_free(checkpoint->compaction);
        checkpoint->compaction = NULL;
        if (moved) {
            fail(shard, moved);
            return;
        }
    }
    if (shard->spilling)
        return;
    if (shard->spill_failed) {
        fail(shard, GW_ERR_IO);
        return;
    }
    enum gw_err err = list_files(shard, checkpoint);
    checkpoint->phase = PHASE_SYNC;
    if (err)
        fail(shard, err);
    else
        sync_everything(shard);
}

/* Consumed backlogs leave segments with nothing in them; those go with a checkpoint too, though the log does not want one. */
static bool reclaim_is_due(struct shard *shard)
{
    if (!shard->segments || shard->worker->now_us < shard->reclaim_us)
        return false;
    shard->reclaim_us = shard->worker->now_us + RECLAIM_US;
    uint64_t live = segment_live_bytes(shard->segments), dead = segment_disk_bytes(shard->segments) - live;
    return dead > RECLAIM_BYTES && dead > live;
}

void shard_checkpoint_step(struct shard *shard)
{
    if (!shard->checkpoint) {
        if (shard->spill_failed && shard->worker->now_us >= shard->retry_us)
            shard->spill_failed = false;
        if (shard->worker->now_us < shard->retry_us || (!shard->checkpoint_cutoff && !reclaim_is_due(shard)))
            return;
        start(shard);
        if (!shard->checkpoint)
            return;
    }
    if (shard->checkpoint->phase == PHASE_SPILL)
        go_on_after_spill(shard);
    if (shard->checkpoint->phase == PHASE_SAVE && !shard->checkpoint->saving) {
        enum gw_err err = save_when_logged(shard);
        if (err)
            fail(shard, err);
    }
    if (shard->checkpoint->phase == PHASE_END && !shard->checkpoint->syncing)
        end(shard);
}

/* What the log says and no longer counts need not be read when it is opened again, unless writing what still does would take about as long now. */
void shard_checkpoint_closing(struct shard *shard)
{
    uint64_t end = log_committed(shard->log).offset, dead = end - shard->cutoff;
    shard->closing = true;
    if (shard->checkpoint || shard->stream_count || dead < CLOSING_BYTES || shard->account.resident > dead / 4)
        return;
    shard_checkpoint_wanted(shard, end);
    shard->retry_us = 0;
    shard_checkpoint_step(shard);
}

enum gw_err shard_checkpoint_final(struct shard *shard)
{
    checkpoint_free(shard);
    shard->checkpoint = calloc(1, sizeof(*shard->checkpoint));
    if (!shard->checkpoint)
        return GW_ERR_NOMEM;
    shard->checkpoint->cutoff = shard->cutoff;
    enum gw_err err = list_files(shard, shard->checkpoint);
    uint32_t cursor = 0;
    for (struct queue *queue; !err && shard->stream_count && (queue = map_next(&shard->queues, &cursor));)
        if (queue->stream)
            err = stream_write_all(queue->stream);
    if (!err) {
        shard->checkpoint->phase = PHASE_SYNC;
        segment_sync(shard->segments, true, synced, NULL);
        err = shard->checkpoint->err;
    }
    if (!err)
        err = make_blob(shard, log_end(shard->log).offset);
    if (!err)
        err = save(shard, true);
    if (!err)
        err = shard->checkpoint->err;
    checkpoint_free(shard);
    return err;
}
