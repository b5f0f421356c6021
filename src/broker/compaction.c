/* Compaction: a segment file of which little still lives is emptied, so that the disk holds no more than a small multiple of what is live. Part of a checkpoint's
 * first phase: what lives in the file is read and spilled anew, and the file goes once the checkpoint's snapshot, which names the new places, is durable. */
#include "broker/compaction.h"

#include "broker/worker_internal.h"

#include <stdlib.h>

#define MOVES_MAX 16u     /* blocks being read at a time */

struct move {
    uint64_t queue, block_number;
};

struct compaction {
    struct move *moves;
    uint32_t count, next;
};

static bool add(struct compaction *compaction, uint32_t *room, uint64_t queue, uint64_t block_number)
{
    if (compaction->count == *room) {
        uint32_t grown_room = *room ? *room * 2 : 64;
        struct move *grown = realloc(compaction->moves, grown_room * sizeof(*grown));
        if (!grown)
            return false;
        compaction->moves = grown;
        *room = grown_room;
    }
    compaction->moves[compaction->count++] = (struct move){queue, block_number};
    return true;
}

static bool add_lane(struct compaction *compaction, uint32_t *room, const struct queue *queue, const struct lane *lane, uint32_t file)
{
    for (uint64_t number = lane->first_block; number < lane->end_block; number++) {
        const struct block_slot *slot = lane_slot(lane, number);
        if (slot->state == SLOT_SPILLED && slot->location.file == file && !add(compaction, room, queue->id, number))
            return false;
    }
    return true;
}

struct compaction *compaction_new(struct shard *shard)
{
    uint32_t file = segment_compaction_candidate(shard->segments), cursor = 0, room = 0;
    struct compaction *compaction = file ? calloc(1, sizeof(*compaction)) : NULL;
    if (!compaction)
        return NULL;
    for (struct queue *queue; (queue = map_next(&shard->queues, &cursor));) {
        unsigned at = 0;
        for (struct lane *lane; (lane = queue_next_lane(queue, &at));)
            if (!add_lane(compaction, &room, queue, lane, file))
                return compaction;   /* what is not moved now stays where it is */
    }
    return compaction;
}

void compaction_free(struct compaction *compaction)
{
    if (compaction)
        free(compaction->moves);
    free(compaction);
}

enum gw_err compaction_move(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t block_number)
{
    struct block_slot *slot = lane_slot(lane, block_number);
    slot->moving = false;
    if (slot->state != SLOT_SPILLED || !slot->block || !slot->block->entries || !slot->block->bodies ||
        (!slot->block->ready_count && !slot->block->unacked_count))
        return GW_OK;
    segment_released(shard, slot->location, slot->location.size - slot->released);
    slot->state = SLOT_OPEN;
    lane_opened(lane, block_number);
    slot->location = (struct segment_location){0};
    slot->released = 0;
    slot->block->log_offset = 0;   /* no log has it: a checkpoint that cannot write it must not succeed */
    return shard_spill(shard, queue, lane, block_number, false);
}

bool compaction_step(struct shard *shard, struct compaction *compaction, enum gw_err *err)
{
    while (compaction->next < compaction->count && shard->loading < MOVES_MAX) {
        const struct move *move = &compaction->moves[compaction->next++];
        struct queue *queue = map_get(&shard->queues, move->queue);
        struct lane *lane = queue ? queue_lane(queue, move->block_number * BLOCK_SIZE) : NULL;
        struct block_slot *slot = lane ? lane_slot(lane, move->block_number) : NULL;
        if (!slot || slot->state != SLOT_SPILLED)
            continue;
        slot->moving = true;
        if (slot->block && slot->block->entries && slot->block->bodies)
            *err = compaction_move(shard, queue, lane, move->block_number);
        else
            shard_load_block(shard, queue, slot, move->block_number);
        if (*err)
            return true;
    }
    return compaction->next == compaction->count && !shard->loading;
}
