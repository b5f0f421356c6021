#include "broker/outlook.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CONSUMERS_MAX 64u
#define STEP_US 1000u

/* ---- a queue that is simulated: messages that come by chance, consumers that take their time ----------------------------- */

struct play {
    struct outlook outlook;
    struct outlook_sample counts;
    uint64_t random, done_us[CONSUMERS_MAX];   /* when each consumer is ready with what it has; 0: it has nothing */
    uint64_t backlog;
    double arrival_rate, service_seconds;
    unsigned consumers;
    bool regular;                /* every message takes the same time */
};

static double chance(struct play *play)
{
    play->random ^= play->random << 13;
    play->random ^= play->random >> 7;
    play->random ^= play->random << 17;
    return (double)(play->random >> 11) / (double)(1ull << 53);
}

static double by_chance(struct play *play, double mean) { return -mean * log(1 - chance(play)); }

static void begin(struct play *play, uint64_t seed, double arrival_rate, double service_seconds, unsigned consumers)
{
    *play = (struct play){.random = seed * 88172645463325253u + 1, .arrival_rate = arrival_rate, .service_seconds = service_seconds, .consumers = consumers};
    play->counts = (struct outlook_sample){.at_us = 1000000, .next_seq = 256};
}

static void serve(struct play *play, unsigned consumer)
{
    uint64_t now_us = play->counts.at_us, *done_us = &play->done_us[consumer];
    if (*done_us && *done_us <= now_us) {
        *done_us = 0;
        play->counts.handled++;
    }
    if (*done_us || !play->backlog)
        return;
    play->backlog--;
    double seconds = play->regular ? play->service_seconds : by_chance(play, play->service_seconds);
    *done_us = now_us + (uint64_t)(seconds * 1e6) + 1;
}

static unsigned held(const struct play *play)
{
    unsigned count = 0;
    for (unsigned i = 0; i < play->consumers; i++)
        count += play->done_us[i] != 0;
    return count;
}

static void come(struct play *play, uint64_t count)
{
    play->backlog += count;
    play->counts.arrived += count;
    play->counts.next_seq += count;
}

/* Looked at ten times a second. */
static void pass(struct play *play, double seconds)
{
    for (uint64_t end_us = play->counts.at_us + (uint64_t)(seconds * 1e6); play->counts.at_us < end_us; play->counts.at_us += STEP_US) {
        if (play->arrival_rate > 0 && chance(play) < play->arrival_rate * STEP_US / 1e6)
            come(play, 1);
        for (unsigned i = 0; i < play->consumers; i++)
            serve(play, i);
        if (play->counts.at_us % 100000 == 0)
            outlook_add(&play->outlook, &play->counts, held(play), play->consumers, 100000);
    }
}

static struct outlook_numbers look(const struct play *play)
{
    return outlook_numbers(&play->outlook, play->backlog + held(play), 60, 0.8);
}

/* Until nothing is left, seconds. */
static double until_empty(struct play *play)
{
    uint64_t begin_us = play->counts.at_us;
    while (play->backlog + held(play) > 0)
        pass(play, 0.01);
    return (double)(play->counts.at_us - begin_us) / 1e6;
}

static void assert_near(double value, double expected, double share)
{
    if (!(fabs(value - expected) <= share * expected))
        fail_msg("%g, and %g was expected", value, expected);
}

/* ---- stories ------------------------------------------------------------------------------------------------------------- */

static void rates_and_service_times_are_found(void **state)
{
    (void)state;
    static const struct { double arrival_rate, service_seconds; unsigned consumers; } cases[] = {{20, 0.1, 4}, {100, 0.02, 3}, {200, 0.2, 50}, {5, 0.5, 4}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct play play;
        begin(&play, i + 1, cases[i].arrival_rate, cases[i].service_seconds, cases[i].consumers);
        pass(&play, 120);
        struct outlook_numbers numbers = look(&play);
        assert_near(numbers.arrival_rate, cases[i].arrival_rate, 0.15);
        assert_near(numbers.settle_rate, cases[i].arrival_rate, 0.15);
        assert_near(numbers.service_seconds, cases[i].service_seconds, 0.15);
        assert_near(numbers.utilisation, cases[i].arrival_rate * cases[i].service_seconds / cases[i].consumers, 0.2);
    }
}

