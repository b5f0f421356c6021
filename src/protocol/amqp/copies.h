/* CC and BCC: headers by which a message names further routing keys. Their values are arrays of strings; elements of other types mean nothing.
 * What BCC says is taken out before the message is stored. */
#ifndef PROTOCOL_AMQP_COPIES_H
#define PROTOCOL_AMQP_COPIES_H

#include "base/bytes.h"

enum copies_found { COPIES_NONE, COPIES_FOUND, COPIES_INVALID };

/* Looks for both in a headers table (valid). FOUND: `copies` are the values of CC and BCC (payloads of arrays; empty where one is missing). INVALID: one is
 * no array; `text` says so as RabbitMQ does. */
enum copies_found copies_find(struct bytes headers, struct bytes copies[2], char *text, size_t room);

/* The next key of one of them, which is moved on; false at its end. */
bool copies_next(struct bytes *copies, struct bytes *key);

/* Writes the table without its BCC field to `at`, which has headers.size bytes of room; returns the size. */
size_t copies_without_bcc(struct bytes headers, uint8_t *at);

#endif
