/* connection.*: from the protocol header to connection.open-ok, and the end (specification, section 2.2.4). */
#ifndef PROTOCOL_AMQP_HANDSHAKE_H
#define PROTOCOL_AMQP_HANDSHAKE_H

#include "protocol/amqp/session_state.h"

/* The first bytes of the connection. Answers how many were taken; 0: more are needed. */
size_t handshake_header(struct session *session, struct bytes in);

/* A method frame's payload (at least four bytes) on channel 0. */
void handshake_method(struct session *session, struct bytes payload);

/* The broker's answer to connection.open. */
void handshake_opened(struct session *session, const struct reply *reply);

/* A method on channel 0 after connection.close or close-ok was sent. */
void handshake_closed_method(struct session *session, uint32_t id);

/* The broker has let go of everything: answers the peer's connection.close. */
void handshake_close_ok(struct session *session);

#endif
