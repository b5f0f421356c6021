#include "broker/lane.h"

#include "base/bytes.h"

#include <stdlib.h>

#define BLOCK_FIRST_CAPACITY 8u
#define BLOCKS_KEPT 64u
#define SLOTS_FIRST_CAPACITY 4u
#define SLOTS_KEPT 256u

/* ---- chunks' accounts ---------------------------------------------------------------------------------------------- */

void account_hold(struct chunk_account *account, struct chunk *chunk)
{
    if (chunk->live++ == 0) {
        chunk_retain(chunk);
        account->resident += chunk->capacity;
    }
}

void account_drop(struct chunk_account *account, struct chunk *chunk)
{
    CHECK(chunk->live > 0);
    if (--chunk->live == 0) {
        account->resident -= chunk->capacity;
        chunk_release(chunk, account->pool);
    }
}

/* ---- blocks -------------------------------------------------------------------------------------------------------- */

void block_pool_deinit(struct block_pool *pool)
{
    while (pool->free) {
        struct block *block = pool->free;
        pool->free = block->next;
        free(block->entries);
        free(block);
    }
    pool->count = 0;
}

static void block_reset(struct block *block)
{
    struct entry *entries = block->entries;
    uint16_t capacity = block->capacity;
    *block = (struct block){.entries = entries, .capacity = capacity, .log_offset = UINT64_MAX, .bodies = true};
}

struct block *block_new(struct block_pool *pool, unsigned capacity)
{
    struct block *block = capacity > BLOCK_FIRST_CAPACITY ? pool->free : NULL;
    if (block) {
        pool->free = block->next;
        pool->count--;
    } else {
        block = calloc(1, sizeof(*block));
        if (!block)
            return NULL;
        block->entries = capacity ? malloc(capacity * sizeof(*block->entries)) : NULL;
        block->capacity = (uint16_t)capacity;
        if (capacity && !block->entries) {
            free(block);
            return NULL;
        }
    }
    block_reset(block);
    return block;
}

void block_free(struct block *block, struct block_pool *pool)
{
    if (block->capacity == BLOCK_SIZE && pool->count < BLOCKS_KEPT) {
        block->next = pool->free;
        pool->free = block;
        pool->count++;
    } else {
        free(block->entries);
        free(block);
    }
}

static bool block_grow(struct block *block, unsigned index)
{
    if (index < block->capacity)
        return true;
    unsigned capacity = index < 64 ? 64 : BLOCK_SIZE;
    struct entry *entries = realloc(block->entries, capacity * sizeof(*entries));
    if (!entries)
        return false;
    block->entries = entries;
    block->capacity = (uint16_t)capacity;
    return true;
}

/* ---- slots --------------------------------------------------------------------------------------------------------- */

struct block_slot *lane_slot(const struct lane *lane, uint64_t block_number)
{
    if (block_number < lane->first_block || block_number >= lane->end_block)
        return NULL;
    return &lane->slots[block_number & (lane->slot_capacity - 1)];
}

static bool grow_slots(struct lane *lane, uint64_t first, uint64_t end)
{
    uint64_t capacity = lane->slot_capacity ? lane->slot_capacity : SLOTS_FIRST_CAPACITY;
    while (capacity < end - first)
        capacity *= 2;
    if (capacity == lane->slot_capacity)
        return true;
    if (capacity > UINT32_MAX)
        return false;
    struct block_slot *slots = calloc(capacity, sizeof(*slots));
    if (!slots)
        return false;
    for (uint64_t number = lane->first_block; number < lane->end_block; number++)
        slots[number & (capacity - 1)] = *lane_slot(lane, number);
    free(lane->slots);
    lane->slots = slots;
    lane->slot_capacity = (uint32_t)capacity;
    return true;
}

/* Makes the slots up to and including `number` exist. */
static struct block_slot *reach_slot(struct lane *lane, uint64_t number)
{
    if (lane->first_block == lane->end_block) {
        if (!lane->slot_capacity && !grow_slots(lane, number, number + 1))
            return NULL;
        lane->first_block = number;
        lane->end_block = number + 1;
        *lane_slot(lane, number) = (struct block_slot){0};
        return lane_slot(lane, number);
    }
    uint64_t first = number < lane->first_block ? number : lane->first_block;
    uint64_t end = number >= lane->end_block ? number + 1 : lane->end_block;
    if (!grow_slots(lane, first, end))
        return NULL;
    while (lane->end_block < end)
        lane->slots[lane->end_block++ & (lane->slot_capacity - 1)] = (struct block_slot){0};
    while (lane->first_block > first)
        lane->slots[--lane->first_block & (lane->slot_capacity - 1)] = (struct block_slot){0};
    return lane_slot(lane, number);
}

struct block_slot *lane_restore_slot(struct lane *lane, uint64_t block_number)
{
    return reach_slot(lane, block_number);
}

