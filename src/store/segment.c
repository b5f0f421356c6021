/* Segment files, "segment-<number, 8 hexadecimal digits>": images back to back and nothing else. What lies where is known by the snapshot alone, and an
 * image carries its own checksums (block_image.h), so a file has no header.
 *
 * Writes are buffered by the system and made durable together by segment_sync. While that runs new appends are held back: when it tells that it
 * is done, everything that was told as written is durable, and segment_files lists exactly that. */
#include "store/segment.h"

#include "base/bugs.h"
#include "store/disk_call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_SIZE_DEFAULT (UINT64_C(32) << 20)
#define COMPACTION_MIN (UINT64_C(64) << 20) /* bytes on disk below which nothing is moved */

struct segment {
    struct segment_store *store;
    uint32_t number;
    int handle;                 /* -1 until it is open */
    bool opening;
    bool sealed;                /* takes no more appends */
    bool unlisted;              /* dead, and the last listing did not name it: may be unlinked once that is durable */
    bool sync_failed;           /* what it holds may not be on the disk */
    bool unsynced;              /* written to since the last sync */
    uint64_t size;              /* where the next append goes */
    uint64_t written;           /* the highest end of an append that is written */
    uint64_t live, under_way;   /* bytes: still needed (those under way too), and not yet written */
    unsigned operations;        /* in flight */
    struct disk_op op;          /* opens, syncs, closes or unlinks it */
    char name[DISK_NAME_SIZE];
};

struct append_op {
    struct segment_store *store;
    struct segment *segment;
    struct chunk *image;
    segment_written *written;
    void *context;
    struct segment_location location;
    struct iovec iov;
    struct disk_op op;
    struct append_op *next;
};

struct read_op {
    struct segment_store *store;
    struct segment *segment;
    struct chunk *chunk;
    segment_read_done *done;
    void *context;
    struct segment_location location;
    struct iovec iov;
    struct disk_op op;
};

struct sync_request {
    void (*done)(void *owner, void *context, enum gw_err err);
    void *context;
    struct sync_request *next;
};

struct segment_store {
    struct disk *disk;
    struct chunk_pool *pool;
    struct alarm_sink *alarms;
    void *owner;
    uint64_t file_size;
    char directory[DISK_NAME_SIZE];

    struct segment **segments;  /* by rising number */
    unsigned count, room;
    struct segment *current;    /* where appends go; NULL: a new one is begun */
    uint32_t last_number;

    struct append_op *held, **held_end;     /* wait for their file to open, or for the sync to end */
    unsigned appends;                       /* writes in flight */
    unsigned operations;                    /* of every kind in flight */
    uint64_t size, live;                    /* bytes, of all files */

    struct sync_request *requests, **requests_end;
    bool syncing;                           /* no write is started */
    unsigned syncs;                         /* in flight, once the writes are done; the directory's too */
    enum gw_err sync_err;
    bool names_failed;                      /* syncing the directory failed: nothing will be durable any more */
    struct disk_op directory_op;
};

static void start_held(struct segment_store *store);
static void go_on_syncing(struct segment_store *store);

/* ---- files ---- */

static struct segment *find(const struct segment_store *store, uint32_t number)
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

static struct segment *add_segment(struct segment_store *store, uint32_t number)
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
    char entry[32];
    snprintf(entry, sizeof(entry), "segment-%08" PRIx32, number);
    enum gw_err err = disk_path(segment->name, store->directory, entry);
    CHECK(err == GW_OK);
    segment->store = store;
    segment->number = number;
    segment->handle = -1;
    store->segments[store->count++] = segment;
    return segment;
}

static void seal(struct segment_store *store, struct segment *segment)
{
    segment->sealed = true;
    if (store->current == segment)
        store->current = NULL;
}

/* A file that an append of `size` bytes fits into. NULL: out of memory. */
static struct segment *file_for(struct segment_store *store, uint64_t size)
{
    if (store->current && store->current->size > 0 && store->current->size + size > store->file_size)
        seal(store, store->current);
    if (!store->current) {
        store->current = add_segment(store, store->last_number + 1);
        if (store->current)
            store->last_number++;
    }
    return store->current;
}

static void begin(struct segment *segment, struct disk_op op)
{
    segment->operations++;
    segment->store->operations++;
    op.owner = segment;
    segment->op = op;
    segment->store->disk->submit(segment->store->disk, &segment->op);
}

