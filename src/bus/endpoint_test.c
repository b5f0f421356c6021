/* Endpoints alone: drains are numbers here, and who has his turn is written down. */
#include "bus/drain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECOND 1000000u

static struct drain drains[4];
static uint64_t due_us[4];

void bus_due(struct drain *drain, uint64_t at_us) { due_us[drain - drains] = at_us; }

static void nobody_has_turns(void)
{
    for (unsigned i = 0; i < 4; i++)
        due_us[i] = UINT64_MAX;
}

static struct sink_url url_of(const char *text)
{
    struct sink_url url;
    char why[URL_WHY_MAX];
    assert_true(sink_url_read(bytes_of_text(text), &url, why));
    return url;
}

static void fail_at(struct endpoint *endpoint, uint64_t now_us)
{
    endpoint_begin(endpoint);
    endpoint_learn(endpoint, &(struct outgoing_result){.outcome = OUTGOING_UNREACHABLE}, now_us);
    endpoint_end(endpoint, now_us);
}

static void answer(struct endpoint *endpoint, unsigned status, uint64_t retry_after_s)
{
    endpoint_learn(endpoint, &(struct outgoing_result){.outcome = OUTGOING_ANSWERED, .status = status, .retry_after_s = retry_after_s}, 0);
}

static void what_is_the_same_place(void **state)
{
    static const struct { const char *a, *b; bool same; } cases[] = {
        {"http://a.example/x", "http://A.example:80/y?z", true}, {"http://a.example/", "https://a.example/", false}, {"https://a.example", "https://a.example:443/b", true},
        {"http://a.example:81", "http://a.example:82", false}, {"http://[::1]:80/", "http://[::1]/x", true}, {"http://127.0.0.1/", "http://127.0.0.2/", false}};
    struct endpoints all;
    (void)state;
    endpoints_init(&all, 7);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sink_url a_url = url_of(cases[i].a), b_url = url_of(cases[i].b);
        struct endpoint *a = endpoint_take(&all, &a_url, false), *b = endpoint_take(&all, &b_url, false);
        assert_true((a == b) == cases[i].same);
        endpoint_leave(a);
        endpoint_leave(b);
    }
    assert_int_equal(all.by_name.map.count, 0);
    endpoints_deinit(&all);
}

static int set_up(void **state)
{
    static struct endpoints all;
    const struct sink_url url = url_of("http://a.example/");
    endpoints_init(&all, 7);
    *state = endpoint_take(&all, &url, false);
    nobody_has_turns();
    return 0;
}

static int tear_down(void **state)
{
    struct endpoint *endpoint = *state;
    struct endpoints *all = endpoint->all;
    endpoint_leave(endpoint);
    assert_int_equal(all->by_name.map.count, 0);
    endpoints_deinit(all);
    return 0;
}

static void it_opens_and_lets_one_through(void **state)
{
    struct endpoint *endpoint = *state;
    uint64_t now_us = 100;
    for (unsigned i = 0; i < 4; i++)
        fail_at(endpoint, now_us);
    answer(endpoint, 500, OUTGOING_NO_TIME);                 /* somebody is there */
    for (unsigned i = 0; i < 4; i++)
        fail_at(endpoint, now_us);
    assert_true(endpoint_has_room(endpoint, now_us));
    fail_at(endpoint, now_us);
    assert_false(endpoint_has_room(endpoint, now_us + SECOND - 1));
    assert_true(endpoint_has_room(endpoint, now_us + SECOND));
    fail_at(endpoint, now_us);                               /* one that was under way when it opened makes it no longer */
    assert_true(endpoint_has_room(endpoint, now_us + SECOND));
    now_us += SECOND;
    endpoint_begin(endpoint);
    assert_false(endpoint_has_room(endpoint, now_us));       /* one, to see how it goes */
    endpoint_learn(endpoint, &(struct outgoing_result){.outcome = OUTGOING_TIMED_OUT}, now_us);
    endpoint_end(endpoint, now_us);
    assert_int_equal(endpoint->open_until_us, now_us + 2 * SECOND);
    for (unsigned i = 0; i < 8; i++)
        fail_at(endpoint, now_us = endpoint->open_until_us);
    assert_int_equal(endpoint->open_until_us, now_us + 60 * SECOND);
    endpoint_try(endpoint);
    assert_true(endpoint_has_room(endpoint, now_us));
    answer(endpoint, 410, OUTGOING_NO_TIME);
    endpoint_begin(endpoint);
    assert_true(endpoint_has_room(endpoint, now_us));
    endpoint_end(endpoint, now_us);
    assert_true(endpoint_has_room(NULL, now_us) && !endpoint_is_open(NULL, now_us));
}

static void who_answers_for_it(void **state)
{
    struct endpoint *endpoint = *state;
    for (unsigned i = 0; i < 20; i++) {
        answer(endpoint, 503, 7);                            /* it says itself when */
        answer(endpoint, 500, OUTGOING_NO_TIME);
        answer(endpoint, 404, OUTGOING_NO_TIME);
    }
    endpoint_learn(endpoint, &(struct outgoing_result){.outcome = OUTGOING_FORBIDDEN}, 0);
    assert_int_equal(endpoint->failures, 0);
    answer(endpoint, 502, OUTGOING_NO_TIME);
    answer(endpoint, 503, OUTGOING_NO_TIME);
    answer(endpoint, 504, OUTGOING_NO_TIME);
    assert_int_equal(endpoint->failures, 3);
}

static void who_waits_has_his_turn(void **state)
{
    struct endpoint *endpoint = *state;
    for (unsigned i = 0; i < ENDPOINT_ROOM; i++) {
        assert_true(endpoint_has_room(endpoint, 0));
        endpoint_begin(endpoint);
    }
    assert_false(endpoint_has_room(endpoint, 0));
    for (unsigned i = 0; i < 3; i++)
        endpoint_wait(endpoint, &drains[i], 0);
    endpoint_wait(endpoint, &drains[0], 0);
    endpoint_unwait(endpoint, &drains[1]);
    endpoint_unwait(endpoint, &drains[1]);
    endpoint_pass_on(endpoint, 0);
    assert_int_equal(due_us[0], UINT64_MAX);
    endpoint_end(endpoint, 0);
    assert_int_equal(due_us[0], 0);
    assert_int_equal(due_us[2], UINT64_MAX);
    endpoint_pass_on(endpoint, 0);                           /* it had its turn, and there is room still */
    assert_int_equal(due_us[2], 0);
    assert_null(endpoint->first);
    nobody_has_turns();
    endpoint_begin(endpoint);
    endpoint_wait(endpoint, &drains[3], 0);
    endpoint_wait(endpoint, &drains[1], 0);
    for (unsigned i = 0; i < ENDPOINT_FAILURES; i++)
        endpoint_learn(endpoint, &(struct outgoing_result){.outcome = OUTGOING_UNREACHABLE}, 0);
    endpoint_end(endpoint, 0);
    assert_int_equal(due_us[3], SECOND);                     /* when it is open, the turn comes then */
    endpoint_wait(endpoint, &drains[2], 0);
    assert_int_equal(due_us[2], SECOND);
    endpoint_unwait(endpoint, &drains[1]);
    while (endpoint->under_way)
        endpoint_end(endpoint, 0);
    assert_null(endpoint->last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_the_same_place), cmocka_unit_test_setup_teardown(it_opens_and_lets_one_through, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_answers_for_it, set_up, tear_down), cmocka_unit_test_setup_teardown(who_waits_has_his_turn, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
