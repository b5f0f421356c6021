#include "store/stream_state.h"

#include <inttypes.h>
#include <stdlib.h>

#define SEGMENT_SIZE_DEFAULT UINT64_C(500000000)

/* ---- opening --------------------------------------------------------------------------------------------------------- */

/* The index of the file that goes on being written, from its headers alone. Stops at the first that makes no sense: reading will tell. */
static enum gw_err scan(struct stream_file *file)
{
    struct stream_store *store = file->store;
    struct chunk *chunk = chunk_new(store->pool, STREAM_READ_SIZE);
    if (!chunk)
        return GW_ERR_NOMEM;
    const struct stream_filter all = stream_filter_of_all();
    uint64_t at = 0, window = 0, have = 0;
    enum gw_err err = GW_OK;
    while (!err && at < file->size) {
        struct record_batch batch;
        uint64_t size;
        if (at < window || at + RECORD_BATCH_HEADER_SIZE > window + have) {
            window = at;
            have = file->size - at < STREAM_READ_SIZE ? file->size - at : STREAM_READ_SIZE;
            err = disk_call_read(store->disk, file->handle, chunk->data, have, window, NULL);
            if (err)
                break;
        }
        if (record_batch_read(bytes_of(chunk->data + (at - window), have - (at - window)), &batch, &size) == RECORD_BATCH_BAD || size == RECORD_BATCH_HEADER_SIZE)
            break;
        stream_index_add(&file->index, batch.base_offset, at, (uint32_t)size, batch.highest_ms, &all);
        at += size;
    }
    chunk_release(chunk, store->pool);
    return err;
}

/* The index as it was noted at a clean end; otherwise the file is scanned. */
static enum gw_err recall_index(struct stream_file *file)
{
    struct stream_store *store = file->store;
    char name[DISK_NAME_SIZE];
    int handle;
    uint64_t size = 0;
    stream_file_name(store->directory, store->id, file->base, ".index", name);
    enum gw_err err = disk_call_open(store->disk, name, 0, &handle);
    if (err == GW_OK) {
        struct chunk *chunk = NULL;
        err = disk_call_size(store->disk, handle, &size);
        if (!err)
            chunk = size && size <= UINT32_MAX ? chunk_new(store->pool, size) : NULL;
        if (chunk) {
            err = disk_call_read(store->disk, handle, chunk->data, size, 0, NULL);
            struct stream_index_head head = {.base = file->base, .end = file->end, .size = file->size};
            if (!err)
                err = stream_index_read(bytes_of(chunk->data, size), &head, &file->index);
            chunk_release(chunk, store->pool);
        } else {
            err = GW_ERR_CORRUPT;
        }
        disk_call_close(store->disk, handle);
        disk_call_unlink(store->disk, name);   /* the file goes on without it */
    }
    return err ? scan(file) : GW_OK;
}

static enum gw_err open_listed(struct stream_store *store, const struct stream_file_info *info, bool is_last)
{
    char name[DISK_NAME_SIZE];
    int handle;
    uint64_t size = 0;
    stream_file_name(store->directory, store->id, info->base, ".log", name);
    enum gw_err err = disk_call_open(store->disk, name, 0, &handle);
    if (err == GW_OK)
        err = disk_call_size(store->disk, handle, &size);
    if (err == GW_ERR_NOT_FOUND) {
        /* Retention may have taken it after the snapshot was written: then it is the first. */
        alarm_raise(store->alarms, store->count ? ALARM_ERROR : ALARM_INFO, "%s is not there: a stream lacks its offsets %" PRIu64 " to %" PRIu64, name, info->base, info->end - 1);
        return GW_OK;
    }
    struct stream_file *file = err ? NULL : stream_file_add(store, info->base);
    if (!file)
        return err ? err : GW_ERR_NOMEM;
    file->handle = handle;
    store->open_handles++;
    if (size < info->size)
        alarm_raise(store->alarms, ALARM_ERROR, "%s is too short: %" PRIu64 " of %" PRIu64 " bytes are there; messages of a stream are lost", name, size, info->size);
    if (size > info->size)
        err = disk_call_truncate(store->disk, handle, info->size);
    file->size = file->synced_size = size < info->size ? size : info->size;
    file->end = file->synced_end = info->end;
    file->highest_ms = info->highest_ms;
    file->index_state = INDEX_ON_DISK;
    file->sealed = !is_last || size < info->size;
    store->size += file->size;
    if (!err && !file->sealed) {
        file->index_state = INDEX_HERE;
        return recall_index(file);
    }
    file->handle = -1;
    store->open_handles--;
    enum gw_err closed = disk_call_close(store->disk, handle);
    return err ? err : closed;
}

