/* One file of a stream, from its first batch until retention removes it. */
#include "store/stream_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define OPEN_HANDLES_MAX 4u     /* of files that are full; the one being written stays open */

void stream_file_name(const char *directory, uint64_t id, uint64_t base, const char *suffix, char name[DISK_NAME_SIZE])
{
    char entry[80];
    snprintf(entry, sizeof(entry), "stream-%016" PRIx64 "-%020" PRIu64 "%s", id, base, suffix);
    enum gw_err err = disk_path(name, directory, entry);
    CHECK(err == GW_OK);
}

bool stream_file_parse(const char *name, uint64_t *id, uint64_t *base)
{
    if (strncmp(name, "stream-", 7) != 0 || strspn(name + 7, "0123456789abcdef") != 16 || name[23] != '-' || strspn(name + 24, "0123456789") != 20 || name[44] != '.')
        return false;
    *id = strtoull(name + 7, NULL, 16);
    *base = strtoull(name + 24, NULL, 10);
    return true;
}

struct stream_file *stream_file_add(struct stream_store *store, uint64_t base)
{
    if (store->count == store->room) {
        unsigned room = store->room ? store->room * 2 : 4;
        struct stream_file **grown = realloc(store->files, room * sizeof(*grown));
        if (!grown)
            return NULL;
        store->files = grown;
        store->room = room;
    }
    struct stream_file *file = calloc(1, sizeof(*file));
    if (!file)
        return NULL;
    CHECK(!store->count || base >= store->files[store->count - 1]->end);
    stream_file_name(store->directory, store->id, base, ".log", file->name);
    file->store = store;
    file->base = file->end = file->synced_end = base;
    file->highest_ms = INT64_MIN;
    file->handle = -1;
    store->files[store->count++] = file;
    return file;
}

/* How many files begin at or before `offset`. */
static unsigned files_up_to(const struct stream_store *store, uint64_t offset)
{
    unsigned low = 0, high = store->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (store->files[middle]->base <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct stream_file *stream_file_of(const struct stream_store *store, uint64_t offset)
{
    unsigned count = files_up_to(store, offset);
    return count ? store->files[count - 1] : NULL;
}

struct stream_file *stream_file_find(const struct stream_store *store, uint64_t base)
{
    struct stream_file *file = stream_file_of(store, base);
    return file && file->base == base ? file : NULL;
}

struct stream_file *stream_file_after(const struct stream_store *store, const struct stream_file *file)
{
    unsigned count = files_up_to(store, file->base);
    return count < store->count ? store->files[count] : NULL;
}

/* ---- operations ----------------------------------------------------------------------------------------------------- */

void stream_file_begin(struct stream_file *file, struct disk_op *op)
{
    file->operations++;
    file->store->operations++;
    file->store->disk->submit(file->store->disk, op);
}

static void open_done(struct disk_op *op)
{
    struct stream_file *file = op->owner;
    struct stream_store *store = file->store;
    int error = op->error;
    file->opening = false;
    if (error == 0) {
        file->handle = op->file;
        file->is_new = false;
        store->open_handles++;
    }
    struct stream_read *waiting = file->waiting;
    file->waiting = NULL;
    if (store->append.file == file)
        stream_append_opened(store, error);
    while (waiting) {
        struct stream_read *next = waiting->next;
        stream_read_opened(waiting, error);
        waiting = next;
    }
    stream_file_ended(file);
}

void stream_file_open(struct stream_file *file)
{
    if (file->handle >= 0 || file->opening)
        return;
    file->opening = true;
    file->op = (struct disk_op){.kind = DISK_OPEN, .flags = file->is_new ? DISK_CREATE : 0, .file = -1, .name = file->name, .done = open_done, .owner = file};
    stream_file_begin(file, &file->op);
}

static void free_doomed(struct stream_file *file)
{
    struct stream_store *store = file->store;
    stream_index_deinit(&file->index);
    free(file);
    store->doomed--;
    stream_store_finish(store);
}

static void index_unlinked(struct disk_op *op)
{
    struct stream_file *file = op->owner;
    file->operations--;
    file->store->operations--;
    free_doomed(file);
}

static void unlinked(struct disk_op *op)
{
    struct stream_file *file = op->owner;
    struct stream_store *store = file->store;
    file->operations--;
    store->operations--;
    if (op->error != 0 && gw_err_from_errno(op->error) != GW_ERR_NOT_FOUND)
        alarm_raise(store->alarms, ALARM_WARNING, "%s cannot be unlinked: %s", file->name, gw_err_text(gw_err_from_errno(op->error)));
    stream_file_name(store->directory, store->id, file->base, ".index", file->name);
    file->op = (struct disk_op){.kind = DISK_UNLINK, .file = -1, .name = file->name, .done = index_unlinked, .owner = file};
    stream_file_begin(file, &file->op);
}

static void closed(struct disk_op *op)
{
    stream_file_ended(op->owner);
}

static void close_handle(struct stream_file *file)
{
    int handle = file->handle;
    file->handle = -1;
    file->store->open_handles--;
    file->close_op = (struct disk_op){.kind = DISK_CLOSE, .file = handle, .done = closed, .owner = file};
    stream_file_begin(file, &file->close_op);
}

static void go_on(struct stream_file *file)
{
    if (file->operations)
        return;
    if (file->doomed && file->handle >= 0) {
        close_handle(file);
    } else if (file->doomed) {
        file->op = (struct disk_op){.kind = DISK_UNLINK, .file = -1, .name = file->name, .done = unlinked, .owner = file};
        stream_file_begin(file, &file->op);
    } else if (file->sealed && file->handle >= 0 && file->synced_size == file->size && file->store->open_handles > OPEN_HANDLES_MAX) {
        close_handle(file);
    }
}

void stream_file_ended(struct stream_file *file)
{
    file->operations--;
    file->store->operations--;
    go_on(file);
}

void stream_file_doom(struct stream_file *file)
{
    struct stream_store *store = file->store;
    unsigned index = files_up_to(store, file->base) - 1;
    CHECK(store->files[index] == file);
    memmove(store->files + index, store->files + index + 1, (store->count - index - 1) * sizeof(*store->files));
    store->count--;
    store->doomed++;
    store->size -= file->size;
    file->doomed = true;
    go_on(file);
}
