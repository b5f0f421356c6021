/* What comes by the clock: every so often (timer), or at times of day (cron). The position is the last time that an event was made for, so that it is known after a restart which were missed
 * meanwhile: one event stands for all of them (`once`), none does (`skip`), or each has its own, for the last MISSED_MAX (`all`).
 *
 * A timer's times are its first one and whole intervals. When the clock is set forward, what lies between counts as missed; when it is set back, nothing comes twice, unless by more than a
 * day: then the clock had been wrong, and what is now is begun with. */
#include "base/bugs.h"
#include "sources/source_state.h"

#include <stdio.h>

#define SECOND_US 1000000u
#define MISSED_MAX 1000u
#define LATE_US (2 * SECOND_US)      /* later than that it was missed */
#define BACK_MAX_US (86400ull * SECOND_US)
#define LOOK_US (60ull * SECOND_US)  /* the clock is looked at that often, in case it was set */

struct time_source {
    uint64_t last_us, settled_us;    /* since 1970; 0: none yet */
    uint64_t due_us;                 /* the next; SOURCE_NEVER: there is none */
    const struct zone *zone;
};

static const struct template_name names[] = {{"data", false}, {"time", false}, {"time_ms", false}, {"missed", false}, {"source", false}, {NULL, false}};

struct moment {
    char time[SOURCE_TIME_SIZE], time_ms[24], missed[24];
};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct moment *moment = owner;
    (void)more;
    *value = bytes_of_text(bytes_equal(name, bytes_of_text("time")) ? moment->time : bytes_equal(name, bytes_of_text("missed")) ? moment->missed : moment->time_ms);
    return true;
}

static bool is_cron(const struct source *source) { return source->kind == &kind_cron; }

/* The first time after `wall_us`. */
static uint64_t next_after(const struct source *source, uint64_t wall_us)
{
    const struct time_source *own = source_own(source);
    if (is_cron(source)) {
        int64_t next_s = cron_next(&source->declaration.cron, own->zone, (int64_t)(wall_us / SECOND_US));
        return next_s == CRON_NEVER ? SOURCE_NEVER : (uint64_t)next_s * SECOND_US;
    }
    uint64_t every_us = source->declaration.every_ms * 1000;
    if (!own->last_us)
        return wall_us + every_us;
    return wall_us < own->last_us ? own->last_us + every_us : own->last_us + ((wall_us - own->last_us) / every_us + 1) * every_us;
}

static bool restore(struct source *source, const json_t *position)
{
    struct time_source *own = source_own(source);
    json_int_t at_us = json_integer_value(json_object_get(position, "at_us"));
    if (at_us <= 0)
        return false;
    if (bug_enabled(BUG_SOURCE_MISSED_FORGOTTEN))
        at_us = (json_int_t)source->wall_us;
    own->last_us = own->settled_us = (uint64_t)at_us;
    return true;
}

static void set_last(struct source *source, uint64_t wall_us)
{
    struct time_source *own = source_own(source);
    own->last_us = wall_us;
    own->due_us = next_after(source, wall_us);
}

static void begin(struct source *source)
{
    struct time_source *own = source_own(source);
    const char *zone = source->declaration.zone;
    own->zone = strcmp(zone, "UTC") == 0 || !source->zones ? &zone_utc : source->zones->find(source->zones, zone);
    if (!own->zone) {
        source_failed(source, 60000, "Its time zone is not known any more.");
        return;
    }
    if (!own->last_us) {
        /* It begins now, and that is known from now on. */
        set_last(source, source->wall_us);
        own->settled_us = own->last_us;
        source_moved(source);
    }
    own->due_us = next_after(source, own->last_us);
    source_runs(source);
}

static bool tell(struct source *source, uint64_t at_us, uint64_t missed)
{
    struct moment moment;
    char id[32], data[120];
    source_time_text(at_us / 1000, moment.time);
    snprintf(moment.time_ms, sizeof(moment.time_ms), "%llu", (unsigned long long)(at_us / 1000));
    snprintf(moment.missed, sizeof(moment.missed), "%llu", (unsigned long long)missed);
    snprintf(id, sizeof(id), "%llu", (unsigned long long)(at_us / 1000));
    snprintf(data, sizeof(data), "{\"time\":\"%s\",\"missed\":%llu}", moment.time, (unsigned long long)missed);
    return source_emit(source, &(struct source_item){.data = bytes_of_text(data), .find = find, .owner = &moment, .id = bytes_of_text(id), .mark = bytes_of(&at_us, sizeof(at_us)),
                                                     .time_ms = at_us / 1000});
}

