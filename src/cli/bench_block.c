#include "cli/bench_block.h"

#include "base/err.h"
#include "cli/bench_link.h"
#include "protocol/amqp/properties.h"

#include <stdio.h>
#include <stdlib.h>

#define BLOCK_SIZE (384u * 1024u)      /* bytes: a write is at least 256 KiB, and the block stays in the processor's cache */

/* Encodes one message; returns its size. */
static size_t encode(struct bench_block *block, const struct bench_plan *plan, uint32_t frame_max, struct bytes exchange,
                     struct bytes key, uint8_t *at, size_t room)
{
    uint8_t properties[128], headers[64];
    char expiration[32];
    struct amqp_table_writer writer;
    struct amqp_properties values = {.flags = AMQP_DELIVERY_MODE, .delivery_mode = plan->persistent ? 2 : 1};
    if (plan->priorities)
        values.flags |= AMQP_PRIORITY;
    if (plan->expiration_ms) {
        snprintf(expiration, sizeof expiration, "%llu", (unsigned long long)plan->expiration_ms);
        values.flags |= AMQP_EXPIRATION;
        values.expiration = bytes_of_text(expiration);
    }
    if (plan->delay_ms || plan->group_keys) {
        amqp_table_begin(&writer, headers, sizeof headers);
        if (plan->delay_ms)
            amqp_table_put_int(&writer, "x-delay", (int64_t)plan->delay_ms);
        if (plan->group_keys)
            amqp_table_put_int(&writer, "group", 0);
        CHECK(amqp_table_finish(&writer, &values.headers));
        values.flags |= AMQP_HEADERS;
    }
    size_t size = amqp_properties_encode(&values, properties, sizeof properties);
    uint8_t *begin = at;
    at += amqp_publish_frame(at, room, BENCH_CHANNEL, exchange, key, false);
    size_t headers_size = values.headers.size ? 4 + values.headers.size : 0;
    size_t headers_end = (size_t)(at - begin) + AMQP_FRAME_HEADER_SIZE + AMQP_CONTENT_HEADER_SIZE + 2 + headers_size;
    block->group_place = headers_end - 4;   /* the last of the headers */
    block->priority_place = headers_end + 1;   /* behind flags, headers and delivery mode */
    at = amqp_content_header_write(at, BENCH_CHANNEL, plan->size, bytes_of(properties, size));
    block->body_place = (size_t)(at - begin) + AMQP_FRAME_HEADER_SIZE;
    for (uint64_t offset = 0; offset < plan->size; offset += size) {
        size = frame_max - AMQP_FRAME_OVERHEAD;
        if (size > plan->size - offset)
            size = plan->size - offset;
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, BENCH_CHANNEL, (uint32_t)size);
        memcpy(at, bench_pattern(plan, offset), size);
        at[size] = AMQP_FRAME_END;
        at += size + 1;
    }
    return (size_t)(at - begin);
}

enum gw_err bench_block_init(struct bench_block *block, const struct bench_plan *plan, uint32_t publisher, uint32_t frame_max)
{
    char exchange[256], key[256];
    *block = (struct bench_block){0};
    block->share = bench_share(publisher, plan->publishers, plan->queues);
    block->single = bench_copies(plan) || block->share.count == 1;
    block->id_base = (uint64_t)publisher << BENCH_SEQUENCE_BITS;
    block->head_size = bench_head_size(plan->size);
    bench_exchange_name(plan, exchange);
    bench_queue_name(plan, block->share.first, key);
    struct bytes exchange_bytes = bytes_of_text(exchange), key_bytes = bytes_of_text(key);
    size_t frames = plan->size / (frame_max - AMQP_FRAME_OVERHEAD) + 1;
    size_t room = 1024 + plan->size + frames * AMQP_FRAME_OVERHEAD;
    uint8_t *message = malloc(room);
    block->sequences = calloc(block->share.count, sizeof *block->sequences);
    if (!message || !block->sequences)
        goto no_memory;
    block->stride = encode(block, plan, frame_max, exchange_bytes, key_bytes, message, room);
    block->count = block->stride < BLOCK_SIZE ? BLOCK_SIZE / block->stride : 1;
    if (!block->single)
        block->key_place = AMQP_FRAME_HEADER_SIZE + 6 + 1 + exchange_bytes.size + 1 + key_bytes.size - BENCH_QUEUE_DIGITS;
    block->data = malloc(block->count * block->stride);
    if (!block->data)
        goto no_memory;
    for (size_t i = 0; i < block->count; i++)
        memcpy(block->data + i * block->stride, message, block->stride);
    for (size_t i = 0; plan->priorities && i < block->count; i++)
        block->data[i * block->stride + block->priority_place] = (uint8_t)(i % plan->priorities);
    for (size_t i = 0; plan->group_keys && i < block->count; i++)
        store_be32(block->data + i * block->stride + block->group_place, (uint32_t)i % plan->group_keys);
    free(message);
    return GW_OK;

no_memory:
    free(message);
    bench_block_deinit(block);
    return GW_ERR_NOMEM;
}

void bench_block_deinit(struct bench_block *block)
{
    free(block->data);
    free(block->sequences);
    block->data = NULL;
    block->sequences = NULL;
}

static void write_digits(uint8_t *at, uint32_t number)
{
    for (unsigned i = BENCH_QUEUE_DIGITS; i > 0; i--) {
        at[i - 1] = (uint8_t)('0' + number % 10);
        number /= 10;
    }
}

static void patch_rotating(struct bench_block *block, size_t count, uint64_t stamp)
{
    uint8_t *at = block->data;
    for (size_t i = 0; i < count; i++, at += block->stride) {
        write_digits(at + block->key_place, block->share.first + block->turn * block->share.step);
        uint64_t id = block->id_base | block->sequences[block->turn]++;
        if (block->head_size)
            store_le64(at + block->body_place, id);
        if (block->head_size == BENCH_STAMP_SIZE)
            store_le64(at + block->body_place + 8, stamp);
        if (++block->turn == block->share.count)
            block->turn = 0;
    }
}

void bench_block_patch(struct bench_block *block, size_t count, uint64_t stamp)
{
    CHECK(count <= block->count);
    if (!block->single) {
        patch_rotating(block, count, stamp);
        return;
    }
    uint8_t *at = block->data + block->body_place;
    uint64_t id = block->id_base | block->sequences[0];
    block->sequences[0] += count;
    if (block->head_size == BENCH_STAMP_SIZE) {
        for (size_t i = 0; i < count; i++, at += block->stride) {
            store_le64(at, id + i);
            store_le64(at + 8, stamp);
        }
    } else if (block->head_size) {
        for (size_t i = 0; i < count; i++, at += block->stride)
            store_le64(at, id + i);
    }
}

uint64_t bench_block_sent(const struct bench_block *block, uint32_t index)
{
    return block->sequences[block->single ? 0 : index];
}
