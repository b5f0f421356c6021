#include "broker/origins.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void what_is_added_is_found_until_it_is_removed(void **state)
{
    (void)state;
    struct origins origins = {0};
    assert_null(origins_find(&origins, 1, 1));
    origins_remove(&origins, 1, 1);
    for (uint64_t queue = 1; queue <= 20; queue++)
        for (uint64_t seq = 1; seq <= 50; seq++) {
            struct origin *origin = origins_add(&origins, queue << 8, seq << 8, 2);
            assert_non_null(origin);
            assert_int_equal(origin->targets[1].queue, 0);
            origin->targets[1].queue = queue + seq;
        }
    assert_int_equal(origins.count, 1000);
    for (uint64_t queue = 1; queue <= 20; queue++)
        for (uint64_t seq = 1; seq <= 50; seq += 2)
            origins_remove(&origins, queue << 8, seq << 8);
    assert_int_equal(origins.count, 500);
    for (uint64_t queue = 1; queue <= 20; queue++)
        for (uint64_t seq = 1; seq <= 50; seq++) {
            const struct origin *origin = origins_find(&origins, queue << 8, seq << 8);
            if (seq % 2) {
                assert_null(origin);
            } else {
                assert_non_null(origin);
                assert_int_equal(origin->targets[1].queue, queue + seq);
            }
        }
    origins_deinit(&origins);
}

static void all_are_gone_through_once(void **state)
{
    (void)state;
    struct origins origins = {0};
    assert_null(origins_next(&origins, NULL));
    uint64_t sum = 0;
    unsigned count = 0;
    for (uint64_t seq = 1; seq <= 300; seq++)
        origins_add(&origins, 7, seq, 0);
    for (const struct origin *origin = NULL; (origin = origins_next(&origins, origin)); count++)
        sum += origin->seq;
    assert_int_equal(count, 300);
    assert_int_equal(sum, 300 * 301 / 2);
    origins_deinit(&origins);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_is_found_until_it_is_removed),
        cmocka_unit_test(all_are_gone_through_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