/* How many times were missed up to now, beginning with the one that is due: all but the last. Counting ends somewhere. */
static uint64_t count_missed(const struct source *source, uint64_t *last_us)
{
    const struct time_source *own = source_own(source);
    uint64_t count = 0;
    if (!is_cron(source)) {
        uint64_t every_us = source->declaration.every_ms * 1000;
        count = (source->wall_us - own->due_us) / every_us;
        *last_us = own->due_us + count * every_us;
        return count;
    }
    *last_us = own->due_us;
    for (uint64_t at_us = own->due_us; (at_us = next_after(source, at_us)) <= source->wall_us && count < 100 * MISSED_MAX; count++)
        *last_us = at_us;
    return count;
}

/* Nothing was missed, or each has an event. */
static bool tell_one(struct source *source)
{
    struct time_source *own = source_own(source);
    if (!tell(source, own->due_us, 0))
        return false;
    set_last(source, own->due_us);
    return true;
}

static bool tell_due(struct source *source)
{
    struct time_source *own = source_own(source);
    uint64_t last_us, missed = count_missed(source, &last_us);
    bool is_late = source->wall_us - last_us > LATE_US;
    if (missed == 0 && !is_late)
        return tell_one(source);
    switch (source->declaration.missed) {
    case MISSED_ALL:
        /* Those that are too many are passed over. The others come one by one, as far as there is room for them. */
        while (missed >= MISSED_MAX && !is_cron(source)) {
            set_last(source, own->due_us + (missed - MISSED_MAX) * source->declaration.every_ms * 1000);
            missed = count_missed(source, &last_us);
        }
        for (; missed >= MISSED_MAX; missed--)
            set_last(source, own->due_us);
        while (own->due_us <= source->wall_us && !window_is_full(source))
            if (!tell_one(source))
                return false;
        return true;
    case MISSED_ONCE:
        if (!tell(source, last_us, missed + (is_late ? 1 : 0)))
            return false;
        set_last(source, last_us);
        return true;
    case MISSED_SKIP:
        /* The last one is on time if it is not late. */
        if (!is_late && !tell(source, last_us, 0))
            return false;
        set_last(source, last_us);
        if (is_late) {
            own->settled_us = window_is_empty(&source->window) ? last_us : own->settled_us;
            source_moved(source);
        }
        return true;
    }
    return true;
}

static uint64_t tick(struct source *source)
{
    struct time_source *own = source_own(source);
    if (own->last_us > source->wall_us + BACK_MAX_US) {
        source_error(source, "The clock was set back by more than a day: it begins with what is now.");
        set_last(source, source->wall_us);
    }
    if (own->due_us <= source->wall_us && !tell_due(source)) {
        source_error(source, "There is too little memory.");
        return source->now_us + SECOND_US;
    }
    if (own->due_us == SOURCE_NEVER)
        return SOURCE_NEVER;
    uint64_t wait_us = own->due_us > source->wall_us ? own->due_us - source->wall_us : 0;
    return source->now_us + (wait_us < LOOK_US ? wait_us : LOOK_US);
}

static void settled(struct source *source, struct bytes mark) { memcpy(&((struct time_source *)source_own(source))->settled_us, mark.data, sizeof(uint64_t)); }

static json_t *position(const struct source *source)
{
    const struct time_source *own = source_own(source);
    return json_pack("{s:I}", "at_us", (json_int_t)own->settled_us);
}

const struct source_kind kind_timer = {
    .name = "timer", .settings = SETTING_EVERY | SETTING_MISSED, .names = names, .defaults = {[TEMPLATE_TYPE] = "timer.due", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "timer.due",
    .size = sizeof(struct time_source), .restore = restore, .begin = begin, .tick = tick, .settled = settled, .position = position,
};

const struct source_kind kind_cron = {
    .name = "cron", .settings = SETTING_CRON | SETTING_MISSED, .names = names, .defaults = {[TEMPLATE_TYPE] = "cron.due", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "cron.due",
    .size = sizeof(struct time_source), .restore = restore, .begin = begin, .tick = tick, .settled = settled, .position = position,
};
