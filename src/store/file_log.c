/* The log in files on one machine: group commit. While one write (synced) is under way appends gather; when it is done all that has
 * gathered leaves in the next one. Never two at a time, so what is durable is always a prefix of what was appended, but for the
 * pages of the one write that a crash interrupts.
 *
 * A batch never spans files. Offsets run on without a gap from one file to the next; what is left at the end of a file stays unused. */
#include "store/file_log.h"

#include "base/bugs.h"

#include <stdlib.h>

#define RING_MIN 64u
#define FIRST_CAPACITY_MAX ((1u << 20) - LOG_FILE_HEADER_SIZE) /* a log that is hardly used takes 1 MiB of disk */
#define WAITING_MAX (UINT64_C(256) << 20)                      /* bytes that a slow disk may leave waiting */
#define WAITING_FOR_FILE_MAX (UINT64_C(64) << 20)              /* and while the next file is made */

static void pump(struct file_log *log);

static struct file_log *of(struct log *log)
{
    return (struct file_log *)log;
}

void batch_header_write(uint8_t *at, const struct batch_header *header)
{
    store_le32(at, BATCH_MAGIC);
    store_le64(at + 8, header->epoch);
    store_le64(at + 16, header->offset);
    store_le32(at + 24, header->size);
    store_le32(at + 28, header->count | (header->begins_write ? BATCH_BEGINS_WRITE : 0));
    store_le32(at + 4, crc32c(0, at + 8, BATCH_HEADER_SIZE - 8));
}

bool batch_header_read(const uint8_t *at, struct batch_header *header)
{
    if (load_le32(at) != BATCH_MAGIC || load_le32(at + 4) != crc32c(0, at + 8, BATCH_HEADER_SIZE - 8))
        return false;
    header->epoch = load_le64(at + 8);
    header->offset = load_le64(at + 16);
    header->size = load_le32(at + 24);
    header->count = load_le32(at + 28) & ~BATCH_BEGINS_WRITE;
    header->begins_write = (load_le32(at + 28) & BATCH_BEGINS_WRITE) != 0;
    return true;
}

/* ---- what waits ---- */

static bool ring_reserve(struct file_log *log)
{
    if (LIKELY(log->count < log->ring_size))
        return true;
    unsigned size = log->ring_size ? log->ring_size * 2 : RING_MIN;
    struct slice *ring = malloc(size * sizeof(*ring));
    if (!ring)
        return false;
    for (unsigned i = 0; i < log->count; i++)
        ring[i] = log->ring[(log->head + i) & (log->ring_size - 1)];
    free(log->ring);
    log->ring = ring;
    log->ring_size = size;
    log->head = 0;
    return true;
}

void file_log_pop_slice(struct file_log *log)
{
    struct slice *slice = file_log_slice(log, 0);
    log->waiting -= slice->size;
    chunk_release(slice->chunk, log->pool);
    log->head = (log->head + 1) & (log->ring_size - 1);
    log->count--;
}

static void update_state(struct file_log *log)
{
    log->log.lacks_file = log->chores.blocked && log->log.state != GW_ERR_FAILED;
    if (log->log.state == GW_ERR_FAILED)
        return;
    bool full = log->waiting >= WAITING_MAX;
    if (log->stalled)
        full |= log->chores.blocked || log->waiting >= WAITING_FOR_FILE_MAX;
    else if (log->chores.blocked && !log->chores.ready)
        /* No more publishes into the last half file: settles, which make room, must still find some. */
        full |= log->append_room < log->append_used;
    log->log.state = full ? GW_ERR_FULL : GW_OK;
}

/* ---- append ---- */

/* The capacity of the file that a slice of `size` bytes would begin. */
static uint64_t next_capacity(const struct file_log *log, uint64_t size)
{
    uint64_t capacity = log->capacity;
    if (!log->current && log->count == 0 && capacity > FIRST_CAPACITY_MAX)
        capacity = FIRST_CAPACITY_MAX;
    return size > capacity ? size : capacity;
}

static enum gw_err append(struct log *base, struct chunk *chunk, uint64_t begin, uint32_t size, uint32_t count, uint64_t *offset)
{
    struct file_log *log = of(base);
    if (UNLIKELY(base->state == GW_ERR_FAILED))
        return GW_ERR_FAILED;
    uint64_t padded = log_align(size);
    bool begins = padded > log->append_room;
    if (UNLIKELY(log->waiting >= WAITING_MAX || !ring_reserve(log)))
        return GW_ERR_FULL;
    bool lacks_file = log->stalled || (begins && !log_chores_has(&log->chores, next_capacity(log, padded)));
    if (UNLIKELY(lacks_file && (log->chores.blocked || log->waiting >= WAITING_FOR_FILE_MAX)))
        return GW_ERR_FULL;

