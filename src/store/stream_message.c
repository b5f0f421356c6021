#include "store/stream_message.h"

static const char exchange_key[] = "amqp-exchange", properties_key[] = "amqp-properties";
static const uint8_t no_properties[2] = {0, 0};

static struct bytes text(const char *key) { return bytes_of_text(key); }

static bool has_properties(const struct message *message)
{
    return message->properties.size != 2 || load_le16(message->properties.data);
}

size_t stream_message_size(const struct message *message)
{
    return record_batch_overhead(2) + sizeof(exchange_key) + sizeof(properties_key) + message->exchange.size + message->routing_key.size +
           message->properties.size + message->body.size;
}

bool stream_message_add(struct record_batch_writer *writer, uint64_t offset, int64_t timestamp_ms, const struct message *message)
{
    struct batch_header_field headers[2];
    unsigned count = 0;
    if (message->exchange.size)
        headers[count++] = (struct batch_header_field){text(exchange_key), message->exchange};
    if (has_properties(message))
        headers[count++] = (struct batch_header_field){text(properties_key), message->properties};
    struct bytes key = message->routing_key.size ? message->routing_key : (struct bytes){0};
    struct bytes body = message->body.data ? message->body : bytes_of("", 0);
    return record_batch_add(writer, offset, timestamp_ms, key, body, headers, count);
}

bool stream_message_of(const struct batch_record *record, struct message *message)
{
    *message = (struct message){.routing_key = record->key.size <= 255 ? record->key : (struct bytes){0}, .body = record->value,
                                .properties = bytes_of(no_properties, sizeof(no_properties))};
    struct bytes rest = record->headers;
    for (uint32_t i = 0; i < record->header_count; i++) {
        struct batch_header_field header;
        if (batch_header_next(&rest, &header) != RECORD_BATCH_OK)
            return false;
        if (header.value.size <= 255 && bytes_equal(header.key, text(exchange_key)))
            message->exchange = header.value;
        else if (header.value.size >= 2 && bytes_equal(header.key, text(properties_key)))
            message->properties = header.value;
    }
    return true;
}

bool stream_message_read(struct bytes bytes, struct message *message)
{
    struct batch_record record;
    return batch_record_read(bytes, &record) && stream_message_of(&record, message);
}
