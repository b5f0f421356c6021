/* Supervised sources, kind by kind, over a sink and a feeder that the test answers for. */
#include "sources/test_source.h"

#include "sources/source_state.h"

#define SSE "{\"id\": \"s\", \"kind\": \"sse\", \"url\": \"http://example.com/events\"}"
#define POLL "{\"id\": \"w\", \"kind\": \"poll\", \"url\": \"http://example.com/\", \"interval\": \"10s\"}"
#define STREAM "content-type", "text/event-stream; charset=utf-8"

/* ---- server-sent events ---- */

static void an_event_stream_is_resumed_behind_what_is_on_disk(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    assert_string_equal(w.address, "http://example.com/events");
    assert_string_equal(w.headers, "Accept: text/event-stream\nCache-Control: no-store\nAccept-Encoding: identity\n");
    ANSWER(&w, 200, STREAM);
    come(&w, "id: 1\ndata: a\n\nid: 2\nevent: add\ndata: {\"x\": 1}\n\nid: 3\ndata: half");
    heard(&w, "sse.message s/1 a\nsse.add s/2 {\"x\": 1}\n");
    assert_string_equal(w.last_content_type, "application/json");
    assert_string_equal(w.last_source, "/sources/s");
    assert_string_equal(w.saved, "{\"id\":\"2\",\"retry_ms\":0,\"kind\":\"sse\"}");
    state_is(&w, "running");
    /* What is read and not confirmed comes again after a crash. */
    w.confirms_at_once = false;
    come(&w, "\n\nid: 4\ndata: b\n\n");
    heard(&w, "sse.message s/3 half\nsse.message s/4 b\n");
    source_confirmed(w.source, w.tickets[w.count - 1], true);
    turn(&w);
    crash(&w);
    w.confirms_at_once = true;
    begin_source(&w, SSE);
    assert_non_null(strstr(w.headers, "\nLast-Event-ID: 2\n"));
    source_free(w.source);
}

static void a_connection_is_made_again_after_the_reconnection_time(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    ANSWER(&w, 200, STREAM);
    come(&w, "id: 7\ndata: a\n\n");
    end(&w, FEED_OVER, "");
    state_is(&w, "waiting");
    live(&w, 3 * SECOND - 1);
    assert_int_equal(w.begun, 1);
    live(&w, 2);
    assert_int_equal(w.begun, 2);
    assert_non_null(strstr(w.headers, "Last-Event-ID: 7\n"));
    ANSWER(&w, 200, STREAM);
    come(&w, "retry: 100\n\n");
    end(&w, FEED_OVER, "");
    live(&w, 101000);
    assert_int_equal(w.begun, 3);
    source_free(w.source);
}

static void a_server_that_is_away_is_asked_less_and_less(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    uint64_t longest_us = 0;
    for (unsigned i = 0; i < 12; i++) {
        end(&w, FEED_UNREACHABLE, "Nobody listens there.");
        state_is(&w, "failing");
        error_is(&w, "Nobody listens there.");
        uint64_t from_us = w.now_us;
        unsigned begun = w.begun;
        while (w.begun == begun)
            live(&w, 10000);
        uint64_t waited_us = w.now_us - from_us;
        uint64_t most_us = i < 5 ? (3ull << i) * SECOND : 60 * SECOND;
        assert_true(waited_us >= 3 * SECOND && waited_us >= most_us / 2 && waited_us <= most_us + most_us / 8 + 20000);
        longest_us = waited_us > longest_us ? waited_us : longest_us;
    }
    assert_true(longest_us > 30 * SECOND);
    ANSWER(&w, 200, STREAM);
    state_is(&w, "running");
    end(&w, FEED_OVER, "");
    state_is(&w, "waiting");
    source_free(w.source);
}

static void the_answer_204_ends_it_and_others_are_tried_again(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    ANSWER(&w, 503, "content-type", "text/html");
    turn(&w);
    assert_int_equal(w.cancelled, 1);
    state_is(&w, "failing");
    error_is(&w, "The server answered 503.");
    live(&w, 4 * SECOND);
    ANSWER(&w, 200, "content-type", "text/event-streams");
    turn(&w);
    error_is(&w, "What the server sends is no text/event-stream, but \"text/event-streams\".");
    live(&w, 7 * SECOND);
    ANSWER(&w, 204, STREAM);
    turn(&w);
    state_is(&w, "ended");
    live(&w, DAY);
    assert_int_equal(w.begun, 3);
    /* Paused and resumed it begins again. */
    source_pause(w.source, true);
    turn(&w);
    state_is(&w, "paused");
    source_pause(w.source, false);
    turn(&w);
    assert_int_equal(w.begun, 4);
    source_free(w.source);
}

