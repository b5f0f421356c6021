/* Segment files, "segment-<number, 8 hexadecimal digits>": images back to back and nothing else. What lies where is known by the snapshot alone, and an
 * image carries its own checksums (block_image.h), so a file has no header.
 *
 * Writes are buffered by the system and made durable together by segment_sync. From the moment that it is asked new appends are held back: when it
 * tells that it is done, everything appended before is durable, nothing else is written, and segment_files lists exactly that. */
#include "store/segment_state.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- appends ---- */

/* A file that an append of `size` bytes fits into. NULL: out of memory. */
static struct segment *file_for(struct segment_store *store, uint64_t size)
{
    struct segment *current = store->current;
    if (current && (current->sealed || (current->size > 0 && current->size + size > store->file_size)))
        segment_seal(store, current);
    if (!store->current) {
        store->current = segment_add(store, store->last_number + 1);
        if (store->current)
            store->last_number++;
    }
    return store->current;
}

/* Counts an append's outcome, tells it and frees `append`. */
static void append_done(struct append_op *append, enum gw_err err)
{
    struct segment_store *store = append->store;
    struct segment *segment = append->segment;
    struct segment_location location = append->location;
    segment->under_way -= location.size;
    if (err == GW_OK) {
        segment->unsynced = true;
        if (location.offset + location.size > segment->written)
            segment->written = location.offset + location.size;
    } else {
        alarm_raise(store->alarms, ALARM_WARNING, "%s: writing failed: %s", segment->name, gw_err_text(err));
        segment->live -= location.size;
        store->live -= location.size;
        segment_seal(store, segment);
        /* No listing ever named it: it need not wait for the next one. */
        if (segment->written == 0 && segment_is_dead(segment))
            segment_dispose(store, segment);
        err = err == GW_ERR_FULL || err == GW_ERR_NOMEM ? err : GW_ERR_IO;
    }
    chunk_release(append->image, store->pool);
    segment_written *written = append->written;
    void *context = append->context;
    free(append);
    if (written)
        written(store->owner, context, location, err);
}

static void write_done(struct disk_op *op)
{
    struct append_op *append = op->owner;
    struct segment_store *store = append->store;
    append->segment->operations--;
    store->appends--;
    store->operations--;
    append_done(append, gw_err_from_errno(op->error));
    segment_go_on_syncing(store);
}

static void prepare_write(struct append_op *append)
{
    append->iov = (struct iovec){append->image->data, append->location.size};
    append->op = (struct disk_op){.kind = DISK_WRITE, .file = append->segment->handle, .iov = &append->iov, .iov_count = 1,
                                  .offset = append->location.offset, .done = write_done, .owner = append};
}

static void start_write(struct append_op *append)
{
    prepare_write(append);
    append->segment->operations++;
    append->store->appends++;
    append->store->operations++;
    append->store->disk->submit(append->store->disk, &append->op);
}

/* Takes the appends that wait for `segment` out of the held ones. */
static struct append_op *take_held(struct segment_store *store, const struct segment *segment)
{
    struct append_op *taken = NULL, **taken_end = &taken, **at = &store->held;
    while (*at) {
        struct append_op *append = *at;
        if (append->segment != segment) {
            at = &append->next;
            continue;
        }
        *at = append->next;
        append->next = NULL;
        *taken_end = append;
        taken_end = &append->next;
    }
    store->held_end = at;
    return taken;
}

static void open_done(struct disk_op *op)
{
    struct segment *segment = op->owner;
    struct segment_store *store = segment->store;
    segment_ended(segment);
    segment->opening = false;
    if (op->error == 0) {
        segment->handle = op->file;
        segment_start_held(store);
        return;
    }
    /* Everything that waits for this file fails with it. The last of them lets go of the file. */
    struct append_op *failed = take_held(store, segment);
    while (failed) {
        struct append_op *next = failed->next;
        append_done(failed, gw_err_from_errno(op->error));
        failed = next;
    }
    segment_go_on_syncing(store);
}

