/* A shard's log: batches of records in one order, told when they are committed. Three bodies behind this one interface: memory
 * (memory_log.c), file (file_log.c) and, later, replicated. Nothing above may know which.
 *
 * All calls and callbacks are on the owner shard's thread. A callback never runs inside log_append; it may run inside
 * log_flush (memory) or from a disk completion (file).
 *
 * Life of a batch: the shard lays records out in a chunk, BATCH_HEADER_SIZE bytes into a slice that begins at a multiple of
 * LOG_ALIGN, seals them, and appends the slice. The log fills in the batch header, zeroes the padding and keeps a reference until the slice is
 * written. Slices go to the disk in the order of log_append, all that gathered during one write in the next one. */
#ifndef STORE_LOG_H
#define STORE_LOG_H

#include "base/chunk.h"
#include "base/err.h"
#include "io/alarm.h"
#include "io/disk.h"
#include "store/record.h"

struct log_position {
    uint64_t epoch;
    uint64_t offset;   /* bytes since the shard was created, padding included */
};

struct log;

struct log_events {
    /* Everything appended below `upto` is durable. Confirms for it may leave. */
    void (*committed)(void *owner, struct log_position upto);
    /* Nothing that is not yet committed ever will be (`err`: GW_ERR_FAILED after a failed write or sync, sticky). */
    void (*failed)(void *owner, enum gw_err err);
    /* The log wants files back: make everything below `cutoff` unnecessary (spill, snapshot), then call log_recycle(cutoff).
     * Told once per cutoff. */
    void (*checkpoint_wanted)(void *owner, uint64_t cutoff);
    void *owner;
};

/* May everything appended be applied at once (memory, file), or only what is committed (replicated)? See log_readable. */
enum log_body { LOG_MEMORY, LOG_FILE };

struct log_config {
    enum log_body body;
    struct disk *disk;             /* file only; borrowed for the log's life */
    const char *directory;         /* file only: e.g. "shard-0"; exists; copied */
    struct chunk_pool *pool;       /* the thread's; borrowed */
    struct alarm_sink *alarms;     /* may be NULL */
    uint64_t file_size;            /* bytes, a multiple of 1 MiB; default 16 MiB when 0 */
    unsigned file_count;           /* files kept before a checkpoint is wanted; default 4 when 0 */
    struct log_events events;
};

/* What log_open found, for the operator and for tests. What a crash leaves of the last write is a prefix of it. */
struct log_recovery {
    uint64_t records, bytes;       /* replayed */
    uint64_t truncated_bytes;      /* torn tail, dropped */
    uint64_t quarantined;          /* records or batches whose checksum failed inside the log: kept in quarantine files */
};

/* One record of the log in order, during log_open. `record` points into `chunk` (the callee may retain it: a queue's body may
 * stay there); `offset` is that of its batch. Non-zero stops the recovery and is returned by log_open. */
typedef enum gw_err log_visitor(void *owner, const struct record *record, struct chunk *chunk, uint64_t offset);

/* Opens or creates the log, replays every record in a batch at or after `from` (0: all) through `visit`, cuts a torn tail off, and is ready for
 * appends under `epoch` (at least as high as any found). Synchronous. GW_ERR_CORRUPT when records between `from` and the
 * end are missing altogether; GW_ERR_VERSION, GW_ERR_IO, GW_ERR_NOMEM, GW_ERR_FULL. */
enum gw_err log_open(const struct log_config *config, uint64_t from, uint64_t epoch, log_visitor *visit, void *visit_owner,
                     struct log_recovery *recovery, struct log **log);

/* Appends the slice [begin, begin + size) of `chunk`: a batch header's room, then `count` sealed records. begin is a multiple of LOG_ALIGN and
 * the chunk has room for the padding after it. Takes its own reference. Answers the batch's offset.
 * GW_ERR_FAILED: nothing durable any more; GW_ERR_FULL: the disk has no room now, may work later. In both cases nothing was appended. */
enum gw_err log_append(struct log *log, struct chunk *chunk, uint64_t begin, uint32_t size, uint32_t count, uint64_t *offset);

/* Ends a loop turn: starts writing what was appended when no write is under way. */
void log_flush(struct log *log);

/* Would an append be refused now? GW_OK, GW_ERR_FAILED or GW_ERR_FULL. Cheap: read on every publish. GW_ERR_FULL comes while there is still room for
 * a while, so that what frees room (settles, checkpoints) can be appended; the log looks for room again at each log_flush, unless it is patient. */
enum gw_err log_state(const struct log *log);

/* The next file could not be made, for whatever reason. */
bool log_lacks_file(const struct log *log);

/* Whether log_flush leaves it at that. Each look is an operation of the disk, whose end has the loop turn once more: who flushes in every turn does not look in every turn. */
void log_set_patient(struct log *log, bool patient);

/* The offset that the next append will get; what is committed; up to where commands may be applied. */
struct log_position log_end(const struct log *log);
struct log_position log_committed(const struct log *log);
struct log_position log_readable(const struct log *log);

/* Forgets everything at or after `position` (a batch boundary, not below the committed position unless `force`: a deposed leader's
 * tail). Synchronous. GW_ERR_INVALID for no boundary. */
enum gw_err log_truncate(struct log *log, struct log_position position, bool force);

/* Everything below `cutoff` is no longer needed: files wholly below it are kept for reuse or unlinked. */
void log_recycle(struct log *log, uint64_t cutoff);

/* Bytes on disk that hold records, and files. */
uint64_t log_disk_bytes(const struct log *log);

/* Waits for what is under way (synchronously), writes what is appended, closes and frees. Callbacks still run. */
enum gw_err log_close(struct log *log);

#endif
