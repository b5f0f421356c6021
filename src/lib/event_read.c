/* What a program asks of an event, read from its message when it asks. */
#include "base/err.h"
#include "lib/bus.h"
#include "lib/handler.h"
#include "lib/loop.h"
#include "lib/outgoing.h"
#include "protocol/amqp/properties.h"

#include <inttypes.h>
#include <stdio.h>

#define PREFIX "cloudEvents_"

/* NULL: out of memory. */
static const struct amqp_properties *properties(struct gw_event *event)
{
    if (LIKELY(event->read != NULL))
        return event->read;
    struct amqp_properties *read = event_room(event, sizeof(*read));
    if (!read)
        return NULL;
    if (!event->properties.size || !amqp_properties_decode(event->properties, read))
        *read = (struct amqp_properties){0};
    return event->read = read;
}

static bool find(struct gw_event *event, const char *prefix, const char *name, struct amqp_field *field)
{
    char whole[sizeof(PREFIX) + 256];
    const struct amqp_properties *read = properties(event);
    int size = snprintf(whole, sizeof(whole), "%s%s", prefix, name);
    return read && size > 0 && (size_t)size < sizeof(whole) && amqp_table_find(read->headers, whole, field);
}

static const char *text_of_field(struct gw_event *event, const struct amqp_field *field)
{
    char text[32];
    if (field->type == 'S' || field->type == 'x')
        return event_keep_text(event, field->bytes);
    if (field->type == 't')
        return field->integer ? "true" : "false";
    if (!amqp_field_is_integer(field) && field->type != 'T')
        return NULL;
    int size = snprintf(text, sizeof(text), "%" PRId64, field->integer);
    return event_keep_text(event, bytes_of(text, (size_t)size));
}

static const char *attribute(struct gw_event *event, const char *name)
{
    struct amqp_field field;
    return find(event, PREFIX, name, &field) ? text_of_field(event, &field) : NULL;
}

static const char *property(struct gw_event *event, enum amqp_property which, size_t offset)
{
    const struct amqp_properties *read = properties(event);
    return read && (read->flags & which) ? event_keep_text(event, *(const struct bytes *)(const void *)((const char *)read + offset)) : NULL;
}
#define PROPERTY(event, which, field) property(event, which, offsetof(struct amqp_properties, field))

const char *gw_event_type(gw_event *event)
{
    if (!event)
        return NULL;
    const char *found = attribute(event, "type");
    if (!found)
        found = PROPERTY(event, AMQP_TYPE, type);
    return found ? found : event_keep_text(event, event->routing_key);
}

const char *gw_event_id(gw_event *event)
{
    if (!event)
        return NULL;
    const char *found = attribute(event, "id");
    if (!found)
        found = PROPERTY(event, AMQP_MESSAGE_ID, message_id);
    if (found)
        return found;
    /* Nobody named it: a direct one is named by its bus, another one by its place in the queue. */
    char text[48];
    const struct gw_bus *bus = event->handler->bus;
    int size = event->is_direct ? snprintf(text, sizeof(text), "%s%" PRIx64, bus->id_prefix, event->serial) : snprintf(text, sizeof(text), "%" PRIx64 "-%" PRIx64, event->queue, event->tag);
    return event_keep_text(event, bytes_of(text, (size_t)size));
}

const char *gw_event_source(gw_event *event)
{
    const char *found = event ? attribute(event, "source") : NULL;
    return found || !event ? found : "/amqp";
}

const char *gw_event_subject(gw_event *event) { return event ? attribute(event, "subject") : NULL; }
const char *gw_event_content_type(gw_event *event) { return event ? PROPERTY(event, AMQP_CONTENT_TYPE, content_type) : NULL; }
const char *gw_event_key(gw_event *event) { return event ? attribute(event, "partitionkey") : NULL; }

const char *gw_event_header(gw_event *event, const char *name)
{
    struct amqp_field field;
    if (!event || !name)
        return NULL;
    return find(event, PREFIX, name, &field) || find(event, "", name, &field) ? text_of_field(event, &field) : NULL;
}

const void *gw_event_data(const gw_event *event) { return event ? event->body.data : NULL; }
size_t gw_event_size(const gw_event *event) { return event ? event->body.size : 0; }
int gw_event_redelivered(const gw_event *event) { return event && event->redelivered; }
gw_bus *gw_event_bus(const gw_event *event) { return event ? event->handler->bus : NULL; }

uint32_t gw_event_attempt(const gw_event *event) { return event ? event->attempt : 0; }

int gw_event_priority(gw_event *event)
{
    const struct amqp_properties *read = event ? properties(event) : NULL;
    return read && (read->flags & AMQP_PRIORITY) ? read->priority : 0;
}

/* The fraction of "…T12:00:00.123Z", milliseconds. */
static unsigned fraction_ms(struct bytes text)
{
    const uint8_t *dot = memchr(text.data, '.', text.size);
    unsigned ms = 0, scale = 100;
    for (size_t i = dot ? (size_t)(dot - text.data) + 1 : text.size; i < text.size && scale && text.data[i] >= '0' && text.data[i] <= '9'; i++, scale /= 10)
        ms += (unsigned)(text.data[i] - '0') * scale;
    return ms;
}

uint64_t gw_event_time_ms(gw_event *event)
{
    struct amqp_field field;
    const struct amqp_properties *read = event ? properties(event) : NULL;
    if (!read || !(read->flags & AMQP_MESSAGE_TIMESTAMP))
        return event && event->is_direct ? loop_wall_s(event->handler->bus->loop) * 1000 : 0;   /* it has hardly been on its way */
    return read->timestamp * 1000 + (find(event, PREFIX, "time", &field) && field.type == 'S' ? fraction_ms(field.bytes) : 0);
}

/* Of a copy that came again, how often it was tried before. */
uint32_t event_attempts_said(struct bytes properties_of)
{
    struct amqp_field field;
    struct bytes headers;
    if (!amqp_properties_get(properties_of, AMQP_HEADERS, &headers) || !amqp_table_find(headers, ATTEMPT_HEADER, &field) || !amqp_field_is_integer(&field))
        return 0;
    return field.integer > 0 && field.integer < UINT32_MAX / 2 ? (uint32_t)field.integer : 0;
}
