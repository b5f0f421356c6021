#include "lib/outgoing.h"

#include "base/bugs.h"
#include "broker/delay.h"
#include "lib/bus.h"
#include "lib/handler.h"
#include "lib/loop.h"
#include "protocol/amqp/properties.h"
#include "protocol/amqp/wire.h"
#include "sources/civil.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFIX "cloudEvents_"
#define ATTRIBUTE_MAX 64u            /* bytes of an attribute's name */
#define TIME_MAX_S 253402300799u     /* the last second of the year 9999: RFC 3339 has no later ones */
#define SLACK 512u                   /* bytes of all that is written beside the program's texts */

/* ---- what is possible ---------------------------------------------------------------------------------------------------------- */

/* What options say by a field of their own, and what is no attribute at all. Twice, an event would be two. */
static bool is_taken(const char *name)
{
    static const char *const taken[] = {"id", "source", "type", "specversion", "subject", "time", "datacontenttype", "partitionkey", "data"};
    for (unsigned i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
        if (strcmp(name, taken[i]) == 0)
            return true;
    return false;
}

static bool is_attribute(const char *name)
{
    size_t size = name ? strlen(name) : 0;
    for (size_t i = 0; i < size; i++)
        if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9'))
            return false;
    return size > 0 && size <= ATTRIBUTE_MAX;
}

static int judge_text(struct gw_bus *bus, const char *what, const char *text)
{
    if (!text)
        return GW_DONE;
    struct bytes bytes = bytes_of_text(text);
    if (bytes.size > UINT8_MAX)
        return loop_fail(bus->loop, GW_E_LIMIT, "the %s of an event has at most 255 bytes, this one has %zu", what, bytes.size);
    /* A broker elsewhere closes the connection for such a text, and would for each repetition. */
    return amqp_utf8_valid(bytes) ? GW_DONE : loop_fail(bus->loop, GW_E_INVALID, "the %s of an event is a text in UTF-8, this one is none", what);
}

static int judge_headers(struct gw_bus *bus, const gw_publish_options *options)
{
    if (options->header_count > OUTGOING_HEADERS_MAX)
        return loop_fail(bus->loop, GW_E_LIMIT, "an event has at most %u headers, this one has %zu", OUTGOING_HEADERS_MAX, options->header_count);
    if (options->header_count && !options->headers)
        return loop_fail(bus->loop, GW_E_INVALID, "an event's headers are NULL, and said to be %zu", options->header_count);
    for (size_t i = 0; i < options->header_count; i++) {
        const char *name = options->headers[i].name, *value = options->headers[i].value;
        if (!is_attribute(name) || !value || !amqp_utf8_valid(bytes_of_text(value)))
            return loop_fail(bus->loop, GW_E_INVALID, "'%.100s' is no header: a name of up to %u small letters and digits, and a value in UTF-8", name ? name : "", ATTRIBUTE_MAX);
        if (is_taken(name))
            return loop_fail(bus->loop, GW_E_INVALID, "'%s' is no header of the program's: it has a place of its own in the event", name);
        for (size_t other = 0; other < i; other++)
            if (strcmp(name, options->headers[other].name) == 0)
                return loop_fail(bus->loop, GW_E_INVALID, "the header '%s' is there twice", name);
    }
    return GW_DONE;
}

static int judge(struct gw_bus *bus, const struct outgoing *outgoing)
{
    const gw_publish_options *options = outgoing->options;
    if (outgoing->type.size == 0 || outgoing->type.size > UINT8_MAX)
        return loop_fail(bus->loop, GW_E_LIMIT, "the type of an event has 1 to 255 bytes, this one has %zu", outgoing->type.size);
    if (!amqp_utf8_valid(outgoing->type))
        return loop_fail(bus->loop, GW_E_INVALID, "the type of an event is a text in UTF-8, this one is none");
    if (outgoing->body.size > OUTGOING_BODY_MAX)
        return loop_fail(bus->loop, GW_E_LIMIT, "an event has at most 1 GiB of data, this one has %zu bytes", outgoing->body.size);
    if (outgoing->body.size && !outgoing->body.data)
        return loop_fail(bus->loop, GW_E_INVALID, "the event's data is NULL, and said to have %zu bytes", outgoing->body.size);
    if (!options)
        return GW_DONE;
    const struct { const char *what, *text; } texts[] = {
        {"id", options->id}, {"source", options->source}, {"subject", options->subject}, {"content type", options->content_type}, {"key", options->key}};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        int result = judge_text(bus, texts[i].what, texts[i].text);
        if (result != GW_DONE)
            return result;
    }
    if (options->delay_ms > DELAY_MAX_MS)
        return loop_fail(bus->loop, GW_E_LIMIT, "an event waits for at most a hundred years");
    if (options->time_ms / 1000 > TIME_MAX_S)
        return loop_fail(bus->loop, GW_E_LIMIT, "an event happens before the year 10000");
    return judge_headers(bus, options);
}

