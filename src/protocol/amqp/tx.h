/* tx.*: publishes and acks of a channel that become true together. */
#ifndef PROTOCOL_AMQP_TX_H
#define PROTOCOL_AMQP_TX_H

#include "protocol/amqp/session_state.h"

void tx_select(struct channel *channel);
void tx_commit(struct channel *channel);
void tx_rollback(struct channel *channel);

/* The broker has answered the commit. */
void tx_committed(struct channel *channel, const struct reply *reply);

/* The open transaction of a transactional channel, begun if need be. NULL: out of memory. */
struct transaction *tx_transaction(struct channel *channel);

/* Keeps an unroutable mandatory message, whose reference is taken, until the commit. False: out of memory, nothing taken. */
bool tx_return_later(struct channel *channel, struct bytes content, struct chunk *chunk);

/* The channel ends: what is open is rolled back. */
void tx_abort(struct channel *channel);

#endif
