#include "sources/lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* "line;" for a whole one, "piece+" for a part, and the bytes that were told in the end. */
static void split(const char *input, size_t size_max, size_t each, bool with_last, const char *expected, uint64_t consumed)
{
    struct line_splitter splitter;
    char heard[400] = "";
    size_t size = 0;
    struct line line;
    line_splitter_init(&splitter, size_max);
    for (size_t at = 0; at < strlen(input); at += each) {
        size_t part = strlen(input) - at < each ? strlen(input) - at : each;
        uint8_t *copy = malloc(part);
        memcpy(copy, input + at, part);
        struct bytes left = bytes_of(copy, part);
        while (line_next(&splitter, &left, &line) == LINE_READY)
            size += (size_t)snprintf(heard + size, sizeof(heard) - size, "%.*s%s", (int)line.text.size, (const char *)line.text.data, line.is_whole ? ";" : "+");
        assert_int_equal(left.size, 0);
        free(copy);
    }
    if (with_last && line_last(&splitter, &line) == LINE_READY)
        size += (size_t)snprintf(heard + size, sizeof(heard) - size, "%.*s%s", (int)line.text.size, (const char *)line.text.data, line.is_whole ? ";" : "+");
    assert_string_equal(heard, expected);
    assert_int_equal(splitter.consumed, consumed);
    line_splitter_deinit(&splitter);
}

static void split_anyhow(const char *input, size_t size_max, bool with_last, const char *expected, uint64_t consumed)
{
    for (size_t each = 1; each <= strlen(input) + 1; each++)
        split(input, size_max, each, with_last, expected, consumed);
}

static void lines_end_with_lf_or_both(void **state)
{
    (void)state;
    split_anyhow("one\ntwo\r\n\nthree\rfour\n", 100, false, "one;two;;three\rfour;", 21);
    split_anyhow("one\nno end", 100, false, "one;", 4);
    split_anyhow("one\nno end", 100, true, "one;no end;", 10);
    split_anyhow("one\r", 100, true, "one\r;", 4);
    split_anyhow("", 100, true, "", 0);
}

static void a_line_without_end_comes_in_pieces(void **state)
{
    (void)state;
    split_anyhow("0123\n", 4, false, "0123;", 5);
    split_anyhow("01234\nx\n", 4, false, "0123+4+x;", 8);
    split_anyhow("012\r\nx\n", 4, false, "012;x;", 7);
    split_anyhow("0123\r\nx\n", 4, false, "0123++x;", 8);
    split_anyhow("0123456789ab\n", 4, false, "0123+4567+89ab+", 13);
    split_anyhow("0123456789abc", 4, true, "0123+4567+89ab+c+", 13);
    split_anyhow("aaa\n", 1, false, "a+a+a+", 4);
}

static void what_is_told_is_the_place_behind_it(void **state)
{
    (void)state;
    struct line_splitter splitter;
    struct line line;
    struct bytes input = bytes_of_text("a\r\nbc\n");
    line_splitter_init(&splitter, 10);
    line_reset(&splitter, 100);
    assert_int_equal(line_next(&splitter, &input, &line), LINE_READY);
    assert_int_equal(line.consumed, 103);
    assert_int_equal(line_next(&splitter, &input, &line), LINE_READY);
    assert_int_equal(line.consumed, 106);
    line_splitter_deinit(&splitter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_lf_or_both), cmocka_unit_test(a_line_without_end_comes_in_pieces), cmocka_unit_test(what_is_told_is_the_place_behind_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
