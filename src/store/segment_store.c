/* The segment store as a whole: opening what a snapshot lists, what is live, what may go. */
#include "store/segment_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FILE_SIZE_DEFAULT (UINT64_C(32) << 20)
#define COMPACTION_MIN (UINT64_C(64) << 20) /* bytes on disk below which nothing is moved */

/* ---- what is live ---- */

void segment_release(struct segment_store *store, struct segment_location location, uint32_t bytes)
{
    struct segment *segment = location.file ? segment_find(store, location.file) : NULL;
    if (!segment || bytes == 0)
        return;
    CHECK(bytes <= location.size && bytes <= segment->live);
    segment->live -= bytes;
    store->live -= bytes;
}

unsigned segment_files(const struct segment_store *store, struct segment_file_info *files, unsigned room)
{
    unsigned count = 0;
    for (unsigned i = 0; i < store->count; i++) {
        struct segment *segment = store->segments[i];
        if (segment_is_dead(segment)) {
            segment->unlisted = segment->sealed = true;
            continue;
        }
        if (segment->written == 0 || segment->live <= segment->under_way)
            continue;
        if (count < room)
            files[count] = (struct segment_file_info){segment->number, segment->written, segment->live - segment->under_way};
        count++;
    }
    return count;
}

void segment_reclaim(struct segment_store *store)
{
    for (unsigned i = store->count; i-- > 0;)
        if (store->segments[i]->unlisted && segment_is_dead(store->segments[i]))
            segment_dispose(store, store->segments[i]);
}

uint32_t segment_compaction_candidate(const struct segment_store *store)
{
    if (store->size <= COMPACTION_MIN || store->live >= store->size / 2)
        return 0;
    const struct segment *best = NULL;
    for (unsigned i = 0; i < store->count; i++) {
        const struct segment *segment = store->segments[i];
        if (segment->sealed && segment->live > 0 && segment->under_way == 0 && segment->live < segment->size / 4
            && (!best || segment->live < best->live))
            best = segment;
    }
    return best ? best->number : 0;
}

uint64_t segment_disk_bytes(const struct segment_store *store)
{
    return store->size;
}

uint64_t segment_live_bytes(const struct segment_store *store)
{
    return store->live;
}

/* ---- opening and closing ---- */

static void free_store(struct segment_store *store)
{
    for (unsigned i = 0; i < store->count; i++) {
        if (store->segments[i]->handle >= 0)
            disk_call_close(store->disk, store->segments[i]->handle);
        free(store->segments[i]);
    }
    free(store->segments);
    free(store);
}

struct leftovers {
    struct segment_store *store;
    uint32_t *numbers;
    unsigned count, room;
};

/* Notes what the snapshot does not name: a file begun after it, or one that died before it. */
static enum gw_err found_name(void *owner, const char *entry)
{
    struct leftovers *leftovers = owner;
    if (strncmp(entry, "segment-", 8) != 0 || strlen(entry) != 16 || strspn(entry + 8, "0123456789abcdef") != 8)
        return GW_OK;
    uint32_t number = (uint32_t)strtoul(entry + 8, NULL, 16);
    if (number > leftovers->store->last_number)
        leftovers->store->last_number = number;
    if (segment_find(leftovers->store, number))
        return GW_OK;
    if (leftovers->count == leftovers->room) {
        unsigned room = leftovers->room ? leftovers->room * 2 : 16;
        uint32_t *grown = realloc(leftovers->numbers, room * sizeof(*grown));
        if (!grown)
            return GW_ERR_NOMEM;
        leftovers->numbers = grown;
        leftovers->room = room;
    }
    leftovers->numbers[leftovers->count++] = number;
    return GW_OK;
}

static enum gw_err unlink_leftovers(struct segment_store *store)
{
    struct leftovers leftovers = {.store = store};
    enum gw_err err = disk_call_list(store->disk, store->directory, found_name, &leftovers);
    for (unsigned i = 0; i < leftovers.count && err == GW_OK; i++) {
        char name[DISK_NAME_SIZE];
        segment_name(store, leftovers.numbers[i], name);
        err = disk_call_unlink(store->disk, name);
    }
    free(leftovers.numbers);
    return err;
}

static int by_number(const void *a, const void *b)
{
    const struct segment *left = *(struct segment *const *)a, *right = *(struct segment *const *)b;
    return left->number < right->number ? -1 : left->number > right->number;
}

static enum gw_err open_listed(struct segment_store *store, struct segment *segment, const struct segment_file_info *info)
{
    uint64_t size = 0;
    enum gw_err err = disk_call_open(store->disk, segment->name, 0, &segment->handle);
    if (err == GW_OK)
        err = disk_call_size(store->disk, segment->handle, &size);
    if (err == GW_ERR_NOT_FOUND || (err == GW_OK && size < info->size)) {
        alarm_raise(store->alarms, ALARM_ERROR, "%s is missing or too short: %" PRIu64 " of %" PRIu64 " bytes are there", segment->name, size, info->size);
        return GW_ERR_CORRUPT;
    }
    if (err == GW_OK && size > info->size)
        err = disk_call_truncate(store->disk, segment->handle, info->size);
    if (err != GW_OK)
        return err;
    segment->size = segment->written = info->size;
    segment->live = info->live < info->size ? info->live : info->size;
    segment->sealed = true;
    store->size += segment->size;
    store->live += segment->live;
    return GW_OK;
}

enum gw_err segment_store_open(const struct segment_config *config, const struct segment_file_info *files, unsigned count,
                               struct segment_store **opened)
{
    struct segment_store *store = calloc(1, sizeof(*store));
    if (!store)
        return GW_ERR_NOMEM;
    enum gw_err err = disk_path(store->directory, config->directory, "segment-00000000");
    if (err != GW_OK) {
        free(store);
        return err;
    }
    strcpy(store->directory, config->directory);
    store->disk = config->disk;
    store->pool = config->pool;
    store->alarms = config->alarms;
    store->owner = config->owner;
    store->file_size = config->file_size ? config->file_size : FILE_SIZE_DEFAULT;
    store->held_end = &store->held;
    store->later_end = &store->later;
    store->requests_end = &store->requests;
    store->next_requests_end = &store->next_requests;
    for (unsigned i = 0; i < count && err == GW_OK; i++) {
        if (files[i].file && !files[i].live)
            continue;   /* nothing needs it: it was not even synced, and is unlinked below */
        struct segment *segment = files[i].file ? segment_add(store, files[i].file) : NULL;
        err = segment ? open_listed(store, segment, &files[i]) : files[i].file ? GW_ERR_NOMEM : GW_ERR_CORRUPT;
    }
    if (err == GW_OK) {
        if (store->count > 1)
            qsort(store->segments, store->count, sizeof(struct segment *), by_number);
        for (unsigned i = 0; i < store->count; i++) {
            if (i > 0 && store->segments[i]->number == store->segments[i - 1]->number)
                err = GW_ERR_CORRUPT;
            store->last_number = store->segments[i]->number;
        }
    }
    if (err == GW_OK)
        err = unlink_leftovers(store);
    if (err != GW_OK) {
        free_store(store);
        return err;
    }
    struct segment *last = store->count ? store->segments[store->count - 1] : NULL;
    if (last && last->number == store->last_number && last->size < store->file_size) {
        last->sealed = false;
        store->current = last;
    }
    *opened = store;
    return GW_OK;
}

void segment_store_close(struct segment_store *store)
{
    while (store->operations > 0 || store->held || store->later)
        segment_wait_once(store);
    free_store(store);
}
