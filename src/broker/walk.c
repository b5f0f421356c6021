#include "broker/walk.h"

#include <stdio.h>
#include <stdlib.h>

#define CURSOR_ITEM 32u          /* bytes of a lane's end in a cursor */

/* ---- where it goes -------------------------------------------------------------------------------------------------- */

static const struct lane *lane_of(const struct queue *queue, unsigned level)
{
    return level ? queue->levels ? queue->levels->lanes[level] : NULL : &queue->lane;
}

/* The i-th level in the order of the walk. */
static unsigned level_at(unsigned i) { return i < QUEUE_PRIORITIES ? QUEUE_PRIORITIES - 1 - i : LEVEL_SCHEDULED; }
static unsigned place_of(unsigned level) { return level == LEVEL_SCHEDULED ? QUEUE_PRIORITIES : QUEUE_PRIORITIES - 1 - level; }

/* Takes "level:end" off the front. False: it is none. */
static bool take_end(struct bytes *text, uint64_t ends[QUEUE_LEVELS])
{
    char item[CURSOR_ITEM];
    unsigned level;
    unsigned long long end;
    int used = 0;
    const uint8_t *comma = memchr(text->data, ',', text->size);
    size_t size = comma ? (size_t)(comma - text->data) : text->size;
    if (!size || size >= sizeof(item))
        return false;
    memcpy(item, text->data, size);
    item[size] = 0;
    if (item[0] < '0' || item[0] > '9' || sscanf(item, "%3u:%18llu%n", &level, &end, &used) != 2 || (size_t)used != size || level >= QUEUE_LEVELS || end > seq_base(1))
        return false;
    ends[level] = seq_base(level) + end;
    *text = bytes_of(text->data + size + (comma != NULL), text->size - size - (comma != NULL));
    return true;
}

/* Reads where to begin, and where the lanes end. */
static bool read_from(struct bytes from, const struct queue *queue, uint64_t *first, uint64_t ends[QUEUE_LEVELS])
{
    const uint8_t *bar = from.size ? memchr(from.data, '|', from.size) : NULL;
    struct bytes position = bytes_of(from.data, bar ? (size_t)(bar - from.data) : from.size);
    *first = 0;
    if (position.size && !position_parse(position, first))
        return false;
    for (unsigned level = 0; level < QUEUE_LEVELS && !bar; level++) {
        const struct lane *lane = lane_of(queue, level);
        ends[level] = lane ? lane->next_seq : 0;
    }
    struct bytes rest = bar ? bytes_of(bar + 1, (size_t)(from.data + from.size - bar - 1)) : (struct bytes){0};
    while (rest.size)
        if (!take_end(&rest, ends))
            return false;
    return position.size || !bar;
}

enum gw_err walk_init(struct walk *walk, const struct queue *queue, unsigned lanes, struct bytes from)
{
    uint64_t first, ends[QUEUE_LEVELS] = {0};
    *walk = (struct walk){0};
    if (!read_from(from, queue, &first, ends))
        return GW_ERR_INVALID;
    walk->ranges = calloc(QUEUE_LEVELS, sizeof(*walk->ranges));
    if (!walk->ranges)
        return GW_ERR_NOMEM;
    for (unsigned i = from.size ? place_of(seq_level(first)) : 0; i < QUEUE_LEVELS; i++) {
        unsigned level = level_at(i);
        const struct lane *lane = lane_of(queue, level);
        if (!lane || !(lanes & (level == LEVEL_SCHEDULED ? WALK_SCHEDULED : WALK_READY)))
            continue;
        uint64_t begin = lane->first_block * BLOCK_SIZE, end = ends[level] < lane->next_seq ? ends[level] : lane->next_seq;
        if (begin < seq_base(level) + BLOCK_SIZE)
            begin = seq_base(level) + BLOCK_SIZE;   /* a lane that never had a block */
        if (from.size && level == seq_level(first) && first > begin)
            begin = first;
        if (begin < end)
            walk->ranges[walk->count++] = (struct walk_range){begin, end};
    }
    return GW_OK;
}

void walk_deinit(struct walk *walk)
{
    free(walk->ranges);
    *walk = (struct walk){0};
}

/* ---- going ---------------------------------------------------------------------------------------------------------- */

static bool is_in_memory(const struct block_slot *slot) { return slot->block && slot->block->entries && slot->block->bodies; }

static bool is_empty(const struct block_slot *slot)
{
    return slot->block ? !slot->block->ready_count && !slot->block->unacked_count : !slot->live;
}

/* The next live one in the block, which is in memory. False: there is none before the range's end. */
static bool find_in_block(struct walk_range *range, struct walk_place *place)
{
    const struct block *block = place->slot->block;
    uint64_t end = (range->next / BLOCK_SIZE + 1) * BLOCK_SIZE;
    if (end > range->end)
        end = range->end;
    for (; range->next < end; range->next++) {
        unsigned index = range->next % BLOCK_SIZE;
        place->unacked = bit_get(block->unacked, index);
        if (!place->unacked && !bit_get(block->ready, index))
            continue;
        place->seq = range->next;
        place->entry = &place->slot->block->entries[index];
        return true;
    }
    return false;
}

enum walk_step walk_next(struct walk *walk, struct shard *shard, struct queue *queue, unsigned *budget, struct walk_place *place)
{
    for (; walk->at < walk->count; walk->at++) {
        struct walk_range *range = &walk->ranges[walk->at];
        place->lane = queue_lane(queue, range->next);
        while (place->lane && range->next < range->end) {
            uint64_t number = range->next / BLOCK_SIZE;
            if (!*budget)
                return WALK_PAUSE;
            --*budget;
            if (number < place->lane->first_block) {
                range->next = place->lane->first_block * BLOCK_SIZE;
                continue;
            }
            place->slot = lane_slot(place->lane, number);
            if (!place->slot)
                break;
            if (!is_empty(place->slot) && !is_in_memory(place->slot)) {
                shard_load_block(shard, queue, place->slot, number);
                return WALK_LOADING;
            }
            if (!is_empty(place->slot) && find_in_block(range, place))
                return WALK_MESSAGE;
            if (range->next < (number + 1) * BLOCK_SIZE)
                range->next = (number + 1) * BLOCK_SIZE;
        }
    }
    return WALK_END;
}

void walk_write_cursor(const struct walk *walk, struct writer *writer)
{
    char text[POSITION_SIZE + QUEUE_LEVELS * CURSOR_ITEM], position[POSITION_SIZE];
    unsigned at = walk->at;
    while (at < walk->count && walk->ranges[at].next >= walk->ranges[at].end)
        at++;
    if (at == walk->count) {
        writer_null(writer);
        return;
    }
    struct bytes first = position_write(walk->ranges[at].next, position);
    size_t size = (size_t)snprintf(text, sizeof(text), "%.*s|", (int)first.size, (const char *)first.data);
    for (; at < walk->count; at++) {
        unsigned level = seq_level(walk->ranges[at].next);
        size += (size_t)snprintf(text + size, sizeof(text) - size, "%u:%llu,", level, (unsigned long long)(walk->ranges[at].end - seq_base(level)));
    }
    writer_string(writer, bytes_of(text, size - 1));
}
