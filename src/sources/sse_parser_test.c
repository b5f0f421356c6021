/* The cases of the standard and of its test suite, each of them whole, split at every byte, and a byte at a time. */
#include "sources/sse_parser.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HEARD_MAX 4096u

/* What is heard, as a text, with @ for a zero: type|data|last id; and "I|id" for an id alone, "L" for one that was too long. */
struct ear {
    char heard[HEARD_MAX];
    size_t size;
    uint32_t retry_ms;
};

static void note(struct ear *ear, const char *mark, const struct sse_event *event)
{
    char data[HEARD_MAX];
    assert_true(event->data.size < sizeof(data));
    for (size_t i = 0; i < event->data.size; i++)
        data[i] = (char)(event->data.data[i] ? event->data.data[i] : '@');
    ear->size += (size_t)snprintf(ear->heard + ear->size, HEARD_MAX - ear->size, "%s%.*s|%.*s|%.*s;", mark, (int)event->type.size, (const char *)event->type.data, (int)event->data.size, data,
                                  (int)event->last_id.size, (const char *)event->last_id.data);
    assert_true(ear->size < HEARD_MAX);
}

static void feed(struct sse_parser *parser, struct ear *ear, struct bytes piece)
{
    /* In memory of its own, so that a byte too far is noticed. */
    uint8_t *copy = malloc(piece.size ? piece.size : 1);
    memcpy(copy, piece.data, piece.size);
    struct bytes input = bytes_of(copy, piece.size);
    for (;;) {
        struct sse_event event;
        enum sse_result result = sse_next(parser, &input, &event);
        if (result == SSE_MORE)
            break;
        assert_int_not_equal(result, SSE_NO_MEMORY);
        if (result == SSE_EVENT)
            note(ear, "", &event);
        else if (result == SSE_ID)
            ear->size += (size_t)snprintf(ear->heard + ear->size, HEARD_MAX - ear->size, "I|%.*s;", (int)event.last_id.size, (const char *)event.last_id.data);
        else
            ear->size += (size_t)snprintf(ear->heard + ear->size, HEARD_MAX - ear->size, "L;");
    }
    assert_int_equal(input.size, 0);
    ear->retry_ms = parser->retry_ms;
    free(copy);
}

static struct ear listen_in_pieces(struct bytes stream, size_t size_max, size_t first, size_t each)
{
    struct sse_parser parser;
    struct ear ear = {.heard = ""};
    assert_true(sse_parser_init(&parser, size_max, (struct bytes){0}));
    feed(&parser, &ear, bytes_of(stream.data, first));
    for (size_t at = first; at < stream.size; at += each)
        feed(&parser, &ear, bytes_of(stream.data + at, at + each < stream.size ? each : stream.size - at));
    sse_parser_deinit(&parser);
    return ear;
}

static struct ear hear(struct bytes stream, size_t size_max, const char *expected)
{
    struct ear ear = listen_in_pieces(stream, size_max, stream.size, 1);
    assert_string_equal(ear.heard, expected);
    for (size_t split = 0; split <= stream.size; split++)
        assert_string_equal(listen_in_pieces(stream, size_max, split, stream.size).heard, expected);
    assert_string_equal(listen_in_pieces(stream, size_max, 0, 1).heard, expected);
    return ear;
}

#define HEAR(stream, expected) hear(bytes_of("" stream, sizeof(stream) - 1), 1000, expected)

