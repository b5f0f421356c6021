#include "protocol/http/fake_service.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define HOST "Host: localhost\r\n"

/* Feeds `text` to a fresh session, in pieces of `step` bytes; answers what it said, which lies in `fake` until that is closed. */
static const char *said(struct fake *fake, const char *text, size_t step)
{
    fake_open(fake);
    fake_feed(fake, text, strlen(text), step);
    return (const char *)fake->heard;
}

static unsigned count_of(const char *text, const char *word)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        count++;
    return count;
}

static void a_request_is_answered_whole_or_byte_by_byte(void **state)
{
    (void)state;
    for (size_t step = 0; step < 4; step++) {
        struct fake fake;
        assert_string_equal(said(&fake, "POST /echo?a=b HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", step),
                            "HTTP/1.1 200 OK\r\nserver: Godwit\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello");
        assert_false(http_session_finished(fake.session));
        assert_int_equal(fake.gone, 1);
        fake_close(&fake);
    }
}

static void requests_may_be_pipelined(void **state)
{
    (void)state;
    static const char text[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na"
                               "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nbc\r\n1\r\nd\r\n0\r\nTrailer: t\r\n\r\n"
                               "GET /nothing HTTP/1.1\r\n" HOST "\r\n"
                               "HEAD /echo HTTP/1.1\r\n" HOST "\r\n"
                               "GET /stream HTTP/1.1\r\n" HOST "\r\n"
                               "GET /elsewhere HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
                               "GET /never HTTP/1.1\r\n" HOST "\r\n";
    for (size_t step = 0; step < 8; step++) {
        struct fake fake;
        const char *heard = said(&fake, text, step);
        assert_int_equal(count_of(heard, "HTTP/1.1 "), 6);
        assert_non_null(strstr(heard, "\r\n\r\naHTTP/1.1 200"));
        assert_non_null(strstr(heard, "\r\n\r\nbcdHTTP/1.1 204"));
        assert_non_null(strstr(heard, "content-length: 0\r\n\r\nHTTP/1.1 200"));
        assert_non_null(strstr(heard, "5\r\npiece\r\n5\r\npiece\r\n5\r\npiece\r\n0\r\n\r\nHTTP/1.1 404"));
        assert_non_null(strstr(heard, "connection: close\r\n\r\n{"));
        assert_true(http_session_finished(fake.session));
        fake_close(&fake);
    }
}

static void the_next_request_waits_for_the_answer(void **state)
{
    (void)state;
    struct fake fake;
    assert_string_equal(said(&fake, "GET /wait HTTP/1.1\r\n" HOST "\r\n", 0), "");
    assert_true(http_session_wants_input(fake.session));   /* so that its end is seen */
    fake_feed(&fake, "GET /nothing HTTP/1.1\r\n" HOST "\r\n", 42, 0);
    assert_false(http_session_wants_input(fake.session));
    assert_string_equal((const char *)fake.heard, "");
    fake_reply(&fake, "now");
    assert_int_equal(count_of((const char *)fake.heard, "HTTP/1.1 2"), 2);
    assert_non_null(strstr((const char *)fake.heard, "nowHTTP/1.1 204 No Content"));
    fake_close(&fake);
}

static void http_1_0_closes_unless_asked(void **state)
{
    (void)state;
    struct fake fake;
    assert_non_null(strstr(said(&fake, "GET /stream HTTP/1.0\r\n\r\n", 0), "connection: close\r\n\r\npiecepiecepiece"));
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
    assert_non_null(strstr(said(&fake, "GET /nothing HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 1), "connection: keep-alive\r\n"));
    assert_false(http_session_finished(fake.session));
    fake_close(&fake);
}

/* What leaves room for two readings, and what it is answered. */
static void nothing_is_smuggled(void **state)
{
    (void)state;
    static const struct { const char *text, *status; } cases[] = {
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3, 3\r\n\r\nabc", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: +3\r\n\r\nabc", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0x3\r\n\r\nabc", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length : 3\r\n\r\nabc", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", "501"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "501"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: \x0b" "chunked\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n", "501"},
        {"POST /echo HTTP/1.1\r\n" HOST "X: \rxTransfer-Encoding: chunked\r\n\r\n", "400"},
        {"POST /echo HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "400"},
        {"GET /echo HTTP/1.1\r\n" HOST "X: a\r\n folded\r\n\r\n", "400"},
        {"GET /echo HTTP/1.1\r\n X: a\r\n" HOST "\r\n", "400"},
        {"GET /echo HTTP/1.1\nHost: localhost\n\n", "400"},
        {"GET /echo HTTP/1.1\r\n" HOST HOST "\r\n", "400"},
        {"GET /echo HTTP/1.1\r\n\r\n", "400"},
        {"GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n", "400"},
        {"GET  /echo HTTP/1.1\r\n" HOST "\r\n", "400"},
        {"GET /echo HTTP/1.1 \r\n" HOST "\r\n", "400"},
        {"GET /echo HTTP/2.0\r\n" HOST "\r\n", "505"},
        {"GET /echo HTTP/1.2\r\n" HOST "\r\n", "505"},
        {"GET /echo\r\n\r\n", "400"},
        {"GET echo HTTP/1.1\r\n" HOST "\r\n", "400"},
        {"FETCH /echo HTTP/1.1\r\n" HOST "\r\n", "501"},
        {"GET /echo HTTP/1.1\r\n" HOST "B\xc3\xa4r: x\r\n\r\n", "400"},
        {"GET /echo HTTP/1.1\r\n" HOST ": x\r\n\r\n", "400"},
        {"GET /echo HTTP/1.1\r\n" HOST "none\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", "400"},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "400"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t step = 0; step < 3; step++) {
            struct fake fake;
            const char *heard = said(&fake, cases[i].text, step);
            char expected[32];
            snprintf(expected, sizeof(expected), "HTTP/1.1 %s ", cases[i].status);
            if (strncmp(heard, expected, strlen(expected)) != 0)
                fail_msg("%s\nwas answered: %s", cases[i].text, heard);
            assert_non_null(strstr(heard, "application/problem+json"));
            assert_non_null(strstr(heard, "connection: close"));
            assert_int_equal(count_of(heard, "server: "), 1);
            assert_true(http_session_finished(fake.session));
            fake_close(&fake);
        }
    }
}

static void a_head_is_at_most_64_kib(void **state)
{
    (void)state;
    for (unsigned more = 0; more < 2; more++) {
        static char text[70000];
        struct fake fake;
        int at = snprintf(text, sizeof(text), "GET /nothing HTTP/1.1\r\n" HOST "X: ");
        size_t fill = 65536 - (size_t)at - 4 + more;
        memset(text + at, 'x', fill);
        memcpy(text + (size_t)at + fill, "\r\n\r\n", 5);
        const char *heard = said(&fake, text, 1000);
        assert_non_null(strstr(heard, more ? "HTTP/1.1 431 " : "HTTP/1.1 204 "));
        fake_close(&fake);
    }
    static char many[16000] = "GET /nothing HTTP/1.1\r\n" HOST;
    struct fake fake;
    for (unsigned i = 0; i < 128; i++)
        strcat(many, "x-header: 1\r\n");
    strcat(many, "\r\n");
    assert_non_null(strstr(said(&fake, many, 0), "HTTP/1.1 431 "));
    fake_close(&fake);
}

static void a_body_nobody_wants_is_passed_over_or_ends_the_connection(void **state)
{
    (void)state;
    struct fake fake;
    const char *heard = said(&fake, "POST /early HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhelloGET /nothing HTTP/1.1\r\n" HOST "\r\n", 1);
    assert_int_equal(count_of(heard, "HTTP/1.1 "), 2);
    fake_close(&fake);
    heard = said(&fake, "POST /early HTTP/1.1\r\n" HOST "Content-Length: 50000000\r\n\r\nhello", 1);
    assert_non_null(strstr(heard, "HTTP/1.1 403 "));
    assert_non_null(strstr(heard, "connection: close"));
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
    heard = said(&fake, "POST /early HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 0);
    assert_int_equal(count_of(heard, "HTTP/1.1 "), 1);
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
    heard = said(&fake, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", 0);
    assert_string_equal(heard, "HTTP/1.1 100 Continue\r\n\r\n");
    fake_feed(&fake, "ok", 2, 0);
    assert_non_null(strstr((const char *)fake.heard, "\r\n\r\nok"));
    fake_close(&fake);
}

static void pass(struct fake *fake, uint64_t us)
{
    fake->now_us += us;
    http_session_tick(fake->session, fake->now_us);
    fake_turn(fake);
}

static void time_runs_out(void **state)
{
    (void)state;
    struct fake fake;
    said(&fake, "GET /nothing HT", 0);
    pass(&fake, 9999000);
    assert_false(http_session_finished(fake.session));
    pass(&fake, 2000);
    assert_non_null(strstr((const char *)fake.heard, "HTTP/1.1 408 "));
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);

    said(&fake, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc", 0);
    pass(&fake, 29999000);
    assert_false(http_session_finished(fake.session));
    pass(&fake, 2000);
    assert_non_null(strstr((const char *)fake.heard, "HTTP/1.1 408 "));
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);

    said(&fake, "GET /nothing HTTP/1.1\r\n" HOST "\r\n", 0);
    pass(&fake, 59999000);
    assert_false(http_session_finished(fake.session));
    pass(&fake, 2000);
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);

    said(&fake, "GET /wait HTTP/1.1\r\n" HOST "\r\n", 0);   /* an answer may take its time */
    assert_true(http_session_deadline(fake.session) == UINT64_MAX);
    fake_close(&fake);
}

static void a_peer_that_does_not_read_is_given_up(void **state)
{
    (void)state;
    struct fake fake;
    struct iovec iov[4];
    said(&fake, "GET /wait HTTP/1.1\r\n" HOST "\r\n", 0);
    http_answer(fake.waiting, &(struct http_answer){.status = 200, .body = bytes_of_text("x")});
    assert_true(http_session_output(fake.session, iov, 4) > 0);
    fake.now_us += 30000001;
    http_session_tick(fake.session, fake.now_us);
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
}

static void a_peer_that_asks_and_asks_and_does_not_read_gets_a_few_answers(void **state)
{
    (void)state;
    static const char one[] = "GET /nothing HTTP/1.1\r\n" HOST "\r\n";
    static char text[1000 * sizeof(one)];
    size_t size = 0;
    struct fake fake;
    fake_open(&fake);
    fake.config.output_limit = 1000;
    for (unsigned i = 0; i < 1000; i++, size += sizeof(one) - 1)
        memcpy(text + size, one, sizeof(one) - 1);
    size_t taken = http_session_feed(fake.session, bytes_of(text, size), fake.now_us);
    assert_in_range(fake.calls, 2, 20);
    assert_int_equal(taken, fake.calls * (sizeof(one) - 1));
    assert_false(http_session_wants_input(fake.session));
    fake_turn(&fake);
    fake_feed(&fake, text + taken, size - taken, 0);
    assert_int_equal(count_of((const char *)fake.heard, "HTTP/1.1 204 "), 1000);
    fake_close(&fake);
}

static void a_peer_that_says_no_more_gets_what_it_asked_for(void **state)
{
    (void)state;
    struct fake fake;
    said(&fake, "GET /wait HTTP/1.1\r\n" HOST "\r\n", 0);
    http_session_ended(fake.session, fake.now_us);
    assert_false(http_session_finished(fake.session));
    fake_reply(&fake, "late");
    assert_non_null(strstr((const char *)fake.heard, "late"));
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
    said(&fake, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc", 0);
    http_session_ended(fake.session, fake.now_us);
    assert_true(http_session_finished(fake.session));
    assert_int_equal(fake.gone, 1);
    fake_close(&fake);
}

static void a_server_that_stops_answers_first(void **state)
{
    (void)state;
    struct fake fake;
    said(&fake, "GET /wait HTTP/1.1\r\n" HOST "\r\n", 0);
    http_session_shutdown(fake.session, fake.now_us);
    assert_false(http_session_finished(fake.session));
    fake_reply(&fake, "last");
    assert_non_null(strstr((const char *)fake.heard, "connection: close\r\n\r\nlast"));
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
    said(&fake, "GET /nothing HTTP/1.1\r\n" HOST "\r\n", 0);
    http_session_shutdown(fake.session, fake.now_us);
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
}

/* ---- HTTP/2 ---------------------------------------------------------------------------------------------------------- */

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\x04\0\0\0\0\0"
/* :method POST (static 3), :scheme http (6), :path /echo (literal, name 4), :authority a (literal, name 1) */
#define POST_ECHO "\x83\x86\x04\x05/echo\x01\x01" "a"
#define GET_WAIT "\x82\x86\x04\x05/wait\x01\x01" "a"

/* The frames of one type that were heard. */
static unsigned frames(const struct fake *fake, uint8_t type, struct bytes *last)
{
    unsigned count = 0;
    for (size_t at = 0; at + 9 <= fake->heard_size;) {
        const uint8_t *frame = fake->heard + at;
        size_t size = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
        assert_true(at + 9 + size <= fake->heard_size);
        if (frame[3] == type) {
            count++;
            *last = bytes_of(frame + 9, size);
        }
        at += 9 + size;
    }
    return count;
}

static void http_2_with_prior_knowledge(void **state)
{
    (void)state;
    static const char text[] = PREFACE SETTINGS "\0\0\x0c\x01\x04\0\0\0\x01" POST_ECHO "\0\0\x02\0\x01\0\0\0\x01hi"
                               "\0\0\x0c\x01\x04\0\0\0\x03" POST_ECHO "\0\0\x02\0\x01\0\0\0\x03ho";
    for (size_t step = 0; step < 4; step++) {
        struct fake fake;
        struct bytes last = {0};
        fake_open(&fake);
        fake_feed(&fake, text, sizeof(text) - 1, step);
        assert_int_equal(frames(&fake, 1, &last), 2);
        assert_int_equal(frames(&fake, 0, &last), 2);
        assert_memory_equal(last.data, "ho", 2);
        assert_int_equal(fake.gone, 2);
        assert_false(http_session_finished(fake.session));
        assert_true(http_session_deadline(fake.session) > fake.now_us + 50000000);
        fake_close(&fake);
    }
}

static void requests_of_http_2_do_not_wait_for_each_other(void **state)
{
    (void)state;
    static const char text[] = PREFACE SETTINGS "\0\0\x0c\x01\x05\0\0\0\x01" GET_WAIT "\0\0\x0c\x01\x04\0\0\0\x03" POST_ECHO "\0\0\x02\0\x01\0\0\0\x03ho";
    struct fake fake;
    struct bytes last = {0};
    fake_open(&fake);
    fake_feed(&fake, text, sizeof(text) - 1, 0);
    assert_int_equal(frames(&fake, 0, &last), 1);
    http_session_shutdown(fake.session, fake.now_us);
    fake_turn(&fake);
    assert_int_equal(frames(&fake, 7, &last), 1);
    assert_false(http_session_finished(fake.session));
    fake_reply(&fake, "late");
    assert_int_equal(frames(&fake, 0, &last), 2);
    assert_memory_equal(last.data, "late", 4);
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
}

static void a_peer_that_resets_and_resets_is_told_to_be_calm(void **state)
{
    (void)state;
    struct fake fake;
    struct bytes last = {0};
    fake_open(&fake);
    fake_feed(&fake, PREFACE SETTINGS, 24 + 9, 0);
    for (unsigned i = 0; i < 300; i++) {
        char text[40] = "\0\0\x0c\x01\x05\0\0\0\0" GET_WAIT "\0\0\x04\x03\0\0\0\0\0\0\0\0\x08";
        text[7] = text[28] = (char)((2 * i + 1) >> 8);
        text[8] = text[29] = (char)(2 * i + 1);
        fake_feed(&fake, text, 21 + 13, 0);
    }
    assert_int_equal(frames(&fake, 7, &last), 1);
    assert_int_equal(last.data[7], 11);   /* ENHANCE_YOUR_CALM */
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
}

static void a_peer_that_opens_no_window_is_given_up(void **state)
{
    (void)state;
    static const char text[] = PREFACE "\0\0\x06\x04\0\0\0\0\0" "\0\x04\0\0\0\0" "\0\0\x0c\x01\x05\0\0\0\x01" GET_WAIT;
    static const char wider[] = "\0\0\x04\x08\0\0\0\0\x01" "\0\0\0\x02";
    struct fake fake;
    struct bytes last = {0};
    fake_open(&fake);
    fake_feed(&fake, text, sizeof(text) - 1, 0);
    fake_reply(&fake, "four");
    assert_int_equal(frames(&fake, 1, &last), 1);
    assert_int_equal(frames(&fake, 0, &last), 0);
    fake.now_us += 29000000;
    http_session_tick(fake.session, fake.now_us);
    fake_feed(&fake, wider, sizeof(wider) - 1, 0);
    assert_int_equal(frames(&fake, 0, &last), 1);
    assert_memory_equal(last.data, "fo", 2);
    assert_int_equal(http_session_deadline(fake.session), fake.now_us + 30000000);
    fake.now_us += 30000000;
    http_session_tick(fake.session, fake.now_us);
    fake_turn(&fake);
    assert_int_equal(frames(&fake, 3, &last), 1);
    assert_int_equal(fake.gone, 1);
    assert_false(http_session_finished(fake.session));
    fake_close(&fake);
}

static void a_stream_cannot_be_begun_after_a_later_one(void **state)
{
    (void)state;
    for (unsigned again = 0; again < 2; again++) {   /* one that is over is something else */
        char text[] = PREFACE SETTINGS "\0\0\x0c\x01\x05\0\0\0\x05" GET_WAIT "\0\0\x0c\x01\x05\0\0\0\x0b" GET_WAIT "\0\0\x04\x03\0\0\0\0\x05\0\0\0\x08" "\0\0\x0c\x01\x05\0\0\0\x07" GET_WAIT;
        struct fake fake;
        struct bytes last = {0};
        text[sizeof(text) - 1 - 12 - 1] = again ? 5 : 7;
        fake_open(&fake);
        fake_feed(&fake, text, sizeof(text) - 1, 0);
        assert_int_equal(frames(&fake, 7, &last), 1);
        assert_int_equal(last.data[7], again ? 5 : 1);   /* STREAM_CLOSED, PROTOCOL_ERROR */
        fake_close(&fake);
    }
}

static void who_asks_may_be_told_to_go_on(void **state)
{
    (void)state;
    static const char head[] = PREFACE SETTINGS "\0\0\x21\x01\x04\0\0\0\x01" POST_ECHO "\0\x06" "expect" "\x0c" "100-continue";
    struct fake fake;
    struct bytes last = {0};
    fake_open(&fake);
    fake_feed(&fake, head, sizeof(head) - 1, 0);
    assert_int_equal(frames(&fake, 1, &last), 1);
    fake_feed(&fake, "\0\0\x02\0\x01\0\0\0\x01hi", 11, 0);
    assert_int_equal(frames(&fake, 1, &last), 2);
    assert_int_equal(frames(&fake, 0, &last), 1);
    fake_close(&fake);
}

static void what_is_no_http_2_is_refused(void **state)
{
    (void)state;
    struct fake fake;
    struct bytes last = {0};
    fake_open(&fake);
    fake_feed(&fake, PREFACE "\0\0\x01\x04\0\0\0\0\0\0", 24 + 10, 0);   /* SETTINGS of one byte */
    assert_int_equal(frames(&fake, 7, &last), 1);
    assert_true(http_session_finished(fake.session));
    fake_close(&fake);
}

/* RFC 9113 section 3.4: where both have agreed on HTTP/2, anything else is answered as an error of that, however it comes. */
static void who_has_agreed_on_http_2_begins_with_its_preface(void **state)
{
    (void)state;
    static const char *const others[] = {"GET /echo HTTP/1.1\r\n" HOST "\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/1.1\r\n" HOST "\r\n", "P?", "\n"};
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        for (size_t step = 0; step < 3; step++) {
            struct fake fake;
            struct bytes last = {0};
            fake_open(&fake);
            http_session_agreed_2(fake.session);
            fake_feed(&fake, others[i], strlen(others[i]), step);
            assert_int_equal(frames(&fake, 4, &last), 1);   /* SETTINGS, which come first whatever follows, */
            assert_int_equal(frames(&fake, 7, &last), 1);   /* and GOAWAY with PROTOCOL_ERROR */
            assert_memory_equal(last.data, "\0\0\0\0\0\0\0\1", 8);
            assert_int_equal(fake.calls, 0);
            assert_true(http_session_finished(fake.session));
            fake_close(&fake);
        }
    }
    for (size_t step = 0; step < 8; step++) {
        static const char text[] = PREFACE SETTINGS "\0\0\x0c\x01\x04\0\0\0\x01" POST_ECHO "\0\0\x02\0\x01\0\0\0\x01hi";
        struct fake fake;
        fake_open(&fake);
        http_session_agreed_2(fake.session);
        fake_feed(&fake, text, sizeof(text) - 1, step);
        assert_int_equal(fake.gone, 1);
        assert_false(http_session_finished(fake.session));
        fake_close(&fake);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered_whole_or_byte_by_byte),
        cmocka_unit_test(requests_may_be_pipelined),
        cmocka_unit_test(the_next_request_waits_for_the_answer),
        cmocka_unit_test(http_1_0_closes_unless_asked),
        cmocka_unit_test(nothing_is_smuggled),
        cmocka_unit_test(a_head_is_at_most_64_kib),
        cmocka_unit_test(a_body_nobody_wants_is_passed_over_or_ends_the_connection),
        cmocka_unit_test(time_runs_out),
        cmocka_unit_test(a_peer_that_does_not_read_is_given_up),
        cmocka_unit_test(a_peer_that_asks_and_asks_and_does_not_read_gets_a_few_answers),
        cmocka_unit_test(a_peer_that_says_no_more_gets_what_it_asked_for),
        cmocka_unit_test(a_server_that_stops_answers_first),
        cmocka_unit_test(http_2_with_prior_knowledge),
        cmocka_unit_test(requests_of_http_2_do_not_wait_for_each_other),
        cmocka_unit_test(a_peer_that_resets_and_resets_is_told_to_be_calm),
        cmocka_unit_test(a_peer_that_opens_no_window_is_given_up),
        cmocka_unit_test(a_stream_cannot_be_begun_after_a_later_one),
        cmocka_unit_test(who_asks_may_be_told_to_go_on),
        cmocka_unit_test(what_is_no_http_2_is_refused),
        cmocka_unit_test(who_has_agreed_on_http_2_begins_with_its_preface),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
