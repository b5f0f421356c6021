/* Taking messages out: basic.consume, cancel, qos and get, and the consumers that live meanwhile. */
#ifndef PROTOCOL_AMQP_CONSUME_H
#define PROTOCOL_AMQP_CONSUME_H

#include "protocol/amqp/session_state.h"
#include "base/bugs.h"

/* basic.consume, cancel, cancel-ok, qos and get. */
void consume_method(struct channel *channel, const struct amqp_method *method);

/* The broker's answers to consume, cancel, get and list. */
void consume_replied(struct session *session, const struct reply *reply);

/* The queue behind a reply consumer was declared: it is consumed from. */
void consume_reply_queue(struct channel *channel, const struct reply *reply);

/* The consumer's queue is gone. */
void consume_cancelled(struct session *session, uint32_t number);

/* The same of those whose queues went with a delete that this channel asked for: it is answered first, as in RabbitMQ. */
void consume_tell_cancelled(struct channel *channel);

/* The consumer of a delivery; NULL: it is gone. */
static inline struct consumer *consume_find(const struct session *session, uint32_t number)
{
    return number < session->consumer_capacity ? session->consumers[number] : NULL;
}

/* May a consumer of the channel get one more? Messages that were got with basic.get do not count. */
static inline bool consume_allowed(const struct channel *channel)
{
    return !channel->limit || bug_enabled(BUG_CHANNEL_PREFETCH_IGNORED) || channel->unacked.counted < channel->limit;
}

/* The channel holds fewer than before: consumers that were refused go on if its limit allows. */
void consume_resume(struct channel *channel);

/* Time is up for those that went on: everybody may. */
void consume_resume_all(struct session *session);

/* `bytes` were delivered to it: they are given back as credit once they have left. */
void consume_owe(struct consumer *consumer, uint32_t bytes);

/* Gives back what all consumers are owed. */
void consume_give_credit(struct session *session);

/* The channel ends: its consumers are cancelled, each counted in session->releases. */
void consume_release(struct channel *channel);

/* Those who listen hear that all consumers are gone: the session ends. */
void consume_tell_gone(struct session *session);

/* Frees all consumers; the session ends. */
void consume_free_all(struct session *session);

/* Tells the listener of every consumer that the broker knows. */
void consume_describe(const struct session *session, const struct client_listener *listener);

#endif
