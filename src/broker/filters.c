#include "broker/filters.h"
#include "base/bugs.h"

#include "broker/retry.h"
#include "broker/summary.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

#define STEPS_A_TURN 8192           /* messages looked at, of all filters of a queue … */
#define STEPS_LEAST 64              /* … but each so many */
#define STEPS_A_BLOCK 4             /* what passing over a block costs */
#define BACK_MAX 4096u              /* messages that came back; with more a filter looks from the lowest of them again */
#define READ_AHEAD 24u              /* blocks … */
#define READ_AHEAD_SLOTS 512u       /* … among so many that a scan will come to … */
#define READ_AHEAD_BYTES (4u << 20) /* … and so many bytes */
#define VISITED_BYTES (16u << 20)
#define SUMMARIES_BYTES (32u << 20)
#define SWEEP_LEAST 1024u
#define MARK_AHEAD 65536u           /* sequence numbers, see redelivery.c */
#define RETRY_US 100000u

#define PLACE_MASK ((1ull << SEQ_LEVEL_SHIFT) - 1)

/* ---- who has which ------------------------------------------------------------------------------------------------- */

static struct filter *filter_new(const struct amqp_field *field)
{
    char why[256];
    struct filter *filter = calloc(1, sizeof(*filter) + field->bytes.size);
    if (!filter || selector_of_field(field, &filter->selector, why, sizeof(why))) {
        free(filter);
        return NULL;
    }
    filter->type = field->type;
    filter->size = (uint32_t)field->bytes.size;
    if (field->bytes.size)
        memcpy(filter->bytes, field->bytes.data, field->bytes.size);
    filter->term_count = selector_terms(filter->selector, filter->terms);
    return filter;
}

bool filters_join(struct queue *queue, struct consumer *consumer, const struct amqp_field *field)
{
    if (!queue->filters)
        queue->filters = calloc(1, sizeof(*queue->filters));
    struct filter *filter = queue->filters ? queue->filters->first : NULL;
    while (filter && !(filter->type == field->type && bytes_equal(bytes_of(filter->bytes, filter->size), field->bytes)))
        filter = filter->next;
    if (!filter) {
        filter = queue->filters ? filter_new(field) : NULL;
        if (!filter)
            return false;
        filter->next = queue->filters->first;
        queue->filters->first = filter;
        queue->filters->count++;
    }
    filter->consumers++;
    consumer->filter = filter;
    queue->ruled |= RULED_BY_FILTERS;
    return true;
}

void filters_leave(struct queue *queue, struct consumer *consumer)
{
    struct filter *filter = consumer->filter;
    if (!filter || --filter->consumers)
        return;
    struct filter **at = &queue->filters->first;
    while (*at != filter)
        at = &(*at)->next;
    *at = filter->next;
    queue->filters->count--;
    if (!queue->filters->first)
        queue->ruled &= (uint8_t)~RULED_BY_FILTERS;
    selector_free(filter->selector);
    free(filter->cursors);
    free(filter->back);
    free(filter);
}

void filters_free(struct queue *queue)
{
    struct filters *filters = queue->filters;
    uint32_t cursor = 0;
    if (!filters)
        return;
    CHECK(!filters->first);
    for (void *summary; (summary = map_next(&filters->summaries, &cursor));)
        free(summary);
    map_deinit(&filters->summaries);
    free(filters);
    queue->filters = NULL;
}

/* ---- cursors ------------------------------------------------------------------------------------------------------- */

/* NULL: out of memory. */
static uint64_t *cursor_of(struct filter *filter, unsigned level)
{
    if (level >= filter->cursor_count) {
        uint64_t *grown = realloc(filter->cursors, (level + 1) * sizeof(*grown));
        if (!grown)
            return NULL;
        memset(grown + filter->cursor_count, 0, (level + 1 - filter->cursor_count) * sizeof(*grown));
        filter->cursors = grown;
        filter->cursor_count = level + 1;
    }
    return &filter->cursors[level];
}

/* ---- what came back -------------------------------------------------------------------------------------------------- */

/* Orders the highest level first, and back. */
static uint64_t back_key(uint64_t seq) { return seq_base(QUEUE_LEVELS - 1 - seq_level(seq)) | (seq & PLACE_MASK); }

static void back_push(struct filter *filter, uint64_t key)
{
    uint32_t place = filter->back_count++;
    for (; place && filter->back[(place - 1) / 2] > key; place = (place - 1) / 2)
        filter->back[place] = filter->back[(place - 1) / 2];
    filter->back[place] = key;
}

