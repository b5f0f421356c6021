/* A stream's segments: files of Kafka record batches back to back and nothing else (record_batch.h), in its shard's directory:
 *
 *   stream-<id, 16 hexadecimal digits>-<base offset, 20 decimal digits>.log      the batches from that offset on
 *   …                                                             .index         see stream_index.h; only beside those that are full
 *
 * Which files there are, and how many bytes of them are synced, the owner keeps in its snapshot. What lies behind that is cut off when the stream is
 * opened: its messages are still in the log. A file is full at `segment_size`; retention removes full ones, oldest first.
 *
 * All calls and callbacks on the owner shard's thread; none of them blocks unless it says so. */
#ifndef STORE_STREAM_STORE_H
#define STORE_STREAM_STORE_H

#include "base/chunk.h"
#include "base/err.h"
#include "io/alarm.h"
#include "io/disk.h"
#include "store/stream_extent.h"
#include "store/stream_filter.h"

struct stream_store;

struct stream_store_config {
    struct disk *disk;             /* borrowed */
    const char *directory;         /* exists; copied */
    struct chunk_pool *pool;       /* borrowed */
    struct alarm_sink *alarms;
    uint64_t id;                   /* of the stream: in its files' names */
    uint64_t segment_size;         /* bytes; see stream_store_set_segment_size */
    void *owner;                   /* for the callbacks */
    /* An index that stream_store_seek asked for is there, or cannot be had. */
    void (*index_loaded)(void *owner);
    /* After stream_store_delete: every file is gone, and so is the store. */
    void (*deleted)(void *owner);
};

/* A file as the snapshot keeps it. */
struct stream_file_info {
    uint64_t base, end;            /* offsets */
    uint64_t size;                 /* bytes that are synced */
    int64_t highest_ms;            /* of the timestamps in it */
};

/* Opens the stream with exactly `files`, in order. A longer one is cut to its size. One that is missing or shorter is told: offsets are lost then, and the rest
 * is served. Synchronous. GW_ERR_NOMEM, GW_ERR_IO. */
enum gw_err stream_store_open(const struct stream_store_config *config, const struct stream_file_info *files, unsigned count, struct stream_store **store);

/* Unlinks the stream files in `directory` for which `known` is false: synchronous. */
enum gw_err stream_store_tidy(struct disk *disk, const char *directory, bool (*known)(void *owner, uint64_t id, uint64_t base), void *owner);

/* Waits for what is under way, notes the index of the file that is being written, closes, frees. Synchronous. */
void stream_store_close(struct stream_store *store);

/* Unlinks every file, then frees the store and calls `deleted` (perhaps before it returns). A sync under way is answered at once; no other callback comes any more. */
void stream_store_delete(struct stream_store *store);

void stream_store_set_segment_size(struct stream_store *store, uint64_t bytes);

/* ---- writing ------------------------------------------------------------------------------------------------------- */

struct stream_batch_info {
    uint64_t first, end;           /* offsets */
    int64_t highest_ms;
    struct stream_filter filter;
};

/* Appends the batch in the first `size` bytes of `chunk` (takes the reference), whose offsets lie above all before it. One append at a time. `written` tells when it
 * can be read: `place` and `next` then say where it lies and where the next one will. It is durable after the next sync. An error: not written, and the next append takes
 * its place. With `wait` synchronous, and `written` runs before the return. */
typedef void stream_written(void *owner, struct stream_place place, struct stream_place next, enum gw_err err);
enum gw_err stream_store_append(struct stream_store *store, struct chunk *chunk, uint32_t size, const struct stream_batch_info *info, bool wait,
                                stream_written *written);

/* Makes what is written by now durable but for the files' names (sync the directory afterwards), then calls `done`; one at a time. GW_ERR_FAILED: a sync
 * failed, and nothing of the stream that is not yet durable ever will be. */
void stream_store_sync(struct stream_store *store, bool wait, void (*done)(void *owner, enum gw_err err));

/* The files with what is durable of them; returns the count, fills up to `room`. */
unsigned stream_store_files(const struct stream_store *store, struct stream_file_info *files, unsigned room);

/* ---- reading ------------------------------------------------------------------------------------------------------- */

/* The offsets that can be read: from … to below. Both 0 when there are none. */
uint64_t stream_store_first(const struct stream_store *store);
uint64_t stream_store_end(const struct stream_store *store);

enum stream_seek {
    STREAM_SEEK_FOUND,
    STREAM_SEEK_LATER,     /* an index is being read: ask again after index_loaded */
    STREAM_SEEK_NONE,      /* nothing is that new */
};

/* Where to read in order to come to `offset` (which lies between first and end), or to the first message that is not older than `timestamp_ms`. What lies before it at that
 * place is the caller's to pass over. */
enum stream_seek stream_store_seek(struct stream_store *store, uint64_t offset, struct stream_place *place);
enum stream_seek stream_store_seek_time(struct stream_store *store, int64_t timestamp_ms, struct stream_place *place);

/* From `place` on, the first run of batches that may hold one of `count` filter values, or a message without one where `unfiltered` is wanted. FOUND with `place` as it was
 * when nothing is known about the run there. */
enum stream_seek stream_store_skip(struct stream_store *store, const uint64_t *hashes, unsigned count, bool unfiltered, struct stream_place *place, uint64_t *offset);

/* `extent`: the callee's, to be given to stream_extent_free; NULL with an error: GW_ERR_NOT_FOUND: nothing is (or nothing is any more) at that place. */
typedef void stream_read_done(void *owner, struct stream_place place, struct stream_extent *extent, enum gw_err err);

/* Reads whole batches from `place` on, about 256 KiB of them. Rotten batches are passed over and told once. Answers later. */
enum gw_err stream_store_read(struct stream_store *store, struct stream_place place, stream_read_done *done);

/* The extent of one batch that is at hand, with a reference of its own to the chunk; NULL: out of memory. */
struct stream_extent *stream_extent_of_batch(struct chunk *chunk, uint32_t size, const struct stream_batch_info *info, struct stream_place place,
                                             struct stream_place next);
void stream_extent_free(struct stream_extent *extent, struct chunk_pool *pool);

/* ---- retention ------------------------------------------------------------------------------------------------------ */

/* Removes full files from the front: those whose messages are all older than `before_ms` (INT64_MIN: age does not count), and those without which `max_bytes` (0: no limit)
 * are left. Returns whether any went. */
bool stream_store_retain(struct stream_store *store, int64_t before_ms, uint64_t max_bytes);

/* Is there a file with that base? */
bool stream_store_has(const struct stream_store *store, uint64_t base);

uint64_t stream_store_bytes(const struct stream_store *store);

#endif
