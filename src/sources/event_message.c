#include "sources/event_message.h"

#include "base/err.h"
#include "protocol/amqp/expiration.h"
#include "protocol/amqp/properties.h"

#include <stdio.h>

#define PREFIX EVENT_MESSAGE_PREFIX
#define PREFIX_SIZE (sizeof(PREFIX) - 1)
#define HEADERS_MAX (96u << 10)      /* bytes of headers that are kept: with more, and those that are written here, they might not fit into a frame any more */
#define NAMES_SIZE 256u              /* of the headers that are written here, beside their values, and more */

static bool is_prefixed(struct bytes name)
{
    return name.size > PREFIX_SIZE && memcmp(name.data, PREFIX, PREFIX_SIZE - 1) == 0 && (name.data[PREFIX_SIZE - 1] == '_' || name.data[PREFIX_SIZE - 1] == ':');
}

bool event_message_attribute(struct bytes headers, const char *name, struct bytes *value)
{
    struct amqp_field field;
    for (struct bytes rest = headers; amqp_table_next(&rest, &field) == WIRE_OK;) {
        if (!is_prefixed(field.name) || field.type != 'S' || !bytes_equal(bytes_of(field.name.data + PREFIX_SIZE, field.name.size - PREFIX_SIZE), bytes_of_text(name)))
            continue;
        *value = field.bytes;
        return field.bytes.size > 0;
    }
    return false;
}

/* ---- what was there before ---------------------------------------------------------------------------------------------------- */

static bool is_among(struct bytes name, const char *const *names)
{
    for (; *names; names++)
        if (bytes_equal(name, bytes_of_text(*names)))
            return true;
    return false;
}

bool event_message_is_of_the_way(struct bytes name)
{
    static const char *const brokers[] = {"CC", "BCC", "x-death", "x-delivery-count", "x-retry-reason", "x-acquired-count", "x-delay", "x-deliver-at", "x-attempt", "x-stream-offset", NULL};
    static const char first[] = "x-first-death-", last[] = "x-last-death-";
    return is_among(name, brokers) || (name.size >= sizeof(first) - 1 && memcmp(name.data, first, sizeof(first) - 1) == 0) ||
           (name.size >= sizeof(last) - 1 && memcmp(name.data, last, sizeof(last) - 1) == 0);
}

/* What the event says itself is written anew. */
static bool is_left_behind(const struct source_event *event, struct bytes name)
{
    static const char *const anew[] = {"specversion", "id", "source", "type", "subject", "partitionkey", NULL};
    if (is_prefixed(name)) {
        struct bytes attribute = bytes_of(name.data + PREFIX_SIZE, name.size - PREFIX_SIZE);
        return is_among(attribute, anew) || (event->time_ms && !event->keeps_time && bytes_equal(attribute, bytes_of_text("time")));
    }
    return event_message_is_of_the_way(name);
}

static void put_headers_of(struct amqp_table_writer *writer, const struct source_event *event, struct bytes headers)
{
    struct bytes rest = headers;
    struct amqp_field field;
    for (const uint8_t *begin = rest.data; amqp_table_next(&rest, &field) == WIRE_OK; begin = rest.data) {
        /* name's size and name, type, value */
        const uint8_t *value = begin + 1 + field.name.size + 1;
        char name[UINT8_MAX + 1];
        if (is_left_behind(event, field.name))
            continue;
        if (field.name.size)
            memcpy(name, field.name.data, field.name.size);
        if (is_prefixed(field.name))
            name[PREFIX_SIZE - 1] = '_';
        amqp_table_put_raw(writer, bytes_of(name, field.name.size), field.type, bytes_of(value, (size_t)(rest.data - value)));
    }
}

static void keep_text(struct amqp_properties *to, const struct amqp_properties *from, enum amqp_property which, struct bytes *field, struct bytes value)
{
    if (!(from->flags & which))
        return;
    to->flags |= (uint16_t)which;
    *field = value;
}

static void keep_properties(struct amqp_properties *to, const struct amqp_properties *from, const struct source_event *event)
{
    uint64_t ms;
    keep_text(to, from, AMQP_CORRELATION_ID, &to->correlation_id, from->correlation_id);
    keep_text(to, from, AMQP_REPLY_TO, &to->reply_to, from->reply_to);
    keep_text(to, from, AMQP_APP_ID, &to->app_id, from->app_id);
    if (event->keeps_encoding)
        keep_text(to, from, AMQP_CONTENT_ENCODING, &to->content_encoding, from->content_encoding);
    if (amqp_expiration_read(from->expiration, &ms, NULL, 0))
        keep_text(to, from, AMQP_EXPIRATION, &to->expiration, from->expiration);
    to->flags |= from->flags & AMQP_PRIORITY;
    to->priority = from->priority;
}

/* ---- writing it ------------------------------------------------------------------------------------------------------------------ */

static void put(struct amqp_table_writer *writer, const char *name, struct bytes value)
{
    if (value.size)
        amqp_table_put_text(writer, name, value);
}

static size_t half_room(const struct source_event *event)
{
    return NAMES_SIZE + event->carried.size + event->id.size + event->type.size + event->source.size + event->subject.size + event->key.size + SOURCE_TIME_SIZE;
}

/* The headers, and then all of it with them. */
size_t event_message_room(const struct source_event *event)
{
    return 2 * half_room(event) + event->carried.size + event->id.size + event->type.size + event->content_type.size + 64;
}

struct bytes event_message_properties(const struct source_event *event, bool persistent, uint8_t *room, size_t size)
{
    char time[SOURCE_TIME_SIZE];
    size_t half = half_room(event);
    struct amqp_table_writer writer;
    struct amqp_properties carried = {0};
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_DELIVERY_MODE | AMQP_TYPE | AMQP_MESSAGE_ID | AMQP_MESSAGE_TIMESTAMP, .delivery_mode = persistent ? 2 : 1,
                                         .type = event->type, .message_id = event->id, .timestamp = event->time_ms / 1000};
    CHECK(size >= event_message_room(event));
    if (event->carried.size && !amqp_properties_decode(event->carried, &carried))
        carried = (struct amqp_properties){0};
    amqp_table_begin(&writer, room, half);
    put(&writer, PREFIX "specversion", bytes_of_text("1.0"));
    put(&writer, PREFIX "id", event->id);
    put(&writer, PREFIX "source", event->source);
    put(&writer, PREFIX "type", event->type);
    put(&writer, PREFIX "subject", event->subject);
    put(&writer, PREFIX "partitionkey", event->key);
    if (!event->keeps_time) {
        source_time_text(event->time_ms, time);
        put(&writer, PREFIX "time", bytes_of_text(time));
    }
    if (carried.headers.size <= HEADERS_MAX)
        put_headers_of(&writer, event, carried.headers);
    CHECK(amqp_table_finish(&writer, &properties.headers));
    keep_properties(&properties, &carried, event);
    if (event->content_type.size) {
        properties.flags |= AMQP_CONTENT_TYPE;
        properties.content_type = event->content_type;
    }
    size_t written = amqp_properties_encode(&properties, room + half, size - half);
    CHECK(written > 0);
    return bytes_of(room + half, written);
}
