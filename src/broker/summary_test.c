#include "broker/summary.h"

#include "broker/selector.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROOM (256u * 1024u)

/* A block with one message for each of `count` texts of the header "k": "0", "1", … times `step`; the last of them unacknowledged. */
struct fixture {
    struct block_pool pool;
    struct block *block;
    struct chunk_pool *chunks;
    struct chunk *chunk;
};

static struct fixture f;

static void open_block(unsigned count, unsigned headers)
{
    uint32_t at = 0;
    memset(&f, 0, sizeof(f));
    f.chunks = chunk_pool_new(1);
    assert_non_null(f.chunks);
    f.chunk = chunk_new(f.chunks, ROOM);
    assert_non_null(f.chunk);
    f.block = block_new(&f.pool, BLOCK_SIZE);
    for (unsigned i = 0; i < count; i++) {
        uint8_t table[1024], properties_room[2048];
        struct amqp_table_writer writer;
        struct amqp_properties properties = {.flags = AMQP_HEADERS};
        amqp_table_begin(&writer, table, sizeof(table));
        for (unsigned header = 0; header < headers; header++) {
            char name[16], text[16];
            snprintf(name, sizeof(name), header ? "k%u" : "k", header);
            snprintf(text, sizeof(text), "%u", i);
            amqp_table_put_text(&writer, name, bytes_of_text(text));
        }
        amqp_table_put_int(&writer, "number", (int32_t)i);
        assert_true(amqp_table_finish(&writer, &properties.headers));
        struct bytes encoded = bytes_of(properties_room, amqp_properties_encode(&properties, properties_room, sizeof(properties_room)));
        uint8_t *begin = f.chunk->data + at, *end = message_begin(begin, bytes_of_text(""), bytes_of_text("q"), encoded, 0);
        uint32_t size = (uint32_t)(end - begin);
        f.block->entries[i] = (struct entry){.chunk = f.chunk, .offset = at, .size = size};
        bit_set(i + 1 < count ? f.block->ready : f.block->unacked, i);
        at += size;
    }
    f.block->used = (uint16_t)count;
}

static void close_block(void)
{
    chunk_release(f.chunk, f.chunks);
    chunk_pool_free(f.chunks);
    block_free(f.block, &f.pool);
    block_pool_deinit(&f.pool);
}

static uint64_t term(const char *name, unsigned value)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", value);
    return selector_term(bytes_of_text(name), bytes_of_text(text));
}

static void what_a_block_has_is_never_denied_and_what_it_lacks_mostly_is(void **state)
{
    (void)state;
    for (unsigned count = 1; count <= BLOCK_SIZE; count = count * 2 + 1) {
        open_block(count, 1);
        struct summary *summary = summary_make(f.block);
        assert_non_null(summary);
        for (unsigned i = 0; i < count; i++) {
            uint64_t has = term("k", i);
            assert_true(summary_may_have(summary, &has, 1));
        }
        unsigned wrong = 0;
        for (unsigned i = 0; i < 10000; i++) {
            const uint64_t terms[] = {term("k", 0), term("k", count + i)};
            wrong += summary_may_have(summary, terms, 2);
        }
        assert_true(wrong < 400);
        assert_true(summary_size(summary) <= sizeof(*summary) + count * 20 / 8 + 8);
        free(summary);
        close_block();
    }
}

static void of_too_many_nothing_is_said(void **state)
{
    (void)state;
    open_block(BLOCK_SIZE, 5);
    struct summary *summary = summary_make(f.block);
    uint64_t missing = term("missing", 1);
    assert_non_null(summary);
    assert_int_equal(summary->bits, 0);
    assert_true(summary_may_have(summary, &missing, 1));
    free(summary);
    close_block();
}

static void without_all_contents_there_is_none(void **state)
{
    (void)state;
    open_block(20, 1);
    f.block->entries[7].chunk = NULL;
    assert_null(summary_make(f.block));
    bit_clear(f.block->ready, 7);   /* it was consumed */
    struct summary *summary = summary_make(f.block);
    assert_non_null(summary);
    free(summary);
    close_block();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_block_has_is_never_denied_and_what_it_lacks_mostly_is),
        cmocka_unit_test(of_too_many_nothing_is_said),
        cmocka_unit_test(without_all_contents_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
