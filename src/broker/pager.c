/* Blocks to and from the segments: spilling (one image of what lives in a block is written), paging out (its bodies leave the memory), and loading. */
#include "broker/shard.h"
#include "base/bugs.h"

#include "broker/compaction.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"
#include "store/block_image.h"

#include <stdlib.h>

#define LOADS_AHEAD 4u          /* blocks read ahead of the one that is needed */
#define SPILLS_MAX 32u          /* images being written at a time */
#define LOAD_TRIES 4u           /* before what a disk will not give is taken for lost */
#define PAGE_RETRY_US 2000u
#define PAGE_FAILED_US 500000u   /* after a write that failed: each attempt lays out megabytes */

/* Who an image belongs to, while it is on its way; the queue may be gone when it arrives. */
struct passage {
    struct shard *shard;
    uint64_t queue, block_number;
};

static struct passage *passage_new(struct shard *shard, uint64_t queue, uint64_t block_number)
{
    struct passage *passage = malloc(sizeof(*passage));
    if (passage)
        *passage = (struct passage){shard, queue, block_number};
    return passage;
}

static bool same_place(struct segment_location a, struct segment_location b)
{
    return a.file == b.file && a.offset == b.offset;
}

void segment_released(struct shard *shard, struct segment_location location, uint32_t bytes)
{
    if (location.file && bytes)
        segment_release(shard->segments, location, bytes);
}

/* A slot that lost its last message while its image was on its way goes now. */
static void drop_if_empty(struct shard *shard, struct lane *lane, struct block_slot *slot, uint64_t block_number)
{
    if (!slot->block || slot->block->ready_count || slot->block->unacked_count)
        return;
    uint32_t bytes;
    struct segment_location location = lane_drop_slot(lane, block_number, &bytes, &shard->account, &shard->blocks);
    segment_released(shard, location, bytes);
}

/* ---- spilling ------------------------------------------------------------------------------------------------------ */

static void written(void *owner, void *context, struct segment_location location, enum gw_err err)
{
    struct shard *shard = owner;
    struct passage *passage = context;
    shard->spilling--;
    struct queue *queue = map_get(&shard->queues, passage->queue);
    struct lane *lane = queue ? queue_lane(queue, passage->block_number * BLOCK_SIZE) : NULL;
    struct block_slot *slot = lane ? lane_slot(lane, passage->block_number) : NULL;
    bool current = slot && slot->state == SLOT_SPILLING && same_place(slot->location, location);
    if (err) {
        if (current) {
            slot->state = SLOT_OPEN;
            slot->location = (struct segment_location){0};
            lane_opened(lane, passage->block_number);
        }
        shard->spill_failed = true;
        shard->page_us = shard->worker->now_us + PAGE_FAILED_US;
        alarm_raise(shard->alarms, ALARM_WARNING, "shard %u: a queue could not be paged out: %s", shard->index, gw_err_text(err));
    } else if (!current) {
        segment_released(shard, location, location.size);
    } else {
        slot->state = SLOT_SPILLED;
        slot->block->log_offset = UINT64_MAX;
        drop_if_empty(shard, lane, slot, passage->block_number);
    }
    free(passage);
}

enum gw_err shard_spill(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t block_number, bool wait)
{
    struct block_slot *slot = lane_slot(lane, block_number);
    struct block *block = slot->block;
    CHECK(slot->state == SLOT_OPEN && block && block->entries);
    unsigned count = block->ready_count + block->unacked_count;
    uint64_t content = 0;
    for (unsigned i = 0; i < block->used; i++)
        if (bit_get(block->ready, i) || bit_get(block->unacked, i))
            content += block->entries[i].size;
    uint64_t size = block_image_size(count, content);
    struct chunk *chunk = size <= UINT32_MAX ? chunk_new(shard->worker->chunks, size) : NULL;
    struct passage *passage = chunk ? passage_new(shard, queue->id, block_number) : NULL;
    if (!passage) {
        if (chunk)
            chunk_release(chunk, shard->worker->chunks);
        return GW_ERR_NOMEM;
    }
    struct block_image_writer writer;
    block_image_begin(&writer, chunk->data, queue->id, block_number, count);
    for (unsigned i = 0; i < block->used; i++) {
        if (!bit_get(block->ready, i) && !bit_get(block->unacked, i))
            continue;
        struct entry *entry = &block->entries[i];
        struct bytes bytes = bytes_of(entry->chunk->data + entry->offset, entry->size);
        if (!(entry->flags & ENTRY_PERSISTENT))
            entry->content_crc = crc32c(0, bytes.data, bytes.size);
        block_image_add(&writer, (uint8_t)i, entry->flags & ENTRY_PERSISTENT, entry->content_crc, bytes);
    }
    block_image_finish(&writer);
    if (block_number == lane->next_seq / BLOCK_SIZE)
        lane_close_tail(lane);
    slot->state = SLOT_SPILLING;
    slot->released = 0;
    slot->spill_number = shard->spill_number++;
    shard->spilling++;
    /* `written` compares places, so the slot must know its own before it can be called. */
    enum gw_err err = segment_append(shard->segments, chunk, (uint32_t)size, wait, written, passage, &slot->location);
    if (err) {
        shard->spilling--;
        slot->state = SLOT_OPEN;
        slot->location = (struct segment_location){0};
        free(passage);
    }
    return err;
}

