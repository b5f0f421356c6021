/* A stage: the chunk that records are being laid out in, for one shard. A durable stage's records form slices that its log appends as they are
 * (see store/log.h); a volatile one's are only pointed at. */
#ifndef BROKER_STAGE_H
#define BROKER_STAGE_H

#include "base/chunk.h"
#include "store/record.h"

#include <stdbool.h>

struct stage {
    struct chunk *chunk;     /* NULL: none yet */
    uint64_t begin, at;      /* of the slice being filled: its start, and where the next record goes */
    uint32_t count;          /* records in it */
    bool durable;
};

/* Where a record of `size` bytes may be written now; NULL: it does not fit any more (seal and renew). */
static inline uint8_t *stage_room(struct stage *stage, uint64_t size)
{
    if (!stage->chunk || stage->chunk->capacity - stage->at < size)
        return NULL;
    return stage->chunk->data + stage->at;
}

static inline void stage_advance(struct stage *stage, uint64_t size)
{
    stage->at += size;
    stage->count++;
}

static inline uint64_t stage_align(uint64_t offset)
{
    return (offset + LOG_ALIGN - 1) & ~(uint64_t)(LOG_ALIGN - 1);
}

/* Begins the next slice behind the one that was sealed. False: the chunk is full. */
static inline bool stage_next_slice(struct stage *stage)
{
    stage->begin = stage->durable ? stage_align(stage->at) : stage->at;
    stage->at = stage->begin + (stage->durable ? BATCH_HEADER_SIZE : 0);
    stage->count = 0;
    return stage->at < stage->chunk->capacity;
}

/* A fresh chunk for at least one record of `size` bytes; the old one's reference goes. False: out of memory. */
static inline bool stage_renew(struct stage *stage, struct chunk_pool *pool, uint64_t size)
{
    struct chunk *chunk = chunk_new(pool, stage_align(size + BATCH_HEADER_SIZE));
    if (!chunk)
        return false;
    if (stage->chunk)
        chunk_release(stage->chunk, pool);
    stage->chunk = chunk;
    stage->at = 0;
    return stage_next_slice(stage);
}

static inline void stage_drop(struct stage *stage, struct chunk_pool *pool)
{
    if (stage->chunk)
        chunk_release(stage->chunk, pool);
    stage->chunk = NULL;
    stage->at = stage->begin = 0;
    stage->count = 0;
}

#endif
