/* Server-sent events: WHATWG HTML, section 9.2 (sse_parser.h reads them). A connection that ends is made again after the reconnection time, with the header Last-Event-ID; 204 ends it. Where
 * the standard has a page give up (another status, another type of content) it is tried again, later each time: nobody is there to load the page again. The position is the last event id.
 *
 * Events without an id of their own share the last one: the event's id then says how many came since, and what it was, so that one that comes again after a restart has its old id and
 * another one has not. */
#include "sources/sse_parser.h"

#include "base/bugs.h"

#include "sources/source_state.h"

#include <stdio.h>

#define RETRY_MS 3000u               /* until the server says something else */
#define RETRY_LEAST_MS 100u          /* whatever it says: one that ends each stream at once is not to keep the broker busy */

struct sse {
    struct sse_parser parser;
    struct text last_id, settled_id; /* of the last event that was made, and that is on disk */
    uint64_t count;                  /* events since the last id */
    uint64_t epoch_us;               /* of a stream without ids: when this connection began */
};

/* What an event is found by in templates. */
struct heard {
    const struct sse_event *event;
};

static const struct template_name names[] = {{"data", false}, {"event", false}, {"id", false}, {"source", false}, {NULL, false}};

static bool find(const void *owner, struct bytes name, struct bytes more, struct bytes *value)
{
    const struct sse_event *event = ((const struct heard *)owner)->event;
    (void)more;
    *value = bytes_equal(name, bytes_of_text("event")) ? event->type : event->last_id;
    return true;
}

static bool init(struct source *source)
{
    struct sse *sse = source_own(source);
    return sse_parser_init(&sse->parser, source->declaration.line_max < SSE_SIZE_MAX ? source->declaration.line_max : SSE_SIZE_MAX, (struct bytes){0});
}

static void deinit(struct source *source)
{
    struct sse *sse = source_own(source);
    sse_parser_deinit(&sse->parser);
    text_deinit(&sse->last_id);
    text_deinit(&sse->settled_id);
}

static bool set(struct text *text, struct bytes value)
{
    text->size = 0;
    return text_add(text, value);
}

static bool restore(struct source *source, const json_t *position)
{
    struct sse *sse = source_own(source);
    const json_t *id = json_object_get(position, "id");
    json_int_t retry_ms = json_integer_value(json_object_get(position, "retry_ms"));
    struct bytes text = bytes_of(json_string_value(id), json_string_length(id));
    /* It becomes a header: whoever can write to the position's queue is not to write others. */
    if (!json_is_string(id) || text.size > SSE_ID_MAX || memchr(text.data, 0, text.size) || memchr(text.data, '\n', text.size) || memchr(text.data, '\r', text.size))
        return false;
    if (retry_ms > 0 && retry_ms <= SSE_RETRY_MAX_MS)
        sse->parser.retry_ms = (uint32_t)retry_ms;
    return set(&sse->last_id, text) && set(&sse->settled_id, text);
}

static uint64_t retry_ms(const struct source *source)
{
    const struct sse *sse = source_own(source);
    if (json_object_get(source->declaration.root, "retry"))
        return source->declaration.retry_ms;
    if (!sse->parser.retry_ms)
        return RETRY_MS;
    return sse->parser.retry_ms > RETRY_LEAST_MS ? sse->parser.retry_ms : RETRY_LEAST_MS;
}

static void begin(struct source *source)
{
    struct sse *sse = source_own(source);
    const struct declaration *declaration = &source->declaration;
    const char *headers[SOURCE_HEADERS_MAX + 4];
    char last_id[SSE_ID_MAX + 32];
    unsigned count = 0;
    uint32_t told_ms = sse->parser.retry_ms;
    /* The parser goes on behind the last event that was made of what it read. */
    sse_parser_deinit(&sse->parser);
    if (!sse_parser_init(&sse->parser, declaration->line_max < SSE_SIZE_MAX ? declaration->line_max : SSE_SIZE_MAX, text_bytes(&sse->last_id))) {
        source_failed(source, RETRY_MS, "There is too little memory.");
        return;
    }
    sse->parser.retry_ms = told_ms;
    sse->count = 0;
    sse->epoch_us = source->wall_us;
    /* What is declared takes their place. Where a stream begins may be declared, too: it is known better as soon as there was an id. */
    if (!declaration_has_header(declaration, "Accept"))
        headers[count++] = "Accept: text/event-stream";
    if (!declaration_has_header(declaration, "Cache-Control"))
        headers[count++] = "Cache-Control: no-store";
    /* Compressed, events would come late. */
    if (!declaration_has_header(declaration, "Accept-Encoding"))
        headers[count++] = "Accept-Encoding: identity";
    for (unsigned i = 0; i < declaration->header_count; i++)
        if (!sse->last_id.size || !header_is(declaration->headers[i], "Last-Event-ID"))
            headers[count++] = declaration->headers[i];
    if (sse->last_id.size) {
        snprintf(last_id, sizeof(last_id), "Last-Event-ID: %.*s", (int)sse->last_id.size, (const char *)sse->last_id.data);
        headers[count++] = last_id;
    }
    source_begin(source, &(struct feed_request){.kind = FEED_HTTP, .address = declaration->address, .headers = headers, .header_count = count, .idle_ms = declaration->idle_ms,
                                                .reach = declaration->reach});
}

