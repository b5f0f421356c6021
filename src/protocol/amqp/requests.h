/* exchange.* and queue.*: sent on to the broker, answered when it has done them. */
#ifndef PROTOCOL_AMQP_REQUESTS_H
#define PROTOCOL_AMQP_REQUESTS_H

#include "protocol/amqp/session_state.h"

/* What a request's tag says when it comes back: whose it was, and how it is to be answered. */
enum request_tag {
    REQUEST_TAG_NO_WAIT = 1,
    REQUEST_TAG_EXCLUSIVE = 2,     /* a declare of an exclusive queue */
    REQUEST_TAG_REPLY_TO = 4,      /* the declare behind amq.rabbitmq.reply-to */
    REQUEST_TAG_PIPELINED = 8,     /* others may follow it before it is answered */
    REQUEST_TAG_SHIFT = 4,         /* the channel's serial lies above */
};

static inline uint32_t request_tag(const struct channel *channel, unsigned flags)
{
    return channel->serial << REQUEST_TAG_SHIFT | flags;
}

/* May the method be sent on, and others like it after it, before those that went before are answered? The broker keeps their order; but what may well fail
 * (a look whether something exists, a deletion on condition) is answered first, since nothing is done on a channel after an error. */
bool request_is_pipelined(const struct amqp_method *method);

void request_method(struct channel *channel, const struct amqp_method *method);

/* The answer to one of them. */
void request_replied(struct session *session, const struct reply *reply);

/* The queue that `name` means: the one declared last when it is empty; raises NOT_FOUND and answers false when there is none. */
bool request_queue_name(struct channel *channel, uint32_t id, struct bytes *name);

/* Raises NOT_FOUND because of the method `id` if the name is that of a queue for replies, which is none for the method. */
bool request_is_no_reply_queue(struct channel *channel, uint32_t id, struct bytes name);

/* Asks for the deletion of the session's exclusive queues, each counted in session->releases. */
void request_delete_exclusive(struct session *session);

/* Forgets which exclusive queues there are. */
void request_forget_exclusive(struct session *session);

#endif
