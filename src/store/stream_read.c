/* Reading: a run of bytes is read, and the whole batches in it whose checksums are right become an extent. What is rotten is passed over: where the length can be
 * trusted, by it; otherwise the next batch is looked for byte by byte. The rotten bytes stay where they are. */
#include "store/stream_state.h"

#include <inttypes.h>
#include <stdlib.h>

void stream_extent_free(struct stream_extent *extent, struct chunk_pool *pool)
{
    chunk_release(extent->chunk, pool);
    free(extent);
}

static struct stream_extent *extent_new(struct chunk *chunk, unsigned room)
{
    struct stream_extent *extent = malloc(sizeof(*extent) + room * sizeof(extent->batches[0]));
    if (extent)
        *extent = (struct stream_extent){.chunk = chunk_retain(chunk)};
    return extent;
}

struct stream_extent *stream_extent_of_batch(struct chunk *chunk, uint32_t size, const struct stream_batch_info *info, struct stream_place place,
                                             struct stream_place next)
{
    struct stream_extent *extent = extent_new(chunk, 1);
    if (!extent)
        return NULL;
    extent->first = info->first;
    extent->end = info->end;
    extent->place = place;
    extent->next = next;
    extent->count = 1;
    extent->batches[0] = (struct extent_batch){.at = 0, .size = size, .first = info->first, .last = info->end - 1};
    return extent;
}

/* ---- going through what was read ------------------------------------------------------------------------------------ */

struct walk {
    struct stream_read *read;
    uint64_t at;                /* in the chunk */
    uint64_t expected;          /* the next batch has no lower offset */
    uint64_t rot_from;          /* UINT64_MAX: no rot so far */
    uint64_t needed;
    struct record_batch batch;
};

static struct bytes rest_of(const struct walk *walk)
{
    return bytes_of(walk->read->chunk->data + walk->at, walk->read->size - walk->at);
}

/* Is this the batch that comes next, as far as its header says? */
static bool fits(const struct walk *walk, const struct record_batch *batch, uint64_t size)
{
    const struct stream_file *file = walk->read->file;
    return batch->base_offset >= walk->expected && batch->last_offset < file->end && walk->read->position + walk->at + size <= file->size;
}

static void tell_rot(struct walk *walk, uint64_t to)
{
    struct stream_file *file = walk->read->file;
    uint64_t from = walk->read->position + walk->rot_from;
    if (file->rot_told < from + 1)
        alarm_raise(file->store->alarms, ALARM_ERROR, "%s: bytes %" PRIu64 " to %" PRIu64 " are rotten: messages of a stream are lost; they are left in the file and passed over",
                    file->name, from, walk->read->position + to);
    if (file->rot_told < walk->read->position + to)
        file->rot_told = walk->read->position + to;
    walk->rot_from = UINT64_MAX;
}

/* Rot whose length seems right ends where another batch begins, or the file does. */
static bool ends_well(const struct walk *walk, uint64_t size)
{
    struct walk behind = *walk;
    behind.at += size;
    if (walk->read->position + behind.at == walk->read->file->size)
        return true;
    struct record_batch batch;
    uint64_t next;
    return behind.at <= walk->read->size && record_batch_read(rest_of(&behind), &batch, &next) != RECORD_BATCH_BAD && next > RECORD_BATCH_HEADER_SIZE &&
           fits(&behind, &batch, next);
}

/* The next good batch at or after walk->at. False: there is none in what was read; a batch that only begins there needs `needed` bytes from walk->at on. */
static bool next_batch(struct walk *walk)
{
    walk->needed = 0;
    for (;; walk->at++) {
        uint64_t size;
        enum record_batch_answer answer = record_batch_read(rest_of(walk), &walk->batch, &size);
        if (answer == RECORD_BATCH_MORE && size == RECORD_BATCH_HEADER_SIZE)
            return false;
        bool plausible = answer != RECORD_BATCH_BAD && fits(walk, &walk->batch, size);
        if (plausible && answer == RECORD_BATCH_MORE) {
            walk->needed = size;
            return false;
        }
        if (plausible && record_batch_verify(&walk->batch)) {
            if (walk->rot_from != UINT64_MAX)
                tell_rot(walk, walk->at);
            return true;
        }
        if (walk->rot_from == UINT64_MAX)
            walk->rot_from = walk->at;
        if (plausible && ends_well(walk, size))
            walk->at += size - 1;
    }
}

static void finish(struct stream_read *read, struct stream_extent *extent, enum gw_err err)
{
    struct stream_file *file = read->file;
    struct stream_store *store = file->store;
    if (read->chunk)
        chunk_release(read->chunk, store->pool);
    if (!store->is_deleted)
        read->done(store->owner, read->asked, extent, err);
    else if (extent)
        stream_extent_free(extent, store->pool);
    free(read);
    stream_file_ended(file);
}

static bool submit(struct stream_read *read, uint64_t position, uint64_t size);

/* The same read goes on elsewhere, or with more room. */
static void read_more(struct stream_read *read, uint64_t position, uint64_t size)
{
    struct stream_file *file = read->file;
    file->operations--;
    file->store->operations--;
    if (!submit(read, position, size)) {
        file->operations++;
        file->store->operations++;
        finish(read, NULL, GW_ERR_NOMEM);
    }
}

