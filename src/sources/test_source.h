/* A source with a sink, a feeder and a clock that the test answers for. */
#ifndef SOURCES_TEST_SOURCE_H
#define SOURCES_TEST_SOURCE_H

#include "base/err.h"
#include "sources/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define EVENTS_MAX 4096u
#define SECOND 1000000u
#define DAY (86400ull * SECOND)
#define BIRTH 1774742400000000u      /* when tests begin: 2026-03-29 00:00:00 UTC */

struct world {
    struct source_sink sink;
    struct feeder feeder;
    uint64_t now_us, wall_us;
    struct source *source;
    /* what was published: "type id data" a line; and by ticket whether it was answered */
    char heard[65536];
    size_t heard_size;
    uint64_t tickets[EVENTS_MAX];
    unsigned count, answered;
    char last_subject[256], last_key[256], last_source[256], last_content_type[256];
    bool refuses, confirms_at_once;
    /* the position on disk, and what is on its way there */
    char saved[4096], saving[4096];
    bool save_waits;
    unsigned saves;
    /* the feed */
    struct feed *feed;
    struct feed_request request;
    char address[256], headers[1024];
    unsigned begun, cancelled, looks;
    bool is_paused, has_no_memory;
};

static inline struct world *world_of_sink(struct source_sink *sink) { return (struct world *)(void *)((char *)sink - offsetof(struct world, sink)); }
static inline struct world *world_of_feeder(struct feeder *feeder) { return (struct world *)(void *)((char *)feeder - offsetof(struct world, feeder)); }

static inline void copy_text(char *to, size_t room, struct bytes from)
{
    assert_true(from.size < room);
    if (from.size)
        memcpy(to, from.data, from.size);
    to[from.size] = 0;
}

static bool test_publish(struct source_sink *sink, const struct source_event *event, uint64_t ticket)
{
    struct world *w = world_of_sink(sink);
    if (w->refuses)
        return false;
    assert_true(w->count < EVENTS_MAX);
    w->tickets[w->count++] = ticket;
    int size = snprintf(w->heard + w->heard_size, sizeof(w->heard) - w->heard_size, "%.*s %.*s %.*s\n", (int)event->type.size, (const char *)event->type.data, (int)event->id.size,
                        (const char *)event->id.data, (int)event->data.size, (const char *)event->data.data);
    w->heard_size += (size_t)size;
    assert_true(w->heard_size < sizeof(w->heard));
    copy_text(w->last_subject, 256, event->subject);
    copy_text(w->last_key, 256, event->key);
    copy_text(w->last_source, 256, event->source);
    copy_text(w->last_content_type, 256, event->content_type);
    return true;
}

static bool test_save(struct source_sink *sink, struct bytes position)
{
    struct world *w = world_of_sink(sink);
    copy_text(w->saving, sizeof(w->saving), position);
    w->save_waits = true;
    w->saves++;
    return true;
}

static void test_due(struct source_sink *sink) { (void)sink; }

static void test_clock(struct source_sink *sink, uint64_t *now_us, uint64_t *wall_us)
{
    *now_us = world_of_sink(sink)->now_us;
    *wall_us = world_of_sink(sink)->wall_us;
}

static bool test_begin(struct feeder *feeder, struct feed *feed, const struct feed_request *request)
{
    struct world *w = world_of_feeder(feeder);
    assert_null(w->feed);
    w->begun++;
    if (w->has_no_memory)
        return false;
    w->feed = feed;
    w->request = *request;
    feed->transport = w;
    snprintf(w->address, sizeof(w->address), "%s", request->address ? request->address : "");
    w->headers[0] = 0;
    for (unsigned i = 0; i < request->header_count; i++)
        snprintf(w->headers + strlen(w->headers), sizeof(w->headers) - strlen(w->headers), "%s\n", request->headers[i]);
    return true;
}

static void test_pause(struct feeder *feeder, struct feed *feed, bool paused)
{
    assert_ptr_equal(world_of_feeder(feeder)->feed, feed);
    world_of_feeder(feeder)->is_paused = paused;
}

static void test_look(struct feeder *feeder, struct feed *feed)
{
    (void)feed;
    world_of_feeder(feeder)->looks++;
}

static void test_cancel(struct feeder *feeder, struct feed *feed)
{
    assert_ptr_equal(world_of_feeder(feeder)->feed, feed);
    world_of_feeder(feeder)->feed = NULL;
    world_of_feeder(feeder)->cancelled++;
    world_of_feeder(feeder)->is_paused = false;
}

