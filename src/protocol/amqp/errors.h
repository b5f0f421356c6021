/* Exceptions (specification, section 1.2 "reply codes"): which close the channel and which the connection, and their texts as RabbitMQ words them. */
#ifndef PROTOCOL_AMQP_ERRORS_H
#define PROTOCOL_AMQP_ERRORS_H

#include "protocol/amqp/session_state.h"

enum amqp_reply_code {
    AMQP_NO_ROUTE = 312,
    AMQP_CONNECTION_FORCED = 320,
    AMQP_ACCESS_REFUSED = 403,
    AMQP_NOT_FOUND = 404,
    AMQP_RESOURCE_LOCKED = 405,
    AMQP_PRECONDITION_FAILED = 406,
    AMQP_FRAME_ERROR = 501,
    AMQP_SYNTAX_ERROR = 502,
    AMQP_COMMAND_INVALID = 503,
    AMQP_CHANNEL_ERROR = 504,
    AMQP_UNEXPECTED_FRAME = 505,
    AMQP_RESOURCE_ERROR = 506,
    AMQP_NOT_ALLOWED = 530,
    AMQP_NOT_IMPLEMENTED = 540,
    AMQP_INTERNAL_ERROR = 541,
};

#define ERROR_TEXT_MAX 255u

/* "NOT_FOUND" and so on. */
const char *error_name(uint16_t code);

/* Does the code close the connection, rather than the channel? */
bool error_closes_connection(uint16_t code);

/* Raises `code` on the channel (NULL: on the connection) because of the method `id` (0: none): "NAME - text" is sent, what the broker holds for the channel or
 * connection is let go. The text is cut at 255 bytes. */
__attribute__((format(printf, 5, 6)))
void error_raise(struct session *session, struct channel *channel, uint16_t code, uint32_t id, const char *format, ...);

/* The same with the whole text, its name included, as the broker answers it. */
void error_raise_text(struct session *session, struct channel *channel, uint16_t code, uint32_t id, struct bytes text);

/* A method frame that could not be decoded, `method` says of which method. Where RabbitMQ's connection falls over without a word, the peer is told, but its answer is
 * not waited for. */
void error_raise_undecoded(struct session *session, const struct amqp_method *method, enum amqp_decoded decoded, struct bytes payload);

/* A frame that makes no sense where it is (505) or at all (501): "type 2, all octets = <<1,2>>", then ": " and `why` if that is not NULL. */
void error_raise_frame(struct session *session, uint16_t code, uint8_t type, struct bytes payload, const char *why);

/* Memory ran out in the middle of something for this session. */
void error_out_of_memory(struct session *session);

#endif