/* An extent without batches leads past rot that goes on to the end of the file. */
static void only_rot(struct stream_read *read, struct walk *walk)
{
    struct stream_file *file = read->file;
    tell_rot(walk, read->size);
    struct stream_extent *extent = extent_new(read->chunk, 0);
    if (extent) {
        extent->first = read->expected;
        extent->end = file->end;
        extent->place = read->asked;
        extent->next = (struct stream_place){file->base, file->size};
    }
    finish(read, extent, extent ? GW_OK : GW_ERR_NOMEM);
}

/* What was read holds no whole batch. */
static void go_on_reading(struct stream_read *read, struct walk *walk)
{
    bool cut = walk->needed > 0;   /* one begins at walk->at, and is longer than what was read of it */
    if (!cut && walk->rot_from == UINT64_MAX)
        walk->rot_from = 0;
    if (!cut && read->position + read->size == read->file->size) {
        only_rot(read, walk);
        return;
    }
    if (walk->rot_from != UINT64_MAX)
        tell_rot(walk, walk->at);
    read_more(read, read->position + walk->at, cut ? walk->needed : STREAM_READ_SIZE);
}

static struct stream_extent *add_batch(struct stream_extent *extent, struct stream_read *read, const struct walk *walk)
{
    unsigned count = extent ? extent->count : 0;
    if (!extent)
        extent = extent_new(read->chunk, 4);
    else if (count >= 4 && !(count & (count - 1))) {
        struct stream_extent *grown = realloc(extent, sizeof(*extent) + 2 * count * sizeof(extent->batches[0]));
        if (!grown)
            stream_extent_free(extent, read->file->store->pool);
        extent = grown;
    }
    if (extent)
        extent->batches[extent->count++] = (struct extent_batch){.at = (uint32_t)walk->at, .size = (uint32_t)walk->batch.bytes.size,
                                                                 .first = walk->batch.base_offset, .last = walk->batch.last_offset};
    return extent;
}

static void read_done(struct disk_op *op)
{
    struct stream_read *read = op->owner;
    struct stream_file *file = read->file;
    if (op->error) {
        enum gw_err err = gw_err_from_errno(op->error);
        finish(read, NULL, err == GW_ERR_NOMEM || err == GW_ERR_BUSY ? err : GW_ERR_IO);
        return;
    }
    if ((uint64_t)op->result < read->size)   /* somebody else has cut the file: rot */
        memset(read->chunk->data + op->result, 0, read->size - (uint64_t)op->result);
    struct walk walk = {.read = read, .expected = read->expected, .rot_from = UINT64_MAX};
    struct stream_extent *extent = NULL;
    while (walk.at < read->size && next_batch(&walk)) {
        extent = add_batch(extent, read, &walk);
        if (!extent) {
            finish(read, NULL, GW_ERR_NOMEM);
            return;
        }
        walk.at += walk.batch.bytes.size;
        walk.expected = walk.batch.last_offset + 1;
        extent->next = (struct stream_place){file->base, read->position + walk.at};
    }
    if (!extent) {
        go_on_reading(read, &walk);
        return;
    }
    extent->first = extent->batches[0].first;
    extent->end = extent->next.position == file->size ? file->end : walk.expected;
    extent->place = read->asked;
    finish(read, extent, GW_OK);
}

/* ---- starting ------------------------------------------------------------------------------------------------------- */

/* With a chunk of at least `size` bytes. False: out of memory. */
static bool submit(struct stream_read *read, uint64_t position, uint64_t size)
{
    struct stream_file *file = read->file;
    uint64_t left = file->size - position;
    if (size < STREAM_READ_SIZE)
        size = STREAM_READ_SIZE;
    size = size < left ? size : left;
    if (!read->chunk || read->chunk->capacity < size) {
        if (read->chunk)
            chunk_release(read->chunk, file->store->pool);
        read->chunk = chunk_new(file->store->pool, size > STREAM_READ_SIZE ? size : STREAM_READ_SIZE);
        if (!read->chunk)
            return false;
    }
    read->position = position;
    read->size = size;
    read->iov = (struct iovec){read->chunk->data, size};
    read->op = (struct disk_op){.kind = DISK_READ, .file = file->handle, .iov = &read->iov, .iov_count = 1, .offset = position, .done = read_done, .owner = read};
    stream_file_begin(file, &read->op);
    return true;
}

void stream_read_opened(struct stream_read *read, int error)
{
    if (error) {
        finish(read, NULL, gw_err_from_errno(error) == GW_ERR_NOT_FOUND ? GW_ERR_NOT_FOUND : GW_ERR_IO);
        return;
    }
    read_more(read, read->position, STREAM_READ_SIZE);
}

enum gw_err stream_store_read(struct stream_store *store, struct stream_place place, stream_read_done *done)
{
    const struct stream_place asked = place;
    struct stream_file *file = stream_file_find(store, place.base);
    while (file && place.position >= file->size) {
        file = stream_file_after(store, file);
        place.position = 0;
    }
    if (!file)
        return GW_ERR_NOT_FOUND;
    struct stream_read *read = calloc(1, sizeof(*read));
    if (!read)
        return GW_ERR_NOMEM;
    *read = (struct stream_read){.file = file, .asked = asked, .position = place.position, .expected = file->base, .done = done};
    if (file->handle >= 0) {
        if (submit(read, place.position, STREAM_READ_SIZE))
            return GW_OK;
        free(read);
        return GW_ERR_NOMEM;
    }
    file->operations++;
    store->operations++;
    read->next = file->waiting;
    file->waiting = read;
    stream_file_open(file);
    return GW_OK;
}