/* Lets the source do what is due, answers what waits if that is wanted, until nothing more happens. */
static inline uint64_t turn(struct world *w)
{
    uint64_t due_us = source_tick(w->source);
    for (unsigned i = 0; i < 100; i++) {
        bool any = false;
        while (w->confirms_at_once && w->answered < w->count) {
            source_confirmed(w->source, w->tickets[w->answered++], true);
            any = true;
        }
        if (w->confirms_at_once && w->save_waits) {
            w->save_waits = false;
            memcpy(w->saved, w->saving, sizeof(w->saved));
            source_saved(w->source, true);
            any = true;
        }
        if (!any)
            return due_us;
        due_us = source_tick(w->source);
    }
    return due_us;
}

static inline void pass(struct world *w, uint64_t us)
{
    w->now_us += us;
    w->wall_us += us;
}

/* One second, and so on, with a turn whenever one is due. */
static inline void live(struct world *w, uint64_t us)
{
    for (uint64_t end_us = w->now_us + us;;) {
        uint64_t due_us = turn(w);
        if (due_us > end_us) {
            pass(w, end_us - w->now_us);
            return;
        }
        pass(w, due_us > w->now_us ? due_us - w->now_us : 1);
    }
}

static inline void declare(struct declaration *declaration, const char *text)
{
    char why[SOURCE_WHY_MAX] = "";
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    if (!root)
        fail_msg("%s: %s", text, error.text);
    if (!declaration_read(declaration, root, NULL, why))
        fail_msg("%s", why);
    json_decref(root);
}

static inline void begin_source(struct world *w, const char *text)
{
    struct declaration declaration;
    declare(&declaration, text);
    w->sink = (struct source_sink){.publish = test_publish, .save = test_save, .due = test_due, .clock = test_clock};
    w->feeder = (struct feeder){.begin = test_begin, .pause = test_pause, .look_again = test_look, .cancel = test_cancel};
    if (!w->now_us) {
        w->now_us = 1000 * SECOND;
        w->wall_us = BIRTH;
        w->confirms_at_once = true;
    }
    w->source = source_new(&declaration, &w->sink, &w->feeder, NULL, 7);
    assert_non_null(w->source);
    source_start(w->source, bytes_of_text(w->saved));
    turn(w);
}

/* The process ends at once, whatever is under way. */
static inline void crash(struct world *w)
{
    source_free(w->source);
    w->source = NULL;
    w->feed = NULL;
    w->answered = w->count;
    w->save_waits = false;
    w->is_paused = false;
}

static inline void heard(struct world *w, const char *expected)
{
    assert_string_equal(w->heard, expected);
    w->heard_size = 0;
    w->heard[0] = 0;
}

static inline void state_is(struct world *w, const char *expected)
{
    json_t *root = source_describe(w->source);
    assert_string_equal(json_string_value(json_object_get(root, "state")), expected);
    json_decref(root);
}

static inline void error_is(struct world *w, const char *expected)
{
    json_t *root = source_describe(w->source);
    const char *error = json_string_value(json_object_get(root, "error"));
    assert_string_equal(error ? error : "", expected);
    json_decref(root);
}

/* ---- what the feed tells ---- */

/* "name: value" pairs, NULL behind the last. */
static inline bool test_header(const void *owner, struct bytes name, struct bytes *value)
{
    for (const char *const *at = owner; *at; at += 2)
        if (bytes_equal(bytes_of_text(at[0]), name)) {
            *value = bytes_of_text(at[1]);
            return true;
        }
    return false;
}

static inline void answer(struct world *w, unsigned status, const char *const *headers)
{
    assert_non_null(w->feed);
    struct feed_opening opening = {.status = status, .header = test_header, .owner = headers};
    struct bytes retry_after;
    if (test_header(headers, bytes_of_text("retry-after"), &retry_after))
        opening.retry_after_s = strtoull((const char *)retry_after.data, NULL, 10);
    w->feed->events->opened(w->feed, &opening);
}

#define ANSWER(w, status, ...) answer(w, status, (const char *const[]){__VA_ARGS__, NULL})

static inline void come(struct world *w, const char *text)
{
    assert_non_null(w->feed);
    w->feed->events->came(w->feed, 0, bytes_of_text(text));
    turn(w);
}

static inline void end(struct world *w, enum feed_outcome outcome, const char *why)
{
    struct feed *feed = w->feed;
    struct feed_end end = {.outcome = outcome};
    assert_non_null(feed);
    snprintf(end.why, sizeof(end.why), "%s", why);
    w->feed = NULL;
    feed->transport = NULL;
    feed->events->ended(feed, &end);
    turn(w);
}

#endif
