#include "sources/cron.h"

#include "sources/civil.h"

#include <stdio.h>
#include <strings.h>

#define DAY_S 86400
#define YEARS_AHEAD 30
#define WORDS_MAX 6u
#define SPANS_MAX 1000u              /* of a zone that are gone through: a real one has two a year */

struct field {
    const char *name;
    unsigned first, last;
    const char *const *names;        /* of the values from `first` on; NULL: numbers only */
};

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const day_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

enum { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY };
static const struct field fields[] = {
    {"second", 0, 59, NULL}, {"minute", 0, 59, NULL}, {"hour", 0, 23, NULL}, {"day of the month", 1, 31, NULL}, {"month", 1, 12, month_names}, {"day of the week", 0, 7, day_names},
};

static const struct {
    const char *name, *text;
} nicknames[] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"}, {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"}, {"@midnight", "0 0 * * *"}, {"@hourly", "0 * * * *"},
};

/* ---- reading -------------------------------------------------------------------------------------------------------------- */

static bool is_blank(uint8_t c) { return c == ' ' || c == '\t'; }

static void skip(struct bytes *text, size_t size) { *text = bytes_of(text->data + size, text->size - size); }

static bool take_char(struct bytes *text, char c)
{
    if (!text->size || text->data[0] != (uint8_t)c)
        return false;
    skip(text, 1);
    return true;
}

/* Up to four digits. */
static bool take_number(struct bytes *text, unsigned *number)
{
    size_t count = 0;
    *number = 0;
    while (count < text->size && text->data[count] >= '0' && text->data[count] <= '9' && count < 5)
        *number = *number * 10 + (unsigned)(text->data[count++] - '0');
    skip(text, count);
    return count > 0 && count < 5;
}

static bool take_value(struct bytes *text, const struct field *field, unsigned *value)
{
    for (unsigned i = 0; field->names && field->names[i]; i++)
        if (text->size >= 3 && strncasecmp((const char *)text->data, field->names[i], 3) == 0) {
            skip(text, 3);
            *value = field->first + i;
            return true;
        }
    return take_number(text, value) && *value >= field->first && *value <= field->last;
}

/* One of the parts that commas separate. */
static bool take_part(struct bytes *text, const struct field *field, uint64_t *bits, bool *any)
{
    unsigned from = field->first, to = field->last, step = 1;
    bool star = take_char(text, '*') || take_char(text, '?'), is_single = false;
    if (star) {
        /* Sunday is one day, not two. */
        to = field->names == day_names ? 6 : field->last;
        *any = true;
    } else {
        if (!take_value(text, field, &from))
            return false;
        to = from;
        is_single = !take_char(text, '-');
        if (!is_single && (!take_value(text, field, &to) || to < from))
            return false;
    }
    if (take_char(text, '/')) {
        if (!take_number(text, &step) || step == 0 || step > field->last)
            return false;
        /* From there to the end; from Sunday that is the whole week, whichever number it has. */
        if (is_single) {
            to = field->names == day_names ? 6 : field->last;
            from = from > to ? 0 : from;
        }
    }
    for (unsigned value = from; value <= to; value += step)
        *bits |= 1ull << value;
    return true;
}

static bool read_field(struct bytes word, const struct field *field, uint64_t *bits, bool *any)
{
    do
        if (!take_part(&word, field, bits, any))
            return false;
    while (take_char(&word, ','));
    return word.size == 0;
}

static unsigned split(struct bytes text, struct bytes words[WORDS_MAX])
{
    unsigned count = 0;
    for (size_t at = 0; at < text.size;) {
        size_t begin = at;
        if (is_blank(text.data[at])) {
            at++;
            continue;
        }
        while (at < text.size && !is_blank(text.data[at]))
            at++;
        if (count == WORDS_MAX)
            return WORDS_MAX + 1;
        words[count++] = bytes_of(text.data + begin, at - begin);
    }
    return count;
}

/* Is there a month with such a day? In any year: the 29th of February is one. */
static bool can_come(const struct cron *cron)
{
    if (cron->any_day || !cron->any_weekday)
        return true;
    for (unsigned month = 1; month <= 12; month++)
        for (unsigned day = 1; cron->months >> month & 1 && day <= civil_days_in_month(2000, month); day++)
            if (cron->days >> day & 1)
                return true;
    return false;
}

