#include "bus/forward.h"

#include "protocol/amqp/properties.h"

#include <stdio.h>
#include <stdlib.h>

#define PREFIX "cloudEvents_"

/* The text of a header; empty: there is none. */
static struct bytes text_of(struct bytes headers, const char *name)
{
    struct amqp_field field;
    return amqp_table_find(headers, name, &field) && field.type == 'S' ? field.bytes : (struct bytes){0};
}

/* What came by the exchange of events has its type as the key; what was sent to the queue itself has the queue's name there. */
static struct bytes key_of(const struct message *message, const struct sink_uri *sink, struct bytes headers)
{
    struct bytes type = message->exchange.size ? (struct bytes){0} : text_of(headers, PREFIX "type");
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
    if (is_named && !(properties.flags & AMQP_USER_ID))
        return true;
    if (!is_named)
        properties.message_id = id.size <= UINT8_MAX ? id : bytes_of_text(otherwise);
    properties.flags = (uint16_t)((properties.flags | AMQP_MESSAGE_ID) & ~AMQP_USER_ID);
    size_t size = amqp_properties_size(&properties);
    forward->room = malloc(size);
    if (!forward->room)
        return false;
    size_t written = amqp_properties_encode(&properties, forward->room, size);
    CHECK(written);
    forward->message.properties = bytes_of(forward->room, written);
    return true;
}

void forward_deinit(struct forward *forward)
{
    free(forward->room);
    forward->room = NULL;
}