    struct slice *slice = file_log_slice(log, log->count);
    *slice = (struct slice){chunk_retain(chunk), begin, padded, 0};
    if (UNLIKELY(begins)) {
        slice->begins = next_capacity(log, padded);
        log->append_room = slice->begins;
        log->append_used = 0;
    }
    batch_header_write(chunk->data + begin, &(struct batch_header){base->epoch, base->end, size, count, false});
    memset(chunk->data + begin + size, 0, padded - size);
    *offset = base->end;
    base->end += padded;
    log->append_room -= padded;
    log->append_used += padded;
    log->waiting += padded;
    log->count++;
    if (UNLIKELY(begins || log->waiting >= WAITING_FOR_FILE_MAX))
        update_state(log);
    return GW_OK;
}

/* ---- callbacks to the shard ---- */

static void tell_checkpoint(struct file_log *log)
{
    log->check_files = false;
    /* The one being written counts: it fills up while the checkpoint runs. */
    if (log->files < 2 || log->files + 1 < log->file_count)
        return;
    struct log_file *first_kept = log->oldest;
    for (unsigned i = 0; i < log->files / 2; i++)
        first_kept = first_kept->next;
    if (first_kept->start <= log->told || first_kept->start <= log->recycled)
        return;
    log->told = first_kept->start;
    if (log->log.events.checkpoint_wanted)
        log->log.events.checkpoint_wanted(log->log.events.owner, log->told);
}

static void fail(struct file_log *log, enum gw_err cause)
{
    alarm_raise(log->alarms, ALARM_ERROR, "%s: writing the log failed: %s; nothing durable is accepted until the program is started again",
                log->current ? log->current->name : log->directory, gw_err_text(cause));
    log->log.state = GW_ERR_FAILED;
    while (log->count > 0)
        file_log_pop_slice(log);
    if (log->log.events.failed)
        log->log.events.failed(log->log.events.owner, GW_ERR_FAILED);
}

/* ---- files ---- */

void file_log_add_file(struct file_log *log, struct log_file *file)
{
    file->next = NULL;
    if (log->current)
        log->current->next = file;
    else
        log->oldest = file;
    log->current = file;
    log->files++;
    log->files_bytes += LOG_FILE_HEADER_SIZE + file->capacity;
}

/* Files wholly below the cutoff, but never the one being written. */
static void recycle_files(struct file_log *log)
{
    while (log->files > 1 && (log->oldest->next->start <= log->recycled || bug_enabled(BUG_RECYCLE_ONE_TOO_MANY))) {
        struct log_file *file = log->oldest;
        log->oldest = file->next;
        log->files--;
        log->files_bytes -= LOG_FILE_HEADER_SIZE + file->capacity;
        /* One spare is what the next turn-over needs; a second one keeps a checkpoint of several files from unlinking what the
         * same load will soon ask for again. */
        uint64_t spare = LOG_FILE_HEADER_SIZE + log->capacity;
        bool keep = file->capacity == log->capacity && log->chores.ready_bytes < 2 * spare;
        log_chores_give(&log->chores, file, keep);
    }
}

/* The file that `slice` begins, as the current one; false: not ready yet. */
static bool turn_over(struct file_log *log, struct slice *slice)
{
    struct log_file *file = log_chores_take(&log->chores, slice->begins);
    log->stalled = !file;
    if (!file) {
        if (log->chores.wanted != slice->begins)
            log_chores_want(&log->chores, slice->begins);
        return false;
    }
    slice->begins = 0;
    file->start = log->log.committed;
    file_log_add_file(log, file);
    log_file_write_header(log->header, log->log.epoch, file->start);
    return true;
}

/* Has the next file made while the current one still has plenty of room. */
static void prepare_ahead(struct file_log *log)
{
    if (log->append_used > (log->append_used + log->append_room) / 16 && log->chores.wanted == 0 && !log_chores_has(&log->chores, log->capacity))
        log_chores_want(&log->chores, log->capacity);
}

/* ---- the write ---- */

