#include "protocol/http/shared.h"

#include "base/err.h"

#include <stdio.h>

#define AROUND 24u                   /* bytes before and behind, at most */

/* A chunk with room for `size` bytes, of which the stage is one. NULL: out of memory. */
static struct chunk *chunk_with_room(struct chunk_pool *pool, struct chunk **stage, size_t size)
{
    if (*stage && (*stage)->capacity - (*stage)->used >= size)
        return *stage;
    struct chunk *chunk = chunk_new(pool, size);
    if (chunk) {
        if (*stage)
            chunk_release(*stage, pool);
        *stage = chunk;
    }
    return chunk;
}

bool http_shared_init(struct http_shared *shared, struct chunk_pool *pool, struct chunk **stage, const struct bytes *parts, unsigned count)
{
    char line[AROUND];
    size_t size = 0;
    for (unsigned i = 0; i < count; i++)
        size += parts[i].size;
    struct chunk *chunk = chunk_with_room(pool, stage, size + AROUND);
    if (!chunk)
        return false;
    uint8_t *begin = chunk->data + chunk->used, *at = begin;
    size_t before = (size_t)snprintf(line, sizeof(line), "%zx\r\n", size);
    at = mempcpy(at, line, before);
    for (unsigned i = 0; i < count; i++)
        if (parts[i].size)
            at = mempcpy(at, parts[i].data, parts[i].size);
    at = mempcpy(at, "\r\n", 2);
    chunk->used += (uint64_t)(at - begin);
    *shared = (struct http_shared){.chunk = chunk_retain(chunk), .framed = bytes_of(begin, (size_t)(at - begin)), .bytes = bytes_of(begin + before, size)};
    return true;
}

void http_shared_deinit(struct http_shared *shared, struct chunk_pool *pool)
{
    if (shared->chunk)
        chunk_release(shared->chunk, pool);
    *shared = (struct http_shared){0};
}
