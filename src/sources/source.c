#include "sources/source_state.h"

#include "base/err.h"
#include "sources/civil.h"

#include <stdio.h>

#define SECOND_US 1000000u
#define BACKOFF_MAX_MS 60000u
#define RETRY_AFTER_MAX_S 86400u
#define SAVE_AGAIN_US SECOND_US      /* after a save that failed */

static struct source *source_of(struct feed *feed) { return (struct source *)feed; }

static void look_at_clock(struct source *source) { source->sink->clock(source->sink, &source->now_us, &source->wall_us); }

/* xorshift64* */
static uint64_t next_random(struct source *source)
{
    source->random ^= source->random >> 12;
    source->random ^= source->random << 25;
    source->random ^= source->random >> 27;
    return source->random * 0x2545f4914f6cdd1du;
}

/* ---- for kinds ------------------------------------------------------------------------------------------------------------ */

void source_error(struct source *source, const char *why)
{
    snprintf(source->error, sizeof(source->error), "%s", why);
    /* It may quote what a server said, or a path, and may have been cut off in the middle of a letter. */
    utf8_mend(source->error);
    source->error_wall_us = source->wall_us;
}

/* What runs is told to end, and not listened to any more. The feed may be in the middle of telling. */
static void stop_feed(struct source *source)
{
    source->unwanted = source->feed.transport;
    source->is_held = false;
    source->sink->due(source->sink);
}

static void wait_ms(struct source *source, uint64_t ms)
{
    stop_feed(source);
    source->state = SOURCE_WAITING;
    source->start_us = source->now_us + ms * 1000;
}

uint64_t source_retry_after_ms(const struct feed_opening *opening)
{
    return (opening->retry_after_s < RETRY_AFTER_MAX_S ? opening->retry_after_s : RETRY_AFTER_MAX_S) * 1000;
}

void source_again(struct source *source, uint64_t after_ms) { wait_ms(source, after_ms); }

void source_failed(struct source *source, uint64_t base_ms, const char *why) { source_put_off(source, base_ms, 0, why); }

void source_put_off(struct source *source, uint64_t base_ms, uint64_t least_ms, const char *why)
{
    uint64_t most_ms = base_ms > BACKOFF_MAX_MS ? base_ms : BACKOFF_MAX_MS, ms = base_ms;
    for (unsigned i = 0; i < source->failures && ms < most_ms; i++)
        ms *= 2;
    if (ms > most_ms)
        ms = most_ms;
    source->failures++;
    source_error(source, why);
    /* Half of it, and some of the other half: those who lost the same server do not come back all at once. */
    ms = ms / 2 + next_random(source) % (ms / 2 + 1);
    wait_ms(source, ms >= least_ms ? ms : least_ms + next_random(source) % (least_ms / 8 + 1));
}

void source_over(struct source *source, const char *why)
{
    stop_feed(source);
    source->state = SOURCE_OVER;
    if (why)
        source_error(source, why);
}

void source_runs(struct source *source)
{
    source->state = SOURCE_RUNNING;
    source->failures = 0;
}

void source_moved(struct source *source)
{
    source->is_dirty = true;
    source->must_save |= !source->has_position;
    source->sink->due(source->sink);
}

void source_ended(struct source *source, const struct feed_end *end, uint64_t base_ms, uint64_t least_ms)
{
    static const char *const outcomes[] = {"It came to its end.", "It may not be connected to.", "It cannot be reached.", "It broke off.", "The answer is too long.", "Nothing came for too long.",
                                           "There is too little memory."};
    source_put_off(source, base_ms, least_ms, end->why[0] ? end->why : outcomes[end->outcome]);
}

/* ---- what the feed tells -------------------------------------------------------------------------------------------------- */

static void hold_if_full(struct source *source)
{
    if (source->is_held || source->unwanted || !source->feed.transport || !window_is_full(source))
        return;
    source->is_held = true;
    source->feeder->pause(source->feeder, &source->feed, true);
}

static void on_opened(struct feed *feed, struct feed_opening *opening)
{
    struct source *source = source_of(feed);
    look_at_clock(source);
    if (!source->unwanted && source->kind->opened)
        source->kind->opened(source, opening);
}

static void on_came(struct feed *feed, uint64_t stream, struct bytes data)
{
    struct source *source = source_of(feed);
    if (source->unwanted || !source->kind->came)
        return;
    look_at_clock(source);
    source->kind->came(source, stream, data);
    hold_if_full(source);
}

static void on_closed(struct feed *feed, uint64_t stream)
{
    struct source *source = source_of(feed);
    look_at_clock(source);
    if (!source->unwanted && source->kind->closed)
        source->kind->closed(source, stream);
}

static void on_listed(struct feed *feed, const struct feed_file *files, unsigned count, bool whole)
{
    struct source *source = source_of(feed);
    look_at_clock(source);
    if (!source->unwanted && source->kind->listed)
        source->kind->listed(source, files, count, whole);
    hold_if_full(source);
}