/* ---- paging out ---------------------------------------------------------------------------------------------------- */

static void page_out(struct shard *shard, struct lane *lane, struct block_slot *slot)
{
    struct block *block = slot->block;
    bool redelivered = false;
    for (unsigned i = 0; i < block->used; i++) {
        if (!bit_get(block->ready, i) && !bit_get(block->unacked, i))
            continue;
        struct entry *entry = &block->entries[i];
        redelivered |= entry->flags & ENTRY_REDELIVERED;
        if (entry->chunk)
            account_drop(&shard->account, entry->chunk);
        entry->chunk = NULL;
    }
    block->bodies = false;
    if (block->unacked_count || redelivered)
        return;   /* who holds what, and what was delivered before, is only here */
    for (unsigned i = bits_next(block->ready, 0); i < BLOCK_SIZE; i = i + 1 < BLOCK_SIZE ? bits_next(block->ready, i + 1) : BLOCK_SIZE)
        lane->ready_bytes -= block->entries[i].size;
    if (block->ready_count == BLOCK_SIZE) {
        slot->live = BLOCK_SIZE;
        slot->block = NULL;
        block_free(block, &shard->blocks);
    } else {
        free(block->entries);
        block->entries = NULL;
        block->capacity = 0;
    }
}

static bool has_bodies(const struct block_slot *slot)
{
    return slot->block && slot->block->entries && slot->block->bodies && !slot->loading && (slot->block->ready_count || slot->block->unacked_count);
}

/* The block that the next delivery comes from, and the one that is being filled. */
static bool is_end(const struct lane *lane, uint64_t number)
{
    return number == lane->head / BLOCK_SIZE || number == lane->next_seq / BLOCK_SIZE;
}

void shard_unload_block(struct shard *shard, struct lane *lane, struct block_slot *slot)
{
    if (slot->state == SLOT_SPILLED && has_bodies(slot))
        page_out(shard, lane, slot);
}

/* False: the disk has enough to write for now. */
static bool page_out_lane(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t target, bool ends)
{
    for (uint64_t number = lane->page_from > lane->first_block ? lane->page_from : lane->first_block;
         number < lane->end_block && shard->account.resident > target; number++) {
        struct block_slot *slot = lane_slot(lane, number);
        /* While the log is replayed, messages may still come for the last blocks. */
        if (shard->recovering && number + 1 >= lane->next_seq / BLOCK_SIZE)
            return true;
        bool tail = number == lane->next_seq / BLOCK_SIZE;
        if (!tail && slot->state == SLOT_SPILLED && (!slot->block || !slot->block->entries)) {
            if (number == lane->page_from)
                lane->page_from++;   /* long paged out: not looked at again */
            continue;
        }
        if (!has_bodies(slot) || (!ends && is_end(lane, number)))
            continue;
        if (slot->state == SLOT_OPEN && (shard->spilling >= SPILLS_MAX || shard_spill(shard, queue, lane, number, shard->recovering)))
            return false;
        if (slot->state == SLOT_SPILLED && slot->block)
            page_out(shard, lane, slot);
    }
    return true;
}

/* Goes on at the lane where it stopped last, so that each has its turn: the first ones, spilled again and again, would be written in crumbs. */
static bool page_out_queue(struct shard *shard, struct queue *queue, uint64_t target, bool ends)
{
    unsigned count = 1 + (queue->levels ? queue->levels->count : 0), first = queue->levels ? queue->levels->page_next : 0;
    for (unsigned i = 0; i < count && shard->account.resident > target; i++) {
        unsigned at = (first + i) % count, place = at;
        struct lane *lane = queue_next_lane(queue, &at);
        if (lane->first_block == lane->end_block || (ends && queue->active))
            continue;
        if (page_out_lane(shard, queue, lane, target, ends))
            continue;
        if (queue->levels)
            queue->levels->page_next = place;
        return false;
    }
    return true;
}

static void page_out_all(struct shard *shard, uint64_t target, bool ends)
{
    uint32_t cursor = shard->page_cursor;
    for (uint32_t left = shard->queues.count; left && shard->account.resident > target; left--) {
        uint32_t before = cursor;
        struct queue *queue = map_next(&shard->queues, &cursor);
        if (!queue) {
            before = cursor = 0;
            queue = map_next(&shard->queues, &cursor);
        }
        if (UNLIKELY(queue->stream != NULL)) {
            stream_page_out(queue->stream);
            continue;
        }
        if (page_out_queue(shard, queue, target, ends))
            continue;
        shard->page_cursor = before;
        return;
    }
    shard->page_cursor = cursor;
}

