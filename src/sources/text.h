/* A run of bytes that grows, up to a limit that its owner names. */
#ifndef SOURCES_TEXT_H
#define SOURCES_TEXT_H

#include "base/bytes.h"

/* Zero-initialized is empty. */
struct text {
    uint8_t *data;
    size_t size, capacity;
};

static inline struct bytes text_bytes(const struct text *text) { return bytes_of(text->data, text->size); }

/* False: out of memory; nothing was added. */
bool text_add(struct text *text, struct bytes more);

/* Adds what is valid UTF-8 as it is, and U+FFFD for whatever is not, as the UTF-8 decoder of the WHATWG Encoding standard does (a replacement for each maximal part of a
 * sequence). False: out of memory. */
bool text_add_utf8(struct text *text, struct bytes more);

/* Empty again. Room beyond `keep` bytes is given back. */
void text_clear(struct text *text, size_t keep);
void text_deinit(struct text *text);

/* Is it valid UTF-8? */
bool utf8_is_valid(struct bytes bytes);

/* Puts '?' for each byte that is no part of valid UTF-8, and for controls: what remains can be shown. */
void utf8_mend(char *text);

#endif
