/* Which filter values occur in a run of a stream's batches? A Bloom filter of 256 bits: "no" is certain, "yes" is not. */
#ifndef STORE_STREAM_FILTER_H
#define STORE_STREAM_FILTER_H

#include "base/bytes.h"

struct stream_filter {
    uint64_t bits[4];
    bool has_unfiltered;    /* some message has no value */
};

/* Never changes: it is in files. FNV-1a, then mixed so that short values differ in all bits. */
static inline uint64_t stream_filter_hash(struct bytes value)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < value.size; i++)
        hash = (hash ^ value.data[i]) * 0x100000001b3u;
    hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9u;
    return hash ^ hash >> 31;
}

static inline void stream_filter_add(struct stream_filter *filter, uint64_t hash)
{
    for (unsigned i = 0; i < 3; i++, hash >>= 8)
        filter->bits[hash >> 6 & 3] |= UINT64_C(1) << (hash & 63);
}

static inline bool stream_filter_may_hold(const struct stream_filter *filter, uint64_t hash)
{
    for (unsigned i = 0; i < 3; i++, hash >>= 8)
        if (!(filter->bits[hash >> 6 & 3] >> (hash & 63) & 1))
            return false;
    return true;
}

static inline void stream_filter_merge(struct stream_filter *into, const struct stream_filter *from)
{
    for (unsigned i = 0; i < 4; i++)
        into->bits[i] |= from->bits[i];
    into->has_unfiltered |= from->has_unfiltered;
}

/* Of batches of which nothing is known: anything may be in them. */
static inline struct stream_filter stream_filter_of_all(void)
{
    return (struct stream_filter){{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}, true};
}

#endif