static void on_signalled(struct feed *feed, int number)
{
    struct source *source = source_of(feed);
    look_at_clock(source);
    if (!source->unwanted && source->kind->signalled)
        source->kind->signalled(source, number);
}

static void on_delivered(struct feed *feed, const struct feed_message *message)
{
    struct source *source = source_of(feed);
    if (source->unwanted || source->draining || !source->kind->delivered)
        return;
    look_at_clock(source);
    source->kind->delivered(source, message);
    hold_if_full(source);
}

static void on_ended(struct feed *feed, const struct feed_end *end)
{
    struct source *source = source_of(feed);
    look_at_clock(source);
    source->is_held = false;
    if (source->kind->comes_again)
        window_forget_waiting(&source->window);
    if (source->unwanted || source->draining) {
        source->unwanted = source->draining = false;
        source->sink->due(source->sink);
        return;
    }
    if (source->kind->ended)
        source->kind->ended(source, end);
    else
        source_ended(source, end, source->declaration.retry_ms, 0);
    source->sink->due(source->sink);
}

static const struct feed_events feed_events = {.opened = on_opened, .came = on_came, .closed = on_closed, .listed = on_listed, .signalled = on_signalled, .delivered = on_delivered, .ended = on_ended};

void source_begin(struct source *source, const struct feed_request *request)
{
    source->feed.events = &feed_events;
    if (!source->feeder || !source->feeder->begin(source->feeder, &source->feed, request))
        source_failed(source, source->declaration.retry_ms, "There is too little memory, or there are too many open files.");
}

static void cancel(struct source *source)
{
    if (source->feed.transport)
        source->feeder->cancel(source->feeder, &source->feed);
    source->feed.transport = NULL;
    source->unwanted = source->is_held = source->draining = false;
    if (source->kind->comes_again)
        window_forget_waiting(&source->window);
}

/* What is under way is to be settled by the feed that it came by. */
static void stop_reading(struct source *source)
{
    if (!source->kind->comes_again || !source->feed.transport || source->unwanted || !source->window.under_way) {
        cancel(source);
        return;
    }
    source->draining = true;
    window_forget_waiting(&source->window);
}

/* ---- life ----------------------------------------------------------------------------------------------------------------- */

struct source *source_new(struct declaration *declaration, struct source_sink *sink, struct feeder *feeder, struct zones *zones, uint64_t random)
{
    struct source *source = calloc(1, sizeof(*source) + declaration->kind->size);
    if (!source)
        return NULL;
    source->declaration = *declaration;
    source->kind = declaration->kind;
    source->sink = sink;
    source->feeder = feeder;
    source->zones = zones;
    source->random = random | 1;
    source->paused = declaration->paused;
    if (source->kind->init && !source->kind->init(source)) {
        source->kind->deinit(source);
        free(source);
        return NULL;
    }
    *declaration = (struct declaration){0};
    return source;
}

void source_free(struct source *source)
{
    if (!source)
        return;
    cancel(source);
    window_deinit(&source->window);
    if (source->kind->deinit)
        source->kind->deinit(source);
    declaration_deinit(&source->declaration);
    free(source);
}

