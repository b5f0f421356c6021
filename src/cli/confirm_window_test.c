#include "cli/confirm_window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void numbers_settle_in_any_order(void **state)
{
    (void)state;
    struct confirm_window w;
    assert_int_equal(confirm_window_init(&w, 5), GW_OK);
    confirm_window_add(&w, 5, 100);
    assert_int_equal(confirm_window_room(&w), 0);
    assert_int_equal(confirm_window_settle(&w, 3, false, 110, NULL), 1);
    assert_int_equal(confirm_window_settle(&w, 3, false, 110, NULL), 0);
    assert_int_equal(confirm_window_room(&w), 0);
    assert_int_equal(confirm_window_pending(&w), 4);
    assert_int_equal(confirm_window_settle(&w, 4, true, 110, NULL), 3);
    assert_int_equal(confirm_window_pending(&w), 1);
    assert_int_equal(confirm_window_room(&w), 4);
    assert_int_equal(confirm_window_settle(&w, 6, true, 110, NULL), 0);
    assert_int_equal(confirm_window_settle(&w, 0, true, 110, NULL), 0);
    assert_int_equal(confirm_window_settle(&w, 5, false, 110, NULL), 1);
    assert_int_equal(confirm_window_pending(&w), 0);
    assert_int_equal(confirm_window_room(&w), 5);
    confirm_window_deinit(&w);
}

static void ages_are_counted_once_each(void **state)
{
    (void)state;
    struct confirm_window w;
    struct histogram *ages = malloc(sizeof *ages);
    assert_non_null(ages);
    histogram_init(ages);
    assert_int_equal(confirm_window_init(&w, 100), GW_OK);
    confirm_window_add(&w, 10, 50);
    confirm_window_add(&w, 10, 60);
    assert_int_equal(confirm_window_settle(&w, 5, false, 70, ages), 1);
    assert_int_equal(confirm_window_settle(&w, 20, true, 100, ages), 19);
    assert_int_equal(ages->count, 20);
    assert_int_equal(ages->minimum, 20);
    assert_int_equal(ages->maximum, 50);
    assert_int_equal(ages->sum, 20 + 9 * 50 + 10 * 40);
    free(ages);
    confirm_window_deinit(&w);
}

/* The same numbers in a plain array say what must be pending. */
static void a_long_run_agrees_with_an_array(void **state)
{
    (void)state;
    static bool pending[20000];
    uint64_t next = 1, seed = 12345;
    struct confirm_window w;
    memset(pending, 0, sizeof pending);
    assert_int_equal(confirm_window_init(&w, 37), GW_OK);
    for (int i = 0; i < 20000 && next < 19000; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        uint64_t draw = seed >> 33;
        if (draw % 3 == 0 && confirm_window_room(&w) > 0) {
            confirm_window_add(&w, 1, 1);
            pending[next++] = true;
        } else if (next > 1) {
            uint64_t number = next > 50 ? next - 50 + draw % 50 : 1 + draw % (next - 1), expected = 0;
            bool multiple = draw % 11 == 0;
            for (uint64_t n = multiple ? 1 : number; n <= number; n++) {
                expected += pending[n];
                pending[n] = false;
            }
            assert_int_equal(confirm_window_settle(&w, number, multiple, 2, NULL), expected);
        }
        uint64_t count = 0;
        for (uint64_t n = next > 60 ? next - 60 : 0; n < next; n++)
            count += pending[n];
        assert_int_equal(confirm_window_pending(&w), count);
    }
    confirm_window_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_settle_in_any_order),
        cmocka_unit_test(ages_are_counted_once_each),
        cmocka_unit_test(a_long_run_agrees_with_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
