#include "broker/schedule.h"
#include "base/bugs.h"

#include "broker/relay.h"
#include "broker/worker_internal.h"
#include "store/message.h"

#include <stdlib.h>

#define NEVER UINT64_MAX
#define LOOK_MAX 64u            /* blocks in one look */
#define READ_AHEAD_MS 100u      /* a block is read so long before its first message is due */
#define READ_AHEAD 4u           /* of the heap's first entries */
#define RETRY_US 100000u
#define IN_TIME_MS 1000u        /* what is later than that does not come in the order of its times any more, but block by block */

/* ---- lifecycle ----------------------------------------------------------------------------------------------------- */

struct lane *schedule_lane(struct queue *queue)
{
    if (!queue->schedule)
        queue->schedule = calloc(1, sizeof(*queue->schedule));
    return queue->schedule ? queue_lane_make(queue, LEVEL_SCHEDULED) : NULL;
}

void schedule_deinit(struct queue *queue)
{
    if (!queue->schedule)
        return;
    delay_deinit(&queue->schedule->heap);
    free(queue->schedule->due);
    free(queue->schedule);
    queue->schedule = NULL;
}

/* ---- blocks and their times ------------------------------------------------------------------------------------------ */

/* Forgets blocks at the front of which nothing is left. */
static void forget_front(struct schedule *schedule)
{
    uint32_t gone = 0;
    while (gone < schedule->count && schedule->due[gone] == NEVER)
        gone++;
    if (gone < 64 || gone * 2 < schedule->count)
        return;
    memmove(schedule->due, schedule->due + gone, (schedule->count - gone) * sizeof(*schedule->due));
    schedule->base += gone;
    schedule->count -= gone;
}

/* The block's place in the array; NULL: out of memory. */
static uint64_t *place_of(struct schedule *schedule, uint64_t block)
{
    if (!schedule->count)
        schedule->base = block;
    if (block < schedule->base) {   /* while a snapshot or a log is read, older ones may follow */
        uint64_t more = schedule->base - block;
        uint64_t *grown = more + schedule->count > UINT32_MAX / 16 ? NULL : malloc((more + schedule->count) * sizeof(*grown));
        if (!grown)
            return NULL;
        memset(grown, 0xFF, more * sizeof(*grown));
        memcpy(grown + more, schedule->due, schedule->count * sizeof(*grown));
        free(schedule->due);
        schedule->due = grown;
        schedule->base = block;
        schedule->count = schedule->capacity = (uint32_t)(more + schedule->count);
    }
    uint64_t index = block - schedule->base;
    if (index >= schedule->capacity) {
        uint64_t capacity = index < 16 ? 32 : index * 2;
        uint64_t *grown = capacity > UINT32_MAX / 16 ? NULL : realloc(schedule->due, capacity * sizeof(*grown));
        if (!grown)
            return NULL;
        schedule->due = grown;
        schedule->capacity = (uint32_t)capacity;
    }
    for (; schedule->count <= index; schedule->count++)
        schedule->due[schedule->count] = NEVER;
    return &schedule->due[index];
}

static bool is_current(const struct schedule *schedule, const struct due *due)
{
    return due->seq >= schedule->base && due->seq - schedule->base < schedule->count && schedule->due[due->seq - schedule->base] == due->at_ms;
}

/* The heap's first entry that is still true; NULL: nothing is scheduled. */
static const struct due *first_of(struct schedule *schedule)
{
    const struct due *first;
    while ((first = delay_first(&schedule->heap)) && !is_current(schedule, first))
        delay_pop(&schedule->heap);
    return first;
}

enum gw_err schedule_note_block(struct queue *queue, uint64_t block, uint64_t due_ms)
{
    if (!schedule_lane(queue))
        return GW_ERR_NOMEM;
    uint64_t *place = place_of(queue->schedule, block);
    if (!place || (due_ms < *place && !delay_push(&queue->schedule->heap, due_ms, block)))
        return GW_ERR_NOMEM;
    if (due_ms < *place)
        *place = due_ms;
    return GW_OK;
}

enum gw_err schedule_note(struct queue *queue, uint64_t seq, uint64_t due_ms)
{
    return schedule_note_block(queue, seq / BLOCK_SIZE, due_ms);
}

uint64_t schedule_block_due(const struct queue *queue, uint64_t block)
{
    const struct schedule *schedule = queue->schedule;
    const struct block_slot *slot = lane_slot(queue->levels->lanes[LEVEL_SCHEDULED], block);
    if (slot && slot->block && slot->block->unacked_count)
        return 1;
    return block >= schedule->base && block - schedule->base < schedule->count ? schedule->due[block - schedule->base] : NEVER;
}

/* ---- in -------------------------------------------------------------------------------------------------------------- */

uint64_t schedule_due_of(struct bytes content)
{
    struct message message;
    uint64_t due_ms = message_read(content, &message) ? message.arrived_ms : 0;
    return bug_enabled(BUG_DELAY_EARLY) && due_ms > 40 ? due_ms - 40 : due_ms;
}

static uint64_t due_of(const struct entry *entry)
{
    return schedule_due_of(bytes_of(entry->chunk->data + entry->offset, entry->size));
}

