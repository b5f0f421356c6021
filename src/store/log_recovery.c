/* Opening a file log: which files belong to it, in which order, and what becomes of the others. */
#include "store/log_replay.h"

#include <inttypes.h>
#include <stdlib.h>

struct candidate {
    struct log_file *file;
    bool rotten;            /* its header is unreadable, and where it begins was found out otherwise */
    bool chosen;            /* it is part of the log */
};

struct search {
    struct file_log *log;
    struct candidate *candidates;
    unsigned count, room;
};

/* ---- finding ---- */

static enum gw_err found_name(void *owner, const char *entry)
{
    struct search *search = owner;
    uint64_t value;
    enum log_file_kind kind = log_file_parse_name(entry, &value);
    if (kind == LOG_FILE_OTHER)
        return GW_OK;
    if (kind == LOG_FILE_SPARE && value >= search->log->chores.next_spare)
        search->log->chores.next_spare = (uint32_t)value + 1;
    if (search->count == search->room) {
        unsigned room = search->room ? search->room * 2 : 16;
        struct candidate *grown = realloc(search->candidates, room * sizeof(*grown));
        if (!grown)
            return GW_ERR_NOMEM;
        search->candidates = grown;
        search->room = room;
    }
    struct log_file *file = log_file_new(0);
    if (!file)
        return GW_ERR_NOMEM;
    search->candidates[search->count++] = (struct candidate){.file = file};
    file->start = kind == LOG_FILE_NAMED && value <= LOG_OFFSET_MAX && value % LOG_ALIGN == 0 ? value : UINT64_MAX;
    return disk_path(file->name, search->log->directory, entry);
}

/* Without a header, the first batch tells where a file begins, or else its name; a spare that was never begun has neither. */
static void guess_start(struct candidate *candidate, const uint8_t *first_block)
{
    struct batch_header header;
    if (batch_header_read(first_block, &header) && header.offset % LOG_ALIGN == 0 && header.offset <= LOG_OFFSET_MAX)
        candidate->file->start = header.offset;
    candidate->rotten = candidate->file->start != UINT64_MAX;
}

static enum gw_err examine(struct search *search, struct candidate *candidate)
{
    struct file_log *log = search->log;
    struct log_file *file = candidate->file;
    uint64_t size, epoch;
    enum gw_err err = disk_call_open(log->disk, file->name, DISK_DIRECT, &file->handle);
    if (err == GW_OK)
        err = disk_call_size(log->disk, file->handle, &size);
    if (err != GW_OK)
        return err;
    size &= ~(uint64_t)(LOG_ALIGN - 1);
    if (size < 2 * LOG_FILE_HEADER_SIZE) {
        file->start = UINT64_MAX;
        return GW_OK;
    }
    if (size > LOG_OFFSET_MAX)
        return GW_ERR_CORRUPT;
    file->capacity = size - LOG_FILE_HEADER_SIZE;
    struct chunk *chunk = chunk_new(log->pool, 2 * LOG_ALIGN);
    if (!chunk)
        return GW_ERR_NOMEM;
    err = disk_call_read(log->disk, file->handle, chunk->data, 2 * LOG_ALIGN, 0, NULL);
    if (err == GW_OK) {
        err = log_file_read_header(chunk->data, &epoch, &file->start);
        if (err == GW_ERR_CORRUPT) {
            guess_start(candidate, chunk->data + LOG_FILE_HEADER_SIZE);
            err = GW_OK;
        } else if (err == GW_ERR_VERSION) {
            alarm_raise(log->alarms, ALARM_ERROR, "%s was written by a later version of this program", file->name);
        }
    }
    chunk_release(chunk, log->pool);
    return err;
}

/* ---- choosing ---- */

static int by_start(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    if (left->file->start != right->file->start)
        return left->file->start < right->file->start ? -1 : 1;
    return (int)left->rotten - (int)right->rotten;
}

/* The chain of files that begins with the one that holds `from`. They are sorted; files without a start are at the end. */
static enum gw_err choose(struct search *search, uint64_t from)
{
    struct file_log *log = search->log;
    struct candidate *first = NULL;
    unsigned count = 0;
    while (count < search->count && search->candidates[count].file->start != UINT64_MAX)
        count++;
    for (unsigned i = 0; i < count; i++) {
        struct candidate *candidate = &search->candidates[i];
        /* Of two with the same start the one with a whole header comes first. */
        if (candidate->file->start <= from && (!first || first->file->start != candidate->file->start))
            first = candidate;
    }
    if (!first) {
        if (count == 0 && from == 0)
            return GW_OK;
        alarm_raise(log->alarms, ALARM_ERROR, "%s: the log's files from offset %" PRIu64 " on are missing", log->directory, from);
        return GW_ERR_CORRUPT;
    }
    /* Everything is below `from`: the snapshot has it all, and the log goes on at `from` in a new file. */
    if (first == search->candidates + count - 1 && first->file->start + first->file->capacity <= from)
        return GW_OK;
    first->chosen = true;
    uint64_t reached = first->file->start + first->file->capacity, last = first->file->start;
    for (struct candidate *candidate = first + 1; candidate < search->candidates + count; candidate++) {
        uint64_t start = candidate->file->start;
        if (start == last && candidate->rotten)
            continue;
        if (start > reached || start == last) {
            alarm_raise(log->alarms, ALARM_ERROR, "%s: a file of the log is missing or doubled before %s", log->directory, candidate->file->name);
            return GW_ERR_CORRUPT;
        }
        candidate->chosen = true;
        last = start;
        reached = start + candidate->file->capacity;
    }
    return GW_OK;
}

