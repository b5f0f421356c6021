#include "broker/group_key.h"

#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <math.h>
#include <stdio.h>

static const char prefix[] = "property:";
#define PREFIX_SIZE (sizeof(prefix) - 1)

static const struct property {
    const char *name;
    unsigned where;
} properties[] = {
    {"routing-key", GROUP_BY_ROUTING_KEY}, {"correlation-id", AMQP_CORRELATION_ID}, {"reply-to", AMQP_REPLY_TO}, {"message-id", AMQP_MESSAGE_ID},
    {"type", AMQP_TYPE}, {"user-id", AMQP_USER_ID}, {"app-id", AMQP_APP_ID},
};

bool group_key_parse(struct bytes text, unsigned *where)
{
    *where = GROUP_BY_HEADER;
    if (!text.size || text.size > GROUP_KEY_MAX)
        return false;
    if (text.size < PREFIX_SIZE || memcmp(text.data, prefix, PREFIX_SIZE) != 0)
        return true;
    struct bytes name = bytes_of(text.data + PREFIX_SIZE, text.size - PREFIX_SIZE);
    for (unsigned i = 0; i < sizeof(properties) / sizeof(properties[0]); i++)
        if (bytes_equal(name, bytes_of_text(properties[i].name))) {
            *where = properties[i].where;
            return true;
        }
    return false;
}

static bool print_real(double real, char *room, struct bytes *key)
{
    bool whole = real == floor(real) && fabs(real) < 9e15;   /* some clients send every number like that */
    int size = whole ? snprintf(room, GROUP_KEY_ROOM, "%lld", (long long)real) : snprintf(room, GROUP_KEY_ROOM, "%.17g", real);
    *key = bytes_of(room, (size_t)size);
    return true;
}

static bool key_of_field(const struct amqp_field *field, char *room, struct bytes *key)
{
    int size;
    switch (field->type) {
    case 'S':
    case 'x': *key = field->bytes; return key->size > 0;
    case 't': *key = bytes_of_text(field->integer ? "true" : "false"); return true;
    case 'f':
    case 'd': return print_real(field->real, room, key);
    case 'D': size = snprintf(room, GROUP_KEY_ROOM, field->scale ? "%llde-%u" : "%lld", (long long)field->integer, (unsigned)field->scale); break;
    case 'A':
    case 'F':
    case 'V': return false;
    default: size = snprintf(room, GROUP_KEY_ROOM, "%lld", (long long)field->integer); break;
    }
    *key = bytes_of(room, (size_t)size);
    return true;
}

bool group_key_of(struct bytes content, struct bytes text, unsigned where, char *room, struct bytes *key)
{
    struct message message;
    struct bytes headers;
    struct amqp_field field;
    if (!message_read(content, &message))
        return false;
    if (where == GROUP_BY_ROUTING_KEY) {
        *key = message.routing_key;
        return key->size > 0;
    }
    if (message.properties.size <= 2)
        return false;
    if (where != GROUP_BY_HEADER)
        return amqp_properties_get(message.properties, (enum amqp_property)where, key) && key->size > 0;
    if (!amqp_properties_get(message.properties, AMQP_HEADERS, &headers))
        return false;
    while (amqp_table_next(&headers, &field) == WIRE_OK)
        if (bytes_equal(field.name, text))
            return key_of_field(&field, room, key);
    return false;
}
