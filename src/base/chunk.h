/* A chunk: reference-counted memory that message bodies live in, aligned so that a disk may write it directly.
 *
 * Filled front to back by one thread; what has been filled and handed on is immutable (but for the few header fields that
 * the shard which owns a slice fills in before anybody else sees it). References are atomic and taken once per batch,
 * never per message. */
#ifndef BASE_CHUNK_H
#define BASE_CHUNK_H

#include <stdatomic.h>
#include <stdint.h>

#define CHUNK_ALIGN 4096u            /* of `data`, bytes */
#define CHUNK_SIZE (256u * 1024u)    /* the size that pools keep, bytes */

struct chunk_pool;

struct chunk {
    uint8_t *data;              /* CHUNK_ALIGN-aligned */
    uint64_t capacity;          /* bytes */
    uint64_t used;              /* bytes filled so far; the filling thread's */
    uint64_t log_offset;        /* the owner shard's: lowest log offset of a slice of this chunk; UINT64_MAX: none */
    uint32_t live;              /* the owner shard's: messages in queues that point here */
    atomic_uint references;
    struct chunk *next;         /* the pool's, or the owner's own lists */
};

/* One pool a reactor; not shared between threads. Keeps up to `keep` free chunks of CHUNK_SIZE. NULL: out of memory. */
struct chunk_pool *chunk_pool_new(unsigned keep);
void chunk_pool_free(struct chunk_pool *pool);

/* A chunk of at least `capacity` bytes with one reference, or NULL when out of memory. Its memory is not zeroed. */
struct chunk *chunk_new(struct chunk_pool *pool, uint64_t capacity);

static inline struct chunk *chunk_retain(struct chunk *chunk)
{
    atomic_fetch_add_explicit(&chunk->references, 1, memory_order_relaxed);
    return chunk;
}

/* Gives one reference back; the last one returns the memory to `pool`, which is the calling thread's own (any pool will do),
 * or to the heap when pool is NULL. */
void chunk_release(struct chunk *chunk, struct chunk_pool *pool);

#endif
