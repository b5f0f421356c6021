#include "base/chunk.h"

#include "base/err.h"

#include <stdlib.h>
#include <sys/mman.h>

#define CHUNK_BLOCKS_KEPT 256u

/* A block that waits for its next use. */
struct block {
    struct block *next;
};

struct chunk_pool {
    struct block *blocks;
    unsigned block_count;
    struct chunk *free;                 /* the owner thread's */
    unsigned count, keep;
    _Atomic(struct chunk *) returned;   /* sent home by other threads, last first; the owner takes all of them at once */
    atomic_uint returned_count;
    atomic_uint holders;                /* the owner, and every chunk whose home this is */
    atomic_bool closed;
};

struct chunk_pool *chunk_pool_new(unsigned keep)
{
    struct chunk_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return NULL;
    pool->keep = keep;
    atomic_init(&pool->holders, 1);
    return pool;
}

static void let_go(struct chunk_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->holders, 1, memory_order_acq_rel) == 1)
        free(pool);
}

static void destroy(struct chunk *chunk)
{
    struct chunk_pool *home = chunk->home;
    munmap(chunk->data, chunk->capacity);
    free(chunk);
    if (home)
        let_go(home);
}

static void destroy_all(struct chunk *chunk)
{
    while (chunk) {
        struct chunk *next = chunk->next;
        destroy(chunk);
        chunk = next;
    }
}

void chunk_pool_free(struct chunk_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->closed, true);
    while (pool->blocks) {
        struct block *block = pool->blocks;
        pool->blocks = block->next;
        free(block);
    }
    destroy_all(pool->free);
    destroy_all(atomic_exchange(&pool->returned, NULL));
    let_go(pool);
}

static struct chunk *chunk_map(struct chunk_pool *pool, uint64_t capacity)
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
    if (pool && capacity == CHUNK_SIZE) {
        atomic_fetch_add_explicit(&pool->holders, 1, memory_order_relaxed);
        chunk->home = pool;
    }
    return chunk;
}

static void keep_free(struct chunk_pool *pool, struct chunk *chunk)
{
    if (pool->count == pool->keep) {
        destroy(chunk);
        return;
    }
    chunk->next = pool->free;
    pool->free = chunk;
    pool->count++;
}

static void take_returned(struct chunk_pool *pool)
{
    struct chunk *chunk = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
    atomic_store_explicit(&pool->returned_count, 0, memory_order_relaxed);
    while (chunk) {
        struct chunk *next = chunk->next;
        keep_free(pool, chunk);
        chunk = next;
    }
}

struct chunk *chunk_new(struct chunk_pool *pool, uint64_t capacity)
{
    struct chunk *chunk = NULL;
    if (capacity > UINT64_MAX / 2)
        return NULL;
    capacity = capacity <= CHUNK_SIZE ? CHUNK_SIZE : (capacity + CHUNK_ALIGN - 1) / CHUNK_ALIGN * CHUNK_ALIGN;
    if (pool && capacity == CHUNK_SIZE) {
        if (!pool->free)
            take_returned(pool);
        chunk = pool->free;
        if (chunk) {
            pool->free = chunk->next;
            pool->count--;
        }
    }
    if (!chunk)
        chunk = chunk_map(pool, capacity);
    if (!chunk)
        return NULL;
    chunk->used = 0;
    chunk->live = 0;
    chunk->next = NULL;
    atomic_store_explicit(&chunk->references, 1, memory_order_relaxed);
    return chunk;
}

static void send_home(struct chunk *chunk)
{
    struct chunk_pool *home = chunk->home;
    if (atomic_load_explicit(&home->closed, memory_order_relaxed) ||
        atomic_fetch_add_explicit(&home->returned_count, 1, memory_order_relaxed) >= home->keep) {
        destroy(chunk);
        return;
    }
    struct chunk *first = atomic_load_explicit(&home->returned, memory_order_relaxed);
    do {
        chunk->next = first;
    } while (!atomic_compare_exchange_weak_explicit(&home->returned, &first, chunk, memory_order_release, memory_order_relaxed));
}

void chunk_release(struct chunk *chunk, struct chunk_pool *pool)
{
    unsigned before = atomic_fetch_sub_explicit(&chunk->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    if (!chunk->home)
        destroy(chunk);
    else if (chunk->home == pool)
        keep_free(pool, chunk);
    else
        send_home(chunk);
}

void *chunk_block_take(struct chunk_pool *pool)
{
    struct block *block = pool ? pool->blocks : NULL;
    if (!block)
        return malloc(CHUNK_BLOCK_SIZE);
    pool->blocks = block->next;
    pool->block_count--;
    return block;
}

void chunk_block_give(struct chunk_pool *pool, void *memory)
{
    struct block *block = memory;
    if (!block)
        return;
    if (KEEPS_NOTHING || !pool || pool->block_count == CHUNK_BLOCKS_KEPT) {
        free(block);
        return;
    }
    block->next = pool->blocks;
    pool->blocks = block;
    pool->block_count++;
}