/* "text/event-stream", perhaps with parameters. */
static bool is_event_stream(struct bytes type)
{
    static const char wanted[] = "text/event-stream";
    size_t size = sizeof(wanted) - 1;
    if (type.size < size)
        return false;
    for (size_t i = 0; i < size; i++)
        if ((type.data[i] | (type.data[i] >= 'A' && type.data[i] <= 'Z' ? 0x20 : 0)) != wanted[i])
            return false;
    return type.size == size || strchr("; \t", type.data[size]);
}

static void opened(struct source *source, struct feed_opening *opening)
{
    struct bytes type = {0};
    char why[120];
    if (opening->status == 204) {
        source_over(source, "The server answered 204: there are no more events.");
    } else if (opening->status != 200) {
        snprintf(why, sizeof(why), "The server answered %u.", opening->status);
        source_put_off(source, retry_ms(source), source_retry_after_ms(opening), why);
    } else if (!opening->header(opening->owner, bytes_of_text("content-type"), &type) || !is_event_stream(type)) {
        snprintf(why, sizeof(why), "What the server sends is no text/event-stream, but \"%.*s\".", (int)(type.size < 50 ? type.size : 50), type.size ? (const char *)type.data : "");
        source_failed(source, retry_ms(source), why);
    } else {
        source_runs(source);
    }
}

/* The id of the event behind the source's: the last event id, and of those that share it the how manieth it is, and what. */
static size_t event_id(const struct sse *sse, const struct sse_event *event, char *id, size_t room)
{
    int size;
    if (event->has_new_id && event->last_id.size && !bug_enabled(BUG_SOURCE_ID_ANEW))
        size = snprintf(id, room, "%.*s", (int)event->last_id.size, (const char *)event->last_id.data);
    else if (event->last_id.size && !bug_enabled(BUG_SOURCE_ID_ANEW))
        size = snprintf(id, room, "%.*s+%llu.%016llx", (int)event->last_id.size, (const char *)event->last_id.data, (unsigned long long)sse->count, (unsigned long long)source_hash(event->data));
    else
        size = snprintf(id, room, "%llx+%llu", (unsigned long long)sse->epoch_us, (unsigned long long)sse->count);
    return (size_t)size < room ? (size_t)size : room - 1;
}

static bool take(struct source *source, const struct sse_event *event)
{
    struct sse *sse = source_own(source);
    char id[SSE_ID_MAX + 64];
    struct heard heard = {event};
    sse->count = event->has_new_id ? 0 : sse->count + 1;
    struct bytes suffix = bytes_of(id, event_id(sse, event, id, sizeof(id)));
    if (!source_emit(source, &(struct source_item){.data = event->data, .find = find, .owner = &heard, .id = suffix, .mark = event->last_id}))
        return false;
    return set(&sse->last_id, event->last_id);
}

static void came(struct source *source, uint64_t stream, struct bytes data)
{
    struct sse *sse = source_own(source);
    struct sse_event event;
    (void)stream;
    for (;;) {
        switch (sse_next(&sse->parser, &data, &event)) {
        case SSE_EVENT:
            if (take(source, &event))
                continue;
            source_failed(source, RETRY_MS, "There is too little memory.");
            return;
        case SSE_ID:
            /* Behind the events before it: if there are none on their way, that is at once. */
            if (set(&sse->last_id, event.last_id) && window_is_empty(&source->window) && set(&sse->settled_id, event.last_id))
                source_moved(source);
            sse->count = 0;
            continue;
        case SSE_TOO_LONG:
            source->lost++;
            source_error(source, "An event was longer than it may be, and was passed over.");
            continue;
        case SSE_MORE:
            return;
        case SSE_NO_MEMORY:
            source_failed(source, RETRY_MS, "There is too little memory.");
            return;
        }
    }
}

static void ended(struct source *source, const struct feed_end *end)
{
    if (end->outcome == FEED_OVER && source->state == SOURCE_RUNNING)
        source_again(source, retry_ms(source));
    else
        /* The standard has nobody come back sooner. */
        source_ended(source, end, retry_ms(source), retry_ms(source));
}

static void settled(struct source *source, struct bytes mark)
{
    struct sse *sse = source_own(source);
    /* Without memory for it the position stays behind: what comes again then is known by its id. */
    if (!set(&sse->settled_id, mark))
        sse->settled_id.size = 0;
}

static json_t *position(const struct source *source)
{
    const struct sse *sse = source_own(source);
    json_t *id = json_stringn(sse->settled_id.size ? (const char *)sse->settled_id.data : "", sse->settled_id.size);
    return json_pack("{s:o, s:I}", "id", id, "retry_ms", (json_int_t)sse->parser.retry_ms);
}

const struct source_kind kind_sse = {
    .name = "sse", .settings = SETTING_URL | SETTING_HEADERS | SETTING_IDLE | SETTING_RETRY | SETTING_LINES, .names = names, .has_json = true,
    .defaults = {[TEMPLATE_TYPE] = "sse.{{event}}", [TEMPLATE_DATA] = "{{data}}"}, .fallback = "sse.message", .size = sizeof(struct sse), .init = init, .restore = restore, .begin = begin,
    .opened = opened, .came = came, .ended = ended, .settled = settled, .position = position, .deinit = deinit,
};
