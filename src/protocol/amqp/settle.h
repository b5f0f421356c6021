/* basic.ack, nack, reject and recover: what the peer does with its deliveries. */
#ifndef PROTOCOL_AMQP_SETTLE_H
#define PROTOCOL_AMQP_SETTLE_H

#include "protocol/amqp/session_state.h"

/* basic.ack, nack, reject, recover and recover-async. */
void settle_method(struct channel *channel, const struct amqp_method *method);

/* Settles by tag; raises PRECONDITION_FAILED on one that is not held. `id`: the method to blame. */
void settle_tag(struct channel *channel, uint64_t tag, bool multiple, enum settle_kind kind, uint32_t id);

/* Gives back everything held, as the channel ends. */
void settle_release(struct channel *channel, enum settle_kind kind);

#endif
