/* Segments: the files that what has outgrown the log moves to. One segment_store a shard; its files are append-only, shared by the shard's
 * queues, and hold block images: runs of messages of one queue (see block_image.h for the bytes). A file whose last live byte is released is
 * unlinked; one that is mostly dead is offered for compaction, so disk use stays bounded by what is live.
 *
 * All calls and callbacks on the owner shard's thread. */
#ifndef STORE_SEGMENT_H
#define STORE_SEGMENT_H

#include "base/bytes.h"
#include "base/chunk.h"
#include "base/err.h"
#include "io/alarm.h"
#include "io/disk.h"

struct segment_store;

struct segment_location {
    uint32_t file;      /* segment file number, from 1; 0: nowhere */
    uint32_t size;      /* bytes of the image */
    uint64_t offset;    /* bytes into the file */
};

struct segment_config {
    struct disk *disk;             /* borrowed */
    const char *directory;         /* e.g. "shard-0"; copied */
    struct chunk_pool *pool;       /* borrowed */
    struct alarm_sink *alarms;
    uint64_t file_size;            /* bytes after which a new file is begun; 32 MiB when 0 */
    void *owner;                   /* for the callbacks */
};

/* One live file as the snapshot keeps it. */
struct segment_file_info {
    uint32_t file;
    uint64_t size;          /* bytes written */
    uint64_t live;          /* bytes of them still needed */
};

/* Opens with exactly the `files` that the snapshot lists: longer ones are cut to `size`, files not listed are unlinked, a missing or shorter one
 * is GW_ERR_CORRUPT (told which). Synchronous. */
enum gw_err segment_store_open(const struct segment_config *config, const struct segment_file_info *files, unsigned count,
                               struct segment_store **store);

/* Called when the write is done. `err` GW_OK: readable from now on, durable after the next segment_sync.
 * GW_ERR_FULL, GW_ERR_IO: not written; the location is void and already released. */
typedef void segment_written(void *owner, void *context, struct segment_location location, enum gw_err err);

/* Appends `image` (chunk bytes [0, size)); takes the reference. The location is known at once, `written` tells later (NULL context allowed).
 * When `wait` is set the write is synchronous and `written` runs before the return. */
enum gw_err segment_append(struct segment_store *store, struct chunk *image, uint32_t size, bool wait, segment_written *written,
                           void *context, struct segment_location *location);

/* `chunk` holds the image in its first location.size bytes (the callee's reference: it must release it); NULL with an error. */
typedef void segment_read_done(void *owner, void *context, struct segment_location location, struct chunk *chunk, enum gw_err err);

/* Reads a whole image back, or [at, at + size) of it. Answers later; with `wait` before it returns. */
enum gw_err segment_read(struct segment_store *store, struct segment_location location, bool wait, segment_read_done *done, void *context);

/* `bytes` of the image at `location` are no longer needed. Releases add up to at most the image's size, and come after `written`. */
void segment_release(struct segment_store *store, struct segment_location location, uint32_t bytes);

/* Makes every append made before the call durable, then calls `done` (files that had none are skipped). Appends made after the call wait until
 * then, so segment_files lists in `done` exactly what is durable. GW_ERR_FAILED: a sync failed, and bytes of that file are still live. */
void segment_sync(struct segment_store *store, bool wait, void (*done)(void *owner, void *context, enum gw_err err), void *context);

/* Lists the files for a snapshot; returns the count; fills up to `room`. What is not yet written is not counted. */
unsigned segment_files(const struct segment_store *store, struct segment_file_info *files, unsigned room);

/* Files that became wholly dead are unlinked only here, after the snapshot that no longer names them is durable. */
void segment_reclaim(struct segment_store *store);

/* A file that is less than a quarter live, while the store as a whole is less than half live and above 64 MiB; 0: none.
 * The shard moves that file's blocks by appending them anew and releasing the old locations. */
uint32_t segment_compaction_candidate(const struct segment_store *store);

/* Bytes on disk, and live bytes of them. */
uint64_t segment_disk_bytes(const struct segment_store *store);
uint64_t segment_live_bytes(const struct segment_store *store);

/* Waits for what is under way, closes, frees. */
void segment_store_close(struct segment_store *store);

#endif