static bool slot_is_empty(const struct block_slot *slot)
{
    return !slot->block && !slot->location.file;
}

/* Forgets the empty slots in front. */
static void trim_slots(struct lane *lane)
{
    while (lane->first_block < lane->end_block && slot_is_empty(lane_slot(lane, lane->first_block)))
        lane->first_block++;
}

void lane_shrink(struct lane *lane)
{
    if (lane->first_block != lane->end_block || lane->slot_capacity <= SLOTS_KEPT)
        return;
    free(lane->slots);
    lane->slots = NULL;
    lane->slot_capacity = 0;
}

/* ---- the lane ------------------------------------------------------------------------------------------------------ */

void lane_init(struct lane *lane, unsigned level)
{
    /* Sequence number 0 means none, so the first block of a lane is never used. */
    *lane = (struct lane){.next_seq = seq_base(level) + BLOCK_SIZE, .head = seq_base(level) + BLOCK_SIZE};
}

static void drop_bodies(struct block *block, struct chunk_account *account)
{
    if (!block->entries)
        return;
    for (unsigned i = 0; i < block->used; i++)
        if ((bit_get(block->ready, i) || bit_get(block->unacked, i)) && block->entries[i].chunk) {
            account_drop(account, block->entries[i].chunk);
            block->entries[i].chunk = NULL;
        }
}

void lane_deinit(struct lane *lane, struct chunk_account *account, struct block_pool *pool)
{
    for (uint64_t number = lane->first_block; number < lane->end_block; number++) {
        struct block *block = lane_slot(lane, number)->block;
        if (block) {
            drop_bodies(block, account);
            block_free(block, pool);
        }
    }
    free(lane->slots);
    lane->slots = NULL;
    lane->slot_capacity = 0;
    lane->first_block = lane->end_block = 0;
}

static void fill_entry(struct lane *lane, struct block *block, unsigned index, const struct content *content, uint64_t log_offset,
                       struct chunk_account *account)
{
    block->entries[index] = (struct entry){content->chunk, content->offset, content->size, content->crc, 0, content->flags, 0};
    account_hold(account, content->chunk);
    bit_set(block->ready, index);
    block->ready_count++;
    if (block->used <= index)
        block->used = (uint16_t)(index + 1);
    if ((content->flags & ENTRY_PERSISTENT) && log_offset < block->log_offset)
        block->log_offset = log_offset;
    lane->ready++;
    lane->ready_bytes += content->size;
}

uint64_t lane_push(struct lane *lane, const struct content *content, uint64_t log_offset, struct chunk_account *account, struct block_pool *pool)
{
    uint64_t seq = lane->next_seq;
    unsigned index = seq & (BLOCK_SIZE - 1);
    struct block_slot *slot = lane_slot(lane, seq / BLOCK_SIZE);
    if (UNLIKELY(!slot || !slot->block)) {
        slot = reach_slot(lane, seq / BLOCK_SIZE);
        if (!slot)
            return 0;
        /* A lane that is in the middle of a stream gets a full block at once; one that just begins, a small one. */
        bool busy = lane->ready + lane->unacked >= BLOCK_SIZE / 4 || pool->free;
        slot->block = block_new(pool, busy ? BLOCK_SIZE : BLOCK_FIRST_CAPACITY);
        if (!slot->block)
            return 0;
        slot->block->used = (uint16_t)index;   /* what came before in this block is gone already */
    }
    if (UNLIKELY(!block_grow(slot->block, index)))
        return 0;
    fill_entry(lane, slot->block, index, content, log_offset, account);
    lane->next_seq++;
    return seq;
}

enum gw_err lane_restore(struct lane *lane, uint64_t seq, const struct content *content, uint64_t log_offset,
                          struct chunk_account *account, struct block_pool *pool)
{
    unsigned index = seq & (BLOCK_SIZE - 1);
    if (seq - seq_base(seq_level(seq)) < BLOCK_SIZE)
        return GW_OK;
    struct block_slot *slot = reach_slot(lane, seq / BLOCK_SIZE);
    if (!slot)
        return GW_ERR_NOMEM;
    if (slot->state != SLOT_OPEN)
        return GW_OK;   /* it is in the image, or was settled before that was written */
    if (!slot->block)
        slot->block = block_new(pool, BLOCK_FIRST_CAPACITY);
    if (!slot->block || !block_grow(slot->block, index))
        return GW_ERR_NOMEM;
    if (bit_get(slot->block->ready, index))
        return GW_OK;
    fill_entry(lane, slot->block, index, content, log_offset, account);
    lane_opened(lane, seq / BLOCK_SIZE);
    if (seq < lane->head)
        lane->head = seq;
    if (seq >= lane->next_seq)
        lane->next_seq = seq + 1;
    return GW_OK;
}

