/* One file of a segment store, from its first append until it is unlinked. */
#include "store/segment_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void segment_name(const struct segment_store *store, uint32_t number, char name[DISK_NAME_SIZE])
{
    char entry[32];
    snprintf(entry, sizeof(entry), "segment-%08" PRIx32, number);
    enum gw_err err = disk_path(name, store->directory, entry);
    CHECK(err == GW_OK);
}

struct segment *segment_find(const struct segment_store *store, uint32_t number)
{
    unsigned low = 0, high = store->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (store->segments[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < store->count && store->segments[low]->number == number ? store->segments[low] : NULL;
}

struct segment *segment_add(struct segment_store *store, uint32_t number)
{
    if (store->count == store->room) {
        unsigned room = store->room ? store->room * 2 : 16;
        struct segment **grown = realloc(store->segments, room * sizeof(struct segment *));
        if (!grown)
            return NULL;
        store->segments = grown;
        store->room = room;
    }
    struct segment *segment = calloc(1, sizeof(*segment));
    if (!segment)
        return NULL;
    segment_name(store, number, segment->name);
    segment->store = store;
    segment->number = number;
    segment->handle = -1;
    store->segments[store->count++] = segment;
    return segment;
}

void segment_seal(struct segment_store *store, struct segment *segment)
{
    segment->sealed = true;
    if (store->current == segment)
        store->current = NULL;
}

void segment_begin(struct segment *segment, struct disk_op op)
{
    segment->operations++;
    segment->store->operations++;
    op.owner = segment;
    segment->op = op;
    segment->store->disk->submit(segment->store->disk, &segment->op);
}

void segment_ended(struct segment *segment)
{
    segment->operations--;
    segment->store->operations--;
}

static void unlink_done(struct disk_op *op)
{
    struct segment *segment = op->owner;
    segment_ended(segment);
    if (op->error != 0 && gw_err_from_errno(op->error) != GW_ERR_NOT_FOUND)
        alarm_raise(segment->store->alarms, ALARM_WARNING, "%s cannot be unlinked: %s", segment->name, gw_err_text(gw_err_from_errno(op->error)));
    free(segment);
}

static void close_done(struct disk_op *op)
{
    struct segment *segment = op->owner;
    segment_ended(segment);
    segment_begin(segment, (struct disk_op){.kind = DISK_UNLINK, .file = -1, .name = segment->name, .done = unlink_done});
}

/* Forgets a file that nothing needs, and unlinks it. Nothing of it may be under way. */
void segment_dispose(struct segment_store *store, struct segment *segment)
{
    unsigned index = 0;
    while (store->segments[index] != segment)
        index++;
    memmove(store->segments + index, store->segments + index + 1, (store->count - index - 1) * sizeof(struct segment *));
    store->count--;
    segment_seal(store, segment);
    store->size -= segment->size;
    store->live -= segment->live;
    if (segment->handle >= 0)
        segment_begin(segment, (struct disk_op){.kind = DISK_CLOSE, .file = segment->handle, .done = close_done});
    else
        free(segment);
}

bool segment_is_dead(const struct segment *segment)
{
    return segment->live == 0 && segment->under_way == 0 && segment->operations == 0 && segment->size > 0;
}
