/* A channel: opened by its peer, closed by either side; its methods are sent to the files that do them. */
#ifndef PROTOCOL_AMQP_CHANNEL_H
#define PROTOCOL_AMQP_CHANNEL_H

#include "protocol/amqp/session_state.h"

/* The session's channel of that number, whatever its state; NULL: there is none. */
struct channel *channel_find(struct session *session, uint16_t number);

/* That one if it is the same as when `serial` was its. */
struct channel *channel_find_serial(struct session *session, uint16_t number, uint32_t serial);

/* It may be used: its peer is told. */
void channel_opened(struct channel *channel);

/* Does a method frame's payload for this channel; false: it must wait, ask again with the same payload once the broker has answered. */
bool channel_method(struct session *session, uint16_t number, struct bytes payload);

/* The channel has something to tell at the end of the turn. */
void channel_dirty(struct channel *channel);

/* Lets go of what the broker holds for it: consumers, unacknowledged messages, a transaction, a content half-way. */
void channel_release(struct channel *channel);

/* One of the cancels of a channel that closes was answered. */
void channel_released(struct channel *channel);

/* Frees a channel that was released. */
void channel_free(struct channel *channel);

/* Names the queue that an empty name means from now on; false: out of memory. */
bool channel_set_last_queue(struct channel *channel, struct bytes name);

/* Tells the listener of every open channel. */
void channel_describe(const struct session *session, const struct client_listener *listener);

#endif
