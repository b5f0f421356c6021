/* The methods of AMQP 0-9-1 and of RabbitMQ's extensions: rows (method_rows.h) read by one interpreter, and the hot ones by hand.
 *
 *   payload of a method frame:                     payload of a content header frame:
 *    0         2          4                          0         2          4            12
 *   ┌─────────┬──────────┬────────────────┐        ┌─────────┬──────────┬────────────┬──────────────┐
 *   │ class   │ method   │ arguments …    │        │ class   │ weight 0 │ body size  │ properties … │
 *   └─────────┴──────────┴────────────────┘        └─────────┴──────────┴────────────┴──────────────┘
 *   Bits that follow each other share octets, the first one in the lowest bit (section 4.2.5.2).
 *
 * A method's id is class << 16 | method, named AMQP_QUEUE_DECLARE; its arguments' places among the values are named AMQP_QUEUE_DECLARE_QUEUE and so on:
 *
 *     struct amqp_value values[AMQP_QUEUE_DECLARE_OK_COUNT] = {
 *         [AMQP_QUEUE_DECLARE_OK_QUEUE] = amqp_bytes(name),
 *         [AMQP_QUEUE_DECLARE_OK_MESSAGE_COUNT] = amqp_number(7),
 *     };
 *     size = amqp_method_frame(room, sizeof(room), channel, AMQP_QUEUE_DECLARE_OK, values);
 */
#ifndef PROTOCOL_AMQP_METHODS_H
#define PROTOCOL_AMQP_METHODS_H

#include "protocol/amqp/table.h"

enum amqp_kind {
    AMQP_OCTET,
    AMQP_SHORT,
    AMQP_LONG,
    AMQP_LONGLONG,
    AMQP_TIMESTAMP,
    AMQP_BIT,
    AMQP_SHORTSTR,  /* size (1), UTF-8 */
    AMQP_LONGSTR,   /* size (4), any bytes */
    AMQP_TABLE,     /* size (4), fields; the value is without the size, and valid */
};

enum amqp_method_id {
#define METHOD(class_id, method_id, NAME, text, flags) AMQP_##NAME = (class_id) << 16 | (method_id),
#define ARGUMENT(NAME, ARGUMENT_NAME, KIND, text)
#define END(NAME)
#include "protocol/amqp/method_rows.h"
#undef METHOD
#undef ARGUMENT
#undef END
};

/* An enum a method: the places of its arguments, then their count. */
#define METHOD(class_id, method_id, NAME, text, flags) enum {
#define ARGUMENT(NAME, ARGUMENT_NAME, KIND, text) AMQP_##NAME##_##ARGUMENT_NAME,
#define END(NAME) AMQP_##NAME##_COUNT };
#include "protocol/amqp/method_rows.h"
#undef METHOD
#undef ARGUMENT
#undef END

#define AMQP_ARGUMENTS_MAX 9
#define AMQP_HAS_CONTENT 1

struct amqp_argument_row {
    const char *name;
    uint8_t kind;             /* enum amqp_kind */
};

struct amqp_method_row {
    uint32_t id;              /* enum amqp_method_id */
    uint8_t flags;            /* AMQP_HAS_CONTENT: a content header and body follow */
    uint8_t count;            /* of arguments */
    const char *name;         /* "queue.declare" */
    struct amqp_argument_row arguments[AMQP_ARGUMENTS_MAX + 1];   /* ends with a nameless one */
};

/* Which of the two it is, its row says. */
struct amqp_value {
    union {
        uint64_t number;      /* octet, short, long, longlong, timestamp, bit */
        struct bytes bytes;   /* shortstr, longstr, table */
    };
};

struct amqp_method {
    const struct amqp_method_row *row;
    struct amqp_value values[AMQP_ARGUMENTS_MAX];
};

static inline struct amqp_value amqp_number(uint64_t number)
{
    return (struct amqp_value){.number = number};
}

static inline struct amqp_value amqp_bytes(struct bytes bytes)
{
    return (struct amqp_value){.bytes = bytes};
}

static inline struct amqp_value amqp_text(const char *text)
{
    return (struct amqp_value){.bytes = bytes_of_text(text)};
}

/* All rows, in order of class and then of appearance. */
const struct amqp_method_row *amqp_method_rows(unsigned *count);

/* The row of an id, or NULL when there is no such method. */
const struct amqp_method_row *amqp_method_row(uint32_t id);

/* The id in the first four bytes of a method frame's payload, which are there. */
static inline uint32_t amqp_method_id_read(const uint8_t *payload)
{
    return load_be32(payload);
}

enum amqp_decoded {
    AMQP_DECODED,
    AMQP_UNKNOWN_METHOD,  /* method->row is NULL */
    AMQP_MALFORMED,       /* cut off, or bytes left over; method->row says of which method */
    AMQP_BAD_TABLE,       /* the same of a table: all of it is there, and makes no sense */
    AMQP_BAD_UTF8,        /* a short string is no UTF-8; not told of methods with content, as in RabbitMQ */
};

/* Decodes a method frame's payload; the values point into it. */
enum amqp_decoded amqp_method_decode(struct bytes payload, struct amqp_method *method);

/* Writes a method frame's payload; returns its size, or 0 when `room` is too small or a short string longer than 255 bytes. `values` may be NULL for a method
 * without arguments. */
size_t amqp_method_encode(uint8_t *at, size_t room, enum amqp_method_id id, const struct amqp_value *values);

