#include "protocol/http/chunked.h"

#include "protocol/http/head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

/* Reads a body in pieces of `step` bytes; its data is gathered. Answers how much of the text it took; the outcome is the last thing found. */
static size_t read_all(const char *text, size_t size, size_t step, char *data, enum http_chunked_found *found)
{
    struct http_chunked chunked = {0};
    size_t gathered = 0, at = 0;
    *found = HTTP_CHUNKED_MORE;
    while (at < size && *found != HTTP_CHUNKED_END && *found != HTTP_CHUNKED_BAD) {
        size_t most = size - at < step ? size - at : step;
        struct bytes in = bytes_of(text + at, most), piece;
        while ((*found = http_chunked_next(&chunked, &in, &piece)) == HTTP_CHUNKED_DATA) {
            memcpy(data + gathered, piece.data, piece.size);
            gathered += piece.size;
        }
        at += most - in.size;
        if (*found == HTTP_CHUNKED_BAD)
            assert_non_null(chunked.why);
    }
    data[gathered] = 0;
    return at;
}

static void bodies_are_found_in_their_chunks(void **state)
{
    (void)state;
    static const struct { const char *text, *data; } cases[] = {
        {"0\r\n\r\n", ""},
        {"5\r\nhello\r\n0\r\n\r\n", "hello"},
        {"5;a=b;c=\"d;e\"\r\nhello\r\n00;x\r\n\r\n", "hello"},
        {"0000000000000002\r\nhe\r\n0\r\n\r\n", "he"},
        {"A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\nX: y\r\nZ:\r\nW:\tv w\xff \r\n\r\n", "01234567890123456789a"},
        {"2\r\n\r\n\r\n0\r\n\r\n", "\r\n"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t step = 1; step < 40; step++) {
            char text[128], data[128];
            enum http_chunked_found found;
            int size = snprintf(text, sizeof(text), "%sGET", cases[i].text);
            size_t taken = read_all(text, (size_t)size, step, data, &found);
            assert_int_equal(found, HTTP_CHUNKED_END);
            assert_string_equal(data, cases[i].data);
            assert_int_equal(taken, strlen(cases[i].text));   /* what follows is the next request's */
        }
    }
}

static void what_leaves_room_for_two_readings_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "\r\n", " 5\r\nhello", "5 \r\nhello", "+5\r\nhello", "-5\r\nhello", "0x5\r\nhello", "5_\r\nhello", "5\nhello", "5\rhello", "5\r\r\nhello", "g\r\n", ";\r\n",
        "5\r\nhello\n0\r\n\r\n", "5\r\nhelloX\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\rX", "5;a\nhello", "5;a\rb\r\nhello", "5;a\x01\r\nhello", "5;\x7f\r\nhello",
        "0\n\r\n", "0\r\n\n", "0\r\n\rX", "0\r\nX: y\r\n z\r\n\r\n", "0\r\nX : y\r\n\r\n", "0\r\nX: y\n\r\n", "0\r\nX: a\rb\r\n\r\n", "0\r\nXy\r\n\r\n", "0\r\n: y\r\n\r\n", "0\r\nX: \x01\r\n\r\n",
        "0\r\nGET / HTTP/1.1\r\n\r\n", "0\r\n\xc3\xa4: y\r\n\r\n", "00000000000000005\r\nhello", "ffffffffffffffff\r\n", "8000000000000000\r\n"};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t step = 1; step < 20; step++) {
            char data[128];
            enum http_chunked_found found;
            read_all(cases[i], strlen(cases[i]), step, data, &found);
            if (found != HTTP_CHUNKED_BAD)
                fail_msg("%s was not refused", cases[i]);
        }
    }
}

/* Endless extensions, trailers or sizes hold nothing, but keep a connection busy for nothing. */
static void what_is_around_the_data_has_a_limit(void **state)
{
    (void)state;
    static char text[3 * HTTP_HEAD_MAX], data[3 * HTTP_HEAD_MAX];
    enum http_chunked_found found;
    for (unsigned i = 0; i < 2; i++) {
        int size = snprintf(text, sizeof(text), "%s", i ? "0\r\nX: " : "1;");
        memset(text + size, 'x', 2 * HTTP_HEAD_MAX);
        size_t taken = read_all(text, (size_t)size + 2 * HTTP_HEAD_MAX, 1000, data, &found);
        assert_int_equal(found, HTTP_CHUNKED_BAD);
        assert_in_range(taken, HTTP_HEAD_MAX, HTTP_HEAD_MAX + 1000);
    }
    size_t at = 0;
    for (unsigned i = 0; i < 20000; i++)   /* a byte a chunk is foolish, and allowed */
        at += (size_t)sprintf(text + at, "1\r\nx\r\n");
    read_all(text, at, 1000, data, &found);
    assert_int_equal(found, HTTP_CHUNKED_MORE);
    assert_int_equal(strlen(data), 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_found_in_their_chunks),
        cmocka_unit_test(what_leaves_room_for_two_readings_is_refused),
        cmocka_unit_test(what_is_around_the_data_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