static void back_pop(struct filter *filter)
{
    uint64_t last = filter->back[--filter->back_count];
    uint32_t place = 0, count = filter->back_count;
    for (uint32_t child; (child = place * 2 + 1) < count; place = child) {
        child += child + 1 < count && filter->back[child + 1] < filter->back[child];
        if (filter->back[child] >= last)
            break;
        filter->back[place] = filter->back[child];
    }
    if (count)
        filter->back[place] = last;
}

/* There is no room to remember it: the cursor goes back. */
static void look_from(struct filter *filter, uint64_t seq)
{
    uint64_t *cursor = &filter->cursors[seq_level(seq)];
    if (seq < *cursor)
        *cursor = seq;
}

static void note_back(struct filter *filter, uint64_t seq)
{
    if (filter->back_count == BACK_MAX) {
        for (uint32_t i = 0; i < filter->back_count; i++)
            look_from(filter, back_key(filter->back[i]));
        filter->back_count = 0;
    }
    if (filter->back_count == filter->back_capacity) {
        uint32_t capacity = filter->back_capacity ? filter->back_capacity * 2 : 16;
        uint64_t *grown = realloc(filter->back, capacity * sizeof(*grown));
        if (!grown) {
            look_from(filter, seq);
            return;
        }
        filter->back = grown;
        filter->back_capacity = capacity;
    }
    back_push(filter, back_key(seq));
}

/* Does the filter want it? Its content is in memory. That takes more than one step where both are long. */
static bool is_wanted(const struct filter *filter, const struct entry *entry, int *steps)
{
    struct message message;
    if (bug_enabled(BUG_FILTER_IGNORED))
        return true;
    if (!message_read(bytes_of(entry->chunk->data + entry->offset, entry->size), &message))
        return false;
    *steps -= (int)selector_cost(filter->selector, &message) - 1;
    return selector_matches(filter->selector, &message);
}

void filters_returned(struct queue *queue, uint64_t seq, const struct entry *entry)
{
    unsigned level = seq_level(seq);
    int steps = STEPS_A_TURN;   /* after so many it is looked at when it is needed */
    for (struct filter *filter = queue->filters->first; filter; filter = filter->next)
        if (level < filter->cursor_count && seq < filter->cursors[level] && (!entry->chunk || steps-- <= 0 || is_wanted(filter, entry, &steps)) && !bug_enabled(BUG_FILTER_RETURN_MISSED))
            note_back(filter, seq);
}

/* ---- blocks from disk ------------------------------------------------------------------------------------------------ */

static bool is_in_memory(const struct block_slot *slot) { return slot->block && slot->block->entries && slot->block->bodies; }
static unsigned ready_in(const struct block_slot *slot) { return slot->block ? slot->block->ready_count : slot->live; }

/* The block that has been in memory for the longest leaves it, unless it is at the lane's ends. */
static void leave_oldest(struct shard *shard, struct queue *queue)
{
    struct filters *filters = queue->filters;
    unsigned place = filters->visited_first;
    struct lane *lane = queue_lane(queue, filters->visited[place] * BLOCK_SIZE);
    filters->visited_first = (place + 1) % FILTER_VISITED_MAX;
    filters->visited_count--;
    filters->visited_bytes -= filters->visited_sizes[place];
    uint64_t number = filters->visited[place];
    struct block_slot *slot = lane ? lane_slot(lane, number) : NULL;
    if (slot && number != lane->head / BLOCK_SIZE && number != lane->next_seq / BLOCK_SIZE)
        shard_unload_block(shard, lane, slot);
}

/* False: it is not on its way. */
static bool load(struct shard *shard, struct queue *queue, struct block_slot *slot, uint64_t number)
{
    struct filters *filters = queue->filters;
    bool before = slot->loading;
    shard_load_block(shard, queue, slot, number);
    if (before || !slot->loading)
        return slot->loading;
    if (filters->visited_count == FILTER_VISITED_MAX)
        leave_oldest(shard, queue);
    unsigned place = (filters->visited_first + filters->visited_count++) % FILTER_VISITED_MAX;
    filters->visited[place] = number;
    filters->visited_sizes[place] = slot->location.size;
    filters->visited_bytes += slot->location.size;
    while (filters->visited_bytes > VISITED_BYTES && filters->visited_count > 1)
        leave_oldest(shard, queue);
    return true;
}

/* What the summary of a block says, if there is one. */
static bool may_have(const struct queue *queue, const struct filter *filter, uint64_t number)
{
    const struct summary *summary = filter->term_count ? map_get(&queue->filters->summaries, number) : NULL;
    return !summary || summary_may_have(summary, filter->terms, filter->term_count);
}