bool cron_read(struct bytes text, struct cron *cron, char why[CRON_WHY_MAX])
{
    struct bytes words[WORDS_MAX];
    uint64_t bits[WORDS_MAX] = {1};
    bool any[WORDS_MAX] = {false};
    *cron = (struct cron){0};
    if (text.size > CRON_TEXT_MAX || memchr(text.data ? (const char *)text.data : "", 0, text.size)) {
        snprintf(why, CRON_WHY_MAX, "A cron expression has at most %u characters.", CRON_TEXT_MAX);
        return false;
    }
    unsigned count = split(text, words);
    for (size_t i = 0; count == 1 && i < sizeof(nicknames) / sizeof(nicknames[0]); i++)
        if (bytes_equal(words[0], bytes_of_text(nicknames[i].name))) {
            count = split(bytes_of_text(nicknames[i].text), words);
            break;
        }
    if (count != 5 && count != 6) {
        snprintf(why, CRON_WHY_MAX, "A cron expression has five fields (six with seconds), or is one of @yearly, @monthly, @weekly, @daily and @hourly.");
        return false;
    }
    unsigned first = 6 - count;
    for (unsigned i = first; i < WORDS_MAX; i++) {
        bits[i] = 0;
        if (!read_field(words[i - first], &fields[i], &bits[i], &any[i])) {
            struct bytes word = words[i - first];
            snprintf(why, CRON_WHY_MAX, "\"%.*s\" is no %s in a cron expression.", (int)(word.size < 40 ? word.size : 40), (const char *)word.data, fields[i].name);
            return false;
        }
    }
    *cron = (struct cron){.seconds = bits[SECOND], .minutes = bits[MINUTE], .hours = (uint32_t)bits[HOUR], .days = (uint32_t)bits[DAY], .months = (uint32_t)bits[MONTH],
                          .weekdays = (uint32_t)((bits[WEEKDAY] | bits[WEEKDAY] >> 7) & 0x7f), .any_day = any[DAY], .any_weekday = any[WEEKDAY], .every_hour = any[HOUR]};
    if (can_come(cron))
        return true;
    snprintf(why, CRON_WHY_MAX, "There is no such day in any of these months.");
    return false;
}

/* ---- the next one --------------------------------------------------------------------------------------------------------- */

static bool day_fits(const struct cron *cron, const struct civil *civil)
{
    bool day = cron->days >> civil->day & 1, weekday = cron->weekdays >> civil->weekday & 1;
    return cron->any_day || cron->any_weekday ? day && weekday : day || weekday;
}

/* The first bit from `from` on; 64: none. */
static unsigned next_bit(uint64_t bits, unsigned from)
{
    uint64_t left = from < 64 ? bits >> from << from : 0;
    return left ? (unsigned)__builtin_ctzll(left) : 64;
}

/* The first time of day from the given one on. False: none that day. */
static bool next_in_day(const struct cron *cron, struct civil *civil)
{
    unsigned second = next_bit(cron->seconds, civil->second), minute = civil->minute, hour = civil->hour;
    if (second == 64) {
        second = next_bit(cron->seconds, 0);
        minute++;
    }
    unsigned next_minute = next_bit(cron->minutes, minute);
    if (next_minute != minute)
        second = next_bit(cron->seconds, 0);
    if (next_minute == 64) {
        next_minute = next_bit(cron->minutes, 0);
        hour++;
    }
    unsigned next_hour = next_bit(cron->hours, hour);
    if (next_hour != civil->hour) {
        next_minute = next_bit(cron->minutes, 0);
        second = next_bit(cron->seconds, 0);
    }
    if (next_hour == 64)
        return false;
    civil->hour = next_hour;
    civil->minute = next_minute;
    civil->second = second;
    return true;
}

/* The first local time from `local_s` on that fits, and lies before `until_s`; CRON_NEVER: none. */
static int64_t next_local(const struct cron *cron, int64_t local_s, int64_t until_s)
{
    struct civil civil = civil_of(local_s);
    int64_t days = civil_days(civil.year, civil.month, civil.day);
    while (days * DAY_S < until_s) {
        if (!(cron->months >> civil.month & 1)) {
            days += civil_days_in_month(civil.year, civil.month) - civil.day + 1;
        } else {
            if (day_fits(cron, &civil) && next_in_day(cron, &civil)) {
                int64_t found = civil_seconds(&civil);
                return found < until_s ? found : CRON_NEVER;
            }
            days++;
        }
        civil = civil_of(days * DAY_S);
    }
    return CRON_NEVER;
}

/* Does a time of day fall into the gap that clocks leave when they change? */
static bool falls_into(const struct cron *cron, const struct zone_span *span, int32_t offset_before_s)
{
    return span->offset_s > offset_before_s && next_local(cron, span->since_s + offset_before_s, span->since_s + span->offset_s) != CRON_NEVER;
}

int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t utc_s)
{
    int64_t at = utc_s + 1, limit_s = utc_s + (int64_t)YEARS_AHEAD * 366 * DAY_S;
    for (unsigned spans = 0; at < limit_s && spans < SPANS_MAX; spans++) {
        struct zone_span span = zone->at(zone, at);
        int64_t until_s = span.until_s < limit_s ? span.until_s : limit_s;
        int64_t from_s = at + span.offset_s;
        if (!cron->every_hour && span.since_s != ZONE_ALWAYS_SINCE) {
            int32_t before_s = zone->at(zone, span.since_s - 1).offset_s;
            if (at == span.since_s && falls_into(cron, &span, before_s))
                return at;
            /* Behind a change backwards, what the clock shows again has been. */
            if (span.since_s + before_s > from_s)
                from_s = span.since_s + before_s;
        }
        int64_t local_s = next_local(cron, from_s, until_s + span.offset_s);
        if (local_s != CRON_NEVER)
            return local_s - span.offset_s;
        at = until_s;
    }
    return CRON_NEVER;
}
