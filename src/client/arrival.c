#include "client/arrival.h"

void arrival_deinit(struct message_arrival *arrival)
{
    remote_buffer_deinit(&arrival->held);
    *arrival = (struct message_arrival){0};
}

enum arrival_answer arrival_begin(struct message_arrival *arrival, struct bytes payload)
{
    remote_buffer_clear(&arrival->held);
    arrival->method = amqp_method_id_read(payload.data);
    arrival->header_seen = false;
    arrival->method_size = payload.size;
    arrival->whole = (struct bytes){0};
    return remote_buffer_add(&arrival->held, payload) ? ARRIVAL_NO_MEMORY : ARRIVAL_MORE;
}

enum arrival_answer arrival_header(struct message_arrival *arrival, struct bytes payload, uint64_t body_max)
{
    struct amqp_content_header header;
    if (!arrival->method || arrival->header_seen || !amqp_content_header_decode(payload, &header))
        return ARRIVAL_OUT_OF_PLACE;
    arrival->body_size = header.body_size;
    if (header.body_size > body_max)
        return ARRIVAL_TOO_LARGE;
    arrival->header_seen = true;
    arrival->properties_size = header.properties.size;
    if (remote_buffer_add(&arrival->held, header.properties))
        return ARRIVAL_NO_MEMORY;
    return header.body_size == 0 ? ARRIVAL_COMPLETE : ARRIVAL_MORE;
}

enum arrival_answer arrival_body(struct message_arrival *arrival, struct bytes payload)
{
    size_t before = arrival->method_size + arrival->properties_size;
    if (!arrival->method || !arrival->header_seen)
        return ARRIVAL_OUT_OF_PLACE;
    uint64_t had = remote_buffer_size(&arrival->held) - before;
    if (payload.size > arrival->body_size - had)
        return ARRIVAL_OUT_OF_PLACE;
    if (payload.size == arrival->body_size) {
        arrival->whole = payload;
        return ARRIVAL_COMPLETE;
    }
    if (remote_buffer_add(&arrival->held, payload))
        return ARRIVAL_NO_MEMORY;
    return had + payload.size == arrival->body_size ? ARRIVAL_COMPLETE : ARRIVAL_MORE;
}

void arrival_message(const struct message_arrival *arrival, struct remote_message *message)
{
    struct amqp_method method;
    const uint8_t *data = arrival->held.data + arrival->held.begin;
    *message = (struct remote_message){
        .properties = bytes_of(data + arrival->method_size, arrival->properties_size),
        .body = arrival->whole.data ? arrival->whole : bytes_of(data + arrival->method_size + arrival->properties_size, arrival->body_size),
    };
    CHECK(amqp_method_decode(bytes_of(data, arrival->method_size), &method) == AMQP_DECODED);
    const struct amqp_value *values = method.values;
    switch (method.row->id) {
    case AMQP_BASIC_DELIVER:
        message->consumer_tag = values[AMQP_BASIC_DELIVER_CONSUMER_TAG].bytes;
        message->delivery_tag = values[AMQP_BASIC_DELIVER_DELIVERY_TAG].number;
        message->redelivered = values[AMQP_BASIC_DELIVER_REDELIVERED].number;
        message->exchange = values[AMQP_BASIC_DELIVER_EXCHANGE].bytes;
        message->routing_key = values[AMQP_BASIC_DELIVER_ROUTING_KEY].bytes;
        break;
    case AMQP_BASIC_GET_OK:
        message->delivery_tag = values[AMQP_BASIC_GET_OK_DELIVERY_TAG].number;
        message->redelivered = values[AMQP_BASIC_GET_OK_REDELIVERED].number;
        message->exchange = values[AMQP_BASIC_GET_OK_EXCHANGE].bytes;
        message->routing_key = values[AMQP_BASIC_GET_OK_ROUTING_KEY].bytes;
        message->left = (uint32_t)values[AMQP_BASIC_GET_OK_MESSAGE_COUNT].number;
        break;
    case AMQP_BASIC_RETURN:
        message->reply_code = (uint16_t)values[AMQP_BASIC_RETURN_REPLY_CODE].number;
        message->reply_text = values[AMQP_BASIC_RETURN_REPLY_TEXT].bytes;
        message->exchange = values[AMQP_BASIC_RETURN_EXCHANGE].bytes;
        message->routing_key = values[AMQP_BASIC_RETURN_ROUTING_KEY].bytes;
        break;
    default:
        break;
    }
}

const char *arrival_complaint(const struct message_arrival *arrival, bool is_body)
{
    if (!is_body)
        return "a content header out of place";
    return arrival->method && arrival->header_seen ? "a body longer than announced" : "a body out of place";
}