/* Has the blocks read that the scan will come to behind that one. Others that scan want to keep theirs. */
static void read_ahead(struct shard *shard, struct queue *queue, const struct filter *filter, struct lane *lane, uint64_t number)
{
    uint64_t bytes = lane_slot(lane, number)->location.size;
    unsigned most = queue->filters->count > 2 ? FILTER_VISITED_MAX * 3 / 4 / queue->filters->count : READ_AHEAD;
    number++;
    for (unsigned i = 0, count = 0; i < READ_AHEAD_SLOTS && count < most && bytes < READ_AHEAD_BYTES && number < lane->end_block; i++, number++) {
        struct block_slot *slot = lane_slot(lane, number);
        if (!ready_in(slot) || !may_have(queue, filter, number))
            continue;
        if (!is_in_memory(slot))
            load(shard, queue, slot, number);
        count++;
        bytes += slot->location.size;
    }
}

/* Has that block read, and those after it. */
static void need_block(struct shard *shard, struct queue *queue, const struct filter *filter, struct lane *lane, uint64_t number)
{
    if (!load(shard, queue, lane_slot(lane, number), number))
        shard_timer(shard, queue, shard->worker->now_us + RETRY_US);   /* no memory, or it is being written */
    if (filter)
        read_ahead(shard, queue, filter, lane, number);
}

/* ---- summaries --------------------------------------------------------------------------------------------------------- */

/* Forgets those of blocks that are gone. */
static void sweep(struct queue *queue)
{
    struct filters *filters = queue->filters;
    struct map before = filters->summaries;
    filters->summaries = (struct map){0};
    filters->summary_bytes = 0;
    for (uint32_t i = 0; i < before.capacity; i++) {
        struct summary *summary = before.slots[i].value;
        uint64_t number = before.slots[i].key;
        const struct lane *lane = summary ? queue_lane(queue, number * BLOCK_SIZE) : NULL;
        const struct block_slot *slot = lane ? lane_slot(lane, number) : NULL;
        if (slot && (slot->block || slot->live) && !map_put(&filters->summaries, number, summary))
            filters->summary_bytes += summary_size(summary);
        else
            free(summary);
    }
    map_deinit(&before);
    filters->sweep_at = filters->summaries.count * 2;
}

/* False: there is one already. */
static bool summarize(struct queue *queue, uint64_t number, const struct block *block)
{
    struct filters *filters = queue->filters;
    if (map_get(&filters->summaries, number))
        return false;
    if (filters->summaries.count >= SWEEP_LEAST && filters->summaries.count >= filters->sweep_at)
        sweep(queue);
    struct summary *summary = filters->summary_bytes < SUMMARIES_BYTES ? summary_make(block) : NULL;
    if (summary && map_put(&filters->summaries, number, summary))
        free(summary);
    else if (summary)
        filters->summary_bytes += summary_size(summary);
    return true;
}

/* ---- looking for the next one ------------------------------------------------------------------------------------------ */

enum looked {
    LOOKED_FOUND,
    LOOKED_NOTHING,      /* there is nothing for it now */
    LOOKED_WAITS,        /* for the disk, or for room in the relay: then the queue is looked at again */
    LOOKED_LONG,         /* it goes on in the next turn */
};

struct found {
    struct lane *lane;
    uint64_t seq;
    struct block_slot *slot;
    struct entry *entry;
};

struct look {
    struct shard *shard;
    struct queue *queue;
    struct filter *filter;
    int steps;           /* that are left to it */
    struct found found;
};

/* Its time is up. False: it stays for now, the relay has no room; the queue is looked at when it has. */
static bool give_up(struct look *look, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry)
{
    if (!rules_may_discard(look->shard, look->queue))
        return false;
    rules_give_up(look->shard, look->queue, lane, seq, slot, entry, DISCARD_EXPIRED);
    return true;
}

