/* The Authorization header's scheme Basic (RFC 7617), and base64 (RFC 4648). */
#ifndef PROTOCOL_GATEWAY_BASIC_H
#define PROTOCOL_GATEWAY_BASIC_H

#include "base/bytes.h"

/* Decodes into `room` (text.size bytes), padding required. False: it is none. */
bool base64_decode(struct bytes text, uint8_t *room, struct bytes *out);

/* Writes text and a zero behind it, base64_size(in.size) bytes. */
static inline size_t base64_size(size_t size) { return (size + 2) / 3 * 4 + 1; }
void base64_encode(struct bytes in, char *text);

#define BASIC_MAX 1024u
/* User and password, decoded into `room`. False: it is another scheme, or no base64, or has no colon, or is too long. */
bool basic_read(struct bytes authorization, uint8_t room[BASIC_MAX], struct bytes *user, struct bytes *password);

#endif
