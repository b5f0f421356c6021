/* The properties of class basic: a flag word, then the present properties in the order of their flags (specification, section 4.2.6.1).
 *
 *    0         2
 *   ┌─────────┬─────────────────────────────┐    flags: bit 15 content-type … bit 2 cluster-id; bits 1 and 0 mean nothing
 *   │ flags   │ property list …             │    (class basic has no second flag word)
 *   └─────────┴─────────────────────────────┘
 */
#ifndef PROTOCOL_AMQP_PROPERTIES_H
#define PROTOCOL_AMQP_PROPERTIES_H

#include "protocol/amqp/table.h"

enum amqp_property {
    AMQP_CONTENT_TYPE = 1 << 15,
    AMQP_CONTENT_ENCODING = 1 << 14,
    AMQP_HEADERS = 1 << 13,
    AMQP_DELIVERY_MODE = 1 << 12,
    AMQP_PRIORITY = 1 << 11,
    AMQP_CORRELATION_ID = 1 << 10,
    AMQP_REPLY_TO = 1 << 9,
    AMQP_EXPIRATION = 1 << 8,
    AMQP_MESSAGE_ID = 1 << 7,
    AMQP_MESSAGE_TIMESTAMP = 1 << 6,
    AMQP_TYPE = 1 << 5,
    AMQP_USER_ID = 1 << 4,
    AMQP_APP_ID = 1 << 3,
    AMQP_CLUSTER_ID = 1 << 2,
};

struct amqp_properties {
    uint16_t flags;          /* which of the fields below are there */
    uint8_t delivery_mode;   /* 2: persistent */
    uint8_t priority;
    uint64_t timestamp;      /* seconds */
    struct bytes headers;    /* a table without its leading size */
    struct bytes content_type, content_encoding, correlation_id, reply_to, expiration, message_id, type, user_id, app_id, cluster_id;
};

/* Decodes a flag word and list that end exactly where `in` does. False when they do not, or when the headers are no valid table. */
bool amqp_properties_decode(struct bytes in, struct amqp_properties *properties);

/* One property of bytes that were found valid before: a short string without its size, a table without its, the bytes of anything else.
 * False: it is not there. For those who want one field of many messages. */
bool amqp_properties_get(struct bytes in, enum amqp_property which, struct bytes *value);

/* The priority, 0 when there is none. */
static inline unsigned amqp_properties_priority(struct bytes in)
{
    struct bytes value;
    return in.size > 2 && (in.data[0] & AMQP_PRIORITY >> 8) && amqp_properties_get(in, AMQP_PRIORITY, &value) ? value.data[0] : 0;
}

/* Bytes that encode needs for it. */
size_t amqp_properties_size(const struct amqp_properties *properties);

/* Writes flag word and list; returns their size, or 0 when `room` is too small or a short string longer than 255 bytes. */
size_t amqp_properties_encode(const struct amqp_properties *properties, uint8_t *at, size_t room);

/* May one of these headers have a name that begins with "x-"? Mostly not, and then they need not be read. */
static inline bool amqp_headers_extend(struct bytes headers)
{
    const uint8_t *at = headers.data, *end = headers.data + headers.size;
    while (at < end && (at = memchr(at, 'x', (size_t)(end - at)))) {
        at++;
        if (at < end && *at == '-')
            return true;
    }
    return false;
}

#endif
