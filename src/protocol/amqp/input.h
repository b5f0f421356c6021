/* A session's input: bytes in pieces of any size become frames; bodies stream through, everything else is looked at whole.
 *
 * What cannot be looked at yet (the rest of a frame, or everything while the session is stalled) is kept in session->pending. */
#ifndef PROTOCOL_AMQP_INPUT_H
#define PROTOCOL_AMQP_INPUT_H

#include "protocol/amqp/session_state.h"

/* Bytes that a peer may send before it is authenticated. */
#define INPUT_BEFORE_LOGIN_MAX 65536u

void input_feed(struct session *session, struct bytes in);

/* The broker has answered: what had to wait goes on. */
void input_go_on(struct session *session);

void input_deinit(struct session *session);

#endif
