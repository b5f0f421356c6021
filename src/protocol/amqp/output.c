#include "protocol/amqp/output.h"

#include <stdlib.h>

#define PIECES_MIN 4u

void output_init(struct output *output, struct chunk_pool *pool)
{
    memset(output, 0, sizeof(*output));
    output->pool = pool;
    output->pieces = &output->one;
    output->capacity = 1;
}

static void free_pieces(struct output *output)
{
    if (output->pieces != &output->one)
        free(output->pieces);
}

static void drop_block(struct output *output)
{
    if (output->block)
        chunk_release(output->block, output->pool);
    output->block = NULL;
    output->at = output->end = NULL;
}

/* Nothing waits any more: neither block is of use. */
static void rest(struct output *output)
{
    drop_block(output);
    if (output->small)
        chunk_block_give(output->pool, output->small);
    output->small = NULL;
    output->first = 0;
}

void output_clear(struct output *output)
{
    while (output->count) {
        struct output_piece *piece = &output->pieces[output->first];
        if (piece->chunk)
            chunk_release(piece->chunk, output->pool);
        output->first = (output->first + 1) & (output->capacity - 1);
        output->count--;
    }
    output->size = 0;
    rest(output);
}

void output_deinit(struct output *output)
{
    output_clear(output);
    free_pieces(output);
    output->pieces = &output->one;
    output->capacity = 1;
}

uint8_t *output_grow(struct output *output, size_t size)
{
    if (output->failed)
        return NULL;
    drop_block(output);
    if (!output->small && output->count == 0 && size <= CHUNK_BLOCK_SIZE) {
        output->small = chunk_block_take(output->pool);
        if (output->small) {
            output->at = output->small;
            output->end = output->at + CHUNK_BLOCK_SIZE;
            return output->at;
        }
    }
    output->block = chunk_new(output->pool, size);
    if (!output->block) {
        output->failed = true;
        return NULL;
    }
    output->at = output->block->data;
    output->end = output->at + output->block->capacity;
    return output->at;
}

static bool make_room_for_piece(struct output *output)
{
    if (output->count < output->capacity)
        return true;
    uint32_t capacity = output->capacity * 2 > PIECES_MIN ? output->capacity * 2 : PIECES_MIN;
    struct output_piece *pieces = malloc(capacity * sizeof(*pieces));
    if (!pieces)
        return false;
    for (uint32_t i = 0; i < output->count; i++)
        pieces[i] = output->pieces[(output->first + i) & (output->capacity - 1)];
    free_pieces(output);
    output->pieces = pieces;
    output->first = 0;
    output->capacity = capacity;
    return true;
}

void output_append(struct output *output, struct bytes bytes, struct chunk *chunk)
{
    if (bytes.size == 0)
        return;
    if (!make_room_for_piece(output)) {
        output->failed = true;
        return;
    }
    struct output_piece *piece = &output->pieces[(output->first + output->count) & (output->capacity - 1)];
    output->count++;
    piece->data = bytes.data;
    piece->size = bytes.size;
    piece->chunk = chunk ? chunk_retain(chunk) : NULL;
    output->size += bytes.size;
}

unsigned output_vectors(const struct output *output, struct iovec *iov, unsigned room)
{
    unsigned count = output->count < room ? output->count : room;
    for (unsigned i = 0; i < count; i++) {
        const struct output_piece *piece = &output->pieces[(output->first + i) & (output->capacity - 1)];
        iov[i].iov_base = (void *)(uintptr_t)piece->data;
        iov[i].iov_len = piece->size;
    }
    return count;
}

void output_sent(struct output *output, size_t size)
{
    CHECK(size <= output->size);
    output->size -= size;
    while (size) {
        struct output_piece *piece = &output->pieces[output->first];
        if (size < piece->size) {
            piece->data += size;
            piece->size -= size;
            return;
        }
        size -= piece->size;
        if (piece->chunk)
            chunk_release(piece->chunk, output->pool);
        output->first = (output->first + 1) & (output->capacity - 1);
        output->count--;
    }
    if (output->count == 0)
        rest(output);
}