/* The first of what came back to that level. */
static enum looked look_back(struct look *look, unsigned level)
{
    struct filter *filter = look->filter;
    while (filter->back_count) {
        uint64_t seq = back_key(filter->back[0]);
        struct block_slot *slot;
        bool unacked = false;
        if (seq_level(seq) < level)
            return LOOKED_NOTHING;
        if (seq_level(seq) > level) {   /* nothing is ready there any more */
            back_pop(filter);
            continue;
        }
        if (look->steps-- <= 0)
            return LOOKED_LONG;
        struct lane *lane = queue_lane(look->queue, seq);
        struct entry *entry = lane_entry_at(lane, seq, &slot, &unacked);
        bool there = slot && (slot->block ? bit_get(slot->block->ready, seq % BLOCK_SIZE) : slot->live > 0);
        if (there && (!entry || !entry->chunk)) {
            need_block(look->shard, look->queue, NULL, lane, seq / BLOCK_SIZE);
            return LOOKED_WAITS;   /* nothing goes ahead of it */
        }
        if (there && !unacked) {
            if (expiry_forbids(look->shard, look->queue, lane, seq, entry)) {
                if (!give_up(look, lane, seq, slot, entry))
                    return LOOKED_WAITS;
            } else if (is_wanted(filter, entry, &look->steps) && !retry_forbids(look->shard, look->queue, lane, seq, slot, entry)) {
                look->found = (struct found){lane, seq, slot, entry};
                return LOOKED_FOUND;
            }
        }
        back_pop(filter);
    }
    return LOOKED_NOTHING;
}

/* Looks at a block in memory from the cursor on. */
static enum looked look_at_block(struct look *look, struct lane *lane, uint64_t *cursor)
{
    uint64_t number = *cursor / BLOCK_SIZE;
    struct block_slot *slot = lane_slot(lane, number);
    struct block *block = slot->block;
    for (unsigned i = bits_next(block->ready, *cursor % BLOCK_SIZE); i < BLOCK_SIZE; i = i + 1 < BLOCK_SIZE ? bits_next(block->ready, i + 1) : BLOCK_SIZE) {
        struct entry *entry = &block->entries[i];
        uint64_t seq = number * BLOCK_SIZE + i;
        *cursor = seq;
        if (look->steps-- <= 0)
            return LOOKED_LONG;
        if (!entry->chunk)
            continue;
        if (UNLIKELY(expiry_forbids(look->shard, look->queue, lane, seq, entry))) {
            if (!give_up(look, lane, seq, slot, entry))
                return LOOKED_WAITS;
            slot = lane_slot(lane, number);
            if (!slot || slot->block != block)
                return LOOKED_NOTHING;   /* it was the block's last */
        } else if (is_wanted(look->filter, entry, &look->steps) && !retry_forbids(look->shard, look->queue, lane, seq, slot, entry)) {
            look->found = (struct found){lane, seq, slot, entry};
            return LOOKED_FOUND;
        }
    }
    return LOOKED_NOTHING;
}

/* From the cursor on, block by block. */
static enum looked look_on(struct look *look, struct lane *lane, uint64_t *cursor)
{
    struct filter *filter = look->filter;
    if (*cursor < lane->head)
        *cursor = lane->head;
    if (*cursor < lane->first_block * BLOCK_SIZE)
        *cursor = lane->first_block * BLOCK_SIZE;
    for (uint64_t number; (number = *cursor / BLOCK_SIZE) < lane->end_block; *cursor = (number + 1) * BLOCK_SIZE) {
        struct block_slot *slot = lane_slot(lane, number);
        bool whole = *cursor % BLOCK_SIZE == 0 && number != lane->next_seq / BLOCK_SIZE && filter->term_count;
        if (*cursor >= lane->next_seq)
            break;
        if (!ready_in(slot))
            continue;
        if (look->steps <= 0)
            return LOOKED_LONG;
        if (whole && !may_have(look->queue, filter, number)) {
            look->steps -= STEPS_A_BLOCK;
            continue;
        }
        if (slot->state == SLOT_SPILLED && number % (READ_AHEAD / 4) == 0)
            read_ahead(look->shard, look->queue, filter, lane, number);   /* what is read may drive this one out */
        if (!is_in_memory(slot)) {
            need_block(look->shard, look->queue, filter, lane, number);
            return LOOKED_WAITS;
        }
        if (whole && summarize(look->queue, number, slot->block)) {
            look->steps -= (int)BLOCK_SIZE / 2;
            if (!may_have(look->queue, filter, number))
                continue;
        }
        enum looked looked = look_at_block(look, lane, cursor);
        if (looked != LOOKED_NOTHING)
            return looked;
    }
    if (*cursor > lane->next_seq)
        *cursor = lane->next_seq;
    return LOOKED_NOTHING;
}

/* The highest level below `level` that may have ready messages; at last 0, which a queue without priorities does not note; -1: none. */
static int level_below(const struct queue *queue, int level)
{
    if (!level || !queue->levels)
        return level ? 0 : -1;
    while (--level > 0 && !(queue->levels->occupied[level >> 6] >> (level & 63) & 1))
        ;
    return level;
}