static void what_is_declared_takes_the_place_of_headers(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"s\", \"kind\": \"sse\", \"url\": \"http://example.com/\", \"headers\": {\"accept\": \"*/*\", \"Cache-control\": \"no-cache\", \"Last-Event-Id\": \"41\"}}");
    assert_string_equal(w.headers, "Accept-Encoding: identity\naccept: */*\nCache-control: no-cache\nLast-Event-Id: 41\n");
    ANSWER(&w, 200, STREAM);
    come(&w, "id: 42\ndata: a\n\n");
    end(&w, FEED_OVER, "");
    live(&w, 4 * SECOND);
    /* Where it begins is known better now. */
    assert_string_equal(w.headers, "Accept-Encoding: identity\naccept: */*\nCache-control: no-cache\nLast-Event-ID: 42\n");
    source_free(w.source);
}

static void a_server_s_haste_is_bounded(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    for (unsigned i = 0; i < 2; i++) {
        ANSWER(&w, 200, STREAM);
        come(&w, i ? "retry: 0\n\n" : "retry: 1\n\n");
        end(&w, FEED_OVER, "");
        unsigned begun = w.begun;
        live(&w, 99000);
        assert_int_equal(w.begun, begun);
        live(&w, 2000);
        assert_int_equal(w.begun, begun + 1);
    }
    source_free(w.source);
}

static void nobody_is_asked_before_he_wants_to_be(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++)
        for (unsigned failures = 0; failures < 3; failures++) {
            struct world w = {0};
            begin_source(&w, kind ? POLL : SSE);
            for (unsigned i = 0; i <= failures; i++) {
                ANSWER(&w, 503, "retry-after", "120", STREAM);
                if (kind)
                    end(&w, FEED_OVER, "");
                unsigned begun = w.begun;
                live(&w, 119 * SECOND);
                assert_int_equal(w.begun, begun);
                live(&w, 17 * SECOND);
                assert_int_equal(w.begun, begun + 1);
            }
            source_free(w.source);
        }
}

static void what_a_server_said_can_be_shown(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    ANSWER(&w, 200, "content-type", "text/h\xe9\x1b[0m");
    turn(&w);
    error_is(&w, "What the server sends is no text/event-stream, but \"text/h??[0m\".");
    source_free(w.source);
}

static void events_without_an_id_are_told_apart(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    ANSWER(&w, 200, STREAM);
    come(&w, "data: a\n\ndata: a\n\nid: 5\ndata: b\n\ndata: c\n\n");
    char *c = strstr(w.heard, "s/5+1.");
    assert_non_null(c);
    char first[64];
    snprintf(first, sizeof(first), "%.*s", 22, c);
    assert_non_null(strstr(w.heard, "+1 a\n"));
    assert_non_null(strstr(w.heard, "+2 a\n"));
    w.heard_size = 0;
    end(&w, FEED_OVER, "");
    live(&w, 4 * SECOND);
    ANSWER(&w, 200, STREAM);
    come(&w, "data: c\n\n");
    assert_non_null(strstr(w.heard, first));
    source_free(w.source);
}

static void templates_make_the_event(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"p\", \"kind\": \"sse\", \"url\": \"http://example.com/\", \"type\": \"price.{{json:/symbol}}\", \"subject\": \"{{id}}\", \"key\": \"{{json:/symbol}}\","
                     " \"source\": \"/exchange/{{source}}\", \"data\": \"{{json:/price}}\", \"content_type\": \"text/plain\", \"headers\": {\"Authorization\": \"Bearer x\"}}");
    assert_non_null(strstr(w.headers, "Authorization: Bearer x\n"));
    ANSWER(&w, 200, STREAM);
    come(&w, "id: 1\ndata: {\"symbol\": \"GWT\", \"price\": 12.5}\n\n");
    heard(&w, "price.GWT p/1 12.5\n");
    assert_string_equal(w.last_subject, "1");
    assert_string_equal(w.last_key, "GWT");
    assert_string_equal(w.last_source, "/exchange/p");
    assert_string_equal(w.last_content_type, "text/plain");
    /* What makes no type and no key is an event all the same. */
    come(&w, "id: 2\ndata: {\"symbol\": \"a\\nb\", \"price\": 1}\n\n");
    heard(&w, "sse.message p/2 1\n");
    assert_string_equal(w.last_key, "");
    source_free(w.source);
}

