/* Days of the Gregorian calendar as numbers, and back. No time zone: a local time is the seconds since 1970-01-01 00:00 by the clock on the wall. */
#ifndef SOURCES_CIVIL_H
#define SOURCES_CIVIL_H

#include <stdint.h>

struct civil {
    int64_t year;
    unsigned month, day;             /* from 1 on */
    unsigned hour, minute, second, weekday;   /* Sunday is 0 */
};

/* Days since 1970-01-01. */
int64_t civil_days(int64_t year, unsigned month, unsigned day);
unsigned civil_days_in_month(int64_t year, unsigned month);
struct civil civil_of(int64_t local_s);
int64_t civil_seconds(const struct civil *civil);

#endif