enum gw_err stream_store_open(const struct stream_store_config *config, const struct stream_file_info *files, unsigned count, struct stream_store **opened)
{
    struct stream_store *store = calloc(1, sizeof(*store));
    if (!store)
        return GW_ERR_NOMEM;
    enum gw_err err = disk_path(store->directory, config->directory, "stream-0000000000000000-00000000000000000000.index");
    if (err) {
        free(store);
        return err;
    }
    strcpy(store->directory, config->directory);
    store->disk = config->disk;
    store->pool = config->pool;
    store->alarms = config->alarms;
    store->owner = config->owner;
    store->index_loaded = config->index_loaded;
    store->deleted = config->deleted;
    store->id = config->id;
    stream_store_set_segment_size(store, config->segment_size);
    uint64_t end = 0;
    for (unsigned i = 0; i < count && !err; i++) {
        if (files[i].base < end || files[i].end <= files[i].base || !files[i].size)
            err = GW_ERR_CORRUPT;
        else
            err = open_listed(store, &files[i], i + 1 == count);
        end = files[i].end;
    }
    if (err) {
        stream_store_close(store);
        return err;
    }
    *opened = store;
    return GW_OK;
}

void stream_store_set_segment_size(struct stream_store *store, uint64_t bytes)
{
    store->segment_size = bytes ? bytes : SEGMENT_SIZE_DEFAULT;
}

/* ---- leftovers --------------------------------------------------------------------------------------------------------- */

struct leftovers {
    bool (*known)(void *owner, uint64_t id, uint64_t base);
    void *owner;
    char (*names)[64];
    unsigned count, room;
};

static enum gw_err found_name(void *owner, const char *entry)
{
    struct leftovers *leftovers = owner;
    uint64_t id, base;
    if (!stream_file_parse(entry, &id, &base) || strlen(entry) >= sizeof(leftovers->names[0]) || leftovers->known(leftovers->owner, id, base))
        return GW_OK;
    if (leftovers->count == leftovers->room) {
        unsigned room = leftovers->room ? leftovers->room * 2 : 16;
        void *grown = realloc(leftovers->names, room * sizeof(leftovers->names[0]));
        if (!grown)
            return GW_ERR_NOMEM;
        leftovers->names = grown;
        leftovers->room = room;
    }
    strcpy(leftovers->names[leftovers->count++], entry);
    return GW_OK;
}

enum gw_err stream_store_tidy(struct disk *disk, const char *directory, bool (*known)(void *owner, uint64_t id, uint64_t base), void *owner)
{
    struct leftovers leftovers = {.known = known, .owner = owner};
    enum gw_err err = disk_call_list(disk, directory, found_name, &leftovers);
    for (unsigned i = 0; i < leftovers.count && !err; i++) {
        char name[DISK_NAME_SIZE];
        err = disk_path(name, directory, leftovers.names[i]);
        if (!err)
            err = disk_call_unlink(disk, name);
    }
    free(leftovers.names);
    return err;
}

/* ---- closing, deleting ------------------------------------------------------------------------------------------------- */

static void free_store(struct stream_store *store)
{
    for (unsigned i = 0; i < store->count; i++) {
        if (store->files[i]->handle >= 0)
            disk_call_close(store->disk, store->files[i]->handle);
        stream_index_deinit(&store->files[i]->index);
        free(store->files[i]);
    }
    free(store->files);
    free(store);
}

void stream_store_close(struct stream_store *store)
{
    while (store->operations)
        stream_wait_once(store);
    struct stream_file *last = store->count ? store->files[store->count - 1] : NULL;
    if (last && !last->sealed && last->size && last->synced_size == last->size)
        stream_index_save(last, true);
    free_store(store);
}

bool stream_store_finish(struct stream_store *store)
{
    if (!store->is_deleted || store->doomed || store->operations)
        return false;
    void (*deleted)(void *owner) = store->deleted;
    void *owner = store->owner;
    free_store(store);
    deleted(owner);
    return true;
}

void stream_store_delete(struct stream_store *store)
{
    store->is_deleted = true;
    if (store->sync_done) {
        void (*done)(void *owner, enum gw_err err) = store->sync_done;
        store->sync_done = NULL;
        done(store->owner, GW_OK);
    }
    store->operations++;
    while (store->count)
        stream_file_doom(store->files[store->count - 1]);
    store->operations--;
    stream_store_finish(store);
}

/* ---- what there is ------------------------------------------------------------------------------------------------------ */

uint64_t stream_store_first(const struct stream_store *store)
{
    return store->count ? store->files[0]->base : 0;
}

uint64_t stream_store_end(const struct stream_store *store)
{
    return store->count ? store->files[store->count - 1]->end : 0;
}

bool stream_store_has(const struct stream_store *store, uint64_t base) { return stream_file_find(store, base); }

uint64_t stream_store_bytes(const struct stream_store *store) { return store->size; }

bool stream_store_retain(struct stream_store *store, int64_t before_ms, uint64_t max_bytes)
{
    bool any = false;
    while (store->count > 1) {
        struct stream_file *first = store->files[0];
        if (!first->sealed || (first->highest_ms >= before_ms && (!max_bytes || store->size <= max_bytes)))
            break;
        stream_file_doom(first);
        any = true;
    }
    return any;
}
