#include "broker/id_window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT 6000u

static const struct siphash_key key = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};

static struct hash128 hash_of(uint64_t number)
{
    return siphash128(&key, bytes_of(&number, sizeof(number)), (struct bytes){0});
}

/* What is to be known, as an array says it. */
struct expected {
    uint64_t at_ms;
    unsigned ring;
};

static void check(const struct id_window *window, const struct expected *expected)
{
    uint64_t count = 0, at_ms;
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(id_window_find(window, hash_of(i), &at_ms), expected[i].at_ms != 0);
        if (!expected[i].at_ms)
            continue;
        assert_int_equal(at_ms, expected[i].at_ms);
        count++;
    }
    assert_int_equal(id_window_count(window), count);
    for (unsigned ring = 0; ring < ID_RINGS; ring++) {
        uint64_t place = 0;
        while (id_window_next(window, ring, &place))
            count--;
    }
    assert_int_equal(count, 0);
}

static void it_knows_what_was_added_and_not_forgotten(void **state)
{
    (void)state;
    static struct expected expected[COUNT];
    struct id_window window = {0};
    uint64_t random = 88172645463325252u, now_ms = 1;
    for (unsigned i = 1; i <= 200000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        unsigned number = (unsigned)(random >> 20) % COUNT, what = random % 16;
        now_ms += what & 1;
        if (what < 12) {
            assert_int_equal(id_window_add(&window, what == 0, hash_of(number), now_ms), GW_OK);
            expected[number] = (struct expected){now_ms, what == 0};
        } else if (what < 14) {
            id_window_remove(&window, hash_of(number));
            expected[number].at_ms = 0;
        }
        if (i % 20000 == 0) {
            check(&window, expected);
            uint64_t gone_ms = now_ms - random % 3000;
            for (unsigned k = 0; k < 1000; k++)
                assert_int_equal(id_window_trim(&window, gone_ms, gone_ms, UINT64_MAX), 0);
            for (unsigned k = 0; k < COUNT; k++)
                if (expected[k].at_ms < gone_ms)
                    expected[k].at_ms = 0;
            check(&window, expected);
        }
    }
    id_window_deinit(&window);
}

static void the_oldest_are_forgotten_first_when_there_are_too_many(void **state)
{
    (void)state;
    struct id_window window = {0};
    uint64_t at_ms;
    unsigned early = 0;
    for (unsigned i = 0; i < 10000; i++) {
        assert_int_equal(id_window_add(&window, 0, hash_of(i), i + 1), GW_OK);
        early += id_window_trim(&window, 0, 5001, 1000);
    }
    assert_int_equal(id_window_count(&window), 1000);
    assert_int_equal(early, 4000);   /* of those that were forgotten, 1 to 5000 were over anyway */
    assert_false(id_window_find(&window, hash_of(8999), &at_ms));
    assert_true(id_window_find(&window, hash_of(9000), &at_ms));
    id_window_deinit(&window);
}

static void a_message_that_is_due_later_keeps_no_other_from_being_forgotten(void **state)
{
    (void)state;
    struct id_window window = {0};
    uint64_t at_ms;
    assert_int_equal(id_window_add(&window, 1, hash_of(0), 1000000), GW_OK);
    for (unsigned i = 1; i < 100; i++)
        assert_int_equal(id_window_add(&window, 0, hash_of(i), i), GW_OK);
    for (unsigned i = 0; i < 3; i++)
        id_window_trim(&window, 1000, 1000, UINT64_MAX);
    assert_int_equal(id_window_count(&window), 1);
    assert_true(id_window_find(&window, hash_of(0), &at_ms));
    assert_int_equal(at_ms, 1000000);
    id_window_deinit(&window);
}

static void a_million_ids_take_no_more_than_48_bytes_each(void **state)
{
    (void)state;
    struct id_window window = {0};
    for (unsigned i = 0; i < 1000000; i++) {
        assert_int_equal(id_window_add(&window, 0, hash_of(i), i + 1), GW_OK);
        if (i % 50000 == 49999)
            assert_true(id_window_bytes(&window) <= 48ull * (i + 1));
    }
    id_window_deinit(&window);
}

static void what_is_taken_back_again_and_again_leaves_nothing(void **state)
{
    (void)state;
    struct id_window window = {0};
    assert_int_equal(id_window_add(&window, 0, hash_of(0), 1), GW_OK);
    for (unsigned i = 1; i < 100000; i++) {
        assert_int_equal(id_window_add(&window, 0, hash_of(i), 1), GW_OK);
        id_window_remove(&window, hash_of(i));
    }
    assert_int_equal(id_window_count(&window), 1);
    assert_true(id_window_bytes(&window) < 16384);
    id_window_deinit(&window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_knows_what_was_added_and_not_forgotten),
        cmocka_unit_test(the_oldest_are_forgotten_first_when_there_are_too_many),
        cmocka_unit_test(a_message_that_is_due_later_keeps_no_other_from_being_forgotten),
        cmocka_unit_test(a_million_ids_take_no_more_than_48_bytes_each),
        cmocka_unit_test(what_is_taken_back_again_and_again_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
