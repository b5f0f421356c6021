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
    uint32_t live;              /* the owner shard's: messages in queues that point here */
    atomic_uint references;
    struct chunk_pool *home;    /* where its memory goes in the end; NULL: to the system */
    struct chunk *next;         /* the pool's, or the owner's own lists */
};

/* One pool a reactor: its thread alone takes chunks from it. Whoever releases the last reference to a chunk, on whatever thread, sends it home to the pool
 * that it came from, so that one thread may fill chunks and another empty them without asking the system for memory. Keeps up to `keep` free
 * chunks of CHUNK_SIZE. NULL: out of memory. */
struct chunk_pool *chunk_pool_new(unsigned keep);
/* No thread uses it any more; chunks of it may still be in use, and go to the system when they are released. */
void chunk_pool_free(struct chunk_pool *pool);

/* A chunk of at least `capacity` bytes with one reference, or NULL when out of memory. Its memory is not zeroed. */
struct chunk *chunk_new(struct chunk_pool *pool, uint64_t capacity);

/* Small memory of the pool's thread, for what comes and goes many times a turn: a block has CHUNK_BLOCK_SIZE bytes. NULL: out of memory. `pool` may be
 * NULL: then it is the system's. */
#define CHUNK_BLOCK_SIZE 1024u
void *chunk_block_take(struct chunk_pool *pool);
void chunk_block_give(struct chunk_pool *pool, void *block);

static inline struct chunk *chunk_retain(struct chunk *chunk)
{
    atomic_fetch_add_explicit(&chunk->references, 1, memory_order_relaxed);
    return chunk;
}

/* Gives one reference back. `pool` is the calling thread's own (NULL: it has none), which saves an atomic operation when the chunk is from there. */
void chunk_release(struct chunk *chunk, struct chunk_pool *pool);

#endif