/* ---- writing it ------------------------------------------------------------------------------------------------------------------ */

static void put(struct amqp_table_writer *writer, const char *name, const char *value)
{
    char prefixed[sizeof(PREFIX) + ATTRIBUTE_MAX];
    if (!value)
        return;
    snprintf(prefixed, sizeof(prefixed), PREFIX "%s", name);
    amqp_table_put_text(writer, prefixed, bytes_of_text(value));
}

static void put_time(struct amqp_table_writer *writer, uint64_t time_ms)
{
    char text[48];
    if (!time_ms)
        return;
    const struct civil utc = civil_of((int64_t)(time_ms / 1000));
    snprintf(text, sizeof(text), "%04" PRId64 "-%02u-%02uT%02u:%02u:%02u.%03uZ", utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, (unsigned)(time_ms % 1000));
    put(writer, "time", text);
}

static bool has_attributes(const gw_publish_options *options)
{
    return options && (options->source || options->subject || options->key || options->header_count || options->time_ms);
}

static void put_attributes(struct amqp_table_writer *writer, const struct outgoing *outgoing, struct bytes id)
{
    const gw_publish_options *options = outgoing->options;
    put(writer, "specversion", "1.0");
    amqp_table_put_text(writer, PREFIX "id", id);
    put(writer, "source", options->source ? options->source : "/amqp");
    amqp_table_put_text(writer, PREFIX "type", outgoing->type);
    put(writer, "subject", options->subject);
    put(writer, "partitionkey", options->key);
    put_time(writer, options->time_ms);
    for (size_t i = 0; i < options->header_count; i++)
        put(writer, options->headers[i].name, options->headers[i].value);
}

/* Enough for everything. */
static size_t room_for(const struct outgoing *outgoing)
{
    const gw_publish_options *options = outgoing->options;
    size_t size = SLACK + 3 * outgoing->type.size + outgoing->reply_to.size + outgoing->correlation_id.size;
    const char *texts[] = {options ? options->id : NULL, options ? options->id : NULL, options ? options->source : NULL, options ? options->subject : NULL,
                           options ? options->content_type : NULL, options ? options->key : NULL};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        size += texts[i] ? strlen(texts[i]) : 0;
    for (size_t i = 0; options && i < options->header_count; i++)
        size += sizeof(PREFIX) + 8 + strlen(options->headers[i].name) + strlen(options->headers[i].value);
    return size;
}

static void set_text(struct amqp_properties *properties, enum amqp_property which, struct bytes *field, struct bytes value)
{
    if (!value.size)
        return;
    properties->flags |= (uint16_t)which;
    *field = value;
}

static bool is_more_than_plain(const gw_publish_options *options)
{
    return options && (has_attributes(options) || options->content_type || options->delay_ms || options->priority || options->transient);
}

/* Most events have no more than this; what it writes is what amqp_properties_encode would. */
static struct bytes write_plain(struct gw_bus *bus, const struct outgoing *outgoing, struct bytes id)
{
    uint8_t *at = bus->room;
    store_be16(at, AMQP_DELIVERY_MODE | AMQP_MESSAGE_ID | AMQP_MESSAGE_TIMESTAMP | AMQP_TYPE);
    at[2] = 2;
    at[3] = (uint8_t)id.size;
    memcpy(at + 4, id.data, id.size);
    at += 4 + id.size;
    store_be64(at, loop_wall_s(bus->loop));
    at[8] = (uint8_t)outgoing->type.size;
    memcpy(at + 9, outgoing->type.data, outgoing->type.size);
    return bytes_of(bus->room, (size_t)(at + 9 + outgoing->type.size - bus->room));
}

static void set_message(struct outgoing *outgoing, struct bytes properties, bool persistent)
{
    outgoing->message.exchange = outgoing->exchange;
    outgoing->message.routing_key = outgoing->type;
    outgoing->message.properties = properties;
    outgoing->message.body = outgoing->body;
    outgoing->message.persistent = persistent;
    outgoing->message.mandatory = outgoing->mandatory;
}

