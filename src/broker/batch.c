#include "broker/batch.h"

#include <stdlib.h>

#define BATCHES_KEPT 16u

void batch_pool_deinit(struct batch_pool *pool)
{
    while (pool->free) {
        struct batch *batch = pool->free;
        pool->free = batch->next;
        free(batch);
    }
    pool->count = 0;
}

struct batch *batch_new(struct batch_pool *pool, uint32_t size, unsigned from)
{
    struct batch *batch = size <= BATCH_SIZE ? pool->free : NULL;
    if (batch) {
        pool->free = batch->next;
        pool->count--;
    } else {
        uint32_t room = size > BATCH_SIZE ? size : BATCH_SIZE;
        batch = malloc(sizeof(*batch) + room);
        if (!batch)
            return NULL;
        batch->room = room;
    }
    batch->next = NULL;
    batch->used = 0;
    batch->last = 0;
    batch->chunk_count = 0;
    batch->from = from;
    return batch;
}

void batch_free(struct batch *batch, struct batch_pool *pool, struct chunk_pool *chunks)
{
    for (uint32_t i = 0; i < batch->chunk_count; i++)
        chunk_release(batch->chunks[i], chunks);
    if (batch->room == BATCH_SIZE && pool->count < BATCHES_KEPT) {
        batch->next = pool->free;
        pool->free = batch;
        pool->count++;
    } else {
        free(batch);
    }
}

/* Is `chunk` held by the batch, or could it be? */
static bool holds(struct batch *batch, struct chunk *chunk)
{
    if (!chunk || (batch->chunk_count && batch->chunks[batch->chunk_count - 1] == chunk))
        return true;
    if (batch->chunk_count == BATCH_CHUNKS)
        return false;
    batch->chunks[batch->chunk_count++] = chunk_retain(chunk);
    return true;
}

void *outbox_add(struct outbox *outbox, struct batch_pool *pool, unsigned from, enum command_type type, uint32_t size, struct chunk *chunk)
{
    size = (size + 7u) & ~7u;
    struct batch *batch = outbox->last;
    if (!batch || batch->room - batch->used < size || !holds(batch, chunk)) {
        batch = batch_new(pool, size, from);
        if (!batch)
            return NULL;
        if (outbox->last)
            outbox->last->next = batch;
        else
            outbox->first = batch;
        outbox->last = batch;
        holds(batch, chunk);
    }
    struct command *command = (struct command *)(batch->data + batch->used);
    memset(command, 0, size);
    command->type = (uint16_t)type;
    command->size = size;
    batch->last = batch->used;
    batch->used += size;
    return command;
}
