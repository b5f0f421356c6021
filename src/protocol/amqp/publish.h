/* The hot path in: basic.publish, its content header and body, straight into the message's place. */
#ifndef PROTOCOL_AMQP_PUBLISH_H
#define PROTOCOL_AMQP_PUBLISH_H

#include "protocol/amqp/session_state.h"

/* A confirm tag says of which channel it is (by serial) and the publish's number in that channel. */
#define PUBLISH_SEQUENCE_BITS 40
static inline uint64_t publish_confirm_tag(uint32_t serial, uint64_t sequence) { return (uint64_t)serial << PUBLISH_SEQUENCE_BITS | sequence; }
static inline uint32_t publish_serial(uint64_t confirm_tag) { return (uint32_t)(confirm_tag >> PUBLISH_SEQUENCE_BITS); }
static inline uint64_t publish_sequence(uint64_t confirm_tag) { return confirm_tag & ((1ull << PUBLISH_SEQUENCE_BITS) - 1); }

/* The method frame of a publish, decoded: its content follows in frames of their own. */
void publish_method(struct channel *channel, const struct amqp_method *method);

/* A publish that lies whole at the start of `data` (method, header and at most one body frame) and meets nothing out of the ordinary: answers how many bytes it
 * took, or 0: then nothing was done, and the frames are to be looked at one by one. */
size_t publish_whole(struct session *session, const uint8_t *data, size_t size);

/* The payload of a content header frame for the channel; false after an exception. */
bool publish_header(struct channel *channel, struct bytes payload);

/* A body frame of `size` bytes begins; false after an exception. */
bool publish_body_begin(struct channel *channel, uint32_t size);

/* Bytes of it, in as many calls as it takes; `last` with the last ones of the frame (also when it has none). */
void publish_body(struct channel *channel, struct bytes bytes, bool last);

/* A frame that is no content came where content was to go on: raises UNEXPECTED_FRAME. */
void publish_unexpected_frame(struct channel *channel);

/* May the session parse a publish now? When not, the peer is told that it is blocked, if it is. */
bool publish_allowed(struct session *session);

/* The peer is told that the broker blocks publishers, or no longer does. */
void publish_tell_blocked(struct session *session);

/* The content that is half-way will never be whole. */
void publish_abort(struct channel *channel);

#endif