static void too_much_on_its_way_holds_the_feed(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"s\", \"kind\": \"sse\", \"url\": \"http://example.com/\", \"window\": 2}");
    ANSWER(&w, 200, STREAM);
    w.confirms_at_once = false;
    come(&w, "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    assert_int_equal(w.count, 2);
    assert_false(w.is_paused);
    come(&w, "data: 4\n\ndata: 5\n\n");
    assert_true(w.is_paused);
    state_is(&w, "held");
    assert_int_equal(w.count, 2);
    w.confirms_at_once = true;
    turn(&w);
    assert_int_equal(w.count, 5);
    assert_false(w.is_paused);
    source_free(w.source);
}

static void what_the_broker_refuses_is_published_again(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    ANSWER(&w, 200, STREAM);
    w.confirms_at_once = false;
    come(&w, "id: 1\ndata: a\n\nid: 2\ndata: b\n\n");
    source_confirmed(w.source, w.tickets[1], true);
    source_confirmed(w.source, w.tickets[0], false);
    turn(&w);
    /* The position waits for the first one. */
    assert_false(w.save_waits);
    assert_int_equal(w.count, 2);
    live(&w, SECOND + 1);
    turn(&w);
    assert_int_equal(w.count, 3);
    assert_int_equal(w.tickets[2], w.tickets[0]);
    source_confirmed(w.source, w.tickets[2], true);
    turn(&w);
    assert_true(w.save_waits);
    assert_non_null(strstr(w.saving, "\"id\":\"2\""));
    source_free(w.source);
}

static void what_was_under_way_when_the_broker_was_lost_is_published_again(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    ANSWER(&w, 200, STREAM);
    w.confirms_at_once = false;
    come(&w, "id: 1\ndata: a\n\nid: 2\ndata: b\n\n");
    w.refuses = true;
    source_lost(w.source);
    turn(&w);
    assert_int_equal(w.count, 2);
    w.refuses = false;
    source_ready(w.source);
    turn(&w);
    assert_int_equal(w.count, 4);
    w.answered = 2;
    w.confirms_at_once = true;
    turn(&w);
    assert_non_null(strstr(w.saved, "\"id\":\"2\""));
    source_free(w.source);
}

/* ---- polling ---- */

static void an_answer_that_is_another_one_is_an_event(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, POLL);
    ANSWER(&w, 200, "etag", "\"a\"", "last-modified", "Thu, 01 Jan 2026 00:00:00 GMT", "content-type", "text/x");
    come(&w, "one");
    end(&w, FEED_OVER, "");
    assert_true(strncmp(w.heard, "poll.changed w/1-", 17) == 0);
    assert_string_equal(w.last_content_type, "text/x");
    w.heard_size = 0;
    w.heard[0] = 0;
    live(&w, 10 * SECOND + 1);
    assert_string_equal(w.headers, "If-None-Match: \"a\"\nIf-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT\n");
    ANSWER(&w, 304, "etag", "\"a\"");
    end(&w, FEED_OVER, "");
    /* Over a restart, too. */
    crash(&w);
    begin_source(&w, POLL);
    assert_non_null(strstr(w.headers, "If-None-Match: \"a\"\n"));
    ANSWER(&w, 200, "etag", "\"b\"");
    come(&w, "one");
    end(&w, FEED_OVER, "");
    heard(&w, "");
    live(&w, 10 * SECOND + 1);
    ANSWER(&w, 200, "etag", "\"c\"", "retry-after", "100");
    come(&w, "two");
    end(&w, FEED_OVER, "");
    assert_true(strncmp(w.heard, "poll.changed w/2-", 17) == 0);
    unsigned begun = w.begun;
    live(&w, 99 * SECOND);
    assert_int_equal(w.begun, begun);
    live(&w, 2 * SECOND);
    assert_int_equal(w.begun, begun + 1);
    ANSWER(&w, 500, "x", "");
    end(&w, FEED_OVER, "");
    error_is(&w, "The server answered 500.");
    source_free(w.source);
}

