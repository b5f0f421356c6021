/* An extent: consecutive batches of a stream in memory, shared by all who read there. Whoever sends records of it on holds the chunk. */
#ifndef STORE_STREAM_EXTENT_H
#define STORE_STREAM_EXTENT_H

#include "base/chunk.h"
#include "store/record_batch.h"

/* Where batches lie: the segment by its base offset, and bytes into its file. */
struct stream_place {
    uint64_t base, position;
};

struct extent_batch {
    uint32_t at, size;          /* in the chunk, bytes */
    uint64_t first, last;       /* offsets */
};

struct stream_extent {
    struct chunk *chunk;
    uint64_t first, end;        /* offsets that are nowhere else: from its first batch's to what the next extent begins with */
    struct stream_place place, next;
    uint32_t count;
    struct extent_batch batches[];  /* whole, and their checksums are right */
};

/* The first batch that ends at or after `offset`; count: none. */
static inline uint32_t stream_extent_find(const struct stream_extent *extent, uint64_t offset)
{
    uint32_t low = 0, high = extent->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (extent->batches[middle].last < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

#endif
