/* Where the values of a JSON text lie in it, so that they can be passed on as they came. The text was found valid before. */
#ifndef PROTOCOL_GATEWAY_JSON_SLICE_H
#define PROTOCOL_GATEWAY_JSON_SLICE_H

#include "base/bytes.h"

/* The bytes of the member of that name of an object. False: there is none that is spelled so, without escapes. */
bool json_slice_member(struct bytes object, const char *name, struct bytes *value);

/* The next element of an array; `rest` is what json_slice_open answers at first. False: there is none left. */
struct bytes json_slice_open(struct bytes array);
bool json_slice_next(struct bytes *rest, struct bytes *element);

#endif
