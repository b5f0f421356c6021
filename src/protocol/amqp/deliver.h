/* The hot path out: messages encoded onto the output as method, content header and body frames (basic.deliver, get-ok, return).
 *
 * Bodies of up to 4 KiB are copied, since a vector of its own costs the system more; larger ones are sent from where they lie. */
#ifndef PROTOCOL_AMQP_DELIVER_H
#define PROTOCOL_AMQP_DELIVER_H

#include "protocol/amqp/session_state.h"

#define DELIVER_COPY_MAX 4096u

/* The broker's delivery to a consumer, or its answer to a get. */
void deliver_message(struct session *session, const struct delivery *delivery);

/* Returns an unroutable mandatory message, which lies in `chunk`, to its publisher. */
void deliver_return(struct channel *channel, struct bytes content, struct chunk *chunk);

#endif