static enum looked look_for(struct look *look)
{
    struct queue *queue = look->queue;
    for (int level = QUEUE_PRIORITIES; (level = level_below(queue, level)) >= 0;) {
        struct lane *lane = level ? queue->levels->lanes[level] : &queue->lane;
        uint64_t *cursor = cursor_of(look->filter, (unsigned)level);
        if (!lane->ready)
            continue;
        if (!cursor) {
            shard_timer(look->shard, queue, look->shard->worker->now_us + RETRY_US);
            return LOOKED_NOTHING;
        }
        enum looked looked = look_back(look, (unsigned)level);
        if (looked == LOOKED_NOTHING)
            looked = look_on(look, lane, cursor);
        if (looked != LOOKED_NOTHING)
            return looked;
    }
    return LOOKED_NOTHING;
}

/* The queue's first message, for those who take anything. */
static enum looked look_for_anything(struct look *look)
{
    for (;;) {
        struct found *found = &look->found;
        found->lane = queue_head_lane(look->queue);
        found->entry = shard_first(look->shard, look->queue, found->lane, &found->seq, &found->slot);
        if (!found->entry)
            return LOOKED_WAITS;
        if (!expiry_forbids(look->shard, look->queue, found->lane, found->seq, found->entry)) {
            if (retry_forbids(look->shard, look->queue, found->lane, found->seq, found->slot, found->entry))
                continue;
            return LOOKED_FOUND;
        }
        bool long_enough = look->steps-- <= 0;
        if (long_enough || !give_up(look, found->lane, found->seq, found->slot, found->entry)) {
            found->entry = NULL;
            return long_enough ? LOOKED_LONG : LOOKED_WAITS;
        }
    }
}

/* ---- serving ------------------------------------------------------------------------------------------------------------- */

static bool *dry_of(struct queue *queue, const struct consumer *consumer)
{
    return consumer->filter ? &consumer->filter->dry : &queue->filters->everything_dry;
}

/* Whose turn it is, among those for whom there may be something: the next of those with the highest x-priority. */
static struct consumer *next_in_turn(struct queue *queue)
{
    struct consumer *next = NULL, *other = queue->active;
    do {
        if (!*dry_of(queue, other) && (!next || other->priority > next->priority))
            next = other;
        if (next && !queue->has_priorities)
            return next;
        other = other->next;
    } while (other != queue->active);
    return next;
}

/* Scans go ahead fast, so the log is told ahead of them. */
static bool may_deliver(struct shard *shard, struct queue *queue, const struct found *found)
{
    struct lane *lane = found->lane;
    if (queue->durable && (found->entry->flags & ENTRY_PERSISTENT) && found->seq + MARK_AHEAD / 2 >= lane->asked_below) {
        uint64_t ahead = found->seq + MARK_AHEAD;
        redelivery_ask(shard, queue, lane, ahead < lane->next_seq ? ahead : lane->next_seq);
    }
    return redelivery_may_deliver(shard, queue, lane, found->entry, found->seq);
}

void filters_serve(struct shard *shard, struct queue *queue)
{
    struct filters *filters = queue->filters;
    int each = STEPS_A_TURN / (int)(filters->count + 1), left = STEPS_A_TURN;
    if (each < STEPS_LEAST)
        each = STEPS_LEAST;
    const struct queue_totals totals = queue_totals(queue);
    if (UNLIKELY(filters->summaries.count && !totals.ready && !totals.unacked))
        sweep(queue);
    filters->everything_dry = false;
    for (struct filter *filter = filters->first; filter; filter = filter->next)
        filter->dry = false;
    for (struct consumer *consumer; queue->active && (consumer = next_in_turn(queue));) {
        struct look look = {.shard = shard, .queue = queue, .filter = consumer->filter, .steps = each};
        enum looked looked = look.filter ? look_for(&look) : look_for_anything(&look);
        left -= each - look.steps + 1;
        if (looked == LOOKED_FOUND && may_deliver(shard, queue, &look.found)) {
            struct lane *lane = look.found.lane;
            uint64_t below = lane->delivered_below;
            bool given = consumer_give(shard, queue, consumer, look.found.seq, look.found.slot, look.found.entry);
            lane->delivered_below = below;   /* what comes back is flagged in any case, see settle.c */
            if (!given)
                return;
        } else {
            *dry_of(queue, consumer) = true;
            if (looked == LOOKED_FOUND && look.filter && bug_enabled(BUG_FILTER_PASSES_WAITING))
                look.filter->cursors[seq_level(look.found.seq)]++;
        }
        if (looked == LOOKED_LONG || left <= 0)
            shard_timer(shard, queue, shard->worker->now_us);
        if (left > 0)
            continue;
        if (queue->active)
            queue->active = queue->active->next;   /* the next turn begins with others */
        return;
    }
}
