#include "bus/forward.h"

#include "base/bugs.h"
#include "protocol/amqp/properties.h"
#include "sources/event_message.h"

#include <stdio.h>
#include <stdlib.h>

#define PREFIX EVENT_MESSAGE_PREFIX

/* The headers that go on, written into `room` of as many bytes when there is one; how many bytes. */
static size_t copy_headers(struct bytes headers, uint8_t *room)
{
    struct bytes rest = headers;
    struct amqp_field field;
    size_t size = 0;
    for (const uint8_t *begin = rest.data; amqp_table_next(&rest, &field) == WIRE_OK; begin = rest.data) {
        size_t one = (size_t)(rest.data - begin);
        if (event_message_is_of_the_way(field.name))
            continue;
        if (room)
            memcpy(room + size, begin, one);
        size += one;
    }
    return size;
}

/* The text of a header; empty: there is none. */
static struct bytes text_of(struct bytes headers, const char *name)
{
    struct amqp_field field;
    return amqp_table_find(headers, name, &field) && field.type == 'S' ? field.bytes : (struct bytes){0};
}

/* What came by the exchange of events has its type as the key; what was sent to the queue itself has the queue's name there. */
static struct bytes key_of(const struct message *message, const struct sink_uri *sink, struct bytes headers)
{
    struct bytes type = message->exchange.size || bug_enabled(BUG_HOOK_KEY_OF_QUEUE) ? (struct bytes){0} : text_of(headers, PREFIX "type");
    if (sink->has_routing_key)
        return bytes_of_text(sink->routing_key);
    return type.size && type.size <= UINT8_MAX ? type : message->routing_key;
}

bool forward_init(struct forward *forward, const struct message *message, const struct sink_uri *sink, const char *otherwise)
{
    struct amqp_properties properties;
    if (!amqp_properties_decode(message->properties, &properties))
        properties = (struct amqp_properties){0};
    struct bytes id = text_of(properties.headers, PREFIX "id");
    if (!id.size && (properties.flags & AMQP_MESSAGE_ID))
        id = properties.message_id;
    if (!id.size)
        id = bytes_of_text(otherwise);
    *forward = (struct forward){.message = {.exchange = bytes_of_text(sink->exchange), .routing_key = key_of(message, sink, properties.headers), .properties = message->properties,
                                            .is_mandatory = sink->is_mandatory}};
    snprintf(forward->id, sizeof(forward->id), "%.*s", (int)(id.size < HOOK_ID_MAX ? id.size : HOOK_ID_MAX - 1), (const char *)id.data);
    bool is_named = (properties.flags & AMQP_MESSAGE_ID) && properties.message_id.size;
    size_t kept = copy_headers(properties.headers, NULL);
    if (is_named && kept == properties.headers.size && !(properties.flags & AMQP_USER_ID))
        return true;
    if (!is_named)
        properties.message_id = id.size <= UINT8_MAX ? id : bytes_of_text(otherwise);
    properties.flags = (uint16_t)((properties.flags | AMQP_MESSAGE_ID) & ~AMQP_USER_ID);
    size_t size = amqp_properties_size(&properties);
    forward->room = malloc(kept + size);
    if (!forward->room)
        return false;
    properties.headers = bytes_of(forward->room, copy_headers(properties.headers, forward->room));
    size_t written = amqp_properties_encode(&properties, forward->room + kept, size);
    CHECK(written);
    forward->message.properties = bytes_of(forward->room + kept, written);
    return true;
}

void forward_deinit(struct forward *forward)
{
    free(forward->room);
    forward->room = NULL;
}
