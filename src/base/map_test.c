#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT 5000u

/* A map against an array of what should be in it, under random puts and removes. */
static void a_map_holds_what_was_put_and_not_removed(void **state)
{
    (void)state;
    static int values[COUNT];
    bool there[COUNT] = {false};
    struct map map = {0};
    uint64_t random = 88172645463325252u;
    for (unsigned i = 0; i < 100000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        unsigned key = random % COUNT;
        if (random >> 63) {
            assert_int_equal(map_put(&map, key * 4096u, &values[key]), GW_OK);   /* keys that differ in few bits */
            there[key] = true;
        } else {
            assert_ptr_equal(map_remove(&map, key * 4096u), there[key] ? &values[key] : NULL);
            there[key] = false;
        }
    }
    unsigned count = 0, seen = 0;
    uint32_t cursor = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        assert_ptr_equal(map_get(&map, i * 4096u), there[i] ? &values[i] : NULL);
        count += there[i];
    }
    while (map_next(&map, &cursor))
        seen++;
    assert_int_equal(map.count, count);
    assert_int_equal(seen, count);
    map_deinit(&map);
}

struct named {
    char text[16];
};

static struct bytes name_of(const void *value)
{
    return bytes_of_text(((const struct named *)value)->text);
}

static void names_are_told_apart(void **state)
{
    (void)state;
    struct named *values = calloc(COUNT, sizeof(*values));
    struct name_map map;
    name_map_init(&map, name_of, 7);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(values[i].text, sizeof(values[i].text), "%u", i);
        assert_null(name_map_get(&map, name_of(&values[i])));
        assert_int_equal(name_map_put(&map, &values[i]), GW_OK);
    }
    for (unsigned i = 0; i < COUNT; i += 2)
        assert_ptr_equal(name_map_remove(&map, name_of(&values[i])), &values[i]);
    for (unsigned i = 0; i < COUNT; i++)
        assert_ptr_equal(name_map_get(&map, name_of(&values[i])), i % 2 ? &values[i] : NULL);
    name_map_deinit(&map);
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_holds_what_was_put_and_not_removed),
        cmocka_unit_test(names_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
