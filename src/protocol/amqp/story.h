/* For tests: how the stories about a session are told. Each test file that includes it has one peer at a time. */
#ifndef PROTOCOL_AMQP_STORY_H
#define PROTOCOL_AMQP_STORY_H

#include "protocol/amqp/peer.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct peer *peer;


static inline int open_peer(void **state)
{
    (void)state;
    peer = malloc(sizeof(*peer));
    return peer ? 0 : -1;
}

static inline int close_peer(void **state)
{
    (void)state;
    free(peer);
    return 0;
}

/* Runs what follows twice: fed in one piece and byte by byte. */
#define BOTH_WAYS(pieces) for (int pieces = 0; pieces < 2; pieces++)

#define heard(text) assert_string_equal(peer_heard(peer), text)
#define said(text) assert_string_equal(fake_said(&peer->fake), text)

static inline void declare(const char *name, bool passive, bool durable, bool exclusive, bool no_wait)
{
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(name), [AMQP_QUEUE_DECLARE_PASSIVE] = amqp_number(passive),
        [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(durable), [AMQP_QUEUE_DECLARE_EXCLUSIVE] = amqp_number(exclusive),
        [AMQP_QUEUE_DECLARE_NO_WAIT] = amqp_number(no_wait)};
    peer_send(peer, 1, AMQP_QUEUE_DECLARE, values);
}

static inline void declared(const char *name, uint32_t messages, uint32_t consumers)
{
    fake_answer(&peer->fake, (struct reply){.name = bytes_of_text(name), .messages = messages, .consumers = consumers});
}

static inline void consume(const char *queue, const char *tag, bool no_ack, bool no_wait)
{
    struct amqp_value values[AMQP_BASIC_CONSUME_COUNT] = {
        [AMQP_BASIC_CONSUME_QUEUE] = amqp_text(queue), [AMQP_BASIC_CONSUME_CONSUMER_TAG] = amqp_text(tag),
        [AMQP_BASIC_CONSUME_NO_ACK] = amqp_number(no_ack), [AMQP_BASIC_CONSUME_NO_WAIT] = amqp_number(no_wait)};
    peer_send(peer, 1, AMQP_BASIC_CONSUME, values);
}

/* A consumer of queue 7 with handle 9 and tag "t". */
static inline void consume_well(bool no_ack)
{
    consume("q", "t", no_ack, false);
    fake_answer(&peer->fake, (struct reply){.queue = 7, .handle = 9});
    peer_heard(peer);
    fake_said(&peer->fake);
}

static inline void deliver(uint64_t seq, const char *body, bool no_ack, bool redelivered)
{
    struct chunk *chunk;
    struct delivery delivery = fake_delivery(&peer->fake, "x", "key", bytes_of_text(body), &chunk);
    delivery.seq = seq;
    delivery.no_ack = no_ack;
    delivery.redelivered = redelivered;
    peer->fake.ops->deliver(peer->fake.client, &delivery);
    chunk_release(chunk, peer->fake.chunks);
}

static inline void settle(enum amqp_method_id id, uint64_t tag, bool first, bool second)
{
    struct amqp_value values[] = {amqp_number(tag), amqp_number(first), amqp_number(second)};
    peer_send(peer, 1, id, values);
}

static inline void text_method(enum amqp_method_id id)
{
    struct amqp_value values[AMQP_ARGUMENTS_MAX] = {{.number = 0}};
    peer_send(peer, 1, id, values);
}

#endif