/* RFC 9110 lets an ETag have bytes that are no UTF-8, of which no position can be made. */
static void a_tag_that_is_no_text_is_none(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, POLL);
    ANSWER(&w, 200, "etag", "\"caf\xe9\"", "content-type", "text/x\xe9", "last-modified", "Thu, 01 Jan 2026 00:00:00 GMT");
    come(&w, "one");
    end(&w, FEED_OVER, "");
    assert_string_equal(w.last_content_type, "text/plain; charset=utf-8");
    assert_non_null(strstr(w.saved, "\"etag\":\"\""));
    live(&w, 10 * SECOND + 1);
    assert_string_equal(w.headers, "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT\n");
    /* Nothing there is no event, and nothing that is wrong. */
    ANSWER(&w, 204, "x", "");
    end(&w, FEED_OVER, "");
    state_is(&w, "waiting");
    error_is(&w, "");
    source_free(w.source);
}

/* ---- time ---- */

static void a_timer_comes_again(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"t\", \"kind\": \"timer\", \"every\": \"10s\"}");
    live(&w, 25 * SECOND);
    heard(&w, "timer.due t/1774742410000 {\"time\":\"2026-03-29T00:00:10Z\",\"missed\":0}\ntimer.due t/1774742420000 {\"time\":\"2026-03-29T00:00:20Z\",\"missed\":0}\n");
    assert_string_equal(w.last_content_type, "application/json");
    /* 65 seconds away: 30, 40, … 90 were missed, one event stands for them, and the times stay the same. */
    crash(&w);
    pass(&w, 68 * SECOND);
    begin_source(&w, "{\"id\": \"t\", \"kind\": \"timer\", \"every\": \"10s\"}");
    live(&w, 8 * SECOND);
    heard(&w, "timer.due t/1774742490000 {\"time\":\"2026-03-29T00:01:30Z\",\"missed\":7}\ntimer.due t/1774742500000 {\"time\":\"2026-03-29T00:01:40Z\",\"missed\":0}\n");
    source_free(w.source);
}

static void missed_times_are_told_as_it_is_declared(void **state)
{
    (void)state;
    for (unsigned policy = 0; policy < 3; policy++) {
        static const char *const names[] = {"once", "skip", "all"};
        char text[200];
        struct world w = {0};
        snprintf(text, sizeof(text), "{\"id\": \"c\", \"kind\": \"cron\", \"expression\": \"0 * * * *\", \"missed\": \"%s\", \"data\": \"{{missed}}\"}", names[policy]);
        begin_source(&w, text);
        live(&w, 3600 * SECOND + 1000);
        heard(&w, "cron.due c/1774746000000 0\n");
        crash(&w);
        pass(&w, (3 * 3600 + 1800) * (uint64_t)SECOND);
        begin_source(&w, text);
        live(&w, 1800 * SECOND);
        heard(&w, policy == 0 ? "cron.due c/1774756800000 3\ncron.due c/1774760400000 0\n" : policy == 1 ? "cron.due c/1774760400000 0\n"
              : "cron.due c/1774749600000 0\ncron.due c/1774753200000 0\ncron.due c/1774756800000 0\ncron.due c/1774760400000 0\n");
        source_free(w.source);
    }
}

static void years_of_missed_times_are_bounded(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        const char *text = kind ? "{\"id\": \"t\", \"kind\": \"timer\", \"every\": \"60s\", \"missed\": \"all\", \"data\": \"x\"}"
                                : "{\"id\": \"t\", \"kind\": \"cron\", \"expression\": \"* * * * *\", \"missed\": \"all\", \"data\": \"x\"}";
        struct world w = {0};
        begin_source(&w, text);
        crash(&w);
        pass(&w, 30 * DAY);
        begin_source(&w, text);
        live(&w, SECOND);
        assert_true(w.count >= 999 && w.count <= 1001);
        source_free(w.source);
    }
}

static void a_clock_that_is_set_back_tells_nothing_twice(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"t\", \"kind\": \"timer\", \"every\": \"10s\", \"data\": \"x\"}");
    live(&w, 15 * SECOND);
    heard(&w, "timer.due t/1774742410000 x\n");
    w.wall_us -= 3600 * (uint64_t)SECOND;
    live(&w, 1800 * SECOND);
    heard(&w, "");
    live(&w, 1806 * SECOND);
    heard(&w, "timer.due t/1774742420000 x\n");
    /* By more than a day: then it had been wrong before. */
    w.wall_us -= 30 * DAY;
    live(&w, 71 * SECOND);
    assert_true(w.count >= 3);
    error_is(&w, "The clock was set back by more than a day: it begins with what is now.");
    source_free(w.source);
}