static void write_done(struct disk_op *op)
{
    struct file_log *log = op->owner;
    log->writing = false;
    if (op->error != 0) {
        fail(log, gw_err_from_errno(op->error));
        return;
    }
    log->wrote = true;
    uint64_t bytes = log->write_bytes, before = log->log.committed;
    while (bytes > 0) {
        struct slice *slice = file_log_slice(log, 0);
        uint64_t left = slice->size - log->head_written;
        if (bytes < left) {
            log->head_written += bytes;
            break;
        }
        bytes -= left;
        log->log.committed += slice->size;
        log->head_written = 0;
        file_log_pop_slice(log);
    }
    if (log->write_begins_file) {
        log_chores_name(&log->chores, log->current);
        recycle_files(log);
        log->check_files = true;
    }
    prepare_ahead(log);
    pump(log);
    update_state(log);
    if (log->log.committed != before && log->log.events.committed)
        log->log.events.committed(log->log.events.owner, log_committed(&log->log));
    if (log->check_files)
        tell_checkpoint(log);
}

/* Gathers what waits, up to the end of a file or a write's bounds, into log->iov; returns how many entries. */
static unsigned gather(struct file_log *log, unsigned used)
{
    uint64_t skip = log->head_written, bytes = 0;
    for (unsigned i = 0; i < log->count && bytes < FILE_LOG_WRITE_MAX; i++) {
        const struct slice *slice = file_log_slice(log, i);
        if (i > 0 && slice->begins)
            break;
        uint64_t size = slice->size - skip;
        if (size > FILE_LOG_WRITE_MAX - bytes) {
            /* A slice that fits into one write is not torn apart for nothing. */
            if (i > 0)
                break;
            size = FILE_LOG_WRITE_MAX;
        }
        uint8_t *data = slice->chunk->data + slice->begin + skip;
        struct iovec *last = used > 0 ? &log->iov[used - 1] : NULL;
        if (last && (uint8_t *)last->iov_base + last->iov_len == data)
            last->iov_len += size;
        else if (used <= FILE_LOG_IOV_MAX)
            log->iov[used++] = (struct iovec){data, size};
        else
            break;
        bytes += size;
        skip = 0;
    }
    log->write_bytes = bytes;
    return used;
}

/* Marks the first batch of a write: everything before it is durable now. */
static void mark_first(const struct slice *first)
{
    uint8_t *at = first->chunk->data + first->begin;
    struct batch_header header;
    bool ours = batch_header_read(at, &header);
    CHECK(ours);
    header.begins_write = true;
    batch_header_write(at, &header);
}

static void pump(struct file_log *log)
{
    if (log->writing || log->held || log->count == 0)
        return;
    struct slice *first = file_log_slice(log, 0);
    bool begins = first->begins != 0;
    if (begins && !turn_over(log, first))
        return;
    if (log->head_written == 0)
        mark_first(first);
    unsigned used = 0;
    uint64_t place = log_file_place(log->current, log->log.committed + log->head_written);
    if (begins) {
        place = 0;
        log->iov[used++] = (struct iovec){log->header, LOG_FILE_HEADER_SIZE};
    }
    used = gather(log, used);
    log->write_begins_file = begins;
    log->writing = true;
    enum disk_kind kind = bug_enabled(BUG_SYNC_LEFT_OUT) ? DISK_WRITE : DISK_WRITE_SYNC;
    log->op = (struct disk_op){.kind = kind, .file = log->current->handle, .iov = log->iov, .iov_count = used, .offset = place,
                               .done = write_done, .owner = log};
    log->disk->submit(log->disk, &log->op);
    if (begins)
        prepare_ahead(log);
    if (bug_enabled(BUG_CONFIRM_BEFORE_SYNC) && log->log.events.committed)
        log->log.events.committed(log->log.events.owner, (struct log_position){log->log.epoch, log->log.committed + log->write_bytes});
}

static void flush(struct log *base)
{
    struct file_log *log = of(base);
    if (UNLIKELY(base->state != GW_OK)) {
        if (base->state == GW_ERR_FAILED)
            return;
        if (!base->patient)
            log_chores_retry(&log->chores);
        update_state(log);
    } else if (UNLIKELY(log->chores.blocked)) {
        if (!base->patient)
            log_chores_retry(&log->chores);
        update_state(log);
    }
    if (!log->writing && log->count > 0)
        pump(log);
    if (UNLIKELY(log->check_files))
        tell_checkpoint(log);
}

static void chores_changed(void *owner)
{
    struct file_log *log = owner;
    if (log->log.state == GW_ERR_FAILED)
        return;
    pump(log);
    update_state(log);
}

/* ---- the other verbs ---- */

