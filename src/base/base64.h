/* Base64 (RFC 4648 section 4): the alphabet with + and /, padded. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/bytes.h"

/* Decodes into `room` (text.size bytes), padding required. False: it is none. */
bool base64_decode(struct bytes text, uint8_t *room, struct bytes *out);

/* Writes text and a zero behind it, base64_size(in.size) bytes. */
static inline size_t base64_size(size_t size) { return (size + 2) / 3 * 4 + 1; }
void base64_encode(struct bytes in, char *text);

#endif
