/* A message as a part of a JSON object, for those who look at it: what it was published with, and what is in it. */
#ifndef BROKER_CONTENT_JSON_H
#define BROKER_CONTENT_JSON_H

#include "broker/writer.h"
#include "store/message.h"

/* Writes the fields exchange, routing_key, properties (an object, its headers too), body_size, and of the body its first `body_max` bytes: `body` when they are text in UTF-8, `body_base64`
 * otherwise; 0: nothing of it. */
void content_write_json(struct writer *writer, const struct message *message, uint64_t body_max);

#endif