/* ---- files ---- */

#define LOG "{\"id\": \"l\", \"kind\": \"file\", \"path\": \"/var/log/x\"}"

static uint64_t open_file(struct world *w, uint64_t inode, const char *content)
{
    struct feed_opening opening = {.inode = inode, .size = strlen(content), .head = bytes_of_text(content)};
    assert_non_null(w->feed);
    w->feed->events->opened(w->feed, &opening);
    turn(w);
    return opening.offset;
}

static void a_file_is_read_from_its_end_and_then_from_where_it_was(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, LOG);
    assert_int_equal(w.request.kind, FEED_FILE);
    assert_int_equal(open_file(&w, 77, "old\n"), 4);
    come(&w, "one\ntw");
    heard(&w, "file.line l/1774742400000-4 one\n");
    assert_string_equal(w.last_subject, "/var/log/x");
    crash(&w);
    begin_source(&w, LOG);
    assert_int_equal(w.request.inode, 77);
    assert_int_equal(open_file(&w, 77, "old\none\ntw"), 8);
    come(&w, "two\n");
    heard(&w, "file.line l/1774742400000-8 two\n");
    crash(&w);
    /* Written anew: of another content, or shorter, or with another inode. */
    char saved[sizeof(w.saved)];
    memcpy(saved, w.saved, sizeof(saved));
    static const char *const contents[] = {"new\nline\nand more of it\n", "x\n", "old\none\ntwo\n"};
    for (unsigned i = 0; i < 3; i++) {
        memcpy(w.saved, saved, sizeof(saved));
        begin_source(&w, LOG);
        assert_int_equal(open_file(&w, i == 2 ? 78 : 77, contents[i]), 0);
        come(&w, "a\n");
        heard(&w, "file.line l/1774742400001-0 a\n");
        crash(&w);
    }
}

static void a_file_that_is_replaced_is_followed(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"l\", \"kind\": \"file\", \"path\": \"/var/log/x\", \"from\": \"start\", \"data\": \"{{line}}\"}");
    assert_int_equal(open_file(&w, 1, "a\n"), 0);
    come(&w, "a\nlast");
    w.feed->events->closed(w.feed, 0);
    assert_int_equal(open_file(&w, 2, ""), 0);
    come(&w, "b\n");
    heard(&w, "file.line l/1774742400000-0 a\nfile.line l/1774742400000-2 last\nfile.line l/1774742400001-0 b\n");
    /* Cut off. */
    assert_int_equal(open_file(&w, 2, ""), 0);
    come(&w, "c\nhalf");
    heard(&w, "file.line l/1774742400002-0 c\n");
    /* … in the middle of a line, which stands nowhere else any more. */
    assert_int_equal(open_file(&w, 2, ""), 0);
    come(&w, "d\n");
    heard(&w, "file.line l/1774742400002-2 half\nfile.line l/1774742400003-0 d\n");
    source_free(w.source);
}

static void a_directory_s_files_are_told_when_they_stay_the_same(void **state)
{
    (void)state;
    struct world w = {0};
    const char *text = "{\"id\": \"d\", \"kind\": \"directory\", \"path\": \"/in\", \"data\": \"{{path}} {{size}}\"}";
    begin_source(&w, text);
    const struct feed_file before[] = {{bytes_of_text("old"), 1, 10, 100}};
    w.feed->events->listed(w.feed, before, 1, true);
    live(&w, SECOND);
    heard(&w, "");
    struct feed_file now[] = {{bytes_of_text("new"), 2, 5, 200}, {bytes_of_text("old"), 1, 10, 100}};
    w.feed->events->listed(w.feed, now, 2, true);
    live(&w, SECOND);
    assert_int_equal(w.looks, 1);
    now[0].size = 6;
    w.feed->events->listed(w.feed, now, 2, true);
    live(&w, SECOND);
    assert_int_equal(w.looks, 2);
    w.feed->events->listed(w.feed, now, 2, true);
    live(&w, SECOND);
    heard(&w, "directory.new d/new/new/2 6 200 /in/new 6\n");
    assert_string_equal(w.last_subject, "new");
    now[0].changed_ns = 201;
    for (unsigned i = 0; i < 2; i++) {
        w.feed->events->listed(w.feed, now, 1, true);
        live(&w, SECOND);
    }
    heard(&w, "directory.removed d/old/removed/1 10 100 /in/old 0\ndirectory.changed d/new/changed/2 6 201 /in/new 6\n");
    assert_non_null(strstr(w.saved, "{\"files\":{\"new\":\"2 6 201\"}"));
    /* What happens while nothing runs. */
    crash(&w);
    begin_source(&w, text);
    w.feed->events->listed(w.feed, NULL, 0, true);
    live(&w, SECOND);
    heard(&w, "directory.removed d/new/removed/2 6 201 /in/new 0\n");
    source_free(w.source);
}

