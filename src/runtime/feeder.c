#include "runtime/feeder_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct feeding_kind *const kinds[FEED_KINDS] = {
    [FEED_HTTP] = &feeding_http, [FEED_FILE] = &feeding_file, [FEED_DIRECTORY] = &feeding_directory, [FEED_TCP] = &feeding_listen, [FEED_UNIX] = &feeding_listen,
    [FEED_STDIN] = &feeding_input, [FEED_PROCESS] = &feeding_process, [FEED_SIGNAL] = &feeding_signal,
};

static void set_release(struct feeder_set *set)
{
    if (!set->is_freed || set->feedings)
        return;
    free(set->room);
    free(set);
}

void feeding_release(struct feeding *feeding)
{
    struct feeder_set *set = feeding->set;
    if (!feeding->is_closed || feeding->handles)
        return;
    feeding->kind->free(feeding);
    set->feedings--;
    set_release(set);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct feeding *feeding = handle->data;
    feeding->handles--;
    feeding_release(feeding);
}

void feeding_close_handle(struct feeding *feeding, uv_handle_t *handle)
{
    handle->data = feeding;
    uv_close(handle, on_handle_closed);
}

void feeding_lingers(struct feeding *feeding)
{
    feeding->lingering = feeding->set->lingering;
    feeding->set->lingering = feeding;
}

void feeding_lingered(struct feeding *feeding)
{
    struct feeding **at = &feeding->set->lingering;
    while (*at && *at != feeding)
        at = &(*at)->lingering;
    if (*at)
        *at = feeding->lingering;
}

static void close_feeding(struct feeding *feeding)
{
    if (feeding->is_closed)
        return;
    feeding->kind->close(feeding);
    feeding->is_closed = true;
    if (feeding->kind->start)
        feeding_close_handle(feeding, (uv_handle_t *)&feeding->starter);
}

/* ---- telling --------------------------------------------------------------------------------------------------------------- */

void feeding_told(struct feeding *feeding) { feeding->set->config.told(feeding->set->config.owner); }

void feeding_opened(struct feeding *feeding, struct feed_opening *opening)
{
    if (feeding->feed && feeding->feed->events->opened)
        feeding->feed->events->opened(feeding->feed, opening);
}

void feeding_came(struct feeding *feeding, uint64_t stream, struct bytes data)
{
    if (feeding->feed)
        feeding->feed->events->came(feeding->feed, stream, data);
}

void feeding_closed(struct feeding *feeding, uint64_t stream)
{
    if (feeding->feed && feeding->feed->events->closed)
        feeding->feed->events->closed(feeding->feed, stream);
}

void feeding_end(struct feeding *feeding, const struct feed_end *end)
{
    struct feed *feed = feeding->feed;
    close_feeding(feeding);
    feeding->feed = NULL;
    if (feed) {
        feed->transport = NULL;
        feed->events->ended(feed, end);
        feeding_told(feeding);
    }
    feeding_release(feeding);
}

void feeding_fail(struct feeding *feeding, enum feed_outcome outcome, const char *format, ...)
{
    struct feed_end end = {.outcome = outcome};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(end.why, sizeof(end.why), format, arguments);
    va_end(arguments);
    feeding_end(feeding, &end);
}

/* ---- what sources ask ------------------------------------------------------------------------------------------------------- */

static void on_start(uv_timer_t *timer)
{
    struct feeding *feeding = timer->data;
    feeding->kind->start(feeding);
}

static bool begin(struct feeder *io, struct feed *feed, const struct feed_request *request)
{
    struct feeder_set *set = (struct feeder_set *)io;
    const struct feeding_kind *kind = request->kind == FEED_AMQP ? set->config.amqp : request->kind < FEED_KINDS ? kinds[request->kind] : NULL;
    struct feeding *feeding = kind ? kind->begin(set, request) : NULL;
    if (!feeding)
        return false;
    feeding->kind = kind;
    feeding->set = set;
    feeding->feed = feed;
    feed->transport = feeding;
    set->feedings++;
    if (kind->start) {
        uv_timer_init(set->config.loop, &feeding->starter);
        feeding->starter.data = feeding;
        feeding->handles++;
        uv_timer_start(&feeding->starter, on_start, 0, 0);
    }
    return true;
}

static void pause_feed(struct feeder *io, struct feed *feed, bool paused)
{
    struct feeding *feeding = feed->transport;
    (void)io;
    if (!feeding || feeding->is_paused == paused)
        return;
    feeding->is_paused = paused;
    feeding->kind->pause(feeding, paused);
}

static void look_again(struct feeder *io, struct feed *feed)
{
    struct feeding *feeding = feed->transport;
    (void)io;
    if (feeding && feeding->kind->look_again)
        feeding->kind->look_again(feeding);
}

static void settle(struct feeder *io, struct feed *feed, uint64_t number)
{
    struct feeding *feeding = feed->transport;
    (void)io;
    if (feeding && feeding->kind->settle)
        feeding->kind->settle(feeding, number);
}

static void cancel(struct feeder *io, struct feed *feed)
{
    struct feeding *feeding = feed->transport;
    (void)io;
    if (!feeding)
        return;
    feed->transport = NULL;
    feeding->feed = NULL;
    close_feeding(feeding);
    feeding_release(feeding);
}

/* ---- life -------------------------------------------------------------------------------------------------------------------- */

struct feeder_set *feeder_set_new(const struct feeder_config *config)
{
    struct feeder_set *set = calloc(1, sizeof(*set));
    if (!set || !(set->room = malloc(FEED_ROOM))) {
        free(set);
        return NULL;
    }
    set->io = (struct feeder){.begin = begin, .pause = pause_feed, .look_again = look_again, .settle = settle, .cancel = cancel};
    set->config = *config;
    return set;
}

struct notices *feeder_notices(struct feeder_set *set)
{
    if (!set->notices)
        set->notices = notices_new(set->config.loop);
    return set->notices;
}

struct feeder *feeder_set_io(struct feeder_set *set) { return &set->io; }

void feeder_set_free(struct feeder_set *set)
{
    if (!set)
        return;
    while (set->lingering) {
        struct feeding *feeding = set->lingering;
        set->lingering = feeding->lingering;
        feeding->kind->abandon(feeding);
    }
    multi_free(set->multi);
    set->multi = NULL;
    notices_free(set->notices);
    set->notices = NULL;
    set->is_freed = true;
    set_release(set);
}
