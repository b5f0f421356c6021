/* What the disk may have done to a log, and how each is told from the other:
 *
 * - Torn tail. The one write that a crash interrupted left some of its pages. Everything before that write is whole. The log is cut after the
 *   last whole record before the first damage; the warning says how much was dropped. Nothing of it was ever confirmed.
 * - Rot inside. Something unreadable, and behind it a batch that began a write, or another file: a write begins only when everything before it is
 *   durable, so what is unreadable was whole once. The bytes go to a file "quarantine-<offset>", an alarm is raised, and reading goes
 *   on with what is good behind them.
 *
 * Rot within the very last write looks like a torn tail, and no log on one disk can tell it apart after a crash. After an orderly
 * close it can: there the log's last word is an empty batch in a write of its own. The log ends before it, and the next write goes over it.
 *
 * What is read back may still not be durable: when only the program died, in a write or after a failed one, the system or the drive may show bytes
 * that a power cut would yet take; after a failed write even a sync that succeeds says nothing about them. The next write would then
 * prove too much. So the last write is written once more before anything follows it.
 *
 * Cutting must be final: a page of the torn write that survived behind the cut could line up with the log again once it has grown up to it. So
 * whatever lies behind a torn batch becomes zeros; and where the end is clean, the rest of the file is searched for batches that would line up. */
#include "store/log_replay.h"

#include "base/bugs.h"

#include <inttypes.h>
#include <stdio.h>

#define QUARANTINE_MAX (UINT64_C(64) << 20) /* bytes of one unreadable stretch that are copied */
#define QUARANTINE_FILES_MAX 64u            /* a disk that is rotten throughout needs no file for each record */

struct batch {
    struct batch_header header;
    const uint8_t *data;        /* the whole batch */
};

enum verdict { BATCH_NONE, BATCH_GOOD };

void log_replay_deinit(struct log_replay *replay)
{
    if (replay->chunk)
        chunk_release(replay->chunk, replay->log->pool);
    replay->chunk = NULL;
}

/* Makes [place, place + size) of the file available; answers a pointer into replay->chunk. */
static enum gw_err load(struct log_replay *replay, struct log_file *file, uint64_t place, uint64_t size, const uint8_t **data)
{
    if (!replay->chunk || replay->file != file || place < replay->chunk_place
        || place + size > replay->chunk_place + replay->chunk_size) {
        uint64_t file_end = LOG_FILE_HEADER_SIZE + file->capacity;
        uint64_t piece = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        if (piece > file_end - place)
            piece = file_end - place;
        /* The visitor may have kept the last one. */
        struct chunk *chunk = replay->chunk;
        replay->file = NULL;
        if (!chunk || chunk->capacity < piece || atomic_load_explicit(&chunk->references, memory_order_relaxed) != 1) {
            chunk = chunk_new(replay->log->pool, piece);
            if (!chunk)
                return GW_ERR_NOMEM;
            log_replay_deinit(replay);
            replay->chunk = chunk;
        }
        enum gw_err err = disk_call_read(replay->log->disk, file->handle, chunk->data, piece, place, NULL);
        if (err != GW_OK)
            return err;
        chunk->used = piece;
        replay->file = file;
        replay->chunk_place = place;
        replay->chunk_size = piece;
    }
    *data = replay->chunk->data + (place - replay->chunk_place);
    return GW_OK;
}

/* Reads the header at `offset` of the log. True in `lines_up` when a batch header says that it belongs exactly there. */
static enum gw_err load_header(struct log_replay *replay, struct log_file *file, uint64_t offset, struct batch_header *header,
                               bool *lines_up)
{
    const uint8_t *at;
    enum gw_err err = load(replay, file, log_file_place(file, offset), LOG_ALIGN, &at);
    *lines_up = err == GW_OK && batch_header_read(at, header) && (header->offset == offset || bug_enabled(BUG_STALE_BATCH_ACCEPTED));
    if (*lines_up && offset + log_align(header->size) > replay->lined_up)
        replay->lined_up = offset + log_align(header->size);
    return err;
}

/* The batch at `offset`, wholly in memory, or BATCH_NONE: no header, one of another place or an earlier epoch, or one
 * that claims to reach beyond `limit`. */
