#include "base/chunk.h"

#include "base/err.h"

#include <stdlib.h>
#include <sys/mman.h>

struct chunk_pool {
    struct chunk *free;
    unsigned count, keep;
};

struct chunk_pool *chunk_pool_new(unsigned keep)
{
    struct chunk_pool *pool = calloc(1, sizeof(*pool));
    if (pool)
        pool->keep = keep;
    return pool;
}

static void destroy(struct chunk *chunk)
{
    munmap(chunk->data, chunk->capacity);
    free(chunk);
}

void chunk_pool_free(struct chunk_pool *pool)
{
    if (!pool)
        return;
    while (pool->free) {
        struct chunk *chunk = pool->free;
        pool->free = chunk->next;
        destroy(chunk);
    }
    free(pool);
}

static struct chunk *chunk_map(uint64_t capacity)
{
    struct chunk *chunk = calloc(1, sizeof(*chunk));
    if (!chunk)
        return NULL;
    /* Mapped, so that pages which nobody fills cost nothing, and what is freed goes back to the system. */
    chunk->data = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk->data == MAP_FAILED) {
        free(chunk);
        return NULL;
    }
    chunk->capacity = capacity;
    return chunk;
}

struct chunk *chunk_new(struct chunk_pool *pool, uint64_t capacity)
{
    struct chunk *chunk;
    if (capacity <= CHUNK_SIZE && pool && pool->free) {
        chunk = pool->free;
        pool->free = chunk->next;
        pool->count--;
    } else {
        if (capacity <= CHUNK_SIZE)
            capacity = CHUNK_SIZE;
        else if (capacity > UINT64_MAX / 2)
            return NULL;
        capacity = (capacity + CHUNK_ALIGN - 1) / CHUNK_ALIGN * CHUNK_ALIGN;
        chunk = chunk_map(capacity);
        if (!chunk)
            return NULL;
    }
    chunk->used = 0;
    chunk->live = 0;
    chunk->log_offset = UINT64_MAX;
    chunk->next = NULL;
    atomic_store_explicit(&chunk->references, 1, memory_order_relaxed);
    return chunk;
}

void chunk_release(struct chunk *chunk, struct chunk_pool *pool)
{
    unsigned before = atomic_fetch_sub_explicit(&chunk->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    if (pool && chunk->capacity == CHUNK_SIZE && pool->count < pool->keep) {
        chunk->next = pool->free;
        pool->free = chunk;
        pool->count++;
    } else {
        destroy(chunk);
    }
}
