/* Times that come again, against clocks that a table changes. */
#include "sources/civil.h"
#include "sources/cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* A place one hour ahead of UTC, in summer two: from 2026-03-29 01:00 UTC to 2026-10-25 01:00 UTC. */
#define SUMMER_S 1774746000
#define WINTER_S 1792890000

static struct zone_span clocks_change(const struct zone *zone, int64_t utc_s)
{
    (void)zone;
    if (utc_s < SUMMER_S)
        return (struct zone_span){ZONE_ALWAYS_SINCE, SUMMER_S, 3600};
    if (utc_s < WINTER_S)
        return (struct zone_span){SUMMER_S, WINTER_S, 7200};
    return (struct zone_span){WINTER_S, ZONE_ALWAYS_UNTIL, 3600};
}

static const struct zone place = {.at = clocks_change};

static int64_t time_of(const char *text)
{
    struct civil civil = {0};
    int year;
    assert_int_equal(sscanf(text, "%d-%u-%u %u:%u:%u", &year, &civil.month, &civil.day, &civil.hour, &civil.minute, &civil.second), 6);
    civil.year = year;
    return civil_seconds(&civil);
}

/* What follows `from`, one after the other; all times in UTC. */
static void follow(const struct zone *zone, const char *expression, const char *from, const char *const *expected)
{
    struct cron cron;
    char why[CRON_WHY_MAX] = "";
    char shown[40];
    if (!cron_read(bytes_of_text(expression), &cron, why))
        fail_msg("%s: %s", expression, why);
    int64_t at = time_of(from);
    for (; *expected; expected++) {
        at = cron_next(&cron, zone, at);
        struct civil c = civil_of(at);
        snprintf(shown, sizeof(shown), "%04d-%02u-%02u %02u:%02u:%02u", (int)c.year, c.month, c.day, c.hour, c.minute, c.second);
        assert_string_equal(shown, *expected);
    }
}

#define FOLLOW(zone, expression, from, ...) follow(zone, expression, from, (const char *const[]){__VA_ARGS__, NULL})

static void refuse(const char *expression, const char *part)
{
    struct cron cron;
    char why[CRON_WHY_MAX] = "";
    assert_false(cron_read(bytes_of_text(expression), &cron, why));
    if (!strstr(why, part))
        fail_msg("%s: %s", expression, why);
}

static void days_are_numbers_and_back(void **state)
{
    (void)state;
    assert_int_equal(civil_days(1970, 1, 1), 0);
    assert_int_equal(civil_days(2000, 3, 1), 11017);
    for (int64_t day = -800000; day < 800000; day += 1) {
        struct civil civil = civil_of(day * 86400 + 86399);
        assert_int_equal(civil_days(civil.year, civil.month, civil.day), day);
        assert_true(civil.day <= civil_days_in_month(civil.year, civil.month));
        assert_int_equal(civil.weekday, ((day + 4) % 7 + 7) % 7);
    }
}

static void fields_choose_times(void **state)
{
    (void)state;
    FOLLOW(&zone_utc, "* * * * *", "2026-01-01 00:00:00", "2026-01-01 00:01:00", "2026-01-01 00:02:00");
    FOLLOW(&zone_utc, "*/15 * * * *", "2026-01-01 00:07:30", "2026-01-01 00:15:00", "2026-01-01 00:30:00", "2026-01-01 00:45:00", "2026-01-01 01:00:00");
    FOLLOW(&zone_utc, "5/20 1 * * *", "2026-01-01 00:00:00", "2026-01-01 01:05:00", "2026-01-01 01:25:00", "2026-01-01 01:45:00", "2026-01-02 01:05:00");
    FOLLOW(&zone_utc, "0 9-17/4 * * mon-fri", "2026-01-02 12:59:59", "2026-01-02 13:00:00", "2026-01-02 17:00:00", "2026-01-05 09:00:00");
    FOLLOW(&zone_utc, "30 0 1,15 * *", "2026-01-01 00:30:00", "2026-01-15 00:30:00", "2026-02-01 00:30:00");
    FOLLOW(&zone_utc, "0 0 31 * *", "2026-01-31 00:00:00", "2026-03-31 00:00:00", "2026-05-31 00:00:00");
    FOLLOW(&zone_utc, "0 0 29 feb *", "2026-01-01 00:00:00", "2028-02-29 00:00:00", "2032-02-29 00:00:00");
    FOLLOW(&zone_utc, "0 0 29 2 *", "2096-03-01 00:00:00", "2104-02-29 00:00:00");
    FOLLOW(&zone_utc, "59 23 31 12 *", "2026-12-31 23:58:59", "2026-12-31 23:59:00", "2027-12-31 23:59:00");
}

static void the_day_fits_one_of_two_fields_that_say_something(void **state)
{
    (void)state;
    FOLLOW(&zone_utc, "0 0 13 * fri", "2026-01-31 00:00:00", "2026-02-06 00:00:00", "2026-02-13 00:00:00", "2026-02-20 00:00:00", "2026-02-27 00:00:00", "2026-03-06 00:00:00");
    FOLLOW(&zone_utc, "0 0 */2 * fri", "2026-02-01 00:00:00", "2026-02-13 00:00:00", "2026-02-27 00:00:00", "2026-03-13 00:00:00");
    FOLLOW(&zone_utc, "0 0 ? * 7", "2026-02-01 00:00:00", "2026-02-08 00:00:00");
    FOLLOW(&zone_utc, "0 0 * * SUN", "2026-02-01 00:00:00", "2026-02-08 00:00:00");
    FOLLOW(&zone_utc, "0 0 * * 5-7", "2026-02-01 00:00:00", "2026-02-06 00:00:00", "2026-02-07 00:00:00", "2026-02-08 00:00:00", "2026-02-13 00:00:00");
    /* Sunday has two numbers; a step goes on to the end of the field from one value, and not from a range of one. */
    FOLLOW(&zone_utc, "0 0 * * 7-7/4", "2026-02-01 00:00:00", "2026-02-08 00:00:00", "2026-02-15 00:00:00");
    FOLLOW(&zone_utc, "0 0 * * 7/3", "2026-02-01 00:00:00", "2026-02-04 00:00:00", "2026-02-07 00:00:00", "2026-02-08 00:00:00");
    FOLLOW(&zone_utc, "0 0 1 1-1/3 *", "2026-01-01 00:00:00", "2027-01-01 00:00:00");
}

