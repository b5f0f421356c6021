#include "cli/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static struct histogram *fresh(void)
{
    struct histogram *h = malloc(sizeof *h);
    assert_non_null(h);
    histogram_init(h);
    return h;
}

static void an_empty_one_answers_zero(void **state)
{
    (void)state;
    struct histogram *h = fresh();
    assert_int_equal(histogram_quantile(h, 0.5), 0);
    assert_true(histogram_mean(h) == 0);
    free(h);
}

static void small_values_are_exact(void **state)
{
    (void)state;
    struct histogram *h = fresh();
    for (uint64_t i = 1; i <= 100; i++)
        histogram_add(h, i, 1);
    assert_int_equal(histogram_quantile(h, 0), 1);
    assert_int_equal(histogram_quantile(h, 0.5), 50);
    assert_int_equal(histogram_quantile(h, 0.99), 99);
    assert_int_equal(histogram_quantile(h, 1), 100);
    assert_true(histogram_mean(h) == 50.5);
    free(h);
}

static void every_value_is_within_its_error(void **state)
{
    (void)state;
    struct histogram *h = fresh();
    uint64_t x = 88172645463325252ull;
    for (int i = 0; i < 2000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        uint64_t value = x >> (22 + i % 42);
        histogram_init(h);
        histogram_add(h, value, 1);
        histogram_add(h, UINT64_C(1) << 41, 9);
        uint64_t answer = histogram_quantile(h, 0.1);
        if (value < UINT64_C(1) << 41 && (answer < value || answer - value > value / 128))
            fail_msg("%llu answered %llu", (unsigned long long)value, (unsigned long long)answer);
    }
    free(h);
}

static void huge_values_are_kept_in_the_last_bucket(void **state)
{
    (void)state;
    struct histogram *h = fresh();
    histogram_add(h, UINT64_C(1) << 50, 1);
    histogram_add(h, (UINT64_C(1) << 42) - 1, 1);
    assert_int_equal(histogram_quantile(h, 1), UINT64_C(1) << 50);
    assert_int_equal(h->maximum, UINT64_C(1) << 50);
    free(h);
}

static void merging_equals_adding(void **state)
{
    (void)state;
    struct histogram *a = fresh(), *b = fresh(), *both = fresh();
    for (uint64_t i = 0; i < 5000; i++) {
        histogram_add(i % 3 ? a : b, i * i, i % 5);
        histogram_add(both, i * i, i % 5);
    }
    histogram_merge(a, b);
    assert_memory_equal(a, both, sizeof *a);
    free(a);
    free(b);
    free(both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_answers_zero),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(every_value_is_within_its_error),
        cmocka_unit_test(huge_values_are_kept_in_the_last_bucket),
        cmocka_unit_test(merging_equals_adding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