static enum gw_err rewrite_header(struct file_log *log, struct log_file *file, uint64_t epoch)
{
    alarm_raise(log->alarms, ALARM_ERROR, "%s: the file's header was rotten; it is written anew", file->name);
    log_file_write_header(log->header, epoch, file->start);
    return disk_call_write(log->disk, file->handle, log->header, LOG_FILE_HEADER_SIZE, 0, true);
}

/* ---- the log's own view ---- */

static enum gw_err replay_chain(struct search *search, uint64_t from, uint64_t epoch, log_visitor *visit, void *visit_owner,
                                struct log_recovery *found, uint64_t *end, uint64_t *last_epoch)
{
    struct file_log *log = search->log;
    struct log_replay replay = {.log = log, .visit = visit, .visit_owner = visit_owner, .found = found, .from = from};
    enum gw_err err = GW_OK;
    *end = from;
    for (struct log_file *file = log->oldest; file && err == GW_OK; file = file->next)
        err = log_replay_file(&replay, file, !file->next, end);
    log_replay_deinit(&replay);
    *last_epoch = replay.epoch > epoch ? replay.epoch : epoch;
    for (unsigned i = 0; i < search->count && err == GW_OK; i++)
        if (search->candidates[i].chosen && search->candidates[i].rotten) {
            found->quarantined++;
            err = rewrite_header(log, search->candidates[i].file, *last_epoch);
        }
    return err;
}

/* Unlinks what is no part of the log. Spares are not used again across a start: a torn write may have left batches in them that would line up. */
static enum gw_err clear_away(struct search *search)
{
    struct file_log *log = search->log;
    bool unlinked = false;
    enum gw_err err = GW_OK;
    for (unsigned i = 0; i < search->count && err == GW_OK; i++) {
        struct candidate *candidate = &search->candidates[i];
        if (candidate->chosen)
            continue;
        disk_call_close(log->disk, candidate->file->handle);
        candidate->file->handle = -1;
        err = disk_call_unlink(log->disk, candidate->file->name);
        unlinked = true;
    }
    return err == GW_OK && unlinked ? disk_call_sync_dir(log->disk, log->directory) : err;
}

static void search_deinit(struct search *search)
{
    for (unsigned i = 0; i < search->count; i++) {
        struct candidate *candidate = &search->candidates[i];
        if (candidate->chosen)
            continue;
        if (candidate->file->handle >= 0)
            disk_call_close(search->log->disk, candidate->file->handle);
        log_file_free(candidate->file);
    }
    free(search->candidates);
}

enum gw_err file_log_recover(struct file_log *log, uint64_t from, uint64_t epoch, log_visitor *visit, void *visit_owner,
                             struct log_recovery *found)
{
    struct search search = {.log = log};
    uint64_t end = from;
    if (from % LOG_ALIGN != 0 || from > LOG_OFFSET_MAX)
        return GW_ERR_INVALID;
    enum gw_err err = disk_call_list(log->disk, log->directory, found_name, &search);
    for (unsigned i = 0; i < search.count && err == GW_OK; i++)
        err = examine(&search, &search.candidates[i]);
    if (err == GW_OK && search.count > 0)
        qsort(search.candidates, search.count, sizeof(*search.candidates), by_start);
    if (err == GW_OK)
        err = choose(&search, from);
    log->log.epoch = epoch;
    for (unsigned i = 0; i < search.count; i++)
        if (search.candidates[i].chosen)
            file_log_add_file(log, search.candidates[i].file);
    if (err == GW_OK)
        err = replay_chain(&search, from, epoch, visit, visit_owner, found, &end, &log->log.epoch);
    if (err == GW_OK)
        err = clear_away(&search);
    search_deinit(&search);
    if (err != GW_OK)
        return err;
    log->log.end = log->log.committed = end;
    if (log->current) {
        log->append_used = end - log->current->start;
        log->append_room = log->current->capacity - log->append_used;
    }
    for (struct log_file *file = log->oldest; file; file = file->next) {
        char name[DISK_NAME_SIZE];
        if (log_file_name(name, log->directory, file->start) == GW_OK && strcmp(name, file->name) != 0)
            log_chores_name(&log->chores, file);
    }
    return GW_OK;
}