/* ---- lines ---- */

static void everybody_who_connects_has_lines_of_his_own(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"t\", \"kind\": \"tcp\", \"address\": \"127.0.0.1:0\", \"type\": \"in.{{json:/kind|line}}\", \"data\": \"{{line}} of {{peer}}\"}");
    for (uint64_t stream = 1; stream <= 2; stream++) {
        struct feed_opening opening = {.stream = stream, .peer = bytes_of_text(stream == 1 ? "10.0.0.1:5" : "10.0.0.2:6")};
        w.feed->events->opened(w.feed, &opening);
    }
    w.feed->events->came(w.feed, 1, bytes_of_text("on"));
    w.feed->events->came(w.feed, 2, bytes_of_text("two\r\nrest"));
    w.feed->events->came(w.feed, 1, bytes_of_text("e\n{\"kind\": \"x\"}\n"));
    w.feed->events->closed(w.feed, 2);
    turn(&w);
    char expected[400];
    snprintf(expected, sizeof(expected), "in.line t/%llx-1 two of 10.0.0.2:6\nin.line t/%llx-2 one of 10.0.0.1:5\nin.x t/%llx-3 {\"kind\": \"x\"} of 10.0.0.1:5\nin.line t/%llx-4 rest of 10.0.0.2:6\n",
             (unsigned long long)BIRTH, (unsigned long long)BIRTH, (unsigned long long)BIRTH, (unsigned long long)BIRTH);
    heard(&w, expected);
    source_free(w.source);
}

static void a_process_is_started_again_and_its_end_is_an_event(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"p\", \"kind\": \"process\", \"command\": [\"tail\", \"-f\"], \"restart\": \"failed\"}");
    assert_string_equal(w.request.argv[1], "-f");
    assert_null(w.request.argv[2]);
    come(&w, "a\nb");
    struct feed *feed = w.feed;
    w.feed = NULL;
    feed->transport = NULL;
    feed->events->ended(feed, &(struct feed_end){.outcome = FEED_OVER, .status = 3});
    turn(&w);
    assert_non_null(strstr(w.heard, " a\n"));
    assert_non_null(strstr(w.heard, " b\n"));
    assert_non_null(strstr(w.heard, "process.exited"));
    assert_non_null(strstr(w.heard, "{\"status\":3,\"signal\":0}"));
    error_is(&w, "The process exited with 3.");
    live(&w, 2 * SECOND);
    assert_int_equal(w.begun, 2);
    end(&w, FEED_OVER, "");
    state_is(&w, "ended");
    source_free(w.source);
}

static void end_process(struct world *w, int status)
{
    struct feed *feed = w->feed;
    assert_non_null(feed);
    w->feed = NULL;
    feed->transport = NULL;
    feed->events->ended(feed, &(struct feed_end){.outcome = FEED_OVER, .status = status});
    turn(w);
}

/* Starts it again, and says how long that took. */
static uint64_t wait_for_start(struct world *w)
{
    uint64_t from_us = w->now_us;
    for (unsigned begun = w->begun; w->begun == begun;)
        live(w, SECOND / 10);
    struct feed_opening opening = {0};
    w->feed->events->opened(w->feed, &opening);
    come(w, "I am here\n");
    return w->now_us - from_us;
}

static void a_process_that_fails_each_time_is_started_less_and_less(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"p\", \"kind\": \"process\", \"command\": [\"x\"]}");
    for (unsigned i = 0; i < 10; i++) {
        end_process(&w, 1);
        uint64_t waited_us = wait_for_start(&w), most_us = i < 6 ? (uint64_t)SECOND << i : 60ull * SECOND;
        assert_true(waited_us >= most_us / 2 && waited_us <= most_us + SECOND / 5);
    }
    /* One that went well for a while, or to its end, begins anew. */
    live(&w, 60ull * SECOND);
    end_process(&w, 1);
    assert_true(wait_for_start(&w) <= SECOND + SECOND / 5);
    end_process(&w, 1);
    assert_true(wait_for_start(&w) >= SECOND);
    end_process(&w, 0);
    assert_true(wait_for_start(&w) <= SECOND + SECOND / 5);
    end_process(&w, 1);
    assert_true(wait_for_start(&w) <= SECOND + SECOND / 5);
    source_free(w.source);
}