static void ended(struct segment *segment)
{
    segment->operations--;
    segment->store->operations--;
}

static void unlink_done(struct disk_op *op)
{
    struct segment *segment = op->owner;
    ended(segment);
    if (op->error != 0 && gw_err_from_errno(op->error) != GW_ERR_NOT_FOUND)
        alarm_raise(segment->store->alarms, ALARM_WARNING, "%s cannot be unlinked: %s", segment->name, gw_err_text(gw_err_from_errno(op->error)));
    free(segment);
}

static void close_done(struct disk_op *op)
{
    struct segment *segment = op->owner;
    ended(segment);
    begin(segment, (struct disk_op){.kind = DISK_UNLINK, .file = -1, .name = segment->name, .done = unlink_done});
}

/* Forgets a file that nothing needs, and unlinks it. Nothing of it may be under way. */
static void dispose(struct segment_store *store, struct segment *segment)
{
    unsigned index = 0;
    while (store->segments[index] != segment)
        index++;
    memmove(store->segments + index, store->segments + index + 1, (store->count - index - 1) * sizeof(struct segment *));
    store->count--;
    seal(store, segment);
    store->size -= segment->size;
    store->live -= segment->live;
    if (segment->handle >= 0)
        begin(segment, (struct disk_op){.kind = DISK_CLOSE, .file = segment->handle, .done = close_done});
    else
        free(segment);
}

static bool is_dead(const struct segment *segment)
{
    return segment->live == 0 && segment->under_way == 0 && segment->operations == 0 && segment->size > 0;
}

/* ---- appends ---- */

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
        seal(store, segment);
        /* No listing ever named it: it need not wait for the next one. */
        if (segment->written == 0 && is_dead(segment))
            dispose(store, segment);
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
    go_on_syncing(store);
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
    ended(segment);
    segment->opening = false;
    if (op->error == 0) {
        segment->handle = op->file;
        start_held(store);
        return;
    }
    /* Everything that waits for this file fails with it. The last of them lets go of the file. */
    struct append_op *failed = take_held(store, segment);
    while (failed) {
        struct append_op *next = failed->next;
        append_done(failed, gw_err_from_errno(op->error));
        failed = next;
    }
    go_on_syncing(store);
}

/* Starts what was held back as far as it can be started. */
static void start_held(struct segment_store *store)
{
    struct append_op **at = &store->held;
    while (*at && !store->syncing) {
        struct append_op *append = *at;
        struct segment *segment = append->segment;
        if (segment->handle >= 0) {
            *at = append->next;
            start_write(append);
            continue;
        }
        if (!segment->opening) {
            segment->opening = true;
            begin(segment, (struct disk_op){.kind = DISK_OPEN, .flags = DISK_CREATE, .file = -1, .name = segment->name, .done = open_done});
        }
        at = &append->next;
    }
    while (*at)
        at = &(*at)->next;
    store->held_end = at;
}

static void wait_once(struct segment_store *store)
{
    bool waited = store->disk->wait(store->disk);
    CHECK(waited);
}