void source_start(struct source *source, struct bytes position)
{
    CHECK(source->state == SOURCE_NEW);
    look_at_clock(source);
    json_t *root = position.size ? json_loadb((const char *)position.data, position.size, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *kind = json_string_value(json_object_get(root, "kind"));
    bool fits = kind && strcmp(kind, source->kind->name) == 0 && source->kind->restore && source->kind->restore(source, root);
    if (position.size && !fits && !source->kind->without_position)
        source_error(source, "The position that was kept makes no sense: it begins as one that is new.");
    json_decref(root);
    source->has_position = fits;
    source->keeps_position = fits || !source->kind->without_position;
    source->state = SOURCE_WAITING;
    source->start_us = source->now_us;
    source->sink->due(source->sink);
}

void source_finish(struct source *source)
{
    source->finishing = true;
    stop_reading(source);
    source->sink->due(source->sink);
}

bool source_is_idle(const struct source *source) { return window_is_empty(&source->window) && !source->draining && !source->is_dirty && !source->is_saving; }

void source_pause(struct source *source, bool paused)
{
    if (paused == source->paused)
        return;
    source->paused = paused;
    look_at_clock(source);
    if (paused)
        stop_reading(source);
    else if (source->draining)
        cancel(source);
    if (source->state != SOURCE_NEW) {
        /* What had come to its end begins again, too: that is how one says so. */
        source->state = SOURCE_WAITING;
        source->start_us = source->now_us;
        source->failures = 0;
    }
    source->sink->due(source->sink);
}

static void save(struct source *source)
{
    if (!source->is_dirty || source->is_saving || source->now_us < source->save_us || !source->kind->position)
        return;
    json_t *root = source->kind->position(source);
    char *text = root && json_object_set_new(root, "kind", json_string(source->kind->name)) == 0 ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    /* Not now, or too little memory: another time. The events are safe; they come twice at the worst. */
    if (!text || !source->sink->save(source->sink, bytes_of_text(text))) {
        source->save_us = source->now_us + SAVE_AGAIN_US;
    } else {
        source->is_dirty = false;
        source->is_saving = true;
        source->save_us = source->now_us + source->kind->save_every_us;
    }
    free(text);
}

static uint64_t earlier(uint64_t a_us, uint64_t b_us) { return a_us < b_us ? a_us : b_us; }

uint64_t source_tick(struct source *source)
{
    uint64_t due_us = SOURCE_NEVER;
    look_at_clock(source);
    if (source->state == SOURCE_NEW)
        return due_us;
    if (source->unwanted || (source->draining && window_is_empty(&source->window)))
        cancel(source);
    if (!source->paused && !source->finishing) {
        if (source->state == SOURCE_WAITING && source->now_us >= source->start_us) {
            source->state = SOURCE_STARTING;
            source->starts++;
            source->kind->begin(source);
        }
        if (source->state == SOURCE_WAITING)
            due_us = source->start_us;
        else if (source->state == SOURCE_RUNNING && source->kind->tick && !window_is_full(source))
            due_us = source->kind->tick(source);
    }
    if (!source->must_save)
        window_publish(source);
    save(source);
    if (source->is_held && !window_is_full(source)) {
        source->is_held = false;
        source->feeder->pause(source->feeder, &source->feed, false);
    }
    if (source->window.next != source->window.end && source->now_us < source->window.again_us)
        due_us = earlier(due_us, source->window.again_us);
    if (source->is_dirty && !source->is_saving && source->now_us < source->save_us)
        due_us = earlier(due_us, source->save_us);
    return due_us;
}

void source_confirmed(struct source *source, uint64_t ticket, bool accepted)
{
    look_at_clock(source);
    window_confirmed(source, ticket, accepted);
    source->sink->due(source->sink);
}

void source_saved(struct source *source, bool saved)
{
    look_at_clock(source);
    source->is_saving = false;
    source->has_position |= saved;
    source->must_save &= !saved;
    if (!saved) {
        source->is_dirty = true;
        source->save_us = source->now_us + SAVE_AGAIN_US;
    }
    source->sink->due(source->sink);
}

void source_ready(struct source *source) { source->sink->due(source->sink); }

void source_lost(struct source *source)
{
    window_lost(source);
    source->is_dirty |= source->is_saving;
    source->is_saving = false;
    source->sink->due(source->sink);
}

void source_time_text(uint64_t time_ms, char text[SOURCE_TIME_SIZE])
{
    struct civil c = civil_of((int64_t)(time_ms / 1000));
    unsigned ms = (unsigned)(time_ms % 1000);
    int size = snprintf(text, SOURCE_TIME_SIZE, "%04d-%02u-%02uT%02u:%02u:%02u", (int)(c.year % 10000), c.month % 100, c.day % 100, c.hour % 100, c.minute % 100, c.second % 100);
    snprintf(text + size, SOURCE_TIME_SIZE - (size_t)size, ms ? ".%03uZ" : "Z", ms);
}

const char *source_last_error(const struct source *source, uint64_t *wall_us)
{
    *wall_us = source->error_wall_us;
    return source->error;
}

const struct declaration *source_declaration(const struct source *source) { return &source->declaration; }

/* ---- what there is to say ------------------------------------------------------------------------------------------------- */

static const char *state_of(const struct source *source)
{
    if (source->finishing)
        return "stopping";
    if (source->paused)
        return "paused";
    switch (source->state) {
    case SOURCE_NEW: return "starting";
    case SOURCE_WAITING: return source->failures ? "failing" : source->starts ? "waiting" : "starting";
    case SOURCE_STARTING: return source->failures ? "failing" : "starting";
    case SOURCE_RUNNING: return source->is_held ? "held" : "running";
    case SOURCE_OVER: return "ended";
    }
    return "";
}

json_t *source_describe(const struct source *source)
{
    json_t *root = json_pack("{s:s, s:I, s:I, s:I, s:I}", "state", state_of(source), "read", (json_int_t)source->read, "published", (json_int_t)source->published, "waiting",
                             (json_int_t)(source->window.end - source->window.first), "starts", (json_int_t)source->starts);
    if (!root)
        return NULL;
    if (source->unmapped)
        json_object_set_new(root, "unmapped", json_integer((json_int_t)source->unmapped));
    if (source->lost)
        json_object_set_new(root, "too_long", json_integer((json_int_t)source->lost));
    if (source->error[0]) {
        json_object_set_new(root, "error", json_string(source->error));
        json_object_set_new(root, "error_ms", json_integer((json_int_t)(source->error_wall_us / 1000)));
    }
    if (source->kind->position && source->state != SOURCE_NEW) {
        json_t *position = source->kind->position(source);
        const json_t *files = json_object_get(position, "files");
        /* Of a directory's files their number is enough. */
        if (files)
            json_object_set_new(position, "files", json_integer((json_int_t)json_object_size(files)));
        if (position)
            json_object_set(root, "position", position);
        json_decref(position);
    }
    return root;
}
