/* The sparse index of one stream segment: an entry for every run of batches of about 64 KiB, in the order of offsets. Beside a segment that takes no more
 * batches it lies in a file of its own, which may be missing: everything in it can be found by reading the segment. Little-endian.
 *
 *    0       4         8       12    16             24             32           40
 *   ┌───────┬─────────┬───────┬─────┬──────────────┬──────────────┬────────────┬───────────┐
 *   │ magic │ version │ count │ crc │ segment's    │ segment's    │ segment's  │ entries … │   crc: CRC-32C of bytes 16 to the end.
 *   │       │         │       │     │ base offset  │ end offset   │ size       │           │
 *   └───────┴─────────┴───────┴─────┴──────────────┴──────────────┴────────────┴───────────┘
 *   entry (64 bytes): offset (8) · position (8) · highest timestamp so far, ms (8) · filter (32) · has unfiltered (1) · zeros (7)
 */
#ifndef STORE_STREAM_INDEX_H
#define STORE_STREAM_INDEX_H

#include "base/bytes.h"
#include "base/err.h"
#include "store/stream_filter.h"

#define STREAM_INDEX_HEADER_SIZE 40u
#define STREAM_INDEX_ENTRY_SIZE 64u

struct stream_index_entry {
    uint64_t offset, position;      /* of the run's first batch */
    int64_t highest_ms;             /* of all batches up to the end of this run */
    struct stream_filter filter;    /* of this run */
};

struct stream_index {
    struct stream_index_entry *entries;
    uint32_t count, capacity;
    uint64_t run_bytes;             /* of the last run so far */
};

/* What an index is of. */
struct stream_index_head {
    uint64_t base, end, size;       /* offsets; bytes */
};

void stream_index_deinit(struct stream_index *index);

/* A batch was appended at `position`. False: out of memory, and the index lacks it (its run only becomes longer). */
bool stream_index_add(struct stream_index *index, uint64_t offset, uint64_t position, uint32_t size, int64_t highest_ms, const struct stream_filter *filter);

/* The run that `offset` lies in, if it is there at all; the first one for what lies before it. The index is not empty. */
uint32_t stream_index_find(const struct stream_index *index, uint64_t offset);

/* The first run in which something is not older than `timestamp_ms`; `count`: there is none. */
uint32_t stream_index_find_time(const struct stream_index *index, int64_t timestamp_ms);

/* The bytes of the file. */
uint64_t stream_index_size(const struct stream_index *index);
void stream_index_write(const struct stream_index *index, const struct stream_index_head *head, uint8_t *at);

/* GW_ERR_CORRUPT, GW_ERR_VERSION: it is no index, or not that of `head`. GW_ERR_NOMEM. `index` is set anew on GW_OK alone. */
enum gw_err stream_index_read(struct bytes bytes, const struct stream_index_head *head, struct stream_index *index);

#endif
