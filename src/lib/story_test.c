/* Random stories: handlers of all kinds come and go, answer now or later or never, the bus is closed and opened again, and at the end everything durable that was confirmed has been handled. */
#include "lib/test_loop.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS_MAX 4000u
#define HELD_MAX 32u
#define HANDLERS_MAX 8u

struct story {
    struct test_loop test;
    uint64_t random;
    unsigned published;              /* events "all.N" so far */
    bool confirmed[EVENTS_MAX], handled[EVENTS_MAX];
    gw_event *held[HELD_MAX];
    gw_handler *others[HANDLERS_MAX];
    bool calm;                       /* everything is acknowledged at once */
    unsigned transients;
};

static unsigned pick(struct story *story, unsigned count)
{
    story->random ^= story->random << 13;
    story->random ^= story->random >> 7;
    story->random ^= story->random << 17;
    return (unsigned)((story->random >> 11) % count);
}

static unsigned number_of(gw_event *event)
{
    char text[16] = "";
    memcpy(text, gw_event_data(event), gw_event_size(event) < 15 ? gw_event_size(event) : 15);
    return (unsigned)strtoul(text, NULL, 10);
}

static void answer(struct story *story, gw_event *event)
{
    switch (story->calm ? 0 : pick(story, 5)) {
    case 1: gw_event_retry(event); break;
    case 2: gw_event_retry_after(event, pick(story, 3)); break;
    default: gw_event_ack(event);
    }
}

/* Of the queue that must not lose anything: never rejected, and retried for ever. */
static void on_all(gw_event *event, void *context)
{
    struct story *story = context;
    unsigned number = number_of(event), kind = story->calm ? 0 : pick(story, 6);
    assert_true(number < story->published);
    assert_non_null(gw_event_type(event));
    if (kind == 1) {
        gw_event_retry(event);
    } else if (kind == 2) {
        gw_event_retry_after(event, pick(story, 3));
    } else if (kind == 3 && !story->held[number % HELD_MAX]) {
        story->held[number % HELD_MAX] = event;
    } else {
        story->handled[number] = true;
        gw_event_ack(event);
    }
}

static void on_other(gw_event *event, void *context)
{
    struct story *story = context;
    story->transients++;
    if (pick(story, 8) == 0)
        return;   /* never answered; it is late soon, and its memory goes with the bus */
    answer(story, event);
}

static void on_confirmed(void *context, int result)
{
    bool *confirmed = context;
    *confirmed = result == GW_DONE;
}

static void on_all_again(struct story *story)
{
    static const uint64_t delays[] = {0, 2};
    assert_non_null(gw_on(story->test.bus, "all.#", on_all, story, &(gw_handler_options){.name = "all", .concurrency = 50, .retries = GW_RETRY_FOREVER, .retry_delays_ms = delays,
                                                                                         .retry_delay_count = 2, .order_by_key = 0, .timeout_ms = GW_FOREVER}));
}

static void publish(struct story *story)
{
    char type[32], data[16];
    unsigned number = story->published;
    if (number == EVENTS_MAX)
        return;
    snprintf(type, sizeof(type), "all.%u", pick(story, 4));
    int size = snprintf(data, sizeof(data), "%u", number);
    const gw_publish_options options = {.delay_ms = pick(story, 6) == 0 ? pick(story, 4) : 0, .key = pick(story, 2) ? "k" : NULL, .priority = (uint8_t)pick(story, 3)};
    story->published++;
    assert_int_equal(gw_publish(story->test.bus, type, data, (size_t)size, pick(story, 2) ? &options : NULL, on_confirmed, &story->confirmed[number]), 0);
}

static void publish_transient(struct story *story)
{
    const gw_publish_options options = {.transient = 1, .source = pick(story, 2) ? "/s" : NULL, .delay_ms = pick(story, 8) == 0};
    assert_int_equal(gw_publish(story->test.bus, pick(story, 2) ? "memory.a" : "memory.b", "0", 1, &options, NULL, NULL), 0);
}

static void change_handlers(struct story *story)
{
    unsigned at = pick(story, HANDLERS_MAX);
    if (story->others[at]) {
        gw_off(story->others[at]);
        story->others[at] = NULL;
        return;
    }
    static const char *const patterns[] = {"memory.*", "memory.a", "#", "all.1"};
    const gw_handler_options options = {.name = at < 2 ? "other" : NULL, .concurrency = pick(story, 4), .retries = (int)pick(story, 3), .transient = at >= 2, .timeout_ms = 3,
                                        .retry_delays_ms = (uint64_t[]){1}, .retry_delay_count = 1, .dead_letter = at == 3 ? "memory.b" : NULL, .order_by_key = at == 4};
    /* The durable one may be there with other options, which is refused. */
    story->others[at] = gw_on(story->test.bus, at < 2 ? "all.1" : patterns[pick(story, 4)], on_other, story, &options);
}

static void reopen(struct story *story)
{
    memset(story->held, 0, sizeof(story->held));
    memset(story->others, 0, sizeof(story->others));
    test_close(&story->test);
    test_open(&story->test);
    on_all_again(story);
}

static bool is_finished(void *context)
{
    struct story *story = context;
    for (unsigned i = 0; i < story->published; i++)
        if (story->confirmed[i] && !story->handled[i])
            return false;
    return true;
}

static void tell(uint64_t seed)
{
    struct story *story = calloc(1, sizeof(*story));
    CHECK(story);
    story->random = seed * 0x9E3779B97F4A7C15u | 1;
    print_message("seed %llu\n", (unsigned long long)seed);
    test_open(&story->test);
    on_all_again(story);
    for (unsigned i = 0; i < 1500; i++) {
        unsigned kind = pick(story, 100);
        if (kind < 40)
            publish(story);
        else if (kind < 60)
            publish_transient(story);
        else if (kind < 65)
            change_handlers(story);
        else if (kind < 75 && story->held[kind % HELD_MAX]) {
            gw_event *event = story->held[kind % HELD_MAX];
            story->held[kind % HELD_MAX] = NULL;
            story->handled[number_of(event)] = true;
            gw_event_ack(event);
        } else if (kind == 99 && pick(story, 8) == 0)
            reopen(story);
        else
            gw_loop_step(story->test.loop);
    }
    story->calm = true;
    reopen(story);
    test_until(&story->test, is_finished, story);
    assert_true(story->published > 300 && story->transients > 0);
    test_end(&story->test);
    free(story);
}

static void nothing_that_was_confirmed_is_lost_in_any_story(void **state)
{
    const char *seed = getenv("SEED");
    (void)state;
    for (uint64_t i = seed ? strtoull(seed, NULL, 10) : 1, end = seed ? i : 8; i <= end; i++)
        tell(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_that_was_confirmed_is_lost_in_any_story)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
