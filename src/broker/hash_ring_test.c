#include "broker/hash_ring.h"

#include "broker/topology.h"
#include "protocol/amqp/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define QUEUES 100u

struct story {
    struct hash_ring *ring;
    struct queue_entry queues[QUEUES];
    struct binding bindings[QUEUES];
};

/* A ring with `count` queues of weight 1. */
static struct story *begin(unsigned count)
{
    struct story *story = calloc(1, sizeof(*story));
    assert_non_null(story);
    story->ring = hash_ring_new();
    for (unsigned i = 0; i < QUEUES; i++)
        story->bindings[i] = (struct binding){.queue = &story->queues[i], .routing_key = bytes_of_text("1")};
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(hash_ring_add(story->ring, &story->bindings[i]), GW_OK);
    return story;
}

static void end(struct story *story)
{
    hash_ring_free(story->ring);
    free(story);
}

/* The number of the queue that a routing key leads to. */
static int place_of(const struct story *story, const char *prefix, unsigned number)
{
    char key[32];
    snprintf(key, sizeof(key), "%s%u", prefix, number);
    const struct binding *binding = hash_ring_find(story->ring, hash_ring_hash((struct bytes){0}, bytes_of_text(key), (struct bytes){0}));
    return binding ? (int)(binding - story->bindings) : -1;
}

static void keys_go_where_rabbitmq_sends_them(void **state)
{
    (void)state;
    /* jump_consistent_hash(phash2(<<"key-N">>), Buckets) in Erlang. */
    static const struct { unsigned buckets; int places[10]; } cases[] = {
        {2, {1, 1, 1, 1, 1, 1, 1, 0, 0, 0}},
        {7, {6, 1, 5, 6, 6, 6, 3, 5, 3, 0}},
        {100, {17, 64, 22, 78, 88, 6, 66, 58, 58, 16}},
    };
    for (unsigned i = 0; i < 3; i++) {
        struct story *story = begin(cases[i].buckets);
        for (unsigned k = 0; k < 10; k++)
            assert_int_equal(place_of(story, "key-", k), cases[i].places[k]);
        end(story);
    }
}

static void a_new_queue_takes_its_share_and_moves_nothing_else(void **state)
{
    (void)state;
    struct story *story = begin(9);
    int before[2000];
    unsigned moved = 0;
    for (unsigned k = 0; k < 2000; k++)
        before[k] = place_of(story, "", k);
    hash_ring_add(story->ring, &story->bindings[9]);
    for (unsigned k = 0; k < 2000; k++) {
        int now = place_of(story, "", k);
        assert_true(now == before[k] || now == 9);
        moved += now == 9;
    }
    assert_in_range(moved, 140, 260);
    end(story);
}

static void weights_share_in_proportion(void **state)
{
    (void)state;
    struct story *story = begin(1);
    story->bindings[1].routing_key = bytes_of_text("3");
    hash_ring_add(story->ring, &story->bindings[1]);
    unsigned second = 0;
    for (unsigned k = 0; k < 4000; k++)
        second += place_of(story, "", k) == 1;
    assert_in_range(second, 2850, 3150);
    end(story);
}

static void a_queue_bound_twice_counts_once(void **state)
{
    (void)state;
    struct story *story = begin(2);
    struct binding again = {.queue = &story->queues[0], .routing_key = bytes_of_text("50")};
    hash_ring_add(story->ring, &again);
    unsigned first = 0;
    for (unsigned k = 0; k < 1000; k++)
        first += place_of(story, "", k) == 0;
    assert_in_range(first, 400, 600);
    /* Once its first binding is gone, the second one counts. */
    hash_ring_remove(story->ring, &story->bindings[0]);
    unsigned other = 0;
    for (unsigned k = 0; k < 1000; k++)
        other += place_of(story, "", k) == 1;
    assert_in_range(other, 1, 60);
    hash_ring_remove(story->ring, &story->bindings[1]);
    hash_ring_remove(story->ring, &again);
    assert_int_equal(place_of(story, "", 1), -1);
    end(story);
}

static void weights_are_positive_numbers(void **state)
{
    (void)state;
    char text[128];
    assert_true(hash_ring_weight_valid(bytes_of_text("1"), text, sizeof(text)));
    assert_true(hash_ring_weight_valid(bytes_of_text("+10"), text, sizeof(text)));
    assert_true(hash_ring_weight_valid(bytes_of_text("99999999999999999999999999"), text, sizeof(text)));
    assert_false(hash_ring_weight_valid(bytes_of_text("0"), text, sizeof(text)));
    assert_string_equal(text, "The binding key must be greater than 0");
    assert_false(hash_ring_weight_valid(bytes_of_text("-3"), text, sizeof(text)));
    assert_string_equal(text, "The binding key must be greater than 0");
    for (unsigned i = 0; i < 5; i++) {
        static const char *const bad[] = {"", "a", "1a", "-", "1.5"};
        char expected[128];
        assert_false(hash_ring_weight_valid(bytes_of_text(bad[i]), text, sizeof(text)));
        snprintf(expected, sizeof(expected), "The binding key must be an integer: <<%s%s%s>>", *bad[i] ? "\"" : "", bad[i], *bad[i] ? "\"" : "");
        assert_string_equal(text, expected);
    }
}

static struct bytes table_of(uint8_t *room, size_t size, const char *first, const char *value, const char *second)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, size);
    amqp_table_put_text(&writer, first, bytes_of_text(value));
    if (second)
        amqp_table_put_text(&writer, second, bytes_of_text("message_id"));
    assert_true(amqp_table_finish(&writer, &table));
    return table;
}

static void arguments_say_what_is_hashed(void **state)
{
    (void)state;
    uint8_t room[256];
    char text[128];
    assert_true(hash_ring_is_by_key((struct bytes){0}));
    struct bytes header = table_of(room, sizeof(room), "hash-header", "h", NULL);
    assert_true(hash_ring_arguments_valid(header, text, sizeof(text)));
    assert_false(hash_ring_is_by_key(header));
    assert_true(hash_ring_arguments_valid(table_of(room, sizeof(room), "hash-property", "timestamp", NULL), text, sizeof(text)));
    assert_false(hash_ring_arguments_valid(table_of(room, sizeof(room), "hash-property", "type", NULL), text, sizeof(text)));
    assert_string_equal(text, "Unsupported property: type");
    assert_false(hash_ring_arguments_valid(table_of(room, sizeof(room), "hash-header", "h", "hash-property"), text, sizeof(text)));
    assert_string_equal(text, "hash-header and hash-property are mutually exclusive");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_go_where_rabbitmq_sends_them),
        cmocka_unit_test(a_new_queue_takes_its_share_and_moves_nothing_else),
        cmocka_unit_test(weights_share_in_proportion),
        cmocka_unit_test(a_queue_bound_twice_counts_once),
        cmocka_unit_test(weights_are_positive_numbers),
        cmocka_unit_test(arguments_say_what_is_hashed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