/* Writes before it returns. */
static void write_now(struct append_op *append)
{
    struct segment_store *store = append->store;
    struct segment *segment = append->segment;
    enum gw_err err = GW_OK;
    segment->operations++;
    while (segment->opening || store->syncing)
        wait_once(store);
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
    *store->held_end = append;
    store->held_end = &append->next;
    start_held(store);
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
    struct segment *segment = find(store, location.file);
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

/* ---- sync ---- */

/* Tells everybody who asked: whatever was written when they did is durable, and nothing was written since. */
static void finish_sync(struct segment_store *store)
{
    struct sync_request *request = store->requests;
    store->requests = NULL;
    store->requests_end = &store->requests;
    enum gw_err err = store->names_failed ? GW_ERR_FAILED : store->sync_err;
    for (unsigned i = 0; i < store->count; i++)
        if (store->segments[i]->sync_failed && store->segments[i]->live > 0)
            err = GW_ERR_FAILED;
    store->syncing = false;
    while (request) {
        struct sync_request *next = request->next;
        request->done(store->owner, request->context, err);
        free(request);
        request = next;
    }
    start_held(store);
    go_on_syncing(store);
}

static void sync_ended(struct segment_store *store)
{
    if (--store->syncs == 0)
        finish_sync(store);
}

static void sync_done(struct disk_op *op)
{
    struct segment *segment = op->owner;
    ended(segment);
    if (op->error != 0) {
        /* The system may have dropped what it could not write: a second sync that succeeds would mean nothing. */
        alarm_raise(segment->store->alarms, ALARM_ERROR, "%s: syncing failed: %s", segment->name, gw_err_text(gw_err_from_errno(op->error)));
        segment->sync_failed = true;
        seal(segment->store, segment);
    }
    sync_ended(segment->store);
}

static void directory_done(struct disk_op *op)
{
    struct segment_store *store = op->owner;
    store->operations--;
    if (op->error != 0) {
        alarm_raise(store->alarms, ALARM_ERROR, "%s: syncing the directory failed: %s", store->directory, gw_err_text(gw_err_from_errno(op->error)));
        store->names_failed = true;
    }
    sync_ended(store);
}

static void go_on_syncing(struct segment_store *store)
{
    if (!store->requests || store->syncs > 0)
        return;
    store->syncing = true;
    if (store->appends > 0)
        return;
    store->sync_err = GW_OK;
    unsigned before = store->syncs++;
    CHECK(before == 0);
    for (unsigned i = 0; i < store->count && !bug_enabled(BUG_SEGMENT_WITHOUT_SYNC); i++) {
        struct segment *segment = store->segments[i];
        if (!segment->unsynced || segment->sync_failed || segment->live == 0)
            continue;
        segment->unsynced = false;
        store->syncs++;
        begin(segment, (struct disk_op){.kind = DISK_SYNC, .file = segment->handle, .done = sync_done});
    }
    /* Also when no name is new: then it is what makes the answer come later, never from inside the question. */
    store->operations++;
    store->directory_op = (struct disk_op){.kind = DISK_SYNC_DIR, .file = -1, .name = store->directory, .done = directory_done, .owner = store};
    store->disk->submit(store->disk, &store->directory_op);
}

void segment_sync(struct segment_store *store, bool wait, void (*done)(void *owner, void *context, enum gw_err err), void *context)
{
    struct sync_request *request = calloc(1, sizeof(*request));
    if (!request) {
        done(store->owner, context, GW_ERR_NOMEM);
        return;
    }
    request->done = done;
    request->context = context;
    *store->requests_end = request;
    store->requests_end = &request->next;
    go_on_syncing(store);
    while (wait && store->requests)
        wait_once(store);
}

/* ---- what is live ---- */

void segment_release(struct segment_store *store, struct segment_location location, uint32_t bytes)
{
    struct segment *segment = location.file ? find(store, location.file) : NULL;
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
        if (is_dead(segment)) {
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
        if (store->segments[i]->unlisted && is_dead(store->segments[i]))
            dispose(store, store->segments[i]);
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

/* Unlinks what the snapshot does not name: a file begun after it, or one that died before it. */
static enum gw_err found_name(void *owner, const char *entry)
{
    struct segment_store *store = owner;
    if (strncmp(entry, "segment-", 8) != 0 || strlen(entry) != 16 || strspn(entry + 8, "0123456789abcdef") != 8)
        return GW_OK;
    uint32_t number = (uint32_t)strtoul(entry + 8, NULL, 16);
    if (number > store->last_number)
        store->last_number = number;
    if (find(store, number))
        return GW_OK;
    char name[DISK_NAME_SIZE];
    enum gw_err err = disk_path(name, store->directory, entry);
    return err == GW_OK ? disk_call_unlink(store->disk, name) : err;
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
    store->requests_end = &store->requests;
    for (unsigned i = 0; i < count && err == GW_OK; i++) {
        struct segment *segment = files[i].file ? add_segment(store, files[i].file) : NULL;
        err = segment ? open_listed(store, segment, &files[i]) : files[i].file ? GW_ERR_NOMEM : GW_ERR_CORRUPT;
    }
    if (err == GW_OK) {
        qsort(store->segments, store->count, sizeof(struct segment *), by_number);
        for (unsigned i = 0; i < store->count; i++) {
            if (i > 0 && store->segments[i]->number == store->segments[i - 1]->number)
                err = GW_ERR_CORRUPT;
            store->last_number = store->segments[i]->number;
        }
    }
    if (err == GW_OK)
        err = disk_call_list(store->disk, store->directory, found_name, store);
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
    while (store->operations > 0 || store->held)
        wait_once(store);
    free_store(store);
}
