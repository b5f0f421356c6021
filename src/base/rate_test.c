/* A rate against what it promises: so many at once, then one after the other, never more in any period. */
#include "base/rate.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct rate_limit ten = {.count = 10, .period_us = 1000000};

static unsigned take_all(struct rate *rate, const struct rate_limit *limit, uint64_t now_us)
{
    uint64_t wait_us;
    unsigned taken = 0;
    while (taken < 1000 && rate_take(rate, limit, now_us, &wait_us))
        taken++;
    return taken;
}

static void so_many_at_once_then_one_by_one(void **state)
{
    (void)state;
    struct rate rate = {0};
    uint64_t wait_us;
    assert_int_equal(take_all(&rate, &ten, 5000000), 10);
    assert_false(rate_take(&rate, &ten, 5000000, &wait_us));
    assert_int_equal(wait_us, 100000);
    assert_false(rate_allows(&rate, &ten, 5050000, &wait_us));
    assert_int_equal(wait_us, 50000);
    assert_true(rate_allows(&rate, &ten, 5100000, &wait_us));
    assert_int_equal(take_all(&rate, &ten, 5100000), 1);
    assert_int_equal(take_all(&rate, &ten, 5550000), 4);
    assert_false(rate_is_full(&rate, 5550000));
    assert_true(rate_is_full(&rate, 7000000));
    assert_int_equal(take_all(&rate, &ten, 7000000), 10);
    /* A clock of another thread may be a little behind. */
    assert_int_equal(take_all(&rate, &ten, 6999990), 0);
}

static void none_is_no_limit(void **state)
{
    (void)state;
    struct rate rate = {0};
    assert_int_equal(take_all(&rate, &(struct rate_limit){0}, 1), 1000);
    assert_true(rate_is_full(&rate, 0));
}

static void fast_and_slow_ones(void **state)
{
    (void)state;
    struct rate fast = {0}, slow = {0};
    assert_int_equal(take_all(&fast, &(struct rate_limit){.count = 1000000, .period_us = 1000000}, 1), 1000);
    const struct rate_limit one = {.count = 1, .period_us = 60000000};
    uint64_t wait_us;
    assert_int_equal(take_all(&slow, &one, 100), 1);
    assert_false(rate_take(&slow, &one, 30000100, &wait_us));
    assert_int_equal(wait_us, 30000000);
}

static struct rate shared;

static void *taker(void *taken)
{
    *(unsigned *)taken = take_all(&shared, &(struct rate_limit){.count = 900, .period_us = 1000000}, 1000);
    return NULL;
}

static void threads_take_no_more_together(void **state)
{
    (void)state;
    pthread_t threads[4];
    unsigned taken[4], sum = 0;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, taker, &taken[i]), 0);
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        sum += taken[i];
    }
    assert_int_equal(sum, 900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(so_many_at_once_then_one_by_one), cmocka_unit_test(none_is_no_limit), cmocka_unit_test(fast_and_slow_ones),
        cmocka_unit_test(threads_take_no_more_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
