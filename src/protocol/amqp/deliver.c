#include "protocol/amqp/deliver.h"

#include "protocol/amqp/channel.h"
#include "protocol/amqp/consume.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/lateness.h"
#include "protocol/amqp/properties.h"
#include "protocol/amqp/requests.h"
#include "store/stream_message.h"

#include <stdlib.h>

static inline size_t header_frame_size(const struct message *message)
{
    return AMQP_FRAME_OVERHEAD + AMQP_CONTENT_HEADER_SIZE + message->properties.size;
}

/* Is the body to be copied behind its header, in one frame? */
static inline bool body_is_copied(const struct session *session, const struct message *message)
{
    return message->body.size <= DELIVER_COPY_MAX && message->body.size <= session->frame_max - AMQP_FRAME_OVERHEAD;
}

/* Bytes for header and body frames that follow a method in the same room. */
static inline size_t content_room(const struct session *session, const struct message *message)
{
    size_t size = header_frame_size(message);
    return body_is_copied(session, message) && message->body.size ? size + AMQP_FRAME_OVERHEAD + message->body.size : size;
}

/* The body as frames that refer to it. */
static void refer_to_body(struct session *session, uint16_t channel, struct bytes body, struct chunk *chunk)
{
    uint32_t frame_max = session->frame_max - AMQP_FRAME_OVERHEAD;
    bool first = true;
    while (body.size) {
        uint32_t size = body.size < frame_max ? (uint32_t)body.size : frame_max;
        uint8_t *at = output_room(&session->output, 1 + AMQP_FRAME_HEADER_SIZE);
        if (!at)
            return;
        if (!first)
            *at++ = AMQP_FRAME_END;
        first = false;
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, channel, size);
        output_wrote(&session->output, at);
        output_reference(&session->output, bytes_of(body.data, size), chunk);
        body = bytes_of(body.data + size, body.size - size);
    }
    uint8_t *at = output_room(&session->output, 1);
    if (!at)
        return;
    *at++ = AMQP_FRAME_END;
    output_wrote(&session->output, at);
}

/* Header and body behind a method that ends at `at`, in the room that was taken for content_room. */
static inline void write_content(struct session *session, uint16_t channel, const struct message *message, struct chunk *chunk, uint8_t *at)
{
    at = amqp_content_header_write(at, channel, message->body.size, message->properties);
    if (LIKELY(body_is_copied(session, message))) {
        if (message->body.size) {
            at = amqp_frame_begin(at, AMQP_FRAME_BODY, channel, (uint32_t)message->body.size);
            amqp_copy(at, message->body.data, message->body.size);
            at += message->body.size;
            *at++ = AMQP_FRAME_END;
        }
        output_wrote(&session->output, at);
        return;
    }
    output_wrote(&session->output, at);
    refer_to_body(session, channel, message->body, chunk);
}

/* A method by its row, then the content. */
static void send_with_content(struct session *session, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values,
                              const struct message *message, struct chunk *chunk)
{
    size_t room = SESSION_METHOD_MAX + content_room(session, message);
    uint8_t *at = output_room(&session->output, room);
    if (!at)
        return;
    size_t size = amqp_method_frame(at, SESSION_METHOD_MAX, channel, id, values);
    CHECK(size > 0);
    write_content(session, channel, message, chunk, at + size);
}

/* Gives the tag of the next delivery, of which the session keeps count unless it needs no ack. 0: out of memory. */
static inline uint64_t take_tag(struct channel *channel, uint64_t queue, uint64_t seq, bool no_ack, bool counted)
{
    uint64_t tag = channel->unacked.next_tag;
    if (no_ack)
        channel->unacked.next_tag++;
    else if (UNLIKELY(!unacked_add(&channel->unacked, queue, seq, counted)))
        return 0;
    return tag;
}

