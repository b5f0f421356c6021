#include "protocol/amqp/unacked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char runs[4096];

static void write_run(void *owner, uint64_t queue, uint64_t seq, uint64_t count)
{
    (void)owner;
    size_t size = strlen(runs);
    snprintf(runs + size, sizeof(runs) - size, "%llu:%llu+%llu ", (unsigned long long)queue, (unsigned long long)seq, (unsigned long long)count);
}

static const char *take(struct unacked *unacked, uint64_t tag, bool multiple, bool park)
{
    runs[0] = 0;
    unacked_take(unacked, tag, multiple, park, write_run, NULL);
    return runs;
}

static void tags_are_taken_one_by_one_or_all_up_to_one(void **state)
{
    (void)state;
    struct unacked unacked;
    unacked_init(&unacked);
    for (uint64_t i = 1; i <= 200; i++)
        assert_true(unacked_add(&unacked, i <= 100 ? 1 : 2, i, true));
    assert_string_equal(take(&unacked, 50, false, false), "1:50+1 ");
    assert_string_equal(take(&unacked, 50, false, false), "");
    assert_string_equal(take(&unacked, 50, true, false), "");
    assert_string_equal(take(&unacked, 51, true, false), "1:1+49 1:51+1 ");
    assert_string_equal(take(&unacked, 130, true, false), "1:52+49 2:101+30 ");
    assert_string_equal(take(&unacked, 201, true, false), "");
    assert_string_equal(take(&unacked, 0, false, false), "");
    assert_int_equal(unacked.held, 70);
    assert_string_equal(take(&unacked, 0, true, false), "2:131+70 ");
    assert_string_equal(take(&unacked, 0, true, false), "");
    assert_int_equal(unacked.held, 0);
    assert_int_equal(unacked.next_tag, 201);
    unacked_deinit(&unacked);
}

static void one_that_is_never_settled_costs_one_block(void **state)
{
    (void)state;
    struct unacked unacked;
    unacked_init(&unacked);
    unacked_add(&unacked, 1, 1, true);
    for (uint64_t i = 2; i <= 100000; i++) {
        unacked_add(&unacked, 1, i, i % 3);
        assert_int_equal(unacked_take(&unacked, i, false, false, write_run, NULL), 1);
        runs[0] = 0;
        assert_true(unacked.count <= 2 && unacked.capacity <= 4);
    }
    assert_string_equal(take(&unacked, 1, false, false), "1:1+1 ");
    unacked_deinit(&unacked);
}

static void what_is_parked_comes_back_or_goes(void **state)
{
    (void)state;
    struct unacked unacked;
    unacked_init(&unacked);
    for (uint64_t i = 1; i <= 150; i++)
        unacked_add(&unacked, 1, i, i % 3);
    assert_string_equal(take(&unacked, 140, true, true), "1:1+140 ");
    assert_string_equal(take(&unacked, 7, false, true), "");
    assert_int_equal(unacked.parked, 140);
    assert_int_equal(unacked.counted, 100);
    unacked_hold_parked(&unacked);
    assert_int_equal(unacked.held, 150);
    assert_int_equal(unacked.counted, 100);
    assert_string_equal(take(&unacked, 100, true, true), "1:1+100 ");
    unacked_forget_parked(&unacked);
    assert_int_equal(unacked.held, 50);
    assert_int_equal(unacked.counted, 33);
    assert_string_equal(take(&unacked, 0, true, false), "1:101+50 ");
    unacked_deinit(&unacked);
}

/* The same as a plain array does it, at random. */
static void it_agrees_with_an_array(void **state)
{
    (void)state;
    enum { TAGS = 3000 };
    static char held[TAGS + 1];
    for (unsigned seed = 1; seed <= 30; seed++) {
        struct unacked unacked;
        uint64_t next = 1, count = 0;
        memset(held, 0, sizeof(held));
        unacked_init(&unacked);
        srand(seed);
        while (next <= TAGS) {
            uint64_t tag = (uint64_t)rand() % (next + 1);
            bool multiple = rand() % 50 == 0;
            if (rand() % 2) {
                unacked_add(&unacked, 1, next, true);
                held[next++] = 1;
                count++;
                continue;
            }
            uint64_t expected = 0;
            bool known = tag ? tag < next && held[tag] : multiple;
            for (uint64_t t = multiple ? 1 : tag; known && t <= (tag ? tag : next - 1); t++) {
                expected += (uint64_t)held[t];
                held[t] = 0;
            }
            assert_int_equal(unacked_take(&unacked, tag, multiple, false, write_run, NULL), expected);
            runs[0] = 0;
            count -= expected;
            assert_int_equal(unacked.held, count);
            assert_int_equal(unacked.counted, count);
        }
        unacked_deinit(&unacked);
    }
}

static uint64_t below_103_for_queue_2(void *owner, uint64_t queue)
{
    ++*(unsigned *)owner;
    return queue == 2 ? 103 : 0;
}

static void what_is_held_below_a_tag_is_found(void **state)
{
    (void)state;
    struct unacked unacked;
    unsigned asked = 0;
    unacked_init(&unacked);
    for (uint64_t i = 1; i <= 102; i++)
        unacked_add(&unacked, 1, i, true);
    unacked_add(&unacked, 2, 1, true);
    assert_false(unacked_holds_below(&unacked, below_103_for_queue_2, &asked));
    assert_int_equal(asked, 2);
    unacked_take(&unacked, 103, false, false, write_run, NULL);
    unacked_deinit(&unacked);
    unacked_init(&unacked);
    unacked_add(&unacked, 2, 1, true);
    unacked_add(&unacked, 1, 2, true);
    assert_true(unacked_holds_below(&unacked, below_103_for_queue_2, &asked));
    unacked_take(&unacked, 1, false, false, write_run, NULL);
    assert_false(unacked_holds_below(&unacked, below_103_for_queue_2, &asked));
    unacked_deinit(&unacked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_are_taken_one_by_one_or_all_up_to_one),
        cmocka_unit_test(what_is_held_below_a_tag_is_found),
        cmocka_unit_test(one_that_is_never_settled_costs_one_block),
        cmocka_unit_test(what_is_parked_comes_back_or_goes),
        cmocka_unit_test(it_agrees_with_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