static void stdin_comes_to_its_end(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"i\", \"kind\": \"stdin\"}");
    come(&w, "a\nlast");
    end(&w, FEED_OVER, "");
    assert_non_null(strstr(w.heard, " last\n"));
    state_is(&w, "ended");
    assert_true(source_is_idle(w.source));
    source_free(w.source);
}

static void signals_are_events(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, "{\"id\": \"g\", \"kind\": \"signal\", \"signal\": \"SIGUSR1\"}");
    assert_int_equal(w.request.number, 10);
    state_is(&w, "running");
    w.feed->events->signalled(w.feed, 10);
    turn(&w);
    assert_non_null(strstr(w.heard, "signal.USR1 "));
    source_free(w.source);
}

/* ---- life ---- */

static void a_position_that_makes_no_sense_is_told_and_begun_anew(void **state)
{
    (void)state;
    for (const char *const *text = (const char *const[]){"no JSON", "[]", "{\"kind\":\"poll\"}", "{\"kind\":\"sse\",\"id\":7}", NULL}; *text; text++) {
        struct world w = {0};
        snprintf(w.saved, sizeof(w.saved), "%s", *text);
        begin_source(&w, SSE);
        error_is(&w, "The position that was kept makes no sense: it begins as one that is new.");
        assert_null(strstr(w.headers, "Last-Event-ID"));
        source_free(w.source);
    }
}

static void a_source_that_finishes_publishes_what_it_has(void **state)
{
    (void)state;
    struct world w = {0};
    begin_source(&w, SSE);
    ANSWER(&w, 200, STREAM);
    w.refuses = true;
    come(&w, "id: 1\ndata: a\n\n");
    source_finish(w.source);
    turn(&w);
    assert_int_equal(w.cancelled, 1);
    assert_false(source_is_idle(w.source));
    w.refuses = false;
    turn(&w);
    assert_true(source_is_idle(w.source));
    heard(&w, "sse.message s/1 a\n");
    assert_non_null(strstr(w.saved, "\"id\":\"1\""));
    source_free(w.source);
}

static void a_feeder_without_memory_is_asked_again(void **state)
{
    (void)state;
    struct world w = {.has_no_memory = true};
    begin_source(&w, SSE);
    error_is(&w, "There is too little memory, or there are too many open files.");
    w.has_no_memory = false;
    live(&w, 4 * SECOND);
    assert_int_equal(w.begun, 2);
    source_free(w.source);
}

/* ---- declarations ---- */

static void refuse(const char *text, const char *part)
{
    struct declaration declaration;
    char why[SOURCE_WHY_MAX] = "";
    json_t *root = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(root);
    assert_false(declaration_read(&declaration, root, NULL, why));
    if (!strstr(why, part))
        fail_msg("%s: %s", text, why);
    json_decref(root);
}