static enum gw_err load_batch(struct log_replay *replay, struct log_file *file, uint64_t offset, uint64_t limit, struct batch *batch,
                              enum verdict *verdict)
{
    bool lines_up;
    *verdict = BATCH_NONE;
    enum gw_err err = load_header(replay, file, offset, &batch->header, &lines_up);
    if (err != GW_OK || !lines_up)
        return err;
    if (batch->header.size < BATCH_HEADER_SIZE || log_align(batch->header.size) > limit - offset || batch->header.epoch < replay->epoch)
        return GW_OK;
    err = load(replay, file, log_file_place(file, offset), log_align(batch->header.size), &batch->data);
    if (err == GW_OK)
        *verdict = BATCH_GOOD;
    return err;
}

/* The first batch at or after `offset` that belongs there, and, with `proof`, began a write; `limit` when there is none. */
static enum gw_err find_batch(struct log_replay *replay, struct log_file *file, uint64_t offset, uint64_t limit, bool proof, uint64_t *found)
{
    if (proof && replay->proof >= offset && replay->proof != 0) {
        *found = replay->proof;
        return GW_OK;
    }
    *found = limit;
    while (offset < limit) {
        struct batch batch;
        enum verdict verdict;
        enum gw_err err = load_batch(replay, file, offset, limit, &batch, &verdict);
        if (err != GW_OK)
            return err;
        if (verdict == BATCH_GOOD && (!proof || batch.header.begins_write)) {
            *found = offset;
            if (proof)
                replay->proof = offset;
            return GW_OK;
        }
        offset += verdict == BATCH_GOOD ? log_align(batch.header.size) : LOG_ALIGN;
    }
    return GW_OK;
}

/* Was everything before `offset` durable once? In a file that is not the last one it was. */
static enum gw_err is_proven(struct log_replay *replay, struct log_file *file, uint64_t offset, bool last, uint64_t limit, bool *proven)
{
    uint64_t next = 0;
    enum gw_err err = last ? find_batch(replay, file, offset, limit, true, &next) : GW_OK;
    *proven = err == GW_OK && next < limit;
    return err;
}

static enum gw_err copy_to_quarantine(struct log_replay *replay, struct log_file *file, uint64_t place, uint64_t size, const char *name)
{
    struct disk *disk = replay->log->disk;
    int copy;
    enum gw_err err = disk_call_open(disk, name, DISK_CREATE, &copy);
    if (err != GW_OK)
        return err;
    for (uint64_t done = 0; done < size && err == GW_OK;) {
        uint64_t at = (place + done) & ~(uint64_t)(LOG_ALIGN - 1), skip = place + done - at;
        uint64_t part = CHUNK_SIZE - skip < size - done ? CHUNK_SIZE - skip : size - done;
        const uint8_t *data;
        err = load(replay, file, at, log_align(skip + part), &data);
        if (err == GW_OK)
            err = disk_call_write(disk, copy, data + skip, part, done, false);
        done += part;
    }
    if (err == GW_OK)
        err = disk_call_truncate(disk, copy, size);
    if (err == GW_OK)
        err = disk_call_sync(disk, copy);
    enum gw_err closed = disk_call_close(disk, copy);
    return err == GW_OK ? closed : err;
}

/* Sets [offset + skip, + size) of the log aside. That the copy fails is told, but the rest of the log is worth more. */
static void quarantine(struct log_replay *replay, struct log_file *file, uint64_t offset, uint64_t skip, uint64_t size)
{
    char name[DISK_NAME_SIZE], entry[40];
    uint64_t position = offset + skip;
    snprintf(entry, sizeof(entry), "quarantine-%016" PRIx64, position);
    enum gw_err err = disk_path(name, replay->log->directory, entry);
    CHECK(err == GW_OK);
    if (++replay->found->quarantined > QUARANTINE_FILES_MAX) {
        if (replay->found->quarantined == QUARANTINE_FILES_MAX + 1)
            alarm_raise(replay->log->alarms, ALARM_ERROR, "%s: rotten throughout; from offset %" PRIu64 " on nothing is set aside any more", file->name, position);
        return;
    }
    alarm_raise(replay->log->alarms, ALARM_ERROR, "%s: %" PRIu64 " bytes at offset %" PRIu64 " of the log are rotten; they are set aside in %s, the rest is kept",
                file->name, size, position, name);
    err = copy_to_quarantine(replay, file, log_file_place(file, offset) + skip, size < QUARANTINE_MAX ? size : QUARANTINE_MAX, name);
    if (err != GW_OK)
        alarm_raise(replay->log->alarms, ALARM_WARNING, "%s cannot be written: %s", name, gw_err_text(err));
}

