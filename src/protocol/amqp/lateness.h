/* Deliveries that wait too long for their acks close their channel (RabbitMQ's consumer_timeout). Looked at now and then: a quarter of the shortest time that was met,
 * at most a minute, so that nobody is late by more than that. */
#ifndef PROTOCOL_AMQP_LATENESS_H
#define PROTOCOL_AMQP_LATENESS_H

#include "protocol/amqp/session_state.h"

/* The session consumes or gets from a queue: it is looked at from now on. */
void lateness_arm(struct session *session, uint64_t queue);

/* Closes the channels that hold a delivery for too long. */
void lateness_check(struct session *session);

#endif
