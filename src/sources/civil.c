#include "sources/civil.h"

#define DAY_S 86400

/* Years that begin with March put the leap day at their end, and an era of 400 of them has always as many days. */
int64_t civil_days(int64_t year, unsigned month, unsigned day)
{
    int64_t shifted = month <= 2 ? year - 1 : year;
    int64_t era = (shifted >= 0 ? shifted : shifted - 399) / 400;
    int64_t of_era = shifted - era * 400;
    int64_t of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

unsigned civil_days_in_month(int64_t year, unsigned month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 1u : 0u);
}

struct civil civil_of(int64_t local_s)
{
    int64_t days = local_s / DAY_S, second = local_s % DAY_S;
    if (second < 0) {
        second += DAY_S;
        days--;
    }
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t of_era = shifted - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    struct civil civil = {
        .year = era * 400 + year + (month >= 10 ? 1 : 0),
        .month = (unsigned)(month < 10 ? month + 3 : month - 9),
        .day = (unsigned)(of_year - (153 * month + 2) / 5 + 1),
        .hour = (unsigned)(second / 3600), .minute = (unsigned)(second / 60 % 60), .second = (unsigned)(second % 60),
    };
    civil.weekday = (unsigned)(((days + 4) % 7 + 7) % 7);
    return civil;
}

int64_t civil_seconds(const struct civil *civil)
{
    return civil_days(civil->year, civil->month, civil->day) * DAY_S + (int64_t)civil->hour * 3600 + (int64_t)civil->minute * 60 + (int64_t)civil->second;
}
