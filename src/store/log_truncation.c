/* Forgetting the end of a file log. It happens when a deposed leader's tail contradicts its successor's, so it may be slow but must never be
 * half done in a way that a later start would misread: files go from the last one backwards, each unlinked durably before the one before it, and
 * what follows the position in its own file becomes zeros, so that no forgotten batch can ever stand at an offset that is in use again. */
#include "store/file_log.h"

static void wait_for_disk(struct file_log *log)
{
    while (log->writing || log->chores.chore != CHORE_NONE) {
        bool waited = log->disk->wait(log->disk);
        CHECK(waited);
    }
}

/* Is `offset` where a batch of `file` begins or its last one ends? Reads the headers before it. */
static enum gw_err find_boundary(struct file_log *log, const struct log_file *file, uint64_t offset)
{
    struct chunk *chunk = chunk_new(log->pool, LOG_ALIGN);
    if (!chunk)
        return GW_ERR_NOMEM;
    enum gw_err err = GW_OK;
    uint64_t at = file->start;
    while (at < offset) {
        struct batch_header header;
        err = disk_call_read(log->disk, file->handle, chunk->data, LOG_ALIGN, log_file_place(file, at), NULL);
        if (err != GW_OK)
            break;
        /* A batch that rotted away has no size: the next aligned place that holds one goes on. */
        if (batch_header_read(chunk->data, &header) && header.offset == at && header.size > BATCH_HEADER_SIZE)
            at += log_align(header.size);
        else
            at += LOG_ALIGN;
    }
    chunk_release(chunk, log->pool);
    if (err == GW_OK && at != offset)
        err = GW_ERR_INVALID;
    return err;
}

static enum gw_err remove_after(struct file_log *log, struct log_file *last)
{
    while (log->current != last) {
        struct log_file *file = log->current, *before = last;
        while (before->next != file)
            before = before->next;
        before->next = NULL;
        log->current = before;
        log->files--;
        log->files_bytes -= LOG_FILE_HEADER_SIZE + file->capacity;
        disk_call_close(log->disk, file->handle);
        enum gw_err err = disk_call_unlink(log->disk, file->name);
        if (err == GW_OK)
            err = disk_call_sync_dir(log->disk, log->directory);
        log_file_free(file);
        if (err != GW_OK)
            return err;
    }
    return GW_OK;
}

/* The file that `offset` lies in, a boundary. */
static enum gw_err locate(struct file_log *log, uint64_t offset, struct log_file **found)
{
    struct log_file *file = log->oldest;
    if (!file || offset < file->start)
        return GW_ERR_INVALID;
    while (file->next && file->next->start <= offset)
        file = file->next;
    *found = file;
    return find_boundary(log, file, offset);
}

/* Removes what is on the disk at and after `offset`. */
static enum gw_err cut_files(struct file_log *log, struct log_file *file, uint64_t offset)
{
    enum gw_err err = remove_after(log, file);
    uint64_t rest = file->start + file->capacity - offset;
    if (err == GW_OK && rest > 0)
        err = disk_call_allocate(log->disk, file->handle, log_file_place(file, offset), rest);
    if (err == GW_OK)
        err = disk_call_sync(log->disk, file->handle);
    return err;
}

/* Drops the slices that wait from `offset` on. GW_ERR_INVALID: none begins there. */
static enum gw_err cut_waiting(struct file_log *log, uint64_t offset)
{
    uint64_t at = log->log.committed;
    unsigned keep = 0;
    while (keep < log->count && at < offset)
        at += file_log_slice(log, keep++)->size;
    if (at != offset)
        return GW_ERR_INVALID;
    while (log->count > keep) {
        struct slice *slice = file_log_slice(log, --log->count);
        log->waiting -= slice->size;
        chunk_release(slice->chunk, log->pool);
    }
    return GW_OK;
}

/* Where the next append goes, from what is on the disk and what waits. */
static void measure_room(struct file_log *log)
{
    log->append_used = log->current ? log->log.committed - log->current->start : 0;
    log->append_room = log->current ? log->current->capacity - log->append_used : 0;
    for (unsigned i = 0; i < log->count; i++) {
        const struct slice *slice = file_log_slice(log, i);
        if (slice->begins) {
            log->append_room = slice->begins;
            log->append_used = 0;
        }
        log->append_room -= slice->size;
        log->append_used += slice->size;
    }
    if (log->count == 0)
        log->stalled = false;
}

static enum gw_err cut(struct file_log *log, uint64_t offset, bool force)
{
    if (log->log.state == GW_ERR_FAILED)
        return GW_ERR_FAILED;
    if (offset < log->log.committed && !force)
        return GW_ERR_INVALID;
    uint64_t committed = log->log.committed;
    bool written = offset < committed || (offset == committed && log->head_written > 0);
    struct log_file *file = NULL;
    enum gw_err err = written ? locate(log, offset, &file) : GW_OK;
    if (err == GW_OK)
        err = cut_waiting(log, written ? committed : offset);
    if (err != GW_OK)
        return err;
    if (written) {
        log->head_written = 0;
        log->log.committed = offset;
        err = cut_files(log, file, offset);
    }
    log->log.end = log->log.committed + log->waiting;
    measure_room(log);
    return err;
}

enum gw_err file_log_truncate(struct log *base, uint64_t offset, bool force)
{
    struct file_log *log = (struct file_log *)base;
    log->held = true;
    wait_for_disk(log);
    enum gw_err err = cut(log, offset, force);
    log->held = false;
    if (err != GW_OK && err != GW_ERR_INVALID && err != GW_ERR_NOMEM && err != GW_ERR_FAILED) {
        /* What the disk holds now is unknown: the next start finds out. */
        alarm_raise(log->alarms, ALARM_ERROR, "%s: truncating the log failed: %s; nothing durable is accepted until the program is started again",
                    log->directory, gw_err_text(err));
        base->state = GW_ERR_FAILED;
        while (log->count > 0)
            file_log_pop_slice(log);
        if (base->events.failed)
            base->events.failed(base->events.owner, GW_ERR_FAILED);
    }
    return err;
}