void lane_close_tail(struct lane *lane)
{
    uint64_t next_seq = (lane->next_seq + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE;
    lane->passed_over += next_seq - lane->next_seq;
    lane->next_seq = next_seq;
}

struct entry *lane_first(struct lane *lane, uint64_t *seq, struct block_slot **slot)
{
    *slot = NULL;
    if (!lane->ready)
        return NULL;
    uint64_t number = lane->head / BLOCK_SIZE;
    if (number < lane->first_block)
        number = lane->first_block;
    for (;; number++) {
        CHECK(number < lane->end_block);
        struct block_slot *at = &lane->slots[number & (lane->slot_capacity - 1)];
        struct block *block = at->block;
        if (block ? !block->ready_count : !at->live)
            continue;
        *slot = at;
        unsigned from = number == lane->head / BLOCK_SIZE ? lane->head & (BLOCK_SIZE - 1) : 0;
        if (!block || !block->entries) {
            lane->head = number * BLOCK_SIZE + from;
            return NULL;
        }
        unsigned index = bits_next(block->ready, from);
        CHECK(index < BLOCK_SIZE);
        lane->head = *seq = number * BLOCK_SIZE + index;
        return block->entries[index].chunk ? &block->entries[index] : NULL;
    }
}

struct entry *lane_entry_at(const struct lane *lane, uint64_t seq, struct block_slot **slot, bool *unacked)
{
    unsigned index = seq & (BLOCK_SIZE - 1);
    *slot = lane_slot(lane, seq / BLOCK_SIZE);
    struct block *block = *slot ? (*slot)->block : NULL;
    if (!block || !block->entries || index >= block->used)
        return NULL;
    *unacked = bit_get(block->unacked, index);
    if (!*unacked && !bit_get(block->ready, index))
        return NULL;
    return &block->entries[index];
}

static void unready(struct lane *lane, struct block *block, unsigned index, const struct entry *entry)
{
    bit_clear(block->ready, index);
    block->ready_count--;
    lane->ready--;
    lane->ready_bytes -= entry->size;
}

void lane_hold(struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, uint32_t holder)
{
    unsigned index = seq & (BLOCK_SIZE - 1);
    struct block *block = slot->block;
    unready(lane, block, index, entry);
    bit_set(block->unacked, index);
    block->unacked_count++;
    lane->unacked++;
    entry->holder = holder;
}

void lane_requeue(struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool redelivered)
{
    unsigned index = seq & (BLOCK_SIZE - 1);
    struct block *block = slot->block;
    bit_clear(block->unacked, index);
    block->unacked_count--;
    lane->unacked--;
    bit_set(block->ready, index);
    block->ready_count++;
    lane->ready++;
    lane->ready_bytes += entry->size;
    entry->holder = 0;
    if (redelivered)
        entry->flags |= ENTRY_REDELIVERED;
    if (seq < lane->head)
        lane->head = seq;
}

/* Empties a slot: what is left of its image is to be released. */
static struct segment_location clear_slot(struct lane *lane, struct block_slot *slot, uint32_t *release, struct block_pool *pool)
{
    struct segment_location location = {0};
    if (slot->state == SLOT_SPILLED) {
        location = slot->location;
        *release = location.size - slot->released;
    }
    if (slot->block)
        block_free(slot->block, pool);
    *slot = (struct block_slot){0};
    trim_slots(lane);
    return location;
}

struct segment_location lane_remove(struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked,
                                     uint32_t *release, struct chunk_account *account, struct block_pool *pool)
{
    unsigned index = seq & (BLOCK_SIZE - 1);
    struct block *block = slot->block;
    struct segment_location location = {0};
    if (unacked) {
        bit_clear(block->unacked, index);
        block->unacked_count--;
        lane->unacked--;
    } else {
        unready(lane, block, index, entry);
    }
    if (entry->chunk)
        account_drop(account, entry->chunk);
    entry->chunk = NULL;
    *release = 0;
    bool tail = seq / BLOCK_SIZE == lane->next_seq / BLOCK_SIZE;
    if (!block->ready_count && !block->unacked_count && !slot->loading && slot->state != SLOT_SPILLING) {
        if (!tail)
            return clear_slot(lane, slot, release, pool);
        block->log_offset = UINT64_MAX;
    } else if (slot->state == SLOT_SPILLED && slot->location.size - slot->released > entry->size) {
        location = slot->location;
        *release = entry->size;
        slot->released += entry->size;
    }
    return location;
}

struct segment_location lane_drop_slot(struct lane *lane, uint64_t block_number, uint32_t *release, struct chunk_account *account,
                                        struct block_pool *pool)
{
    struct block_slot *slot = lane_slot(lane, block_number);
    CHECK(slot && !slot->loading && slot->state != SLOT_SPILLING);
    *release = 0;
    if (slot->block)
        drop_bodies(slot->block, account);
    return clear_slot(lane, slot, release, pool);
}