void segment_start_held(struct segment_store *store)
{
    struct append_op **at = &store->held;
    while (*at) {
        struct append_op *append = *at;
        struct segment *segment = append->segment;
        if (segment->handle >= 0) {
            *at = append->next;
            start_write(append);
            continue;
        }
        if (!segment->opening) {
            segment->opening = true;
            segment_begin(segment, (struct disk_op){.kind = DISK_OPEN, .flags = DISK_CREATE, .file = -1, .name = segment->name, .done = open_done});
        }
        at = &append->next;
    }
    store->held_end = at;
}

/* Writes before it returns. */
static void write_now(struct append_op *append)
{
    struct segment_store *store = append->store;
    struct segment *segment = append->segment;
    enum gw_err err = GW_OK;
    segment->operations++;
    while (segment->opening || store->requests)
        segment_wait_once(store);
    segment->operations--;
    if (segment->handle < 0) {
        err = disk_call_open(store->disk, segment->name, DISK_CREATE, &segment->handle);
        }
    if (err == GW_OK) {
        prepare_write(append);
        err = gw_err_from_errno(store->disk->call(store->disk, &append->op));
    }
    append_done(append, err);
}

enum gw_err segment_append(struct segment_store *store, struct chunk *image, uint32_t size, bool wait, segment_written *written,
                           void *context, struct segment_location *location)
{
    CHECK(size > 0 && size <= image->capacity);
    struct append_op *append = calloc(1, sizeof(*append));
    struct segment *segment = append ? file_for(store, size) : NULL;
    if (!segment) {
        free(append);
        chunk_release(image, store->pool);
        return GW_ERR_NOMEM;
    }
    *location = (struct segment_location){segment->number, size, segment->size};
    *append = (struct append_op){.store = store, .segment = segment, .image = image, .written = written, .context = context,
                                 .location = *location};
    segment->size += size;
    segment->live += size;
    segment->under_way += size;
    store->size += size;
    store->live += size;
    if (wait) {
        write_now(append);
        return GW_OK;
    }
    if (store->requests) {
        *store->later_end = append;
        store->later_end = &append->next;
        return GW_OK;
    }
    *store->held_end = append;
    store->held_end = &append->next;
    segment_start_held(store);
    return GW_OK;
}

/* ---- reads ---- */

static void tell_read(struct read_op *read)
{
    struct segment_store *store = read->store;
    enum gw_err err = gw_err_from_errno(read->op.error);
    if (err == GW_OK && (uint64_t)read->op.result < read->location.size)
        err = GW_ERR_CORRUPT;
    struct chunk *chunk = read->chunk;
    if (err != GW_OK) {
        alarm_raise(store->alarms, ALARM_ERROR, "%s: %" PRIu32 " bytes at %" PRIu64 " cannot be read: %s", read->segment->name, read->location.size,
                    read->location.offset, gw_err_text(err));
        chunk_release(chunk, store->pool);
        chunk = NULL;
    } else {
        chunk->used = read->location.size;
    }
    segment_read_done *done = read->done;
    void *context = read->context;
    struct segment_location location = read->location;
    free(read);
    done(store->owner, context, location, chunk, err);
}

static void read_done(struct disk_op *op)
{
    struct read_op *read = op->owner;
    read->segment->operations--;
    read->store->operations--;
    tell_read(read);
}

enum gw_err segment_read(struct segment_store *store, struct segment_location location, bool wait, segment_read_done *done, void *context)
{
    struct segment *segment = segment_find(store, location.file);
    if (!segment || segment->handle < 0 || location.size == 0 || location.offset + location.size > segment->written)
        return GW_ERR_NOT_FOUND;
    struct read_op *read = calloc(1, sizeof(*read));
    struct chunk *chunk = read ? chunk_new(store->pool, location.size) : NULL;
    if (!chunk) {
        free(read);
        return GW_ERR_NOMEM;
    }
    *read = (struct read_op){.store = store, .segment = segment, .chunk = chunk, .done = done, .context = context, .location = location};
    read->iov = (struct iovec){chunk->data, location.size};
    read->op = (struct disk_op){.kind = DISK_READ, .file = segment->handle, .iov = &read->iov, .iov_count = 1, .offset = location.offset,
                                .done = read_done, .owner = read};
    if (wait) {
        store->disk->call(store->disk, &read->op);
        tell_read(read);
        return GW_OK;
    }
    segment->operations++;
    store->operations++;
    store->disk->submit(store->disk, &read->op);
    return GW_OK;
}
