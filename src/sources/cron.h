/* Times that come again, as cron(8) writes them.
 *
 *   minute hour day-of-month month day-of-week              second minute hour day-of-month month day-of-week
 *
 *   *  every one      7  one      1-5  from … to      a,b  either      x/n  every n-th of x (*, a range, or from a number on)      ?  as *
 *   JAN … DEC, SUN … SAT in either case; Sunday is 0 and 7      @yearly @annually @monthly @weekly @daily @midnight @hourly
 *
 * As in cron, a day must fit both the day of the month and that of the week, unless both say more than `*`: then one of them is enough.
 *
 * Where clocks are changed: a time that is passed over (02:30 where clocks go from 02:00 to 03:00) comes at the moment of the change instead, once for all times that fall into the gap; a
 * time that comes twice counts once, the first time. That is for times of day. What comes at every hour (its hours are a `*`, with or without a step) follows the time that passes: it
 * comes in both of the hours that are called the same, and nothing is made up for. */
#ifndef SOURCES_CRON_H
#define SOURCES_CRON_H

#include "base/bytes.h"
#include "io/zone.h"

#define CRON_TEXT_MAX 256u
#define CRON_WHY_MAX 160u
#define CRON_NEVER INT64_MAX

struct cron {
    uint64_t seconds, minutes;       /* bit n: n is one */
    uint32_t hours, days, months, weekdays;
    bool any_day, any_weekday;       /* written as `*` */
    bool every_hour;
};

/* False: a sentence in `why` says what is wrong. What can never come (the 30th of February) is wrong, too. */
bool cron_read(struct bytes text, struct cron *cron, char why[CRON_WHY_MAX]);

/* The first time after `utc_s`, in seconds since 1970 (UTC). CRON_NEVER: none in the next 30 years. */
int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t utc_s);

#endif
