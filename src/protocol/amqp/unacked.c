#include "protocol/amqp/unacked.h"

#include <stdlib.h>
#include <string.h>

void unacked_init(struct unacked *unacked)
{
    memset(unacked, 0, sizeof(*unacked));
    unacked->next_tag = 1;
}

void unacked_deinit(struct unacked *unacked)
{
    for (uint32_t i = 0; i < unacked->count; i++)
        free(unacked->blocks[unacked->first + i]);
    free(unacked->blocks);
    unacked_init(unacked);
}

/* Room for one more block behind the last one. */
static bool make_room(struct unacked *unacked)
{
    if (unacked->first + unacked->count < unacked->capacity)
        return true;
    if (unacked->first > unacked->capacity / 2) {
        memmove(unacked->blocks, unacked->blocks + unacked->first, unacked->count * sizeof(*unacked->blocks));
        unacked->first = 0;
        return true;
    }
    uint32_t capacity = unacked->capacity ? unacked->capacity * 2 : 4;
    struct unacked_block **blocks = realloc(unacked->blocks, capacity * sizeof(*blocks));
    if (!blocks)
        return false;
    unacked->blocks = blocks;
    unacked->capacity = capacity;
    return true;
}

struct unacked_block *unacked_grow(struct unacked *unacked)
{
    uint64_t number = unacked->next_tag / UNACKED_BLOCK;
    struct unacked_block *last = unacked->count ? unacked->blocks[unacked->first + unacked->count - 1] : NULL;
    if (last && !last->held && !last->parked) {
        /* Everything in the newest block was settled before it was full: it serves again. */
        last->number = number;
        last->counted = 0;
        return last;
    }
    if (!make_room(unacked))
        return NULL;
    struct unacked_block *block = malloc(sizeof(*block));
    if (!block)
        return NULL;
    block->number = number;
    block->held = block->parked = block->counted = 0;
    unacked->blocks[unacked->first + unacked->count++] = block;
    return block;
}

/* The place of the first block whose number is at least `number`; first + count when there is none. */
static uint32_t find(const struct unacked *unacked, uint64_t number)
{
    uint32_t low = unacked->first, high = unacked->first + unacked->count;
    if (low < high && unacked->blocks[low]->number >= number)
        return low;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (unacked->blocks[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Frees the block at `place` if nobody needs it; the newest one stays for what comes next. */
static void drop_if_empty(struct unacked *unacked, uint32_t place)
{
    struct unacked_block *block = unacked->blocks[place];
    uint32_t end = unacked->first + unacked->count;
    if (block->held || block->parked || place == end - 1)
        return;
    free(block);
    if (place == unacked->first)
        unacked->first++;
    else
        memmove(unacked->blocks + place, unacked->blocks + place + 1, (end - place - 1) * sizeof(*unacked->blocks));
    unacked->count--;
}

struct gathered {
    unacked_run *run;
    void *owner;
    uint64_t queue, seq, count;
};

static void gathered_end(struct gathered *gathered)
{
    if (gathered->count)
        gathered->run(gathered->owner, gathered->queue, gathered->seq, gathered->count);
    gathered->count = 0;
}

/* Takes those of the block's entries whose bits are set; all of them are held. */
static void take_bits(struct unacked *unacked, struct unacked_block *block, uint64_t bits, bool park, struct gathered *gathered)
{
    block->held &= ~bits;
    unsigned taken = (unsigned)__builtin_popcountll(bits);
    unacked->held -= taken;
    if (park) {
        block->parked |= bits;
        unacked->parked += taken;
    } else {
        unacked->counted -= (unsigned)__builtin_popcountll(bits & block->counted);
    }
    while (bits) {
        const struct unacked_entry *entry = &block->entries[__builtin_ctzll(bits)];
        bits &= bits - 1;
        if (gathered->count && entry->queue == gathered->queue && entry->seq == gathered->seq + gathered->count) {
            gathered->count++;
            continue;
        }
        gathered_end(gathered);
        gathered->queue = entry->queue;
        gathered->seq = entry->seq;
        gathered->count = 1;
    }
}

/* The bits of the tags of block `number` up to `tag`. */
static uint64_t bits_up_to(uint64_t number, uint64_t tag)
{
    if (number < tag / UNACKED_BLOCK)
        return UINT64_MAX;
    unsigned place = tag % UNACKED_BLOCK;
    return place == UNACKED_BLOCK - 1 ? UINT64_MAX : (2ull << place) - 1;
}

uint64_t unacked_take(struct unacked *unacked, uint64_t tag, bool multiple, bool park, unacked_run *run, void *owner)
{
    struct gathered gathered = {.run = run, .owner = owner};
    uint64_t before = unacked->held;
    if (multiple && tag == 0) {
        tag = unacked->next_tag - 1;
    } else {
        uint32_t place = find(unacked, tag / UNACKED_BLOCK);
        struct unacked_block *block = place < unacked->first + unacked->count ? unacked->blocks[place] : NULL;
        uint64_t bit = 1ull << tag % UNACKED_BLOCK;
        if (!block || block->number != tag / UNACKED_BLOCK || !(block->held & bit))
            return 0;
        if (!multiple) {
            take_bits(unacked, block, bit, park, &gathered);
            gathered_end(&gathered);
            drop_if_empty(unacked, place);
            return 1;
        }
    }
    for (uint32_t place = unacked->first; place < unacked->first + unacked->count;) {
        struct unacked_block *block = unacked->blocks[place];
        uint32_t count = unacked->count, first = unacked->first;
        if (block->number > tag / UNACKED_BLOCK)
            break;
        take_bits(unacked, block, block->held & bits_up_to(block->number, tag), park, &gathered);
        drop_if_empty(unacked, place);
        /* A dropped first block moves `first`, a dropped middle one moves the rest down to this place. */
        if (unacked->count == count || unacked->first != first)
            place++;
    }
    gathered_end(&gathered);
    return before - unacked->held;
}

static void end_parking(struct unacked *unacked, bool hold)
{
    for (uint32_t place = unacked->first + unacked->count; unacked->parked && place > unacked->first; place--) {
        struct unacked_block *block = unacked->blocks[place - 1];
        unsigned count = (unsigned)__builtin_popcountll(block->parked);
        unacked->parked -= count;
        if (hold) {
            block->held |= block->parked;
            unacked->held += count;
        } else {
            unacked->counted -= (unsigned)__builtin_popcountll(block->parked & block->counted);
        }
        block->parked = 0;
        drop_if_empty(unacked, place - 1);
    }
}

void unacked_forget_parked(struct unacked *unacked)
{
    end_parking(unacked, false);
}

void unacked_hold_parked(struct unacked *unacked)
{
    end_parking(unacked, true);
}

bool unacked_holds_below(const struct unacked *unacked, unacked_bound *bound, void *owner)
{
    uint64_t queue = 0, below = 0;
    for (uint32_t place = unacked->first; place < unacked->first + unacked->count; place++) {
        const struct unacked_block *block = unacked->blocks[place];
        for (uint64_t bits = block->held; bits; bits &= bits - 1) {
            unsigned index = (unsigned)__builtin_ctzll(bits);
            if (block->entries[index].queue != queue) {
                queue = block->entries[index].queue;
                below = queue ? bound(owner, queue) : 0;
            }
            if (block->number * UNACKED_BLOCK + index < below)
                return true;
        }
    }
    return false;
}
