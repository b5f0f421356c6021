/* Batches go to the end of a stream's last file, one at a time; a full file is followed by a new one. Syncing makes durable what is written. */
#include "store/stream_state.h"

static void seal(struct stream_file *file)
{
    file->sealed = true;
    stream_index_save(file, false);
}

/* The file that a batch of `size` bytes goes to. NULL: out of memory. */
static struct stream_file *file_for(struct stream_store *store, uint32_t size, uint64_t first)
{
    struct stream_file *last = store->count ? store->files[store->count - 1] : NULL;
    if (last && !last->sealed && last->size > 0 && (last->size + size > store->segment_size || last->sync_failed))
        seal(last);
    if (last && !last->sealed)
        return last;
    struct stream_file *file = stream_file_add(store, first);
    if (file)
        file->is_new = true;
    return file;
}

static void append_done(struct stream_store *store, int error)
{
    struct stream_file *file = store->append.file;
    enum gw_err err = gw_err_from_errno(error);
    struct stream_place place = {file->base, file->size}, next = place;
    if (err == GW_OK && !file->doomed) {
        const struct stream_batch_info *info = &store->append.info;
        stream_index_add(&file->index, info->first, file->size, store->append.size, info->highest_ms, &info->filter);
        file->size += store->append.size;
        file->end = info->end;
        if (info->highest_ms > file->highest_ms)
            file->highest_ms = info->highest_ms;
        store->size += store->append.size;
        next.position = file->size;
    } else if (err != GW_OK) {
        alarm_raise(store->alarms, ALARM_WARNING, "%s: writing failed: %s", file->name, gw_err_text(err));
        err = err == GW_ERR_FULL || err == GW_ERR_NOMEM ? err : GW_ERR_IO;
    }
    chunk_release(store->append.chunk, store->pool);
    store->append.file = NULL;
    if (!store->is_deleted)
        store->append.written(store->owner, place, next, err);
}

static void write_done(struct disk_op *op)
{
    struct stream_store *store = op->owner;
    struct stream_file *file = store->append.file;
    append_done(store, op->error);
    stream_file_ended(file);
}

static void prepare_write(struct stream_store *store)
{
    struct stream_file *file = store->append.file;
    store->append.iov = (struct iovec){store->append.chunk->data, store->append.size};
    store->append.op = (struct disk_op){.kind = DISK_WRITE, .file = file->handle, .iov = &store->append.iov, .iov_count = 1, .offset = file->size,
                                        .done = write_done, .owner = store};
}

void stream_append_opened(struct stream_store *store, int error)
{
    struct stream_file *file = store->append.file;
    if (error) {
        append_done(store, error);
        return;
    }
    prepare_write(store);
    stream_file_begin(file, &store->append.op);
}

/* Writes before it returns. */
static void write_now(struct stream_store *store)
{
    struct stream_file *file = store->append.file;
    int error = 0;
    while (file->opening)
        stream_wait_once(store);
    if (file->handle < 0) {
        struct disk_op op = {.kind = DISK_OPEN, .flags = DISK_CREATE, .file = -1, .name = file->name};
        error = store->disk->call(store->disk, &op);
        file->handle = error ? -1 : op.file;
        file->is_new &= error != 0;
        store->open_handles += !error;
    }
    if (!error) {
        prepare_write(store);
        error = store->disk->call(store->disk, &store->append.op);
    }
    append_done(store, error);
}

enum gw_err stream_store_append(struct stream_store *store, struct chunk *chunk, uint32_t size, const struct stream_batch_info *info, bool wait,
                                stream_written *written)
{
    CHECK(!store->append.file && size > 0 && size <= chunk->capacity && info->first >= stream_store_end(store) && info->end > info->first);
    struct stream_file *file = file_for(store, size, info->first);
    if (!file) {
        chunk_release(chunk, store->pool);
        return GW_ERR_NOMEM;
    }
    store->append.file = file;
    store->append.chunk = chunk;
    store->append.size = size;
    store->append.info = *info;
    store->append.written = written;
    if (wait)
        write_now(store);
    else if (file->handle >= 0)
        stream_append_opened(store, 0);
    else
        stream_file_open(file);
    return GW_OK;
}

/* ---- syncing -------------------------------------------------------------------------------------------------------- */

static void sync_ended(struct stream_store *store)
{
    if (--store->syncs || !store->sync_done)
        return;
    bool failed = store->sync_failed;
    for (unsigned i = 0; i < store->count; i++)
        failed |= store->files[i]->sync_failed;
    void (*done)(void *owner, enum gw_err err) = store->sync_done;
    store->sync_done = NULL;
    done(store->owner, failed ? GW_ERR_FAILED : GW_OK);
}

static void sync_done(struct disk_op *op)
{
    struct stream_file *file = op->owner;
    struct stream_store *store = file->store;
    if (op->error) {
        /* The system may have dropped what it could not write: a second sync that succeeds would mean nothing. */
        alarm_raise(store->alarms, ALARM_ERROR, "%s: syncing failed: %s", file->name, gw_err_text(gw_err_from_errno(op->error)));
        file->sync_failed = true;
    } else {
        file->synced_end = file->syncing_end;
        file->synced_size = file->syncing_size;
    }
    sync_ended(store);
    stream_file_ended(file);
}

void stream_store_sync(struct stream_store *store, bool wait, void (*done)(void *owner, enum gw_err err))
{
    CHECK(!store->sync_done);
    store->sync_done = done;
    store->syncs = 1;
    for (unsigned i = 0; i < store->count; i++) {
        struct stream_file *file = store->files[i];
        if (file->synced_size == file->size || file->sync_failed)
            continue;
        file->syncing_end = file->end;
        file->syncing_size = file->size;
        store->syncs++;
        file->op = (struct disk_op){.kind = DISK_SYNC, .file = file->handle, .done = sync_done, .owner = file};
        stream_file_begin(file, &file->op);
    }
    sync_ended(store);
    while (wait && store->sync_done)
        stream_wait_once(store);
}

unsigned stream_store_files(const struct stream_store *store, struct stream_file_info *files, unsigned room)
{
    unsigned count = 0;
    for (unsigned i = 0; i < store->count; i++) {
        const struct stream_file *file = store->files[i];
        if (!file->synced_size)
            continue;
        if (count < room)
            files[count] = (struct stream_file_info){.base = file->base, .end = file->synced_end, .size = file->synced_size, .highest_ms = file->highest_ms};
        count++;
    }
    return count;
}
