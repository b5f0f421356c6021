#include "sources/sse_parser.h"

#include "base/err.h"

#define KEPT_ROOM 4096u

static const uint8_t bom[3] = {0xef, 0xbb, 0xbf};

static bool name_is(struct bytes name, const char *text) { return bytes_equal(name, bytes_of_text(text)); }

bool sse_parser_init(struct sse_parser *parser, size_t size_max, struct bytes last_id)
{
    CHECK(size_max > 0 && size_max <= SSE_SIZE_MAX);
    *parser = (struct sse_parser){.size_max = size_max};
    return last_id.size > SSE_ID_MAX || text_add(&parser->last_id, last_id);
}

void sse_parser_deinit(struct sse_parser *parser)
{
    text_deinit(&parser->line);
    text_deinit(&parser->data);
    text_deinit(&parser->type);
    text_deinit(&parser->id);
    text_deinit(&parser->last_id);
}

/* An event is over, or was never begun. */
static void begin_event(struct sse_parser *parser)
{
    text_clear(&parser->data, KEPT_ROOM);
    text_clear(&parser->type, KEPT_ROOM);
    parser->event_size = 0;
    parser->is_oversized = parser->is_told = parser->has_id = false;
}

void sse_parser_reset(struct sse_parser *parser)
{
    begin_event(parser);
    text_clear(&parser->line, KEPT_ROOM);
    parser->bom_seen = 0;
    parser->after_cr = false;
}

/* ---- fields --------------------------------------------------------------------------------------------------------------- */

static bool set(struct text *text, struct bytes value)
{
    struct text made = {0};
    if (!text_add_utf8(&made, value))
        return false;
    text_deinit(text);
    *text = made;
    return true;
}

static bool take_data(struct text *data, struct bytes value)
{
    size_t before = data->size;
    if (text_add_utf8(data, value) && text_add(data, bytes_of("\n", 1)))
        return true;
    data->size = before;
    return false;
}

static void take_retry(struct sse_parser *parser, struct bytes value)
{
    uint64_t ms = 0;
    for (size_t i = 0; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return;
        ms = ms * 10 + (uint64_t)(value.data[i] - '0');
        if (ms > SSE_RETRY_MAX_MS)
            ms = SSE_RETRY_MAX_MS;
    }
    if (value.size)
        parser->retry_ms = ms ? (uint32_t)ms : 1;
}

/* False: out of memory. */
static bool take_field(struct sse_parser *parser, struct bytes line)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);
    struct bytes name = line, value = {(const uint8_t *)"", 0};
    if (colon) {
        name.size = (size_t)(colon - line.data);
        value = bytes_of(colon + 1, line.size - name.size - 1);
        if (value.size && value.data[0] == ' ')
            value = bytes_of(value.data + 1, value.size - 1);
    }
    if (name_is(name, "data"))
        return take_data(&parser->data, value);
    if (name_is(name, "event"))
        return set(&parser->type, value);
    if (name_is(name, "id") && value.size <= SSE_ID_MAX && !memchr(value.data, 0, value.size))
        return parser->has_id = set(&parser->id, value);
    if (name_is(name, "retry"))
        take_retry(parser, value);
    return true;
}

/* ---- lines ---------------------------------------------------------------------------------------------------------------- */

/* The blank line. */
static enum sse_result dispatch(struct sse_parser *parser, struct sse_event *event)
{
    bool was_oversized = parser->is_oversized;
    bool is_new = parser->has_id && !bytes_equal(text_bytes(&parser->last_id), text_bytes(&parser->id));
    if (is_new) {
        text_deinit(&parser->last_id);
        parser->last_id = parser->id;
        parser->id = (struct text){0};
    }
    *event = (struct sse_event){.last_id = text_bytes(&parser->last_id), .has_new_id = is_new};
    if (was_oversized || !parser->data.size) {
        begin_event(parser);
        return was_oversized ? SSE_TOO_LONG : is_new ? SSE_ID : SSE_MORE;
    }
    event->data = bytes_of(parser->data.data, parser->data.size - 1);
    event->type = parser->type.size ? text_bytes(&parser->type) : bytes_of_text("message");
    parser->is_told = true;
    return SSE_EVENT;
}

static enum sse_result take_line(struct sse_parser *parser, struct bytes line, struct sse_event *event)
{
    if (!line.size)
        return dispatch(parser, event);
    /* Comments keep a connection alive for days, and are no part of an event. */
    if (line.data[0] == ':')
        return SSE_MORE;
    parser->event_size += line.size;
    parser->is_oversized |= parser->event_size > parser->size_max;
    if (!parser->is_oversized)
        return take_field(parser, line) ? SSE_MORE : SSE_NO_MEMORY;
    text_clear(&parser->data, KEPT_ROOM);
    return SSE_MORE;
}

/* The beginning of a line whose end has not come. False: out of memory. */
static bool hold(struct sse_parser *parser, struct bytes part)
{
    size_t room = parser->size_max - parser->line.size;
    if (part.size > room) {
        /* The first byte says whether it is a comment, and of such a line nothing else is ever looked at. */
        parser->is_oversized |= !(parser->line.size ? parser->line.data[0] == ':' : part.data[0] == ':');
        part.size = room;
    }
    return text_add(&parser->line, part);
}

static void skip(struct bytes *input, size_t size) { *input = bytes_of(input->data + size, input->size - size); }

/* The byte order mark, of which any number of bytes may have come. */
static bool skip_bom(struct sse_parser *parser, struct bytes *input)
{
    while (parser->bom_seen < 3 && input->size) {
        if (input->data[0] != bom[parser->bom_seen]) {
            struct bytes begun = bytes_of(bom, parser->bom_seen);
            parser->bom_seen = 3;
            return hold(parser, begun);
        }
        parser->bom_seen++;
        skip(input, 1);
    }
    return true;
}

/* Where the line ends; NULL: not in here. */
static const uint8_t *find_end(struct bytes input)
{
    const uint8_t *lf = memchr(input.data, '\n', input.size);
    const uint8_t *cr = memchr(input.data, '\r', lf ? (size_t)(lf - input.data) : input.size);
    return cr ? cr : lf;
}

enum sse_result sse_next(struct sse_parser *parser, struct bytes *input, struct sse_event *event)
{
    if (parser->is_told)
        begin_event(parser);
    if (parser->bom_seen < 3 && !skip_bom(parser, input))
        return SSE_NO_MEMORY;
    while (input->size) {
        if (parser->after_cr && input->data[0] == '\n') {
            parser->after_cr = false;
            skip(input, 1);
            continue;
        }
        parser->after_cr = false;
        const uint8_t *end = find_end(*input);
        struct bytes line = bytes_of(input->data, end ? (size_t)(end - input->data) : input->size);
        if ((!end || parser->line.size) && !hold(parser, line))
            return SSE_NO_MEMORY;
        skip(input, line.size + (end ? 1 : 0));
        if (!end)
            return SSE_MORE;
        parser->after_cr = *end == '\r';
        enum sse_result result = take_line(parser, parser->line.size ? text_bytes(&parser->line) : line, event);
        text_clear(&parser->line, KEPT_ROOM);
        if (result != SSE_MORE)
            return result;
    }
    return SSE_MORE;
}
