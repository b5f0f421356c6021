#include "lib/source.h"

#include "host/feed_amqp.h"
#include "lib/uvloop.h"
#include "protocol/amqp/properties.h"
#include "sources/event_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#define AGAIN_MS 20u                 /* until what could not be published is tried again, though nothing else is told */
#define RECALL_AGAIN_US 1000000u

static void source_may_free(struct gw_source *gw);
static void source_end(struct gw_source *gw);

static struct gw_source *of_sink(struct source_sink *sink) { return (struct gw_source *)sink; }

/* ---- what is out ------------------------------------------------------------------------------------------------------------- */

static bool out_put(struct gw_source *gw, uint64_t ticket)
{
    if (gw->out_next - gw->out_first == gw->out_room) {
        uint64_t room = gw->out_room ? 2 * gw->out_room : 16;
        uint64_t *grown = malloc(room * sizeof(*grown));
        if (!grown)
            return false;
        for (uint64_t i = gw->out_first; i != gw->out_next; i++)
            grown[i & (room - 1)] = gw->out[i & (gw->out_room - 1)];
        free(gw->out);
        gw->out = grown;
        gw->out_room = room;
    }
    gw->out[gw->out_next++ & (gw->out_room - 1)] = ticket;
    return true;
}

static void on_told(void *context, int result)
{
    struct gw_source *gw = context;
    uint64_t ticket = gw->out[gw->out_first++ & (gw->out_room - 1)];
    if (!gw->source)
        source_may_free(gw);
    else if (ticket == SOURCE_OUT_POSITION)
        source_saved(gw->source, result == GW_DONE);
    else
        source_confirmed(gw->source, ticket, result == GW_DONE);
}

/* ---- the sink ---------------------------------------------------------------------------------------------------------------- */

static void clock_now(struct source_sink *sink, uint64_t *now_us, uint64_t *wall_us)
{
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    *now_us = loop_clock(of_sink(sink)->sources->bus->loop);
    *wall_us = (uint64_t)wall.tv_sec * 1000000u + (uint64_t)wall.tv_nsec / 1000u;
}

#define ROOM 4096u                   /* bytes that the properties of most events do with */

/* What it is told of comes with on_told. False: not now. */
static bool send_out(struct gw_source *gw, const struct engine_message *message, uint64_t ticket)
{
    struct gw_bus *bus = gw->sources->bus;
    uint64_t number = out_put(gw, ticket) ? ticket_open(&bus->tickets, on_told, gw) : 0;
    if (!number)
        return false;
    if (bus->ops->publish(bus, message, number) < 0) {
        ticket_cancel(&bus->tickets, number);
        gw->out_next--;
        return false;
    }
    loop_again_now(bus->loop);
    return true;
}

static void on_time(uv_timer_t *timer);

static bool publish(struct source_sink *sink, const struct source_event *event, uint64_t ticket)
{
    struct gw_source *gw = of_sink(sink);
    uint8_t room[ROOM], *more = NULL;
    size_t size = event_message_room(event);
    bool sent = false;
    if (size <= sizeof(room) || (more = malloc(size))) {
        struct engine_message message = {.exchange = bytes_of_text(EVENTS_EXCHANGE), .routing_key = event->type, .body = event->data, .persistent = !gw->is_transient};
        message.properties = event_message_properties(event, message.persistent, more ? more : room, more ? size : sizeof(room));
        sent = send_out(gw, &message, ticket);
    }
    free(more);
    /* Too much is under way, or too little memory is left. */
    if (!sent)
        uv_timer_start(&gw->timer, on_time, AGAIN_MS, 0);
    return sent;
}

static bool save(struct source_sink *sink, struct bytes position)
{
    struct gw_source *gw = of_sink(sink);
    struct amqp_properties properties = {.flags = AMQP_DELIVERY_MODE | AMQP_CONTENT_TYPE, .delivery_mode = 2, .content_type = bytes_of_text("application/json")};
    uint8_t room[64];
    size_t size = amqp_properties_encode(&properties, room, sizeof(room));
    const struct engine_message message = {.exchange = bytes_of_text(""), .routing_key = bytes_of_text(gw->queue), .properties = bytes_of(room, size), .body = position, .persistent = true};
    return send_out(gw, &message, SOURCE_OUT_POSITION);
}

static void due(struct source_sink *sink)
{
    struct gw_source *gw = of_sink(sink);
    if (gw->is_timer_open)
        uv_timer_start(&gw->timer, on_time, 0, 0);
}

/* ---- its time ---------------------------------------------------------------------------------------------------------------- */