/* A backlog keeps only its head and tail in memory; a queue that nobody is about to take from, not even those when it has to be. */
void shard_page_out(struct shard *shard)
{
    if (LIKELY(shard->account.resident <= shard->memory_limit) || !shard->segments || shard->spill_failed || checkpoint_is_spilling(shard))
        return;
    if (shard->worker->now_us < shard->page_us && !shard->recovering)
        return;
    page_out_all(shard, shard->memory_limit / 2, false);
    if (shard->account.resident > shard->memory_limit)
        page_out_all(shard, shard->memory_limit / 2, true);
    shard->page_us = shard->worker->now_us + PAGE_RETRY_US;   /* every lane of every queue is not looked at in every turn */
}

/* ---- loading ------------------------------------------------------------------------------------------------------- */

/* Messages of the block that the image did not give back whole: they are lost to rot. Told, counted, and gone. */
static void quarantine(struct shard *shard, struct queue *queue, struct lane *lane, struct block_slot *slot, uint64_t block_number)
{
    unsigned lost = 0;
    struct block *block = slot->block;
    for (unsigned i = 0; i < BLOCK_SIZE && slot->block == block; i++) {
        if (!bit_get(block->ready, i) || block->entries[i].chunk)
            continue;
        lost++;
        if (queue->durable)
            shard_log_settle(shard, queue->id, block_number * BLOCK_SIZE + i, 1);
        shard_remove(shard, lane, block_number * BLOCK_SIZE + i, slot, &block->entries[i], false);
    }
    if (!lost)
        return;
    alarm_raise(shard->alarms, ALARM_ERROR, "shard %u: %u messages of a queue are unreadable on disk (segment %u at %llu); the rest is kept",
                shard->index, lost, slot->location.file, (unsigned long long)slot->location.offset);
}

/* A block that had no entries gets them; those of the bits that are set. */
static bool give_entries(struct lane *lane, struct block_slot *slot, const struct block_image *image)
{
    bool all = !slot->block;
    if (all) {
        slot->block = calloc(1, sizeof(*slot->block));
        if (!slot->block)
            return false;
        slot->block->log_offset = UINT64_MAX;
        for (unsigned i = 0; i < BLOCK_SIZE; i++)
            bit_set(slot->block->ready, i);
        slot->block->ready_count = slot->live;
        slot->live = 0;
    }
    struct block *block = slot->block;
    if (block->entries)
        return true;
    block->entries = calloc(BLOCK_SIZE, sizeof(*block->entries));
    if (!block->entries)
        return false;
    block->capacity = block->used = BLOCK_SIZE;
    for (unsigned i = 0; image && i < image->count; i++) {
        struct block_image_entry from = block_image_entry(image, i);
        block->entries[from.index] = (struct entry){.size = from.size, .content_crc = from.crc, .flags = from.flags};
        if (bit_get(block->ready, from.index))
            lane->ready_bytes += from.size;
    }
    return true;
}

static void take_image(struct shard *shard, struct block_slot *slot, struct chunk *chunk, const struct block_image *image)
{
    struct block *block = slot->block;
    for (unsigned i = 0; i + bug_enabled(BUG_PAGED_LAST_DROPPED) < image->count; i++) {
        struct block_image_entry from = block_image_entry(image, i);
        struct entry *entry = &block->entries[from.index];
        bool live = bit_get(block->ready, from.index) || bit_get(block->unacked, from.index);
        if (!live || entry->chunk || !block_image_verify(image, &from))
            continue;
        entry->chunk = chunk;
        entry->offset = from.offset;
        entry->size = from.size;
        entry->content_crc = from.crc;
        entry->flags |= from.flags & ENTRY_PERSISTENT;
        account_hold(&shard->account, chunk);
    }
    block->bodies = true;
}