/* Hands out the batch's records. `kept`: bytes of it that stay in the log; less than header.size when it is torn. */
static enum gw_err replay_batch(struct log_replay *replay, struct log_file *file, uint64_t offset, bool last, uint64_t limit, uint64_t *kept)
{
    struct batch batch;
    enum verdict verdict;
    uint64_t at = BATCH_HEADER_SIZE;
    for (;;) {
        /* Again after every look elsewhere: that may have replaced the chunk. */
        enum gw_err err = load_batch(replay, file, offset, limit, &batch, &verdict);
        if (err != GW_OK)
            return err;
        CHECK(verdict == BATCH_GOOD);
        *kept = at;
        if (at >= batch.header.size)
            return GW_OK;
        struct record record;
        enum record_state state = RECORD_OK;
        while (at < batch.header.size) {
            state = record_read(bytes_of(batch.data + at, batch.header.size - at), &record);
            if (state != RECORD_OK)
                break;
            if (record.type != RECORD_VOID) {
                replay->found->records++;
                replay->found->bytes += record.size;
                err = replay->visit ? replay->visit(replay->visit_owner, &record, replay->chunk, offset) : GW_OK;
                if (err != GW_OK)
                    return err;
            }
            at += record.size;
        }
        *kept = at;
        if (state == RECORD_OK)
            return GW_OK;
        uint64_t size = state == RECORD_BAD_CONTENT ? record.size : batch.header.size - at;
        bool rot;
        err = is_proven(replay, file, offset + log_align(batch.header.size), last, limit, &rot);
        if (err != GW_OK || !rot)
            return err;
        quarantine(replay, file, offset, at, size);
        at += size;
    }
}

/* Ends the log at `end` for good: what lies behind becomes zeros. `header`, when not NULL: what the batch before it says from now on. */
static enum gw_err seal_end(struct log_replay *replay, struct log_file *file, uint64_t end, const struct batch_header *header)
{
    struct disk *disk = replay->log->disk;
    uint64_t rest = file->start + file->capacity - end;
    enum gw_err err = rest > 0 ? disk_call_allocate(disk, file->handle, log_file_place(file, end), rest) : GW_OK;
    if (err == GW_OK)
        err = disk_call_sync(disk, file->handle);
    if (err != GW_OK || !header)
        return err;
    /* Last: while the header still claims the old size, a crash here finds the batch torn at the same place again. */
    uint64_t place = log_file_place(file, header->offset);
    const uint8_t *old;
    err = load(replay, file, place, LOG_ALIGN, &old);
    if (err != GW_OK)
        return err;
    uint8_t *block = replay->log->header;
    memcpy(block, old, LOG_ALIGN);
    batch_header_write(block, header);
    replay->file = NULL; /* what is in memory is not what the disk holds any more */
    return disk_call_write(disk, file->handle, block, LOG_ALIGN, place, true);
}

static uint32_t count_records(const struct batch *batch, uint64_t size)
{
    uint32_t count = 0;
    for (uint64_t at = BATCH_HEADER_SIZE; at < size; count++)
        at += load_le32(batch->data + at);
    return count;
}

static void tell_torn(struct log_replay *replay, const struct log_file *file, uint64_t position)
{
    uint64_t file_end = file->start + file->capacity;
    uint64_t dropped = (replay->lined_up < file_end ? replay->lined_up : file_end) - position;
    replay->found->truncated_bytes += dropped;
    alarm_raise(replay->log->alarms, ALARM_WARNING, "%s: the log ends in a torn write; %" PRIu64 " bytes that were never confirmed are dropped at offset %" PRIu64,
                file->name, dropped, position);
}

/* Writes the bytes from the beginning of the last write to `end` once more, the file's header with them when that write began the file. */
static enum gw_err renew_last_write(struct log_replay *replay, struct log_file *file, uint64_t end)
{
    uint64_t place = replay->last_write > file->start ? log_file_place(file, replay->last_write) : 0;
    uint64_t until = log_file_place(file, end);
    while (place < until) {
        const uint8_t *data;
        uint64_t part = until - place < CHUNK_SIZE ? until - place : CHUNK_SIZE;
        enum gw_err err = load(replay, file, place, part, &data);
        if (err == GW_OK)
            err = disk_call_write(replay->log->disk, file->handle, data, part, place, true);
        if (err != GW_OK)
            return err;
        place += part;
    }
    return GW_OK;
}

