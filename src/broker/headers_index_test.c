#include "broker/headers_index.h"

#include "broker/headers_match.h"
#include "broker/topology.h"
#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BINDINGS 300u
#define ROOM 256u

/* The index and the plain way of going through all bindings say the same. */

struct story {
    struct headers_index *index;
    struct binding bindings[BINDINGS];
    uint8_t rooms[BINDINGS][ROOM];
    bool found[BINDINGS];
    uint64_t random;
};

static unsigned below(struct story *story, unsigned limit)
{
    story->random ^= story->random << 13;
    story->random ^= story->random >> 7;
    story->random ^= story->random << 17;
    return (unsigned)((story->random >> 16) % limit);
}

/* Few names and values, of many types, so that they meet. */
static void put_pair(struct story *story, struct amqp_table_writer *writer)
{
    static const char *const names[] = {"a", "b", "c", "x-a", "x-b"};
    const char *name = names[below(story, 5)];
    double real = below(story, 3);
    uint8_t bits[8];
    switch (below(story, 6)) {
    case 0: amqp_table_put_int(writer, name, (int32_t)below(story, 3)); break;
    case 1: amqp_table_put_long(writer, name, below(story, 3)); break;
    case 2: amqp_table_put_bool(writer, name, below(story, 2)); break;
    case 3: amqp_table_put_raw(writer, bytes_of_text(name), 'V', (struct bytes){0}); break;
    case 4:
        memcpy(bits, &real, 8);
        store_be64(bits, load_le64(bits));
        amqp_table_put_raw(writer, bytes_of_text(name), 'd', bytes_of(bits, 8));
        break;
    default: amqp_table_put_text(writer, name, bytes_of_text(below(story, 2) ? "1" : "2")); break;
    }
}

static struct bytes make_table(struct story *story, uint8_t *room, const char *mode)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, ROOM);
    if (mode)
        amqp_table_put_text(&writer, "x-match", bytes_of_text(mode));
    for (unsigned pairs = below(story, 4); pairs > 0; pairs--)
        put_pair(story, &writer);
    assert_true(amqp_table_finish(&writer, &table));
    return table;
}

static void found(void *owner, struct binding *binding)
{
    struct story *story = owner;
    story->found[binding - story->bindings] = true;
}

static void compare(struct story *story, unsigned first)
{
    uint8_t room[ROOM];
    for (unsigned round = 0; round < 300; round++) {
        struct bytes headers = make_table(story, room, NULL);
        memset(story->found, 0, sizeof(story->found));
        headers_index_match(story->index, headers, found, story);
        for (unsigned i = 0; i < BINDINGS; i++)
            assert_int_equal(story->found[i], i >= first && headers_match(story->bindings[i].arguments, headers));
    }
}

static void the_index_finds_what_matches(void **state)
{
    (void)state;
    static const char *const modes[] = {"all", "any", "all-with-x", "any-with-x", NULL};
    struct story *story = calloc(1, sizeof(*story));
    assert_non_null(story);
    story->random = 4711;
    story->index = headers_index_new(17);
    for (unsigned i = 0; i < BINDINGS; i++) {
        story->bindings[i].arguments = make_table(story, story->rooms[i], modes[below(story, 5)]);
        assert_int_equal(headers_index_add(story->index, &story->bindings[i]), GW_OK);
    }
    compare(story, 0);
    for (unsigned i = 0; i < BINDINGS / 2; i++)
        headers_index_remove(story->index, &story->bindings[i]);
    compare(story, BINDINGS / 2);
    for (unsigned i = BINDINGS / 2; i < BINDINGS; i++)
        headers_index_remove(story->index, &story->bindings[i]);
    compare(story, BINDINGS);
    headers_index_free(story->index);
    free(story);
}

static void an_unknown_mode_is_refused(void **state)
{
    (void)state;
    uint8_t room[ROOM];
    char text[160];
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-match", bytes_of_text("some"));
    assert_true(amqp_table_finish(&writer, &table));
    assert_false(headers_mode_valid(table, text, sizeof(text)));
    assert_string_equal(text, "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x");
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_int(&writer, "x-match", 1);
    assert_true(amqp_table_finish(&writer, &table));
    assert_false(headers_mode_valid(table, text, sizeof(text)));
    assert_string_equal(text, "Invalid x-match field type signedint (value 1); expected longstr");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_index_finds_what_matches),
        cmocka_unit_test(an_unknown_mode_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