static void loaded(void *owner, void *context, struct segment_location location, struct chunk *chunk, enum gw_err err)
{
    struct shard *shard = owner;
    struct passage *passage = context;
    uint64_t number = passage->block_number;
    struct queue *queue = map_get(&shard->queues, passage->queue);
    struct lane *lane = queue ? queue_lane(queue, number * BLOCK_SIZE) : NULL;
    struct block_slot *slot = lane ? lane_slot(lane, number) : NULL;
    shard->loading--;
    free(passage);
    if (slot && slot->loading && same_place(slot->location, location)) {
        struct block_image image;
        slot->loading = false;
        if (!err)
            err = block_image_open(bytes_of(chunk->data, location.size), &image);
        if (!err && (image.queue != queue->id || image.block_number != number))
            err = GW_ERR_CORRUPT;
        slot->load_failures = err == GW_ERR_IO ? slot->load_failures + 1 : 0;
        if (err == GW_ERR_NOMEM || err == GW_ERR_BUSY || (err == GW_ERR_IO && slot->load_failures < LOAD_TRIES && !shard->recovering)) {
            /* it is tried again when the queue is served next */
        } else if (give_entries(lane, slot, err ? NULL : &image)) {
            if (!err)
                take_image(shard, slot, chunk, &image);
            quarantine(shard, queue, lane, slot, number);
            slot = lane_slot(lane, number);
            if (slot)
                drop_if_empty(shard, lane, slot, number);
            slot = lane_slot(lane, number);
            if (slot && slot->moving && compaction_move(shard, queue, lane, number))
                shard->spill_failed = true;
        }
        if (number < lane->page_from)
            lane->page_from = number;
        shard_mark_dirty(shard, queue);
    }
    if (chunk)
        chunk_release(chunk, shard->worker->chunks);
}

void shard_load_block(struct shard *shard, const struct queue *queue, struct block_slot *slot, uint64_t number)
{
    bool wanted = slot->state == SLOT_SPILLED && !slot->loading && (slot->block ? !slot->block->entries || !slot->block->bodies : slot->live);
    struct passage *passage = wanted ? passage_new(shard, queue->id, number) : NULL;
    if (!passage)
        return;
    slot->loading = true;
    shard->loading++;
    if (segment_read(shard->segments, slot->location, false, loaded, passage)) {
        slot->loading = false;
        shard->loading--;
        free(passage);
    }
}

static bool is_loaded(const struct block_slot *slot)
{
    return slot->block && slot->block->entries && slot->block->bodies;
}

/* The slot may be gone afterwards. */
static enum gw_err read_now(struct shard *shard, const struct queue *queue, struct block_slot *slot, uint64_t number)
{
    struct passage *passage = passage_new(shard, queue->id, number);
    if (!passage)
        return GW_ERR_NOMEM;
    slot->loading = true;
    shard->loading++;
    return segment_read(shard->segments, slot->location, true, loaded, passage);
}

bool shard_load_now(struct shard *shard, const struct queue *queue, struct lane *lane, uint64_t number)
{
    struct block_slot *slot = lane_slot(lane, number);
    for (unsigned i = 0; i < LOAD_TRIES && slot && !is_loaded(slot); i++) {
        if (read_now(shard, queue, slot, number))
            break;
        slot = lane_slot(lane, number);
    }
    return slot && is_loaded(slot);
}

enum gw_err shard_reopen_block(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t number)
{
    struct block_slot *slot = lane_slot(lane, number);
    if (!is_loaded(slot)) {
        enum gw_err err = read_now(shard, queue, slot, number);
        slot = lane_slot(lane, number);
        if (err || !slot)
            return err;   /* no slot: what was in it is lost to rot, and told */
        if (!is_loaded(slot))
            return GW_ERR_NOMEM;
    }
    segment_released(shard, slot->location, slot->location.size - slot->released);
    slot->location = (struct segment_location){0};
    slot->released = 0;
    slot->state = SLOT_OPEN;
    lane_opened(lane, number);
    slot->block->log_offset = 0;   /* somewhere in what is being replayed: the next checkpoint spills it again */
    return GW_OK;
}

void shard_load(struct shard *shard, struct queue *queue, struct lane *lane, struct block_slot *slot)
{
    uint64_t number = lane->head / BLOCK_SIZE;
    while (lane_slot(lane, number) != slot)
        number++;
    for (uint64_t ahead = number; ahead < number + LOADS_AHEAD && ahead < lane->end_block; ahead++)
        shard_load_block(shard, queue, lane_slot(lane, ahead), ahead);
}

/* ---- purging what is not in memory ----------------------------------------------------------------------------------- */

void shard_drop_paged(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t block_number)
{
    struct block_slot *slot = lane_slot(lane, block_number);
    struct block *block = slot->block;
    unsigned count = block ? block->ready_count : slot->live;
    for (unsigned i = block ? bits_next(block->ready, 0) : 0; i < BLOCK_SIZE; i = i + 1 < BLOCK_SIZE ? (block ? bits_next(block->ready, i + 1) : i + 1) : BLOCK_SIZE)
        if (queue->durable)
            shard_log_settle(shard, queue->id, block_number * BLOCK_SIZE + i, 1);
    lane->ready -= count;
    if (block)
        memset(block->ready, 0, sizeof(block->ready));
    slot->loading = false;
    uint32_t bytes;
    struct segment_location location = lane_drop_slot(lane, block_number, &bytes, &shard->account, &shard->blocks);
    segment_released(shard, location, bytes);
}