static void what_cannot_be_declared_is_said(void **state)
{
    (void)state;
    refuse("[]", "A source is an object.");
    refuse("{}", "\"kind\" must be one of sse, poll, timer,");
    refuse("{\"kind\": \"x\"}", "\"kind\" must be one of");
    refuse("{\"kind\": \"timer\", \"every\": 1}", "needs \"id\"");
    refuse("{\"kind\": \"timer\", \"id\": \"a b\", \"every\": 1}", "\"id\" must be");
    refuse("{\"kind\": \"timer\", \"id\": \"a\"}", "needs \"every\"");
    refuse("{\"kind\": \"timer\", \"id\": \"a\", \"every\": \"10 s\"}", "\"every\" must be a time");
    refuse("{\"kind\": \"timer\", \"id\": \"a\", \"every\": 0}", "\"every\" must be a time");
    refuse("{\"kind\": \"timer\", \"id\": \"a\", \"every\": \"367d\"}", "\"every\" must be a time");
    refuse("{\"kind\": \"timer\", \"id\": \"a\", \"every\": 1, \"url\": \"http://a/\"}", "has no \"url\"");
    refuse("{\"kind\": \"sse\", \"id\": \"a\"}", "needs \"url\"");
    refuse("{\"kind\": \"sse\", \"id\": \"a\", \"url\": \"ftp://a/\"}", "\"url\": ");
    refuse("{\"kind\": \"sse\", \"id\": \"a\", \"url\": \"http://a/\", \"type\": \"{{line}}\"}", "\"type\": There is nothing called {{line}} here.");
    refuse("{\"kind\": \"sse\", \"id\": \"a\", \"url\": \"http://a/\", \"headers\": {\"a b\": \"c\"}}", "\"a b\" is no header");
    refuse("{\"kind\": \"sse\", \"id\": \"a\", \"url\": \"http://a/\", \"headers\": {\"a\": \"c\\r\\nX: y\"}}", "\"a\" is no header");
    refuse("{\"kind\": \"sse\", \"id\": \"a\", \"url\": \"http://a/\", \"headers\": {\"content-length\": \"5\"}}", "is said by the broker alone");
    refuse("{\"kind\": \"cron\", \"id\": \"a\", \"expression\": \"* * *\"}", "\"expression\": ");
    refuse("{\"kind\": \"cron\", \"id\": \"a\", \"expression\": \"* * * * *\", \"missed\": \"never\"}", "\"missed\" must be one of \"once\", \"skip\", \"all\".");
    static const char *const addresses[] = {"nonsense", "127.0.0.1:99999", "example.com:9000", "[::1", "::1:5", "127.0.0.1: 5", "127.0.0.1:+5", "127.0.0.1:", "[]x:5", "[:5", ":123456"};
    for (unsigned i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        char text[120];
        snprintf(text, sizeof(text), "{\"kind\": \"tcp\", \"id\": \"a\", \"address\": \"%s\"}", addresses[i]);
        refuse(text, "\"address\" must be");
    }
    refuse("{\"kind\": \"process\", \"id\": \"a\", \"command\": []}", "\"command\" must be");
    refuse("{\"kind\": \"signal\", \"id\": \"a\", \"signal\": \"KILL\"}", "\"signal\" must be");
    refuse("{\"kind\": \"file\", \"id\": \"a\", \"path\": \"/x\", \"line_max\": 0}", "\"line_max\" must be");
    refuse("{\"kind\": \"file\", \"id\": \"a\", \"path\": \"/x\\u0000y\"}", "\"path\" must be");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_stream_is_resumed_behind_what_is_on_disk), cmocka_unit_test(a_connection_is_made_again_after_the_reconnection_time),
        cmocka_unit_test(a_server_that_is_away_is_asked_less_and_less), cmocka_unit_test(the_answer_204_ends_it_and_others_are_tried_again),
        cmocka_unit_test(what_is_declared_takes_the_place_of_headers), cmocka_unit_test(a_server_s_haste_is_bounded),
        cmocka_unit_test(nobody_is_asked_before_he_wants_to_be), cmocka_unit_test(what_a_server_said_can_be_shown), cmocka_unit_test(events_without_an_id_are_told_apart),
        cmocka_unit_test(templates_make_the_event), cmocka_unit_test(too_much_on_its_way_holds_the_feed), cmocka_unit_test(what_the_broker_refuses_is_published_again),
        cmocka_unit_test(what_was_under_way_when_the_broker_was_lost_is_published_again), cmocka_unit_test(an_answer_that_is_another_one_is_an_event), cmocka_unit_test(a_tag_that_is_no_text_is_none),
        cmocka_unit_test(a_timer_comes_again),
        cmocka_unit_test(missed_times_are_told_as_it_is_declared), cmocka_unit_test(years_of_missed_times_are_bounded), cmocka_unit_test(a_clock_that_is_set_back_tells_nothing_twice),
        cmocka_unit_test(a_file_is_read_from_its_end_and_then_from_where_it_was), cmocka_unit_test(a_file_that_is_replaced_is_followed),
        cmocka_unit_test(a_directory_s_files_are_told_when_they_stay_the_same), cmocka_unit_test(everybody_who_connects_has_lines_of_his_own),
        cmocka_unit_test(a_process_is_started_again_and_its_end_is_an_event),
        cmocka_unit_test(a_process_that_fails_each_time_is_started_less_and_less), cmocka_unit_test(stdin_comes_to_its_end), cmocka_unit_test(signals_are_events),
        cmocka_unit_test(a_position_that_makes_no_sense_is_told_and_begun_anew), cmocka_unit_test(a_source_that_finishes_publishes_what_it_has),
        cmocka_unit_test(a_feeder_without_memory_is_asked_again), cmocka_unit_test(what_cannot_be_declared_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
