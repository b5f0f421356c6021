/* Reads JSON that somebody else wrote: no more of it, no deeper and no more values than is allowed, which is found out before a tree is made. */
#ifndef BROKER_JSON_READ_H
#define BROKER_JSON_READ_H

#include "base/bytes.h"

#include <jansson.h>

#define JSON_DEPTH_MAX 32u               /* objects in objects */

struct json_limits {
    size_t size_max;                     /* bytes */
    size_t values_max;                   /* a value takes some 50 bytes in memory, whatever it takes in the text */
};

/* The object that is the whole of `text`; json_decref it. NULL: `why` says so in one sentence part. Strings may hold NULs, of two fields of one name
 * the last is taken. */
json_t *json_read_object(struct bytes text, const struct json_limits *limits, char *why, size_t room);

#endif