static void recycle(struct log *base, uint64_t cutoff)
{
    struct file_log *log = of(base);
    if (cutoff <= log->recycled)
        return;
    log->recycled = cutoff;
    recycle_files(log);
    log->check_files = true;
    if (base->state != GW_ERR_FAILED)
        update_state(log);
}

static uint64_t disk_bytes(const struct log *base)
{
    const struct file_log *log = (const struct file_log *)base;
    return log->files_bytes + log->chores.ready_bytes;
}

static void free_log(struct file_log *log)
{
    while (log->count > 0)
        file_log_pop_slice(log);
    log_chores_deinit(&log->chores);
    while (log->oldest) {
        struct log_file *file = log->oldest;
        log->oldest = file->next;
        disk_call_close(log->disk, file->handle);
        log_file_free(file);
    }
    free(log->ring);
    free(log->header);
    free(log);
}

/* An empty batch behind the end, so that damage before it will be known for rot. It is no part of the log, and not worth an error. */
static void write_last_word(struct file_log *log)
{
    if (!log->wrote || log->append_room < LOG_ALIGN || log->log.committed != log->log.end)
        return;
    memset(log->header, 0, LOG_ALIGN);
    batch_header_write(log->header, &(struct batch_header){log->log.epoch, log->log.end, BATCH_HEADER_SIZE, 0, true});
    disk_call_write(log->disk, log->current->handle, log->header, LOG_ALIGN, log_file_place(log->current, log->log.end), true);
}

/* The next start looks at all that lies behind the end. Of what a busy log has ready there, it gets no more than one that is hardly used has; and that this was not done does no harm. */
static void give_room_back(struct file_log *log)
{
    if (log->append_room <= FIRST_CAPACITY_MAX)
        return;
    log->append_room = FIRST_CAPACITY_MAX;
    log->current->capacity = log->append_used + log->append_room;
    disk_call_truncate(log->disk, log->current->handle, LOG_FILE_HEADER_SIZE + log->current->capacity);
}

static void wait_once(struct file_log *log)
{
    bool waited = log->disk->wait(log->disk);
    CHECK(waited);
}

static enum gw_err close_file_log(struct log *base)
{
    struct file_log *log = of(base);
    flush(base);
    while (log->writing || (log->count > 0 && !log->chores.blocked))
        wait_once(log);
    log_chores_stop(&log->chores);
    /* The last chore may have made the file that a write was waiting for. */
    while (log->writing)
        wait_once(log);
    enum gw_err err = base->state == GW_ERR_FAILED ? GW_ERR_FAILED : log->count > 0 ? GW_ERR_FULL : GW_OK;
    if (err == GW_OK) {
        write_last_word(log);
        give_room_back(log);
        log_chores_discard(&log->chores);
    }
    free_log(log);
    return err;
}

static const struct log_ops file_ops = {append, flush, file_log_truncate, recycle, disk_bytes, close_file_log};

enum gw_err file_log_open(const struct log_config *config, uint64_t from, uint64_t epoch, log_visitor *visit, void *visit_owner,
                          struct log_recovery *recovery, struct log **opened)
{
    char path[DISK_NAME_SIZE];
    /* The longest name that will be made below the directory must fit. */
    if (disk_path(path, config->directory, "quarantine-0123456789abcdef") != GW_OK)
        return GW_ERR_LIMIT;
    if (config->file_size < 2 * LOG_FILE_HEADER_SIZE || config->file_size % LOG_ALIGN != 0)
        return GW_ERR_INVALID;
    struct file_log *log = calloc(1, sizeof(*log));
    if (!log)
        return GW_ERR_NOMEM;
    log->header = aligned_alloc(LOG_ALIGN, LOG_FILE_HEADER_SIZE);
    if (!log->header) {
        free(log);
        return GW_ERR_NOMEM;
    }
    log->log.ops = &file_ops;
    log->log.events = config->events;
    log->disk = config->disk;
    log->pool = config->pool;
    log->alarms = config->alarms;
    strcpy(log->directory, config->directory);
    log->capacity = config->file_size - LOG_FILE_HEADER_SIZE;
    log->file_count = config->file_count;
    log->recycled = from;
    log_chores_init(&log->chores, log->disk, log->directory, log->alarms, chores_changed, log);
    enum gw_err err = file_log_recover(log, from, epoch, visit, visit_owner, recovery);
    if (err != GW_OK) {
        log->chores.stopped = true;
        free_log(log);
        return err;
    }
    log->check_files = true;
    *opened = &log->log;
    return GW_OK;
}