static int make_whole(struct gw_bus *bus, struct outgoing *outgoing, struct bytes id)
{
    const gw_publish_options *options = outgoing->options;
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_DELIVERY_MODE | AMQP_MESSAGE_TIMESTAMP, .timestamp = options && options->time_ms ? options->time_ms / 1000 : loop_wall_s(bus->loop)};
    size_t size = room_for(outgoing), half = options && (has_attributes(options) || options->delay_ms) ? size : 0;
    uint8_t *room = bus->room;
    if (UNLIKELY(half + size > BUS_ROOM && !(room = outgoing->memory = malloc(half + size))))
        return loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    bool persistent = !options || !options->transient;
    properties.delivery_mode = persistent ? 2 : 1;
    set_text(&properties, AMQP_TYPE, &properties.type, outgoing->type);
    set_text(&properties, AMQP_MESSAGE_ID, &properties.message_id, id);
    set_text(&properties, AMQP_REPLY_TO, &properties.reply_to, outgoing->reply_to);
    set_text(&properties, AMQP_CORRELATION_ID, &properties.correlation_id, outgoing->correlation_id);
    if (options && options->content_type)
        set_text(&properties, AMQP_CONTENT_TYPE, &properties.content_type, bytes_of_text(options->content_type));
    if (options && options->priority) {
        properties.flags |= AMQP_PRIORITY;
        properties.priority = options->priority;
    }
    if (half) {
        amqp_table_begin(&writer, room, half);
        if (has_attributes(options))
            put_attributes(&writer, outgoing, id);
        if (options->delay_ms && !bug_enabled(BUG_HANDLER_DELAY_LEFT_OUT))
            amqp_table_put_long(&writer, "x-delay", (int64_t)options->delay_ms);
        CHECK(amqp_table_finish(&writer, &properties.headers));
        properties.flags |= AMQP_HEADERS;
        size += properties.headers.size;
    }
    size_t written = amqp_properties_encode(&properties, room + half, size);
    CHECK(written > 0);
    set_message(outgoing, bytes_of(room + half, written), persistent);
    return GW_DONE;
}

int outgoing_make(struct gw_bus *bus, struct outgoing *outgoing, struct bytes id)
{
    outgoing->memory = NULL;
    int result = judge(bus, outgoing);
    if (UNLIKELY(result != GW_DONE))
        return result;
    if (is_more_than_plain(outgoing->options) || outgoing->reply_to.size || outgoing->correlation_id.size)
        return make_whole(bus, outgoing, id);
    set_message(outgoing, write_plain(bus, outgoing, id), true);
    return GW_DONE;
}

void outgoing_deinit(struct outgoing *outgoing) { free(outgoing->memory); }

int outgoing_publish(struct gw_bus *bus, struct outgoing *outgoing, gw_published_fn told, void *context, uint64_t *ticket)
{
    char made[BUS_ID_MAX];
    bool has_id = outgoing->options && outgoing->options->id;
    struct bytes id = has_id ? bytes_of_text(outgoing->options->id) : bytes_of(made, bus_new_id(bus, made));
    int result = outgoing_make(bus, outgoing, id);
    if (result != GW_DONE)
        return result;
    uint64_t number = told || ticket ? ticket_open(&bus->tickets, told, context) : 0;
    if ((told || ticket) && !number) {
        result = loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    } else {
        result = bus->ops->publish(bus, &outgoing->message, number);
        if (result < 0 && number)
            ticket_cancel(&bus->tickets, number);
    }
    if (ticket)
        *ticket = number;
    outgoing_deinit(outgoing);
    loop_again_now(bus->loop);
    return result;
}

/* ---- once more --------------------------------------------------------------------------------------------------------------------- */

bool outgoing_again(struct gw_event *event, struct again *again)
{
    struct amqp_properties properties;
    struct amqp_table_writer writer;
    if (!amqp_properties_decode(event->properties, &properties))
        properties = (struct amqp_properties){0};
    size_t half = properties.headers.size + 128, size = half + event->properties.size + half + 512;
    again->memory = malloc(half + size);
    if (!again->memory)
        return false;
    amqp_table_begin(&writer, again->memory, half);
    amqp_table_put_all(&writer, properties.headers, "x-delay", ATTEMPT_HEADER);
    amqp_table_put_long(&writer, ATTEMPT_HEADER, (int64_t)event->attempt);
    CHECK(amqp_table_finish(&writer, &properties.headers));
    properties.flags |= AMQP_HEADERS;
    /* Its new routing key is its queue: what its type was is said by the property. */
    if (!(properties.flags & AMQP_TYPE))
        set_text(&properties, AMQP_TYPE, &properties.type, event->routing_key);
    size_t written = amqp_properties_encode(&properties, again->memory + half, size);
    CHECK(written > 0);
    const struct gw_handler *handler = event->handler;
    again->message = (struct engine_message){.routing_key = bytes_of_text(handler->plan.queue), .properties = bytes_of(again->memory + half, written), .body = event->body,
                                             .persistent = handler->plan.durable && properties.delivery_mode == 2};
    return true;
}

void outgoing_again_deinit(struct again *again) { free(again->memory); }
