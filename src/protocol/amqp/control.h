/* Control requests: what administrators ask of the broker over AMQP.
 *
 * A message published to the default exchange with the routing key amq.godwit.control, which can be no queue's name, is a request: its body is JSON (broker/control.h
 * says which), and the answer, JSON too, is published to the queue that its reply-to names, with its correlation-id. Such a message is met where a publish was
 * found to have no route, so that other publishes do not pay for it; it is never returned, and confirmed at once. It is taken also while publishers are
 * blocked, since it may be what helps. */
#ifndef PROTOCOL_AMQP_CONTROL_H
#define PROTOCOL_AMQP_CONTROL_H

#include "protocol/amqp/session_state.h"

#define CONTROL_KEY "amq.godwit.control"
/* Requests of a session that are not answered yet; further ones are refused. */
#define CONTROL_PENDING_MAX 16u

/* Is a publish without a route one? */
bool control_is_request(const struct publish *publish);

/* The same of a publish's method, for one that must wait otherwise. */
bool control_is_request_method(const struct amqp_method *method);

/* Sends the request that `content` (a whole message, see store/message.h) is on to the broker. */
void control_ask(struct session *session, struct bytes content);

/* The broker's answer. */
void control_replied(struct session *session, const struct reply *reply);

/* Forgets what was asked. */
void control_free_all(struct session *session);

#endif
