/* Cron expressions: the next time lies ahead, fits the fields of the clock where clocks do not change, and nothing that fits was passed over. */
#include "sources/cron.h"

#include "base/err.h"
#include "sources/civil.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Two changes in a year, half a day each, so that much falls into them. */
static struct zone_span wild(const struct zone *zone, int64_t utc_s)
{
    (void)zone;
    int64_t half = utc_s / (183 * 86400) - (utc_s % (183 * 86400) < 0);
    return (struct zone_span){half * 183 * 86400, (half + 1) * 183 * 86400, half & 1 ? 43200 : 0};
}

static bool fits(const struct cron *cron, int64_t local_s)
{
    struct civil c = civil_of(local_s);
    bool day = cron->days >> c.day & 1, weekday = cron->weekdays >> c.weekday & 1;
    return (cron->seconds >> c.second & 1) && (cron->minutes >> c.minute & 1) && (cron->hours >> c.hour & 1) && (cron->months >> c.month & 1) &&
           (cron->any_day || cron->any_weekday ? day && weekday : day || weekday);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cron cron;
    char why[CRON_WHY_MAX] = "";
    uint8_t *copy = malloc(size + 1);
    CHECK(copy);
    memcpy(copy, data, size);
    bool good = cron_read(bytes_of(copy, size), &cron, why);
    free(copy);
    if (!good) {
        CHECK(why[0]);
        return 0;
    }
    int64_t at = 1774746000;
    for (unsigned i = 0; i < 4; i++) {
        int64_t next = cron_next(&cron, &zone_utc, at);
        if (next == CRON_NEVER)
            break;
        CHECK(next > at && fits(&cron, next));
        for (int64_t between = at + 1; between < next && between < at + 600; between++)
            CHECK(!fits(&cron, between));
        at = next;
    }
    const struct zone zone = {.at = wild};
    for (unsigned i = 0; i < 16 && at != CRON_NEVER; i++) {
        int64_t next = cron_next(&cron, &zone, at);
        struct zone_span span = wild(NULL, next == CRON_NEVER ? at : next);
        CHECK(next > at && (next == CRON_NEVER || next == span.since_s || fits(&cron, next + span.offset_s)));
        at = next;
    }
    return 0;
}
