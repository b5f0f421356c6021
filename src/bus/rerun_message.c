#include "bus/rerun_message.h"

#include "protocol/amqp/properties.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFIX "cloudEvents_"
#define MADE_SIZE 1024u              /* of the attributes that are put in, at most */

static struct bytes headers_of(const struct message *message)
{
    struct bytes headers = {0};
    amqp_properties_get(message->properties, AMQP_HEADERS, &headers);
    return headers;
}

/* The text of a header; empty: there is none. */
static struct bytes text_of(struct bytes headers, const char *name)
{
    struct amqp_field field;
    return amqp_table_find(headers, name, &field) && field.type == 'S' ? field.bytes : (struct bytes){0};
}

struct bytes rerun_event_id(const struct message *message, uint64_t offset, char room[RERUN_ID_SIZE])
{
    struct bytes id = text_of(headers_of(message), PREFIX "id");
    if (!id.size && amqp_properties_get(message->properties, AMQP_MESSAGE_ID, &id) && id.size)
        return id;
    return id.size ? id : bytes_of(room, (size_t)snprintf(room, RERUN_ID_SIZE, "%" PRIu64, offset));
}

struct bytes rerun_event_source(const struct message *message)
{
    struct bytes source = text_of(headers_of(message), PREFIX "source");
    return source.size ? source : bytes_of_text("/amqp");
}

static void put_missing(struct amqp_table_writer *writer, struct bytes headers, const char *name, struct bytes value)
{
    if (!text_of(headers, name).size)
        amqp_table_put_text(writer, name, value);
}

uint8_t *rerun_properties(const struct message *message, uint64_t offset, struct bytes *encoded)
{
    struct amqp_properties properties;
    struct amqp_table_writer writer;
    char id[RERUN_ID_SIZE];
    if (!amqp_properties_decode(message->properties, &properties))
        properties = (struct amqp_properties){0};
    struct bytes headers = properties.headers;
    size_t table_size = headers.size + MADE_SIZE, size = table_size + message->properties.size + table_size;
    uint8_t *room = malloc(size);
    if (!room)
        return NULL;
    amqp_table_begin(&writer, room, table_size);
    amqp_table_put_all(&writer, headers, "x-delay", "x-deliver-at");
    put_missing(&writer, headers, PREFIX "specversion", bytes_of_text("1.0"));
    put_missing(&writer, headers, PREFIX "id", rerun_event_id(message, offset, id));
    put_missing(&writer, headers, PREFIX "source", bytes_of_text("/amqp"));
    put_missing(&writer, headers, PREFIX "type", message->routing_key.size ? message->routing_key : bytes_of_text("message"));
    CHECK(amqp_table_finish(&writer, &properties.headers));
    properties.flags |= AMQP_HEADERS | AMQP_DELIVERY_MODE;
    properties.delivery_mode = 2;
    size_t written = amqp_properties_encode(&properties, room + table_size, size - table_size);
    CHECK(written);
    *encoded = bytes_of(room + table_size, written);
    return room;
}
