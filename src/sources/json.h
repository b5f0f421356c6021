/* JSON of others, as it was read: what RFC 8259 lets be JSON, also where jansson would not take it. */
#ifndef SOURCES_JSON_H
#define SOURCES_JSON_H

#include "base/bytes.h"

#include <jansson.h>

/* Any value, "\\u0000" in texts too. Numbers that fit neither 64 bits with a sign nor a double are texts of what stands there: an identifier stays what it is. NULL: it is no JSON, or there is too
 * little memory. */
json_t *json_read(struct bytes text);

#endif