/* The message's properties with the header that the broker adds, in `room` bytes at `at`. Those that would not fit stay as they are. */
static void add_header(struct message *message, const struct delivery *delivery, uint8_t *at, size_t room)
{
    static const char *const names[] = {[DELIVERY_ADDS_COUNT] = "x-delivery-count", [DELIVERY_ADDS_OFFSET] = "x-stream-offset", [DELIVERY_ADDS_RETRY] = "x-delivery-count"};
    struct amqp_properties properties;
    struct amqp_table_writer writer;
    struct bytes table;
    if (!amqp_properties_decode(message->properties, &properties))
        return;
    size_t half = room / 2;
    amqp_table_begin(&writer, at + half, room - half);
    bool retries = delivery->added == DELIVERY_ADDS_RETRY;
    uint64_t value = retries ? delivery->added_value & ((1ull << DELIVERY_REASON_SHIFT) - 1) : delivery->added_value;
    struct bytes reason = retries ? retry_reason_name(delivery->added_value >> DELIVERY_REASON_SHIFT) : (struct bytes){0};
    amqp_table_put_all(&writer, properties.flags & AMQP_HEADERS ? properties.headers : (struct bytes){0}, names[delivery->added], reason.size ? "x-retry-reason" : NULL);
    amqp_table_put_long(&writer, names[delivery->added], (int64_t)value);
    if (reason.size)
        amqp_table_put_text(&writer, "x-retry-reason", reason);
    if (!amqp_table_finish(&writer, &table))
        return;
    properties.headers = table;
    properties.flags |= AMQP_HEADERS;
    size_t size = amqp_properties_encode(&properties, at, half);
    if (size)
        message->properties = bytes_of(at, size);
}

/* Where properties with something added are put together: here, or in memory of their own when they are large. */
struct added {
    uint8_t few[512], *many;
};

static void added_done(struct added *added)
{
    if (UNLIKELY(added->many != NULL))
        free(added->many);
}

/* Reads the message, with what the broker adds to it. Call added_done once the properties were written. */
static bool read_message(const struct delivery *delivery, struct message *message, struct added *added)
{
    added->many = NULL;
    if (UNLIKELY(delivery->is_record)) {
        if (!stream_message_read(delivery->content, message))
            *message = (struct message){.properties = bytes_of("\0", 2)};   /* who knows who wrote it: a message with nothing in it */
    } else {
        CHECK(message_read(delivery->content, message));
    }
    if (LIKELY(!delivery->added))
        return true;
    size_t room = 2 * (message->properties.size + 128);
    if (room > sizeof(added->few))
        added->many = malloc(room);
    if (room > sizeof(added->few) && !added->many)
        return false;
    add_header(message, delivery, added->many ? added->many : added->few, room);
    return true;
}

static void give_back(struct session *session, const struct delivery *delivery)
{
    if (!delivery->no_ack)
        client_settle(&session->client, delivery->queue, SETTLE_UNDELIVERED, delivery->seq, 1, NULL);
}

static void deliver_get(struct session *session, const struct delivery *delivery)
{
    struct channel *channel = channel_find_serial(session, delivery->channel, delivery->consumer >> REQUEST_TAG_SHIFT);
    struct message message;
    if (channel)
        channel->waiting--;
    if (!channel || channel->state != CHANNEL_OPEN || session->phase != PHASE_RUNNING) {
        give_back(session, delivery);
        return;
    }
    struct added made;
    uint64_t tag = read_message(delivery, &message, &made) ? take_tag(channel, delivery->queue, delivery->seq, delivery->no_ack, false) : 0;
    if (tag == 0) {
        added_done(&made);
        give_back(session, delivery);
        error_out_of_memory(session);
        return;
    }
    struct amqp_value values[AMQP_BASIC_GET_OK_COUNT] = {
        [AMQP_BASIC_GET_OK_DELIVERY_TAG] = amqp_number(tag), [AMQP_BASIC_GET_OK_REDELIVERED] = amqp_number(delivery->redelivered),
        [AMQP_BASIC_GET_OK_EXCHANGE] = amqp_bytes(message.exchange), [AMQP_BASIC_GET_OK_ROUTING_KEY] = amqp_bytes(message.routing_key),
        [AMQP_BASIC_GET_OK_MESSAGE_COUNT] = amqp_number(delivery->messages_left)};
    send_with_content(session, channel->number, AMQP_BASIC_GET_OK, values, &message, delivery->chunk);
    if (!delivery->no_ack)
        lateness_arm(session, delivery->queue);
    added_done(&made);
}