/* The same as a whole frame on `channel`. */
size_t amqp_method_frame(uint8_t *at, size_t room, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values);

/* By hand, proven equal to the rows by hot_test.c. */

struct amqp_publish {
    struct bytes exchange, routing_key;
    bool mandatory, immediate;
};

/* The payload of a basic.publish, class and method included. */
static inline enum amqp_decoded amqp_publish_decode(struct bytes payload, struct amqp_publish *publish)
{
    /* class 2, method 2, ticket 2, exchange, routing key, bits 1 */
    const uint8_t *at = payload.data + 6, *end = payload.data + payload.size;
    if (payload.size < 9)
        return AMQP_MALFORMED;
    publish->exchange = bytes_of(at + 1, at[0]);
    at += 1 + at[0];
    if (end - at < 2)
        return AMQP_MALFORMED;
    publish->routing_key = bytes_of(at + 1, at[0]);
    at += 1 + at[0];
    if (end - at != 1)
        return AMQP_MALFORMED;
    publish->mandatory = at[0] & 1;
    publish->immediate = at[0] >> 1 & 1;
    return AMQP_DECODED;
}

/* Writes it as a whole frame; returns its size, 0 when it does not fit. */
size_t amqp_publish_frame(uint8_t *at, size_t room, uint16_t channel, struct bytes exchange, struct bytes routing_key, bool mandatory);

#define AMQP_ACK_FRAME_SIZE (AMQP_FRAME_OVERHEAD + 4u + 9u)

/* A payload of 13 bytes of which the id was read: basic.ack, or basic.nack or reject where the flags differ. */
static inline uint64_t amqp_ack_tag(const uint8_t *payload) { return load_be64(payload + 4); }
static inline uint8_t amqp_ack_flags(const uint8_t *payload) { return payload[12]; }

/* Writes a basic.ack, .nack or .reject frame (AMQP_ACK_FRAME_SIZE bytes) whose bits are `flags`; returns where it ends. */
static inline uint8_t *amqp_ack_write(uint8_t *at, uint16_t channel, enum amqp_method_id id, uint64_t tag, uint8_t flags)
{
    at = amqp_frame_begin(at, AMQP_FRAME_METHOD, channel, 13);
    store_be32(at, id);
    store_be64(at + 4, tag);
    at[12] = flags;
    at[13] = AMQP_FRAME_END;
    return at + 14;
}

struct amqp_content_header {
    uint16_t class_id, weight;
    uint64_t body_size;        /* bytes */
    struct bytes properties;   /* flag word and list, not looked at */
};

#define AMQP_CONTENT_HEADER_SIZE 12u

/* The payload of a content header frame; false when it has not even the fixed fields. */
static inline bool amqp_content_header_decode(struct bytes payload, struct amqp_content_header *header)
{
    if (payload.size < AMQP_CONTENT_HEADER_SIZE)
        return false;
    header->class_id = load_be16(payload.data);
    header->weight = load_be16(payload.data + 2);
    header->body_size = load_be64(payload.data + 4);
    header->properties = bytes_of(payload.data + 12, payload.size - 12);
    return true;
}

/* Writes a content header frame of class basic; the room is AMQP_FRAME_OVERHEAD + AMQP_CONTENT_HEADER_SIZE + properties.size. */
static inline uint8_t *amqp_content_header_write(uint8_t *at, uint16_t channel, uint64_t body_size, struct bytes properties)
{
    at = amqp_frame_begin(at, AMQP_FRAME_HEADER, channel, (uint32_t)(AMQP_CONTENT_HEADER_SIZE + properties.size));
    store_be32(at, AMQP_CLASS_BASIC << 16);
    store_be64(at + 4, body_size);
    at += AMQP_CONTENT_HEADER_SIZE;
    amqp_copy(at, properties.data, properties.size);
    at += properties.size;
    *at++ = AMQP_FRAME_END;
    return at;
}

/* Bytes of a basic.deliver frame. */
static inline size_t amqp_deliver_size(size_t consumer_tag, size_t exchange, size_t routing_key)
{
    return AMQP_FRAME_OVERHEAD + 4 + 1 + consumer_tag + 8 + 1 + 1 + exchange + 1 + routing_key;
}

static inline uint8_t *amqp_shortstr_write(uint8_t *at, struct bytes text)
{
    *at++ = (uint8_t)text.size;
    amqp_copy(at, text.data, text.size);
    return at + text.size;
}

/* Writes a basic.deliver frame of amqp_deliver_size bytes; returns where it ends. */
static inline uint8_t *amqp_deliver_write(uint8_t *at, uint16_t channel, struct bytes consumer_tag, uint64_t delivery_tag, bool redelivered,
                                          struct bytes exchange, struct bytes routing_key)
{
    size_t size = amqp_deliver_size(consumer_tag.size, exchange.size, routing_key.size);
    at = amqp_frame_begin(at, AMQP_FRAME_METHOD, channel, (uint32_t)(size - AMQP_FRAME_OVERHEAD));
    store_be32(at, AMQP_BASIC_DELIVER);
    at = amqp_shortstr_write(at + 4, consumer_tag);
    store_be64(at, delivery_tag);
    at[8] = redelivered;
    at = amqp_shortstr_write(at + 9, exchange);
    at = amqp_shortstr_write(at, routing_key);
    *at++ = AMQP_FRAME_END;
    return at;
}

#endif