uint64_t schedule_push(struct shard *shard, struct queue *queue, const struct content *content, uint64_t log_offset)
{
    struct lane *lane = schedule_lane(queue);
    uint64_t seq = lane ? lane_push(lane, content, log_offset, &shard->account, &shard->blocks) : 0;
    enum gw_err err = seq ? schedule_note(queue, seq, schedule_due_of(bytes_of(content->chunk->data + content->offset, content->size))) : GW_ERR_NOMEM;
    CHECK(!err);   /* no memory for a few hundred bytes: ending here loses nothing confirmed */
    return seq;
}

/* ---- out ------------------------------------------------------------------------------------------------------------- */

static int by_due(const void *a, const void *b)
{
    const struct due *x = a, *y = b;
    return x->at_ms != y->at_ms ? (x->at_ms > y->at_ms) - (x->at_ms < y->at_ms) : (x->seq > y->seq) - (x->seq < y->seq);
}

/* The block's messages that wait, in the order of their times. */
static unsigned waiting_in(const struct block *block, uint64_t number, struct due waiting[BLOCK_SIZE])
{
    unsigned count = 0;
    for (unsigned i = bits_next(block->ready, 0); i < BLOCK_SIZE; i = i + 1 < BLOCK_SIZE ? bits_next(block->ready, i + 1) : BLOCK_SIZE)
        if (block->entries[i].chunk)
            waiting[count++] = (struct due){due_of(&block->entries[i]), number * BLOCK_SIZE + i};
    qsort(waiting, count, sizeof(*waiting), by_due);
    return count;
}

/* Gives up what is due by `limit_ms` of a block that is in memory, and notes when it is to be looked at next. False: the relay is full. */
static bool empty_block(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t number, uint64_t limit_ms)
{
    struct due waiting[BLOCK_SIZE];
    struct block_slot *slot = lane_slot(lane, number);
    unsigned count = waiting_in(slot->block, number, waiting), at = 0;
    bool room = true;
    for (; at < count && waiting[at].at_ms <= limit_ms && (room = relay_has_room(shard, queue)); at++) {
        bool unacked;
        struct entry *entry = lane_entry_at(lane, waiting[at].seq, &slot, &unacked);
        if (entry && !unacked)
            relay_take(shard, queue, lane, waiting[at].seq, slot, entry, false, DISCARD_DUE);
    }
    *place_of(queue->schedule, number) = at < count ? waiting[at].at_ms : NEVER;
    if (at < count)
        CHECK(delay_push(&queue->schedule->heap, waiting[at].at_ms, number));   /* no memory for 16 bytes: ending here loses nothing confirmed */
    return room;
}

/* Is the block in memory? If not it is asked for; where nothing of it is left it is forgotten. */
static bool have_block(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t number)
{
    struct block_slot *slot = lane_slot(lane, number);
    if (!slot || (slot->block ? !slot->block->ready_count : !slot->live)) {
        *place_of(queue->schedule, number) = NEVER;
        return false;
    }
    if (slot->block && slot->block->entries && slot->block->bodies)
        return true;
    if (!slot->loading)
        shard_load_block(shard, queue, slot, number);
    return false;
}

/* Has the blocks read whose messages will be due soon. */
static void read_ahead(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t now_ms)
{
    struct delay *heap = &queue->schedule->heap;
    for (uint32_t i = 0; i < heap->count && i < READ_AHEAD; i++)
        if (heap->heap[i].at_ms <= now_ms + READ_AHEAD_MS && is_current(queue->schedule, &heap->heap[i]))
            have_block(shard, queue, lane, heap->heap[i].seq);
}

void schedule_look(struct shard *shard, struct queue *queue)
{
    struct schedule *schedule = queue->schedule;
    struct lane *lane = schedule_lane(queue);
    uint64_t now_us = shard->worker->now_us, wall_us = shard->worker->wall_us, now_ms = wall_us / 1000;
    const struct due *first;
    CHECK(lane);
    for (unsigned i = 0; (first = first_of(schedule)) && first->at_ms <= now_ms; i++) {
        uint64_t block = first->seq, at_ms = first->at_ms, limit_ms = now_ms;
        if (i == LOOK_MAX) {
            shard_timer(shard, queue, now_us);
            return;
        }
        if (!have_block(shard, queue, lane, block)) {
            if (!is_current(schedule, &(struct due){at_ms, block}))
                continue;
            read_ahead(shard, queue, lane, now_ms);
            shard_timer(shard, queue, now_us + RETRY_US);   /* should the disk not answer; otherwise it is looked at when the block is there */
            return;
        }
        delay_pop(&schedule->heap);
        first = first_of(schedule);
        if (first && first->at_ms < limit_ms && at_ms + IN_TIME_MS > now_ms)
            limit_ms = first->at_ms > at_ms ? first->at_ms : at_ms;
        if (!empty_block(shard, queue, lane, block, limit_ms))
            return;
    }
    forget_front(schedule);
    if (!first)
        return;
    read_ahead(shard, queue, lane, now_ms);
    first = first_of(schedule);
    if (!first)
        return;
    uint64_t at_us = first->at_ms * 1000, early_us = READ_AHEAD_MS * 1000;
    const struct block_slot *slot = lane_slot(lane, first->seq);
    bool paged = slot && (!slot->block || !slot->block->entries);
    at_us = paged && at_us > wall_us + early_us ? at_us - early_us : at_us;
    shard_timer(shard, queue, now_us + (at_us > wall_us ? at_us - wall_us : 0));
}
