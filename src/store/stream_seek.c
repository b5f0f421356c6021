/* Where to read: the files by their offsets and times, then the index of the one that it is. Indexes of full files are read when they are asked for. */
#include "store/stream_state.h"

#include <inttypes.h>
#include <stdlib.h>

#define INDEX_ENTRIES_KEPT 16384u   /* of full files, together: 1 MiB */

static struct stream_index_head head_of(const struct stream_file *file)
{
    return (struct stream_index_head){.base = file->base, .end = file->end, .size = file->size};
}

/* ---- to the disk and back -------------------------------------------------------------------------------------------- */

static void passage_end(struct index_passage *passage)
{
    struct stream_store *store = passage->store;
    struct stream_file *file = store->is_deleted ? NULL : stream_file_find(store, passage->base);
    bool loaded = !passage->writes && file && file->index_state == INDEX_LOADING;
    if (loaded) {
        struct stream_index_head head = head_of(file);
        enum gw_err err = passage->err;
        if (!err)
            err = stream_index_read(bytes_of(passage->chunk->data, passage->size), &head, &file->index);
        file->index_state = !err ? INDEX_HERE : err == GW_ERR_NOMEM || err == GW_ERR_IO ? INDEX_ON_DISK : INDEX_MISSING;
        file->index_used = ++store->index_clock;
        if (err == GW_ERR_NOMEM || err == GW_ERR_IO)
            file->index_state = INDEX_MISSING;   /* slower, but it goes on */
        if (err && !store->missing_told)
            alarm_raise(store->alarms, ALARM_WARNING, "%s: %s; the segment is read from its start instead", passage->name, gw_err_text(err));
        store->missing_told |= err != GW_OK;
        stream_index_shed(store);
    }
    if (passage->chunk)
        chunk_release(passage->chunk, store->pool);
    free(passage);
    store->operations--;
    if (loaded)
        store->index_loaded(store->owner);
    else
        stream_store_finish(store);
}

static void passage_closed(struct disk_op *op) { passage_end(op->owner); }

static void step(struct index_passage *passage, enum disk_kind kind, void (*done)(struct disk_op *op))
{
    struct disk *disk = passage->store->disk;
    passage->iov = (struct iovec){passage->chunk ? passage->chunk->data : NULL, passage->size};
    passage->op = (struct disk_op){.kind = kind, .file = passage->handle, .name = passage->name, .flags = kind == DISK_OPEN && passage->writes ? DISK_CREATE : 0,
                                   .iov = &passage->iov, .iov_count = 1, .done = done, .owner = passage};
    disk->submit(disk, &passage->op);
}

static void passage_moved(struct disk_op *op)
{
    struct index_passage *passage = op->owner;
    passage->err = gw_err_from_errno(op->error);
    if (!passage->err && !passage->writes && (uint64_t)op->result < passage->size)
        passage->err = GW_ERR_CORRUPT;
    step(passage, DISK_CLOSE, passage_closed);
}

static void passage_sized(struct disk_op *op)
{
    struct index_passage *passage = op->owner;
    passage->err = gw_err_from_errno(op->error);
    passage->size = op->error ? 0 : (uint64_t)op->result;
    if (!passage->err && (!passage->size || passage->size > UINT32_MAX))
        passage->err = GW_ERR_CORRUPT;
    if (!passage->err) {
        passage->chunk = chunk_new(passage->store->pool, passage->size);
        passage->err = passage->chunk ? GW_OK : GW_ERR_NOMEM;
    }
    if (passage->err)
        step(passage, DISK_CLOSE, passage_closed);
    else
        step(passage, DISK_READ, passage_moved);
}

static void passage_opened(struct disk_op *op)
{
    struct index_passage *passage = op->owner;
    passage->err = gw_err_from_errno(op->error);
    passage->handle = op->file;
    if (passage->err)
        passage_end(passage);
    else if (passage->writes)
        step(passage, DISK_WRITE, passage_moved);
    else
        step(passage, DISK_SIZE, passage_sized);
}

static struct index_passage *passage_new(struct stream_file *file, bool writes)
{
    struct index_passage *passage = calloc(1, sizeof(*passage));
    if (!passage)
        return NULL;
    passage->store = file->store;
    passage->base = file->base;
    passage->writes = writes;
    passage->handle = -1;
    stream_file_name(file->store->directory, file->store->id, file->base, ".index", passage->name);
    return passage;
}