static void on_recalled(void *owner, int result, struct bytes body)
{
    struct gw_source *gw = owner;
    gw->is_recalling = false;
    if (!gw->source) {
        source_may_free(gw);
        return;
    }
    if (result == GW_DONE) {
        gw->is_started = true;
        source_start(gw->source, body);
    } else {
        gw->recall_us = loop_clock(gw->sources->bus->loop) + RECALL_AGAIN_US;
    }
    due(&gw->sink);
}

static void ask_for_position(struct gw_source *gw)
{
    struct gw_bus *bus = gw->sources->bus;
    gw->is_recalling = true;
    if (bus->ops->recall(bus, gw->queue, on_recalled, gw) == GW_DONE)
        return;
    gw->is_recalling = false;
    gw->recall_us = loop_clock(gw->sources->bus->loop) + RECALL_AGAIN_US;
}

static void sleep_until(struct gw_source *gw, uint64_t due_us)
{
    uint64_t now_us = loop_clock(gw->sources->bus->loop);
    if (due_us == SOURCE_NEVER)
        return;
    uint64_t wait_ms = due_us > now_us ? (due_us - now_us + 999) / 1000 : 0;
    if (!uv_is_active((uv_handle_t *)&gw->timer) || uv_timer_get_due_in(&gw->timer) > wait_ms) {
        uv_update_time(uvloop_of(gw->sources->bus->loop)->uv);
        uv_timer_start(&gw->timer, on_time, wait_ms, 0);
    }
}

static void on_time(uv_timer_t *timer)
{
    struct gw_source *gw = timer->data;
    struct gw_bus *bus = gw->sources->bus;
    if (!gw->source)
        return;
    if (bus->state >= BUS_CLOSING && (!gw->is_started || source_is_idle(gw->source) || loop_clock(bus->loop) >= bus->grace_us)) {
        source_end(gw);
        return;
    }
    if (!gw->is_started) {
        if (!gw->is_recalling && loop_clock(bus->loop) >= gw->recall_us)
            ask_for_position(gw);
        if (!gw->is_started && !gw->is_recalling)
            sleep_until(gw, gw->recall_us);
        return;
    }
    uint64_t due_us = source_tick(gw->source), error_us;
    const char *error = source_last_error(gw->source, &error_us);
    if (error_us != gw->told_us)
        bus_notice(bus, GW_NOTICE_WARNING, "source '%s': %s", gw->id, error);
    gw->told_us = error_us;
    if (bus->state >= BUS_CLOSING) {
        if (source_is_idle(gw->source))
            due_us = 0;
        else if (bus->grace_us < due_us)
            due_us = bus->grace_us;
    }
    sleep_until(gw, due_us);
}

/* ---- what the sources of a bus share ------------------------------------------------------------------------------------------ */

static void sources_may_free(struct sources *sources)
{
    if (!sources->is_closing || sources->first)
        return;
    struct gw_bus *bus = sources->bus;
    feeder_set_free(sources->feeders);
    system_zones_free(sources->zones);
    bus->sources = NULL;
    bus_part_remove(bus, &sources->part);
    free(sources);
}

static void close_sources(struct bus_part *part)
{
    struct sources *sources = (struct sources *)part;
    sources->is_closing = true;
    for (struct gw_source *gw = sources->first; gw; gw = gw->next) {
        if (gw->source && gw->is_started)
            source_finish(gw->source);
        if (gw->source)
            due(&gw->sink);
    }
    sources_may_free(sources);
}

static void told(void *owner) { loop_again_now(((struct sources *)owner)->bus->loop); }

static struct sources *sources_of(struct gw_bus *bus)
{
    if (bus->sources)
        return bus->sources;
    struct sources *sources = feeder_prepare() ? calloc(1, sizeof(*sources)) : NULL;
    if (!sources)
        return NULL;
    sources->part.close = close_sources;
    sources->bus = bus;
    sources->zones = system_zones_new();
    sources->feeders = feeder_set_new(&(struct feeder_config){.loop = uvloop_of(bus->loop)->uv, .told = told, .owner = sources, .amqp = &feeding_amqp});
    if (!sources->feeders || !sources->zones) {
        feeder_set_free(sources->feeders);
        system_zones_free(sources->zones);
        free(sources);
        return NULL;
    }
    bus_part_add(bus, &sources->part);
    return bus->sources = sources;
}

/* ---- life --------------------------------------------------------------------------------------------------------------------- */

static void source_may_free(struct gw_source *gw)
{
    struct sources *sources = gw->sources;
    if (gw->source || gw->is_timer_open || gw->is_recalling || gw->out_first != gw->out_next)
        return;
    *(gw->previous ? &gw->previous->next : &sources->first) = gw->next;
    if (gw->next)
        gw->next->previous = gw->previous;
    free(gw->out);
    free(gw);
    sources_may_free(sources);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct gw_source *gw = handle->data;
    gw->is_timer_open = false;
    source_may_free(gw);
}

