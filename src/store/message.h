/* A message's content: one layout in memory, in the log and in segments, so that it is copied as it is.
 *
 *    0      1          1+e    2+e           2+e+k         6+e+k              6+e+k+p
 *   ┌──────┬──────────┬──────┬─────────────┬─────────────┬──────────────────┬────────┐
 *   │ e    │ exchange │ k    │ routing key │ p (4 bytes) │ properties       │ body … │
 *   └──────┴──────────┴──────┴─────────────┴─────────────┴──────────────────┴────────┘
 *   p: bytes of properties. With its highest bit set, 8 bytes lie between it and the properties: when the message arrived, milliseconds since 1970, for
 *   queues that want to know (those with a time to live, streams).
 *   properties: AMQP 0-9-1 property flags and property list exactly as they were received (section 4.2.6.1).
 */
#ifndef STORE_MESSAGE_H
#define STORE_MESSAGE_H

#include "base/bytes.h"
#include "base/err.h"

#define MESSAGE_STAMPED 0x80000000u   /* in p */
#define MESSAGE_STAMP_SIZE 8u

struct message {
    struct bytes exchange, routing_key, properties, body;
    uint64_t arrived_ms;   /* 0: nobody wanted to know */
};

/* Without the stamp: add MESSAGE_STAMP_SIZE for a message that has one. */
static inline uint64_t message_size(size_t exchange, size_t routing_key, size_t properties, uint64_t body)
{
    return 6 + exchange + routing_key + properties + body;
}

/* Writes everything but the body; returns where the body begins. `arrived_ms` 0: without a stamp. */
static inline uint8_t *message_begin(uint8_t *at, struct bytes exchange, struct bytes routing_key, struct bytes properties, uint64_t arrived_ms)
{
    *at++ = (uint8_t)exchange.size;
    if (exchange.size)
        memcpy(at, exchange.data, exchange.size);
    at += exchange.size;
    *at++ = (uint8_t)routing_key.size;
    if (routing_key.size)
        memcpy(at, routing_key.data, routing_key.size);
    at += routing_key.size;
    store_le32(at, (uint32_t)properties.size | (arrived_ms ? MESSAGE_STAMPED : 0));
    at += 4;
    if (UNLIKELY(arrived_ms)) {
        store_le64(at, arrived_ms);
        at += MESSAGE_STAMP_SIZE;
    }
    if (properties.size)
        memcpy(at, properties.data, properties.size);
    return at + properties.size;
}

/* Says another time of arrival in a content that has one. */
static inline void message_restamp(uint8_t *content, uint64_t arrived_ms)
{
    uint8_t *at = content + 1 + content[0];
    at += 1 + at[0];
    if (load_le32(at) & MESSAGE_STAMPED)
        store_le64(at + 4, arrived_ms);
}

/* Points into `content`, whose checksum was verified: false only for a writer's mistake. */
static inline bool message_read(struct bytes content, struct message *message)
{
    const uint8_t *at = content.data, *end = at + content.size;
    if (content.size < 6)
        return false;
    message->exchange = bytes_of(at + 1, at[0]);
    at += 1 + at[0];
    if (end - at < 5)
        return false;
    message->routing_key = bytes_of(at + 1, at[0]);
    at += 1 + at[0];
    if (end - at < 4)
        return false;
    uint32_t properties = load_le32(at);
    at += 4;
    message->arrived_ms = 0;
    if (UNLIKELY(properties & MESSAGE_STAMPED)) {
        if (end - at < (ptrdiff_t)MESSAGE_STAMP_SIZE)
            return false;
        message->arrived_ms = load_le64(at);
        properties &= ~MESSAGE_STAMPED;
        at += MESSAGE_STAMP_SIZE;
    }
    if ((uint64_t)(end - at) < properties)
        return false;
    message->properties = bytes_of(at, properties);
    message->body = bytes_of(at + properties, (size_t)(end - at) - properties);
    return true;
}

#endif