/* The message leaves under `tag`, and what the peer owes for it is noted. */
static inline __attribute__((always_inline)) void write_delivery(struct session *session, struct consumer *consumer, const struct delivery *delivery,
                                                                 const struct message *message, uint64_t tag)
{
    struct channel *channel = consumer->channel;
    struct bytes consumer_tag = bytes_of(consumer->tag, consumer->tag_size);
    size_t room = amqp_deliver_size(consumer_tag.size, message->exchange.size, message->routing_key.size) + content_room(session, message);
    uint8_t *at = output_room(&session->output, room);
    if (UNLIKELY(!at))
        return;
    at = amqp_deliver_write(at, channel->number, consumer_tag, tag, delivery->redelivered, message->exchange, message->routing_key);
    write_content(session, channel->number, message, delivery->chunk, at);
    consume_owe(consumer, (uint32_t)delivery->content.size + DELIVERY_OVERHEAD);
    if (UNLIKELY(channel->limit != 0))
        channel->resume_first = consumer->number + 1;
    if (UNLIKELY(consumer->settle_here) && !delivery->no_ack)
        client_settle(&session->client, delivery->queue, SETTLE_ACK, delivery->seq, 1, NULL);
}

static void no_tag(struct session *session, const struct delivery *delivery)
{
    give_back(session, delivery);
    error_out_of_memory(session);
}

/* A delivery that the broker adds a header to: of a stream, or of a queue that counts deliveries. Apart from the others, which it would slow down. */
static __attribute__((noinline)) void deliver_with_header(struct session *session, struct consumer *consumer, const struct delivery *delivery)
{
    struct channel *channel = consumer->channel;
    bool of_stream = delivery->added == DELIVERY_ADDS_OFFSET;
    struct message message;
    struct added made;
    uint64_t tag = read_message(delivery, &message, &made) ? take_tag(channel, delivery->queue, delivery->seq, consumer->no_ack, !of_stream) : 0;
    if (UNLIKELY(tag == 0))
        no_tag(session, delivery);
    else
        write_delivery(session, consumer, delivery, &message, tag);
    added_done(&made);
}

void deliver_message(struct session *session, const struct delivery *delivery)
{
    if (UNLIKELY(delivery->is_get)) {
        deliver_get(session, delivery);
        return;
    }
    struct consumer *consumer = consume_find(session, delivery->consumer);
    struct channel *channel = consumer ? consumer->channel : NULL;
    if (UNLIKELY(!channel)) {
        give_back(session, delivery);
        return;
    }
    if (UNLIKELY(!delivery->no_ack && !consume_allowed(channel) && delivery->added != DELIVERY_ADDS_OFFSET)) {
        if (!consumer->refused)
            channel->refused_count++;
        consumer->refused = true;
        client_refuse(&session->client, delivery);
        return;
    }
    if (UNLIKELY(delivery->added != DELIVERY_ADDS_NOTHING)) {
        deliver_with_header(session, consumer, delivery);
        return;
    }
    struct message message;
    CHECK(message_read(delivery->content, &message));
    uint64_t tag = take_tag(channel, delivery->queue, delivery->seq, consumer->no_ack, true);
    if (UNLIKELY(tag == 0)) {
        no_tag(session, delivery);
        return;
    }
    write_delivery(session, consumer, delivery, &message, tag);
}

void deliver_return(struct channel *channel, struct bytes content, struct chunk *chunk)
{
    struct message message;
    CHECK(message_read(content, &message));
    struct amqp_value values[AMQP_BASIC_RETURN_COUNT] = {
        [AMQP_BASIC_RETURN_REPLY_CODE] = amqp_number(AMQP_NO_ROUTE), [AMQP_BASIC_RETURN_REPLY_TEXT] = amqp_text("NO_ROUTE"),
        [AMQP_BASIC_RETURN_EXCHANGE] = amqp_bytes(message.exchange), [AMQP_BASIC_RETURN_ROUTING_KEY] = amqp_bytes(message.routing_key)};
    send_with_content(channel->session, channel->number, AMQP_BASIC_RETURN, values, &message, chunk);
}
