/* How a client logs in to a broker: what it reads in connection.start and connection.tune, and what it answers. Bytes and values alone; who sends them is another's matter. */
#ifndef CLIENT_LOGIN_H
#define CLIENT_LOGIN_H

#include "base/err.h"
#include "protocol/amqp/uri.h"
#include "protocol/amqp/methods.h"

#define LOGIN_FRAME_MAX 2048u        /* bytes of the largest frame that this file writes */
#define LOGIN_PRODUCT_SIZE 128u
#define LOGIN_NAME_MAX 512u          /* bytes of the longest name of a connection */

struct login_limits {
    uint32_t frame_max;              /* bytes */
    uint32_t heartbeat_ms;           /* 0: none */
    uint16_t channel_max;
};

/* What the broker calls itself and its version, e.g. "RabbitMQ 3.10.8" or "Godwit 0.1.0"; `product` has room for LOGIN_PRODUCT_SIZE bytes. */
void login_product(struct bytes server_properties, char *product);

/* Has it this capability? */
bool login_is_capable(struct bytes server_properties, const char *capability);

/* Does it take a password (PLAIN)? */
bool login_is_offered(const struct amqp_method *start);

/* Writes the frame of connection.start-ok; returns its size, 0: `name` (may be NULL) is too long. */
size_t login_start_ok(uint8_t *at, size_t room, const struct uri *uri, const char *name);

/* Agrees on limits and writes the frame of connection.tune-ok; returns its size, 0: the broker's frames are smaller than AMQP allows. */
size_t login_tune_ok(uint8_t *at, size_t room, const struct uri *uri, const struct amqp_method *tune, struct login_limits *limits);

/* Writes the frame of connection.open; returns its size. */
size_t login_open(uint8_t *at, size_t room, const struct uri *uri);

/* A peer that is no broker, or speaks another version, says so in its first bytes, of which there are AMQP_PROTOCOL_HEADER_SIZE. GW_OK: they are the beginning of
 * a frame. Errors, and then `complaint` says why: GW_ERR_VERSION, GW_ERR_INVALID. */
enum gw_err login_greeting(const uint8_t *first, char *complaint, size_t complaint_size);

/* The error that a reply code of the broker's is: GW_ERR_NOT_FOUND (404), GW_ERR_PERMISSION (403), GW_ERR_BUSY (405), GW_ERR_INVALID (every other one). */
enum gw_err login_refusal(unsigned reply_code);

#endif