static void the_examples_of_the_standard(void **state)
{
    (void)state;
    HEAR("data: This is the first message.\n\ndata: This is the second message, it\ndata: has two lines.\n\ndata: This is the third message.\n\n",
         "message|This is the first message.|;message|This is the second message, it\nhas two lines.|;message|This is the third message.|;");
    HEAR("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n", "add|73857293|;remove|2153|;add|113411|;");
    HEAR("data: YHOO\ndata: +2\ndata: 10\n\n", "message|YHOO\n+2\n10|;");
    HEAR(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n", "message|first event|1;message|second event|;");
    HEAR("data\n\ndata\ndata\n\ndata:", "message||;message|\n|;");
    HEAR("data:test\n\ndata: test\n\n", "message|test|;message|test|;");
}

static void lines_end_in_three_ways(void **state)
{
    (void)state;
    HEAR("data: a\ndata: b\n\n", "message|a\nb|;");
    HEAR("data: a\r\ndata: b\r\n\r\n", "message|a\nb|;");
    HEAR("data: a\rdata: b\r\r", "message|a\nb|;");
    HEAR("data: a\rdata: b\r\ndata: c\n\ndata: d\r\n\n", "message|a\nb\nc|;message|d|;");
    HEAR("data: a\r\n\rdata: b\n\r", "message|a|;message|b|;");
    HEAR("\n\n\r\r\r\n\r\n\ndata: a\n\n", "message|a|;");
}

static void an_event_is_told_with_the_first_byte_of_its_end(void **state)
{
    (void)state;
    HEAR("data: a\r\n\r", "message|a|;");
    HEAR("data: a\n\r", "message|a|;");
    HEAR("data: a\r\n", "");
}

static void a_mark_of_the_byte_order_is_passed_over_once(void **state)
{
    (void)state;
    HEAR("\xef\xbb\xbf" "data: a\n\n", "message|a|;");
    HEAR("\xef\xbb\xbf\xef\xbb\xbf" "data: a\n\ndata: b\n\n", "message|b|;");
    HEAR("data: a\n\n\xef\xbb\xbf" "data: b\n\ndata: c\n\n", "message|a|;message|c|;");
    HEAR("\xef\xbb" "data: a\n\ndata: b\n\n", "message|b|;");
    HEAR("\xef\xbb\xbf", "");
    HEAR("\xef\xbb", "");
}

static void fields_are_read_as_the_standard_says(void **state)
{
    (void)state;
    HEAR("data:  two spaces\n\n", "message| two spaces|;");
    HEAR("data:\ttab\n\n", "message|\ttab|;");
    HEAR("data : no field\n\n data: nor this\n\nDATA: nor this\n\ndata: yes\n\n", "message|yes|;");
    HEAR("data: a:b: c\n\n", "message|a:b: c|;");
    HEAR("other: x\ndata: a\nother\n: comment\n:\n\n", "message|a|;");
    HEAR("data: \n\n", "message||;");
    HEAR("data:\0\n\n", "message|@|;");
    HEAR("data: a\0b\n\n", "message|a@b|;");
    HEAR("event: x\n\ndata: a\n\n", "message|a|;");
    HEAR("event: x\nevent\ndata: a\n\n", "message|a|;");
    HEAR("event: x\nevent: y\ndata: a\n\n", "y|a|;");
    HEAR("data: unfinished", "");
    HEAR("data: unfinished\n", "");
}

/* Those of web-platform-tests, eventsource/format-*.any.js, that are about what a stream says. */
static void the_cases_of_the_platform_s_tests(void **state)
{
    (void)state;
    HEAR("\xef\xbb\xbf" "data:1\n\n\xef\xbb\xbf" "data:2\n\ndata:3\n\n", "message|1|;message|3|;");
    HEAR("\xef\xbb\xbf\xef\xbb\xbf" "data:1\n\ndata:2\n\ndata:3\n\n", "message|2|;message|3|;");
    HEAR("data:1\r:\0\n:\r\ndata:2\n:xxxxxxxxxxxxxxxxxxxxxxxx\rdata:3\n:data:fail\r:xxxxxxxxxxxxxxxxxxxxxxxx\ndata:4\n\n", "message|1\n2\n3\n4|;");
    assert_int_equal(HEAR("retry:1000\ndata:test1\n\nid:test\ndata:test2", "message|test1|;").retry_ms, 1000);
    HEAR("data:\n\ndata\ndata\n\ndata:test\n\n", "message||;message|\n|;message|test|;");
    HEAR("event:test\ndata:x\n\ndata:x\n\n", "test|x|;message|x|;");
    HEAR("event: \ndata:data\n\n", "message|data|;");
    HEAR("data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n", "message|@\n 2\n1\n3\n\n4|;");
    assert_int_equal(HEAR("retry:03000\ndata:x\n\n", "message|x|;").retry_ms, 3000);
    assert_int_equal(HEAR("retry:3000\nretry:1000x\ndata:x\n\n", "message|x|;").retry_ms, 3000);
    assert_int_equal(HEAR("retry:400\nretry\ndata:test\n\n", "message|test|;").retry_ms, 400);
    HEAR("data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n", "message|test\n\ntest|;");
    HEAR("data:\ttest\rdata: \ndata:test\n\n", "message|\ttest\n\ntest|;");
    HEAR("data:test\r\ndata\ndata:test\r\n\r\n", "message|test\n\ntest|;");
    HEAR("data:\0\n\n\n\n", "message|@|;");
    HEAR("data:ok\xe2\x80\xa6\n\n", "message|ok\xe2\x80\xa6|;");
}

static void ids_stay_until_there_is_another_one(void **state)
{
    (void)state;
    HEAR("id: 1\ndata: a\n\ndata: b\n\nid: 2\ndata: c\n\n", "message|a|1;message|b|1;message|c|2;");
    HEAR("id: 1\n\ndata: a\n\n", "I|1;message|a|1;");
    HEAR("id: 1\ndata: a\n\nid\ndata: b\n\n", "message|a|1;message|b|;");
    HEAR("id: 1\ndata: a\n\nid: x\0y\ndata: b\n\n", "message|a|1;message|b|1;");
    HEAR("id: \0\ndata: b\n\n", "message|b|;");
    HEAR("id: 1\nid: x\0\ndata: b\n\n", "message|b|1;");
    HEAR("id: 1\nid: 2\ndata: b\n\n", "message|b|2;");
    HEAR("id: 1\ndata: a\n\nid: 2\ndata: lost\n", "message|a|1;");
    HEAR("id: \xe2\x80\xa6\ndata: a\n\n", "message|a|\xe2\x80\xa6;");
}

static void an_id_that_is_too_long_for_a_header_is_none(void **state)
{
    (void)state;
    char stream[SSE_ID_MAX + 64];
    for (unsigned more = 0; more < 2; more++) {
        int size = snprintf(stream, sizeof(stream), "id:%0*d\ndata:a\n\n", (int)(SSE_ID_MAX + more), 0);
        struct ear ear = listen_in_pieces(bytes_of(stream, (size_t)size), SSE_SIZE_MAX, 0, 100);
        assert_int_equal(ear.size, more ? strlen("message|a|;") : strlen("message|a|;") + SSE_ID_MAX);
    }
}

static void the_reconnection_time_is_digits_alone(void **state)
{
    (void)state;
    assert_int_equal(HEAR("retry: 1500\n\n", "").retry_ms, 1500);
    assert_int_equal(HEAR("retry:0\n", "").retry_ms, 1);
    assert_int_equal(HEAR("retry: 1500\nretry: x\nretry: 1.5\nretry: -1\nretry: 10ms\nretry\nretry:\nretry:  7\n", "").retry_ms, 1500);
    assert_int_equal(HEAR("retry: 99999999999999999999999999\n", "").retry_ms, SSE_RETRY_MAX_MS);
    assert_int_equal(HEAR("retry: 007\n", "").retry_ms, 7);
}

static void what_is_no_utf8_becomes_replacements(void **state)
{
    (void)state;
    HEAR("data: \xff|\xc3|\xe2\x82|\xf0\x9f\x98|\xed\xa0\x80|\xc0\xaf|\xe2\x82\xac\n\n",
         "message|\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|\xe2\x82\xac|;");
    HEAR("event: \xff\ndata: \xf4\x90\x80\x80\n\n", "\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|;");
}

static void what_is_too_long_is_passed_over_and_told(void **state)
{
    (void)state;
    hear(bytes_of_text("data: 0123456789012345\n\ndata: ok\n\n"), 20, "L;message|ok|;");
    hear(bytes_of_text("data: 0123456789\ndata: 0123456789\ndata: 1\n\ndata: ok\n\n"), 20, "L;message|ok|;");
    hear(bytes_of_text("data: 01234567890123\n\n"), 20, "message|01234567890123|;");
    hear(bytes_of_text("data: 012345678901234\n\n"), 20, "L;");
    hear(bytes_of_text(": a comment may be as long as it likes to be\ndata: ok\n\n"), 20, "message|ok|;");
    hear(bytes_of_text("id: 7\ndata: 0123456789012345\n\ndata: ok\n\n"), 20, "L;message|ok|7;");
    hear(bytes_of_text("data: 0123456789012345\nid: 7\n\ndata: ok\n\n"), 20, "L;message|ok|;");
    hear(bytes_of_text("x0123456789012345678901234567890123456789\ndata: lost\n\ndata: ok\n\n"), 20, "L;message|ok|;");
}

static void a_new_connection_keeps_the_last_id_and_the_time(void **state)
{
    (void)state;
    struct sse_parser parser;
    struct ear ear = {.heard = ""};
    assert_true(sse_parser_init(&parser, 100, bytes_of_text("6")));
    feed(&parser, &ear, bytes_of_text("data: z\n\nretry: 5\nid: 7\ndata: a\n\nevent: x\nid: 8\ndata: lost"));
    sse_parser_reset(&parser);
    feed(&parser, &ear, bytes_of_text("\xef\xbb\xbf" "data: b\n\n"));
    assert_string_equal(ear.heard, "message|z|6;message|a|7;message|b|7;");
    assert_int_equal(ear.retry_ms, 5);
    sse_parser_deinit(&parser);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_standard), cmocka_unit_test(lines_end_in_three_ways), cmocka_unit_test(an_event_is_told_with_the_first_byte_of_its_end),
        cmocka_unit_test(a_mark_of_the_byte_order_is_passed_over_once), cmocka_unit_test(fields_are_read_as_the_standard_says), cmocka_unit_test(the_cases_of_the_platform_s_tests),
        cmocka_unit_test(ids_stay_until_there_is_another_one),
        cmocka_unit_test(an_id_that_is_too_long_for_a_header_is_none), cmocka_unit_test(the_reconnection_time_is_digits_alone), cmocka_unit_test(what_is_no_utf8_becomes_replacements),
        cmocka_unit_test(what_is_too_long_is_passed_over_and_told), cmocka_unit_test(a_new_connection_keeps_the_last_id_and_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
