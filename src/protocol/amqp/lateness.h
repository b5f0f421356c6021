/* Deliveries that wait too long for their acks close their channel (RabbitMQ's consumer_timeout). A delivery itself costs nothing for that: now and then it is noted how
 * far the tags of a channel have come, and what is held below a note that is old enough is late. That is so an eighth of the shortest time apart, at most a minute:
 * nobody is judged early, and nobody later than by two of these. */
#ifndef PROTOCOL_AMQP_LATENESS_H
#define PROTOCOL_AMQP_LATENESS_H

#include "protocol/amqp/session_state.h"

/* The session consumes or gets from a queue: it is looked at from now on. */
void lateness_arm(struct session *session, uint64_t queue);

/* Notes, and closes the channels that hold a delivery for too long. */
void lateness_check(struct session *session);

/* Tells the listener what the channel holds, and since when at the latest. */
void lateness_describe(const struct channel *channel, const struct client_listener *listener);

void lateness_deinit(struct lateness *lateness);

#endif