/* What of it is on its way is told yet. */
static void source_end(struct gw_source *gw)
{
    source_free(gw->source);
    gw->source = NULL;
    if (gw->is_timer_open && !uv_is_closing((uv_handle_t *)&gw->timer))
        uv_close((uv_handle_t *)&gw->timer, on_timer_closed);
}

/* In the list of the bus's, with its timer; NULL: a sentence was left. */
static struct gw_source *handle_new(struct gw_bus *bus, const char *id)
{
    struct sources *sources = sources_of(bus);
    for (struct gw_source *other = sources ? sources->first : NULL; other; other = other->next)
        if (other->source && strcmp(other->id, id) == 0) {
            loop_fail(bus->loop, GW_E_INVALID, "a source '%s' is running already: another one that reads the same needs a name of its own", id);
            return NULL;
        }
    struct gw_source *gw = sources ? calloc(1, sizeof(*gw)) : NULL;
    if (!gw) {
        loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
        return NULL;
    }
    gw->sink = (struct source_sink){.publish = publish, .save = save, .due = due, .clock = clock_now};
    gw->sources = sources;
    snprintf(gw->id, sizeof(gw->id), "%s", id);
    source_queue(id, gw->queue);
    uv_timer_init(uvloop_of(bus->loop)->uv, &gw->timer);
    gw->timer.data = gw;
    gw->is_timer_open = true;
    gw->next = sources->first;
    if (gw->next)
        gw->next->previous = gw;
    sources->first = gw;
    return gw;
}

void gw_source_stop(gw_source *source)
{
    if (source && loop_check(source->sources->bus->loop) == GW_DONE)
        source_end(source);
}

/* ---- declaring ------------------------------------------------------------------------------------------------------------------ */

static uint64_t random_number(const struct gw_loop *loop)
{
    uint64_t number = 0;
    if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
        number = loop_clock(loop);
    return number;
}

/* Without a name of its own it is called after what it reads. */
static void name_of(const char *kind, const json_t *root, const gw_source_options *options, char id[SOURCE_ID_MAX + 1])
{
    if (options->name) {
        snprintf(id, SOURCE_ID_MAX + 1, "%.*s", (int)SOURCE_ID_MAX, options->name);
        return;
    }
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    snprintf(id, SOURCE_ID_MAX + 1, "%s-%016llx", kind, text ? (unsigned long long)source_hash(bytes_of_text(text)) : 0ull);
    free(text);
}

/* False: it is no text in UTF-8. What could not be said must not be left out. */
static bool put_text(json_t *root, const char *name, const char *text)
{
    return !text || json_object_set_new(root, name, json_string(text)) == 0;
}

static bool put_ms(json_t *root, const char *name, uint64_t ms)
{
    char text[40];
    snprintf(text, sizeof(text), "%llums", (unsigned long long)ms);
    return !ms || put_text(root, name, text);
}

static bool put_headers(json_t *root, const gw_source_options *options)
{
    json_t *headers = options->header_count ? json_object() : NULL;
    bool good = !options->header_count || (headers && options->headers);
    for (size_t i = 0; good && i < options->header_count; i++)
        good = options->headers[i].name && options->headers[i].value && put_text(headers, options->headers[i].name, options->headers[i].value);
    if (good && headers)
        return json_object_set_new(root, "headers", headers) == 0;
    json_decref(headers);
    return good;
}

/* NULL, or which option says nothing that could be. */
static const char *put_options(json_t *root, const char *kind, const gw_source_options *options)
{
    static const char *const missed[] = {"once", "skip", "all"};
    bool is_timed = strcmp(kind, "timer") == 0 || strcmp(kind, "cron") == 0;
    const struct { const char *option, *name, *text; } texts[] = {
        {"type", "type", options->type}, {"event_source", "source", options->event_source}, {"subject", "subject", options->subject}, {"key", "key", options->key},
        {"data", "data", options->data}, {"content_type", "content_type", options->content_type}, {"zone", "zone", options->zone}};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (!put_text(root, texts[i].name, texts[i].text))
            return texts[i].option;
    if ((unsigned)options->missed > GW_MISSED_ALL || (is_timed && !put_text(root, "missed", missed[options->missed])))
        return "missed";
    if (!put_ms(root, strcmp(kind, "poll") == 0 ? "interval" : "retry", options->interval_ms))
        return "interval_ms";
    if (options->line_max && (options->line_max > INT64_MAX || json_object_set_new(root, "line_max", json_integer((json_int_t)options->line_max)) != 0))
        return "line_max";
    if (options->from_start && !put_text(root, "from", "start"))
        return "from_start";
    return put_headers(root, options) ? NULL : "headers";
}

