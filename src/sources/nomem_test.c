/* A source whose allocations fail, each in its turn: nothing is lost but time. */
#include "sources/test_source.h"

#include "base/test_malloc.h"

static long left = -1;               /* allocations until one fails; -1: none does */

static bool fails(void) { return left >= 0 && left-- == 0; }

#define SSE "{\"id\": \"s\", \"kind\": \"sse\", \"url\": \"http://example.com/\", \"key\": \"{{json:/n}}\", \"subject\": \"{{quote:event}}\", \"headers\": {\"a\": \"b\"}}"

/* What a server would send to whoever has that last event id. */
static void serve(struct world *w)
{
    unsigned last = 0;
    const char *header = strstr(w->headers, "Last-Event-ID: ");
    if (header)
        last = (unsigned)atoi(header + 15);
    struct feed_opening opening = {.status = 200, .header = test_header, .owner = (const char *const[]){"content-type", "text/event-stream", NULL}};
    w->feed->events->opened(w->feed, &opening);
    for (unsigned i = last + 1; i <= 3 && w->feed; i++) {
        char text[96];
        snprintf(text, sizeof(text), "id: %u\ndata: {\"n\": %u, \"big\": 99999999999999999999}\n\n", i, i);
        w->feed->events->came(w->feed, 0, bytes_of(text, 7));
        w->feed->events->came(w->feed, 0, bytes_of_text(text + 7));
    }
}

/* jansson's own memory does not run out here: its allocations are the same functions, so that some of what fails is in it. */
static void nothing_is_lost_when_memory_runs_out(void **state)
{
    (void)state;
    for (long n = 0; n < 500; n++) {
        struct world w = {0};
        struct declaration declaration;
        char why[SOURCE_WHY_MAX] = "";
        json_t *root = json_loads(SSE, 0, NULL);
        left = n;
        bool read = declaration_read(&declaration, root, NULL, why);
        w.sink = (struct source_sink){.publish = test_publish, .save = test_save, .due = test_due, .clock = test_clock};
        w.feeder = (struct feeder){.begin = test_begin, .pause = test_pause, .look_again = test_look, .cancel = test_cancel};
        w.now_us = 1000 * SECOND;
        w.wall_us = BIRTH;
        w.confirms_at_once = true;
        w.source = read ? source_new(&declaration, &w.sink, &w.feeder, NULL, 7) : NULL;
        if (!w.source) {
            if (read)
                declaration_deinit(&declaration);
            assert_true(read || why[0]);
            left = -1;
            json_decref(root);
            continue;
        }
        source_start(w.source, bytes_of_text("{\"kind\": \"sse\", \"id\": \"\", \"retry_ms\": 1000}"));
        for (unsigned i = 0; i < 20 && !strstr(w.saved, "\"id\":\"3\""); i++) {
            unsigned begun = w.begun;
            for (unsigned k = 0; k < 1000 && w.begun == begun; k++)
                live(&w, SECOND / 10);
            if (w.feed)
                serve(&w);
            turn(&w);
            if (w.feed)
                end(&w, FEED_OVER, "");
            live(&w, SECOND);
        }
        left = -1;
        for (unsigned i = 1; i <= 3; i++) {
            char wanted[64];
            snprintf(wanted, sizeof(wanted), " s/%u {\"n\": %u, \"big\"", i, i);
            if (!strstr(w.heard, wanted))
                fail_msg("allocation %ld: without %s\n%s", n, wanted, w.heard);
        }
        assert_non_null(strstr(w.saved, "\"id\":\"3\""));
        source_free(w.source);
        json_decref(root);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_lost_when_memory_runs_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
