/* What a session has to say and the socket has not taken yet: runs of encoded bytes in blocks, and references to large bodies between them.
 *
 * Little output lives in one small block; more of it in chunks of the reactor's pool. Once everything was sent nothing is kept. */
#ifndef PROTOCOL_AMQP_OUTPUT_H
#define PROTOCOL_AMQP_OUTPUT_H

#include "base/bytes.h"
#include "base/chunk.h"
#include "base/err.h"

#include <sys/uio.h>

struct output_piece {
    const uint8_t *data;
    size_t size;
    struct chunk *chunk;       /* the piece's own reference to what the bytes lie in; NULL: the small block */
};

struct output {
    struct output_piece *pieces;   /* a ring of `capacity`, which is a power of two: `one`, or memory of its own */
    struct output_piece one;
    uint32_t first, count, capacity;
    bool failed;                   /* memory ran out: bytes were lost, the connection cannot go on */
    uint8_t *at, *end;             /* room left in the current block */
    struct chunk *block;           /* the current block (a reference of its own); NULL: the small one, or none */
    uint8_t *small;                /* NULL, or a block that was begun when nothing waited */
    size_t size;                   /* bytes waiting */
    struct chunk_pool *pool;
};

void output_init(struct output *output, struct chunk_pool *pool);
void output_deinit(struct output *output);

/* Begins a block that has `size` bytes; called by output_room. */
uint8_t *output_grow(struct output *output, size_t size);

/* Room for `size` bytes; NULL when memory ran out (`failed` is set). */
static inline uint8_t *output_room(struct output *output, size_t size)
{
    if (LIKELY((size_t)(output->end - output->at) >= size))
        return output->at;
    return output_grow(output, size);
}

/* Makes the bytes from `at` to `end` a piece of their own; called by output_wrote. */
void output_append(struct output *output, struct bytes bytes, struct chunk *chunk);

/* The room that output_room answered was filled up to `end`. */
static inline void output_wrote(struct output *output, uint8_t *end)
{
    size_t size = (size_t)(end - output->at);
    struct output_piece *last = output->count ? &output->pieces[(output->first + output->count - 1) & (output->capacity - 1)] : NULL;
    if (LIKELY(last && last->chunk == output->block && last->data + last->size == output->at)) {
        last->size += size;
        output->size += size;
    } else {
        output_append(output, bytes_of(output->at, size), output->block);
    }
    output->at = end;
}

/* `bytes`, which lie in `chunk`, follow; takes a reference of its own. */
static inline void output_reference(struct output *output, struct bytes bytes, struct chunk *chunk)
{
    struct output_piece *last = output->count ? &output->pieces[(output->first + output->count - 1) & (output->capacity - 1)] : NULL;
    if (last && last->chunk == chunk && last->data + last->size == bytes.data && chunk != output->block) {
        last->size += bytes.size;
        output->size += bytes.size;
    } else {
        output_append(output, bytes, chunk);
    }
}

/* Fills in up to `room` vectors with what is waiting; returns how many. */
unsigned output_vectors(const struct output *output, struct iovec *iov, unsigned room);

/* The first `size` bytes have left; at most what waited. */
void output_sent(struct output *output, size_t size);

/* Forgets what waits. */
void output_clear(struct output *output);

#endif
