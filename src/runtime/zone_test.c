/* The system's time zones. */
#include "runtime/zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static void berlin_has_summers(void **state)
{
    (void)state;
    struct system_zones *zones = system_zones_new();
    const struct zone *zone = system_zones_io(zones)->find(system_zones_io(zones), "Europe/Berlin");
    assert_non_null(zone);
    assert_ptr_equal(system_zones_io(zones)->find(system_zones_io(zones), "Europe/Berlin"), zone);
    struct zone_span summer = zone->at(zone, 1780000000), winter = zone->at(zone, 1770000000), again = zone->at(zone, 1774746000);
    assert_int_equal(summer.since_s, 1774746000);
    assert_int_equal(summer.until_s, 1792890000);
    assert_int_equal(summer.offset_s, 7200);
    assert_int_equal(winter.until_s, 1774746000);
    assert_int_equal(winter.offset_s, 3600);
    assert_int_equal(again.since_s, summer.since_s);
    system_zones_free(zones);
}

static void names_are_those_of_the_database(void **state)
{
    (void)state;
    struct system_zones *zones = system_zones_new();
    struct zones *io = system_zones_io(zones);
    assert_ptr_equal(io->find(io, "UTC"), &zone_utc);
    assert_non_null(io->find(io, "Asia/Kathmandu"));
    const struct zone *fixed = io->find(io, "Etc/GMT+5");
    assert_non_null(fixed);
    struct zone_span span = fixed->at(fixed, 1780000000);
    assert_int_equal(span.offset_s, -5 * 3600);
    assert_true(span.until_s == ZONE_ALWAYS_UNTIL && span.since_s == ZONE_ALWAYS_SINCE);
    for (const char *const *name = (const char *const[]){"", "Europe/Nowhere", "/etc/passwd", "../../etc/passwd",
                                                            "CET-1CEST,M3.5.0,M10.5.0/3", "+01:00", "0100", "Europe", "UTC+1", "FOO3", "Z", "tzdata.zi", NULL}; *name; name++)
        assert_null(io->find(io, *name));
    system_zones_free(zones);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(berlin_has_summers), cmocka_unit_test(names_are_those_of_the_database)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