static void six_fields_begin_with_seconds(void **state)
{
    (void)state;
    FOLLOW(&zone_utc, "*/20 * * * * *", "2026-01-01 00:00:59", "2026-01-01 00:01:00", "2026-01-01 00:01:20", "2026-01-01 00:01:40", "2026-01-01 00:02:00");
    FOLLOW(&zone_utc, "30 59 23 * * *", "2026-01-01 23:59:30", "2026-01-02 23:59:30");
    FOLLOW(&zone_utc, "10,50 0 12 * * *", "2026-01-01 12:00:11", "2026-01-01 12:00:50", "2026-01-02 12:00:10");
}

static void some_have_names(void **state)
{
    (void)state;
    FOLLOW(&zone_utc, "@yearly", "2026-05-01 00:00:00", "2027-01-01 00:00:00");
    FOLLOW(&zone_utc, "@monthly", "2026-05-01 00:00:00", "2026-06-01 00:00:00");
    FOLLOW(&zone_utc, "@weekly", "2026-05-01 00:00:00", "2026-05-03 00:00:00");
    FOLLOW(&zone_utc, " @daily ", "2026-05-01 00:00:00", "2026-05-02 00:00:00");
    FOLLOW(&zone_utc, "@hourly", "2026-05-01 00:00:00", "2026-05-01 01:00:00");
}

static void where_clocks_jump_forward_what_is_passed_over_comes_at_the_jump(void **state)
{
    (void)state;
    FOLLOW(&place, "30 2 * * *", "2026-03-28 00:00:00", "2026-03-28 01:30:00", "2026-03-29 01:00:00", "2026-03-30 00:30:00");
    /* Once for all that fall into it. */
    FOLLOW(&place, "10,20 2 * * *", "2026-03-29 00:00:00", "2026-03-29 01:00:00", "2026-03-30 00:10:00");
    /* At 03:00 there is a time that is a time of day by itself. */
    FOLLOW(&place, "0 2,3 * * *", "2026-03-29 00:30:00", "2026-03-29 01:00:00", "2026-03-30 00:00:00");
    FOLLOW(&place, "59 1 * * *", "2026-03-29 00:00:00", "2026-03-29 00:59:00", "2026-03-29 23:59:00");
    FOLLOW(&place, "*/30 * * * *", "2026-03-29 00:15:00", "2026-03-29 00:30:00", "2026-03-29 01:00:00", "2026-03-29 01:30:00");
    /* Asked in the last second before it. */
    FOLLOW(&place, "30 2 * * *", "2026-03-29 00:59:59", "2026-03-29 01:00:00", "2026-03-30 00:30:00");
}

static void where_clocks_go_back_a_time_of_day_comes_once_and_every_hour_twice(void **state)
{
    (void)state;
    FOLLOW(&place, "30 2 * * *", "2026-10-24 12:00:00", "2026-10-25 00:30:00", "2026-10-26 01:30:00");
    FOLLOW(&place, "0 3 * * *", "2026-10-24 12:00:00", "2026-10-25 02:00:00", "2026-10-26 02:00:00");
    FOLLOW(&place, "30 * * * *", "2026-10-25 00:00:00", "2026-10-25 00:30:00", "2026-10-25 01:30:00", "2026-10-25 02:30:00");
    FOLLOW(&place, "30 2 * * *", "2026-10-25 01:10:00", "2026-10-26 01:30:00");
}

static void what_cannot_be_is_said(void **state)
{
    (void)state;
    refuse("", "five fields");
    refuse("* * * *", "five fields");
    refuse("* * * * * * *", "five fields");
    refuse("@sometimes", "five fields");
    refuse("60 * * * *", "\"60\" is no minute");
    refuse("* 24 * * *", "\"24\" is no hour");
    refuse("* * 0 * *", "\"0\" is no day of the month");
    refuse("* * * 13 *", "\"13\" is no month");
    refuse("* * * * 8", "\"8\" is no day of the week");
    refuse("* * * * mo", "\"mo\" is no day of the week");
    refuse("* * * * monday", "\"monday\" is no day of the week");
    refuse("5-1 * * * *", "\"5-1\"");
    refuse("*/0 * * * *", "\"*/0\"");
    refuse("1,,2 * * * *", "\"1,,2\"");
    refuse("1, * * * *", "\"1,\"");
    refuse("-1 * * * *", "\"-1\"");
    refuse("99999999999 * * * *", "is no minute");
    refuse("0 0 30 2 *", "no such day");
    refuse("0 0 31 4,6,9,11 *", "no such day");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(days_are_numbers_and_back), cmocka_unit_test(fields_choose_times), cmocka_unit_test(the_day_fits_one_of_two_fields_that_say_something),
        cmocka_unit_test(six_fields_begin_with_seconds), cmocka_unit_test(some_have_names),
        cmocka_unit_test(where_clocks_jump_forward_what_is_passed_over_comes_at_the_jump),
        cmocka_unit_test(where_clocks_go_back_a_time_of_day_comes_once_and_every_hour_twice), cmocka_unit_test(what_cannot_be_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