/* Takes the root: what is special about its kind. */
static gw_source *declare(gw_bus *bus, const char *kind, json_t *root, const gw_source_options *options)
{
    static const gw_source_options none;
    struct declaration declaration;
    char why[SOURCE_WHY_MAX], id[SOURCE_ID_MAX + 1];
    gw_source *gw = NULL;
    struct sources *sources = sources_of(bus);
    options = options ? options : &none;
    if (!root || !sources) {
        loop_fail(bus->loop, root ? GW_E_MEMORY : GW_E_INVALID, root ? "out of memory" : "what a source of the kind '%s' reads must be a text, in UTF-8", kind);
        json_decref(root);
        return NULL;
    }
    if (options->name && !source_id_is_possible(options->name)) {
        loop_fail(bus->loop, GW_E_INVALID, "'%.100s' is no name of a source: it has up to %u letters, digits, dots, dashes and underscores", options->name, SOURCE_ID_MAX);
        json_decref(root);
        return NULL;
    }
    name_of(kind, root, options, id);
    put_text(root, "kind", kind);
    put_text(root, "id", id);
    const char *wrong = put_options(root, kind, options);
    if (wrong)
        loop_fail(bus->loop, GW_E_INVALID, "the option %s of a source has no value that it may have, or no text in UTF-8", wrong);
    else if (!declaration_read(&declaration, root, system_zones_io(sources->zones), why))
        loop_fail(bus->loop, GW_E_INVALID, "%s", why);
    else if (!(gw = handle_new(bus, id)))
        declaration_deinit(&declaration);
    json_decref(root);
    if (!gw)
        return NULL;
    gw->is_transient = options->transient;
    gw->source = source_new(&declaration, &gw->sink, feeder_set_io(sources->feeders), system_zones_io(sources->zones), random_number(sources->bus->loop));
    if (!gw->source) {
        declaration_deinit(&declaration);
        loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
        source_end(gw);
        return NULL;
    }
    due(&gw->sink);
    return gw;
}

static gw_source *declare_text(gw_bus *bus, const char *kind, const char *name, const char *text, const gw_source_options *options)
{
    return bus_check(bus) == GW_DONE ? declare(bus, kind, text ? json_pack("{s:s}", name, text) : NULL, options) : NULL;
}

gw_source *gw_source_sse(gw_bus *bus, const char *url, const gw_source_options *options) { return declare_text(bus, "sse", "url", url, options); }
gw_source *gw_source_poll(gw_bus *bus, const char *url, const gw_source_options *options) { return declare_text(bus, "poll", "url", url, options); }
gw_source *gw_source_cron(gw_bus *bus, const char *expression, const gw_source_options *options) { return declare_text(bus, "cron", "expression", expression, options); }
gw_source *gw_source_file(gw_bus *bus, const char *path, const gw_source_options *options) { return declare_text(bus, "file", "path", path, options); }
gw_source *gw_source_directory(gw_bus *bus, const char *path, const gw_source_options *options) { return declare_text(bus, "directory", "path", path, options); }
gw_source *gw_source_tcp(gw_bus *bus, const char *address, const gw_source_options *options) { return declare_text(bus, "tcp", "address", address, options); }
gw_source *gw_source_unix(gw_bus *bus, const char *path, const gw_source_options *options) { return declare_text(bus, "unix", "path", path, options); }
gw_source *gw_source_stdin(gw_bus *bus, const gw_source_options *options) { return bus_check(bus) == GW_DONE ? declare(bus, "stdin", json_object(), options) : NULL; }

gw_source *gw_source_amqp(gw_bus *bus, const char *uri, const char *queue, const gw_source_options *options)
{
    return bus_check(bus) == GW_DONE ? declare(bus, "amqp", uri && queue ? json_pack("{s:s, s:s}", "uri", uri, "queue", queue) : NULL, options) : NULL;
}

gw_source *gw_source_timer(gw_bus *bus, uint64_t every_ms, const gw_source_options *options)
{
    char text[40];
    snprintf(text, sizeof(text), "%llums", (unsigned long long)every_ms);
    return declare_text(bus, "timer", "every", text, options);
}

gw_source *gw_source_signal(gw_bus *bus, int number, const gw_source_options *options)
{
    return bus_check(bus) == GW_DONE ? declare(bus, "signal", json_pack("{s:i}", "signal", number), options) : NULL;
}

gw_source *gw_source_process(gw_bus *bus, const char *const *argv, const gw_source_options *options)
{
    if (bus_check(bus) != GW_DONE)
        return NULL;
    json_t *command = json_array();
    bool good = command;
    for (size_t i = 0; good && argv && argv[i] && i <= SOURCE_ARGUMENTS_MAX; i++)
        good = json_array_append_new(command, json_string(argv[i])) == 0;
    if (!good)
        json_decref(command);
    return declare(bus, "process", good ? json_pack("{s:o}", "command", command) : NULL, options);
}
