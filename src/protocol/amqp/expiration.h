/* The property expiration: how long a message may wait, milliseconds as decimal text (RabbitMQ's Time-To-Live extension). */
#ifndef PROTOCOL_AMQP_EXPIRATION_H
#define PROTOCOL_AMQP_EXPIRATION_H

#include "base/bytes.h"

#include <stdbool.h>

#define EXPIRATION_MAX_MS 315360000000u   /* ten years */

/* Reads "60000". False: it is none, or is negative, or more than ten years; `why`, which may be NULL, then says what RabbitMQ says of it, e.g. "no_integer". */
bool amqp_expiration_read(struct bytes text, uint64_t *ms, char *why, size_t room);

#endif
