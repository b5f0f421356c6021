#include "bus/event_type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool fits(const char *type, const char *pattern) { return event_type_fits(bytes_of_text(type), bytes_of_text(pattern)); }

static void types_fit_patterns(void **state)
{
    (void)state;
    static const struct { const char *type, *pattern; bool fits; } cases[] = {
        {"order.created", "order.created", true}, {"order.created", "order.*", true}, {"order.created", "*.created", true}, {"order.created", "order", false},
        {"order", "order.*", false}, {"order.created.late", "order.*", false}, {"order.created.late", "order.#", true}, {"order", "order.#", true},
        {"order", "#.order", true}, {"a.b.order", "#.order", true}, {"a.b.order.c", "#.order", false}, {"a.order.b.order", "#.order", true}, {"", "#", true},
        {"a.b.c", "#", true}, {"a.b.c", "#.#", true}, {"a.b.c", "#.b.#", true}, {"a.c", "#.b.#", false}, {"a.b.c.d", "a.#.d", true}, {"a.d", "a.#.d", true},
        {"a.b.c.d", "a.#.c", false}, {"a.b.a.b.c", "#.a.b.c", true}, {"a.b", "*.*.#", true}, {"a", "*.*.#", false}, {"", "", true}, {"a", "", false}, {"", "*", true},
        {"a..b", "a.*.b", true}, {"a.b", "a.b.", false}, {"ordering", "order", false}, {"order", "ordering", false}, {"x.y.z", "#.*.*", true}, {"x", "#.*.*", false},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (fits(cases[i].type, cases[i].pattern) != cases[i].fits)
            fail_msg("'%s' and '%s'", cases[i].type, cases[i].pattern);
}

static void a_pattern_that_is_all_numbers_of_words_ends_soon(void **state)
{
    (void)state;
    char type[256] = "", pattern[256] = "";
    for (unsigned i = 0; i < 127; i++)
        strcat(type, "a.");
    for (unsigned i = 0; i < 60; i++)
        strcat(pattern, "#.a.");
    strcat(pattern, "b");
    assert_false(fits(type, pattern));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(types_fit_patterns), cmocka_unit_test(a_pattern_that_is_all_numbers_of_words_ends_soon)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
