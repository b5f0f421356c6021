/* SQL's patterns: % is any run of bytes, _ is one character (of UTF-8, which may have several bytes), everything else is itself, and so is what follows the escape.
 *
 * The pattern's runs between its % are found one after the other, each as early as it goes. One that has neither _ nor an escape is found in a time that grows with the
 * text alone; how long the others may be is for the caller to limit: they take text times run. */
#ifndef BROKER_LIKE_H
#define BROKER_LIKE_H

#include "base/bytes.h"

/* `escape` 0: there is none. */
bool like_matches(struct bytes text, struct bytes pattern, uint8_t escape);

/* Bytes of the pattern's runs behind a % that have a _ or an escape. */
size_t like_slow_bytes(struct bytes pattern, uint8_t escape);

#endif
