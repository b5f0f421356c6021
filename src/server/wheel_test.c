/* The wheel against what it promises: nothing early, nothing more than two ticks late, nothing lost. */
#include "server/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct item {
    struct wheel_entry entry;
    uint64_t due_us;
};

static void random_deadlines(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    static struct item items[COUNT];
    struct wheel wheel;
    uint64_t now = 123456789, taken = 0;
    srand(5);
    wheel_init(&wheel, now);
    for (unsigned i = 0; i < COUNT; i++) {
        items[i].due_us = now + (uint64_t)(rand() % 200000000);
        wheel_set(&wheel, &items[i].entry, items[i].due_us);
    }
    for (unsigned steps = 0; steps < 20000 && taken < 5000; steps++) {
        uint64_t next = wheel_next(&wheel);
        assert_true(next != UINT64_MAX && next + WHEEL_TICK_US > now);
        now = next > now ? next + (uint64_t)(rand() % 1000) : now;
        struct wheel_entry *entry;
        while ((entry = wheel_take(&wheel, now))) {
            struct item *item = (struct item *)entry;
            if (item->due_us <= now) {
                assert_true(now - item->due_us < 2 * WHEEL_TICK_US);
                taken++;
                item->due_us = now + (uint64_t)(rand() % 200000000);
            }
            wheel_set(&wheel, entry, item->due_us);
        }
        /* Deadlines move both ways, and entries leave. */
        struct item *item = &items[rand() % COUNT];
        item->due_us = now + (uint64_t)(rand() % 1000000);
        if (rand() % 3 == 0)
            wheel_remove(&wheel, &item->entry);
        wheel_set(&wheel, &item->entry, item->due_us);
    }
    assert_true(taken >= 5000);
    for (unsigned i = 0; i < COUNT; i++)
        wheel_remove(&wheel, &items[i].entry);
    assert_true(wheel_next(&wheel) == UINT64_MAX);
}

static void long_sleep(void **state)
{
    (void)state;
    struct wheel wheel;
    struct item item = {.due_us = 5000000};
    wheel_init(&wheel, 1000000);
    wheel_set(&wheel, &item.entry, UINT64_MAX);
    assert_true(wheel_next(&wheel) == UINT64_MAX);
    wheel_set(&wheel, &item.entry, item.due_us);
    assert_null(wheel_take(&wheel, 4999999));
    assert_ptr_equal(wheel_take(&wheel, 1000000000000), &item.entry);
    assert_null(wheel_take(&wheel, 1000000000000));
    wheel_set(&wheel, &item.entry, 7);
    assert_ptr_equal(wheel_take(&wheel, 1000000000000 + WHEEL_TICK_US), &item.entry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_deadlines), cmocka_unit_test(long_sleep)};
    return cmocka_run_group_tests_name("wheel", tests, NULL, NULL);
}
