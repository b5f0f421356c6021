#include "broker/like.h"

#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TEXT(x) bytes_of_text(x)

static void patterns_match_what_they_say(void **state)
{
    (void)state;
    static const struct { const char *text, *pattern; uint8_t escape; bool matches; } cases[] = {
        {"", "", 0, true}, {"", "%", 0, true}, {"", "%%", 0, true}, {"", "_", 0, false}, {"a", "", 0, false}, {"abc", "abc", 0, true}, {"abc", "ab", 0, false},
        {"abc", "a%", 0, true}, {"abc", "%c", 0, true}, {"abc", "%b", 0, false}, {"abc", "%b%", 0, true}, {"abc", "a%c", 0, true}, {"abc", "a%b", 0, false},
        {"ab", "ab%b", 0, false}, {"abb", "ab%b", 0, true}, {"aXbXc", "a%X%c", 0, true}, {"abc", "_b_", 0, true}, {"abc", "__", 0, false}, {"\xC3\xA4x", "_x", 0, true},
        {"100%", "100!%", '!', true}, {"1000", "100!%", '!', false}, {"a_b", "%!_b", '!', true}, {"axb", "%!_b", '!', false}, {"x!", "x!", '!', true}, {"a\xC3\xA4", "%_", 0, true},
        {"aaab", "%a_b", 0, true}, {"aaab", "%aab", 0, true}, {"abab", "%ab", 0, true}, {"abab", "%ab%ab", 0, true}, {"aba", "%ab%ba", 0, false},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        if (like_matches(TEXT(cases[i].text), TEXT(cases[i].pattern), cases[i].escape) != cases[i].matches)
            fail_msg("'%s' LIKE '%s'", cases[i].text, cases[i].pattern);
}

/* As simple as it can be said. */
static bool simply(struct bytes text, struct bytes pattern)
{
    if (!pattern.size)
        return !text.size;
    struct bytes rest = bytes_of(pattern.data + 1, pattern.size - 1);
    if (pattern.data[0] == '%') {
        for (size_t i = 0; i <= text.size; i++)
            if (simply(bytes_of(text.data + i, text.size - i), rest))
                return true;
        return false;
    }
    return text.size && (pattern.data[0] == '_' || pattern.data[0] == text.data[0]) && simply(bytes_of(text.data + 1, text.size - 1), rest);
}

static void it_is_what_the_simple_one_says(void **state)
{
    (void)state;
    uint64_t random = 1;
    unsigned matched = 0;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t text[10], pattern[8];
        random = bytes_hash(bytes_of(&random, 8), round);
        size_t text_size = random % 11, pattern_size = random / 11 % 9;
        for (size_t i = 0; i < text_size; i++)
            text[i] = "ab"[random >> (8 + i) & 1];
        for (size_t i = 0; i < pattern_size; i++)
            pattern[i] = "aabb%%_%"[random >> (20 + 3 * i) & 7];
        struct bytes a = bytes_of(text, text_size), b = bytes_of(pattern, pattern_size);
        bool expected = simply(a, b);
        matched += expected;
        if (like_matches(a, b, 0) != expected)
            fail_msg("round %u: '%.*s' LIKE '%.*s'", round, (int)a.size, (const char *)a.data, (int)b.size, (const char *)b.data);
    }
    assert_in_range(matched, 20000, 180000);
}

static void what_is_slow_is_counted(void **state)
{
    (void)state;
    assert_int_equal(like_slow_bytes(TEXT("a_b"), 0), 0);
    assert_int_equal(like_slow_bytes(TEXT("a%bcd"), 0), 0);
    assert_int_equal(like_slow_bytes(TEXT("a%b_d%e%_"), 0), 4);
    assert_int_equal(like_slow_bytes(TEXT("%!%b%c"), '!'), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_match_what_they_say),
        cmocka_unit_test(it_is_what_the_simple_one_says),
        cmocka_unit_test(what_is_slow_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