/* Ends the log in its last file. */
static enum gw_err end_log(struct log_replay *replay, struct log_file *file, uint64_t end, const struct batch_header *cut, bool torn)
{
    enum gw_err err = torn ? seal_end(replay, file, end, cut) : GW_OK;
    return err == GW_OK ? renew_last_write(replay, file, end) : err;
}

/* Cuts the batch at `offset` off behind its first `kept` bytes, and everything after it. */
static enum gw_err cut_batch(struct log_replay *replay, struct log_file *file, uint64_t offset, uint64_t kept, uint64_t *end)
{
    struct batch batch;
    enum verdict verdict;
    enum gw_err err = load_batch(replay, file, offset, file->start + file->capacity, &batch, &verdict);
    if (err != GW_OK)
        return err;
    CHECK(verdict == BATCH_GOOD);
    tell_torn(replay, file, offset + kept);
    bool nothing = kept == BATCH_HEADER_SIZE;
    struct batch_header header = batch.header;
    header.size = (uint32_t)kept;
    header.count = count_records(&batch, kept);
    *end = nothing ? offset : offset + log_align(kept);
    return end_log(replay, file, *end, nothing ? NULL : &header, true);
}

/* Does a batch header stand at the end of the log that belongs there, but for one bit? A header lies in one sector, which no crash tears: it is rotten, and
 * with it the last batch. */
static bool is_damaged(const uint8_t *at, uint64_t offset)
{
    bool magic = load_le32(at) == BATCH_MAGIC, checksum = load_le32(at + 4) == crc32c(0, at + 8, BATCH_HEADER_SIZE - 8);
    uint64_t wrong = load_le64(at + 16) ^ offset;
    if (wrong == 0)
        return magic != checksum;
    return magic && !checksum && (wrong & (wrong - 1)) == 0;
}

static enum gw_err tell_damaged(struct log_replay *replay, struct log_file *file, uint64_t offset)
{
    const uint8_t *at;
    enum gw_err err = load(replay, file, log_file_place(file, offset), LOG_ALIGN, &at);
    if (err == GW_OK && is_damaged(at, offset))
        quarantine(replay, file, offset, 0, LOG_ALIGN);
    return err;
}

enum gw_err log_replay_file(struct log_replay *replay, struct log_file *file, bool last, uint64_t *end)
{
    uint64_t offset = file->start > replay->from ? file->start : replay->from;
    uint64_t limit = last ? file->start + file->capacity : file->next->start;
    replay->proof = 0;
    replay->last_write = offset;
    uint64_t whole = offset, clean = limit;
    while (offset < limit) {
        struct batch batch;
        enum verdict verdict;
        enum gw_err err = load_batch(replay, file, offset, limit, &batch, &verdict);
        if (err != GW_OK)
            return err;
        bool last_word = verdict == BATCH_GOOD && batch.header.size == BATCH_HEADER_SIZE;
        if (verdict != BATCH_GOOD || last_word) {
            bool rot;
            uint64_t next;
            err = is_proven(replay, file, offset + LOG_ALIGN, last, limit, &rot);
            if (err == GW_OK && !rot) {
                clean = last_word ? offset + LOG_ALIGN : offset;
                err = last_word ? GW_OK : tell_damaged(replay, file, offset);
                if (err != GW_OK)
                    return err;
                break;
            }
            if (err == GW_OK)
                err = find_batch(replay, file, offset + LOG_ALIGN, limit, false, &next);
            if (err != GW_OK)
                return err;
            quarantine(replay, file, offset, 0, next - offset);
            offset = next;
            continue;
        }
        replay->epoch = batch.header.epoch;
        if (batch.header.begins_write)
            replay->last_write = offset;
        uint64_t kept;
        err = replay_batch(replay, file, offset, last, limit, &kept);
        if (err != GW_OK)
            return err;
        if (kept < batch.header.size)
            return cut_batch(replay, file, offset, kept, end);
        whole = offset;
        offset += log_align(batch.header.size);
    }
    *end = offset;
    /* Every place behind the end was looked at on the way here. Mostly it is clean, and then nothing is written. */
    if (!last)
        return GW_OK;
    bool torn = replay->lined_up > clean;
    if (torn)
        tell_torn(replay, file, offset);
    if (torn && bug_enabled(BUG_TRUNCATE_ONE_TOO_FAR))
        *end = offset = whole;
    return end_log(replay, file, offset, NULL, torn);
}