/* That it could not be written shows when it is needed. */
void stream_index_save(struct stream_file *file, bool wait)
{
    struct stream_store *store = file->store;
    uint64_t size = stream_index_size(&file->index);
    struct chunk *chunk = file->index.count && size <= UINT32_MAX ? chunk_new(store->pool, size) : NULL;
    struct index_passage *passage = chunk ? passage_new(file, true) : NULL;
    if (!passage) {
        if (chunk)
            chunk_release(chunk, store->pool);
        return;
    }
    struct stream_index_head head = head_of(file);
    stream_index_write(&file->index, &head, chunk->data);
    passage->chunk = chunk;
    passage->size = size;
    file->index_used = ++store->index_clock;
    if (!wait) {
        store->operations++;
        step(passage, DISK_OPEN, passage_opened);
        stream_index_shed(store);
        return;
    }
    int handle;
    if (disk_call_open(store->disk, passage->name, DISK_CREATE, &handle) == GW_OK) {
        disk_call_write(store->disk, handle, chunk->data, size, 0, false);
        disk_call_close(store->disk, handle);
    }
    chunk_release(chunk, store->pool);
    free(passage);
}

static void load(struct stream_file *file)
{
    struct index_passage *passage = passage_new(file, false);
    if (!passage) {
        file->index_state = INDEX_MISSING;
        return;
    }
    file->index_state = INDEX_LOADING;
    file->store->operations++;
    step(passage, DISK_OPEN, passage_opened);
}

void stream_index_shed(struct stream_store *store)
{
    for (;;) {
        uint64_t entries = 0;
        struct stream_file *oldest = NULL;
        for (unsigned i = 0; i < store->count; i++) {
            struct stream_file *file = store->files[i];
            if (!file->sealed || !file->index.count)
                continue;
            entries += file->index.count;
            if (!oldest || file->index_used < oldest->index_used)
                oldest = file;
        }
        if (entries <= INDEX_ENTRIES_KEPT || oldest->index_used == store->index_clock)
            return;
        stream_index_deinit(&oldest->index);
        oldest->index_state = INDEX_ON_DISK;
    }
}

/* ---- seeking --------------------------------------------------------------------------------------------------------- */

/* FOUND: the index is at hand, or cannot be had. */
static enum stream_seek have_index(struct stream_file *file)
{
    if (file->index_state == INDEX_ON_DISK)
        load(file);
    file->index_used = ++file->store->index_clock;
    return file->index_state == INDEX_LOADING ? STREAM_SEEK_LATER : STREAM_SEEK_FOUND;
}

static bool has_index(const struct stream_file *file) { return file->index_state == INDEX_HERE && file->index.count; }

enum stream_seek stream_store_seek(struct stream_store *store, uint64_t offset, struct stream_place *place)
{
    struct stream_file *file = stream_file_of(store, offset);
    if (!file && store->count)
        file = store->files[0];
    while (file && offset >= file->end)   /* between two files: what is there was lost */
        file = stream_file_after(store, file);
    if (!file)
        return STREAM_SEEK_NONE;
    enum stream_seek seek = have_index(file);
    *place = (struct stream_place){.base = file->base};
    if (seek == STREAM_SEEK_FOUND && has_index(file))
        place->position = file->index.entries[stream_index_find(&file->index, offset)].position;
    return seek;
}

enum stream_seek stream_store_seek_time(struct stream_store *store, int64_t timestamp_ms, struct stream_place *place)
{
    unsigned i = 0;
    while (i < store->count && (!store->files[i]->size || store->files[i]->highest_ms < timestamp_ms))
        i++;
    if (i == store->count)
        return STREAM_SEEK_NONE;
    struct stream_file *file = store->files[i];
    enum stream_seek seek = have_index(file);
    *place = (struct stream_place){.base = file->base};
    if (seek != STREAM_SEEK_FOUND || !has_index(file))
        return seek;
    uint32_t run = stream_index_find_time(&file->index, timestamp_ms);
    if (run < file->index.count)
        place->position = file->index.entries[run].position;
    return seek;
}

static bool may_hold(const struct stream_filter *filter, const uint64_t *hashes, unsigned count, bool unfiltered)
{
    if (unfiltered && filter->has_unfiltered)
        return true;
    for (unsigned i = 0; i < count; i++)
        if (stream_filter_may_hold(filter, hashes[i]))
            return true;
    return false;
}

enum stream_seek stream_store_skip(struct stream_store *store, const uint64_t *hashes, unsigned count, bool unfiltered, struct stream_place *place, uint64_t *offset)
{
    struct stream_file *file = stream_file_find(store, place->base);
    while (file) {
        if (place->position >= file->size) {
            file = stream_file_after(store, file);
            *place = (struct stream_place){.base = file ? file->base : 0};
            *offset = file ? file->base : 0;
            continue;
        }
        enum stream_seek seek = have_index(file);
        if (seek != STREAM_SEEK_FOUND || !has_index(file))
            return seek;
        uint32_t run = 0;
        while (run + 1 < file->index.count && file->index.entries[run + 1].position <= place->position)
            run++;
        uint32_t from = run;
        while (run < file->index.count && !may_hold(&file->index.entries[run].filter, hashes, count, unfiltered))
            run++;
        if (run == file->index.count) {
            place->position = file->size;
            continue;
        }
        if (run != from) {
            place->position = file->index.entries[run].position;
            *offset = file->index.entries[run].offset;
        }
        return STREAM_SEEK_FOUND;
    }
    return STREAM_SEEK_NONE;
}