static void the_end_of_a_backlog_is_told_to_a_tenth(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 10; seed++) {
        struct play play;
        begin(&play, seed, 20, 0.1, 5);   /* 50 a second, of which 20 are new: 30 fewer each second */
        come(&play, 6000);
        pass(&play, 90);
        struct outlook_numbers numbers = look(&play);
        double error = numbers.backlog_error;
        assert_true(error > 0 && error < 0.1);
        assert_near(numbers.backlog_end_seconds, (double)(play.backlog + held(&play)) / 30, 0.1);
        assert_near(numbers.backlog_end_seconds, until_empty(&play), 0.15);
    }
}

static void so_many_consumers_are_enough_and_one_or_two_fewer_are_not(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 10; seed++) {
        struct play play;
        begin(&play, seed, 40, 0.1, 3);
        play.regular = seed % 2;
        come(&play, 3000);
        pass(&play, 60);
        struct outlook_numbers numbers = look(&play);
        double exact = ceil(0.1 * (40 + (double)(play.backlog + held(&play)) / 60) / 0.8);
        assert_true(fabs(numbers.consumers_needed - exact) <= 1);
        play.consumers = (unsigned)numbers.consumers_needed;
        assert_true(until_empty(&play) < 60);
    }
}

static void a_backlog_that_grows_has_no_end(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 1, 60, 0.1, 4);
    pass(&play, 60);
    assert_true(isinf(look(&play).backlog_end_seconds));
}

static void what_is_not_known_is_not_told(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 1, 10, 0.1, 2);
    struct outlook_numbers numbers = look(&play);
    assert_true(isnan(numbers.arrival_rate) && isnan(numbers.settle_rate) && isnan(numbers.service_seconds) && isnan(numbers.utilisation) &&
                isnan(numbers.consumers_needed));
    pass(&play, 1.2);
    numbers = look(&play);
    assert_true(isnan(numbers.arrival_rate) && isnan(numbers.service_seconds));
}

static void silence_is_a_rate_of_nothing(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 1, 50, 0.01, 2);
    pass(&play, 60);
    play.arrival_rate = 0;
    pass(&play, 5);
    struct outlook_numbers numbers = look(&play);
    assert_true(numbers.arrival_rate == 0 && numbers.settle_rate == 0 && numbers.consumers_needed == 0 && numbers.backlog_end_seconds == 0);
    begin(&play, 1, 0, 0.01, 2);
    pass(&play, 12);
    assert_true(look(&play).arrival_rate == 0);
}

static void a_change_is_noticed_within_seconds(void **state)
{
    (void)state;
    struct play play;
    begin(&play, 3, 2, 0.01, 2);
    pass(&play, 200);
    play.arrival_rate = 20;
    pass(&play, 15);
    assert_near(look(&play).arrival_rate, 20, 0.35);
}

static void ages_are_told_by_numbers(void **state)
{
    (void)state;
    struct play play;
    uint64_t age_us;
    bool at_least;
    begin(&play, 1, 0, 0.01, 0);
    assert_false(outlook_age(&play.outlook, 256, &age_us, &at_least));
    come(&play, 1);
    pass(&play, 50);
    come(&play, 1);
    pass(&play, 30);
    assert_true(outlook_age(&play.outlook, 257, &age_us, &at_least));
    assert_false(at_least);
    assert_near((double)age_us, 30e6, 0.05);
    assert_true(outlook_age(&play.outlook, 256, &age_us, &at_least));
    assert_true(at_least);   /* it was there before anybody looked */
    assert_near((double)age_us, 80e6, 0.05);
    assert_true(outlook_age(&play.outlook, 258, &age_us, &at_least));
    assert_int_equal(age_us, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_and_service_times_are_found),
        cmocka_unit_test(the_end_of_a_backlog_is_told_to_a_tenth),
        cmocka_unit_test(so_many_consumers_are_enough_and_one_or_two_fewer_are_not),
        cmocka_unit_test(a_backlog_that_grows_has_no_end),
        cmocka_unit_test(what_is_not_known_is_not_told),
        cmocka_unit_test(silence_is_a_rate_of_nothing),
        cmocka_unit_test(a_change_is_noticed_within_seconds),
        cmocka_unit_test(ages_are_told_by_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
