/* A request as services see it, whatever version of HTTP brought it, and the small things that are read out of one. */
#ifndef PROTOCOL_HTTP_REQUEST_H
#define PROTOCOL_HTTP_REQUEST_H

#include "base/bytes.h"

#define HTTP_FIELDS_MAX 128u
#define HTTP_UNKNOWN UINT64_MAX

/* Names are as they came: HTTP/2 sends them in lower case, HTTP/1 as the peer likes. Compare them with http_name_is. */
struct http_field {
    struct bytes name, value;
};

struct http_request {
    struct bytes method;             /* "GET"; case counts */
    struct bytes path;               /* as it came, percent-encoded, from its first slash; "*" of OPTIONS */
    struct bytes query;              /* what follows the question mark; empty: nothing */
    struct bytes authority;          /* Host, or :authority */
    const struct http_field *fields;
    unsigned field_count;
    uint64_t names;                  /* which names the fields may have: http_name_bit of each of them; 0: nobody has looked */
    uint64_t content_length;         /* HTTP_UNKNOWN: it was not said, and there may be a body all the same */
    unsigned minor;                  /* of HTTP/1; 0: 1.0 */
};

/* Are these `size` bytes the same, where ASCII letters of either case are? `lower` is in lower case. */
bool http_name_same(const uint8_t *name, const char *lower, size_t size);

static inline bool http_name_is(struct bytes name, const char *lower)
{
    size_t size = strlen(lower);
    return name.size == size && http_name_same(name.data, lower, size);
}

/* One of 64 bits that a name has: most of what is asked for is not there, and is not looked for. */
static inline uint64_t http_name_bit(const void *name, size_t size)
{
    const uint8_t *bytes = name;
    return size ? 1ull << ((size * 7 + (bytes[0] | 32u) * 3 + (bytes[size - 1] | 32u)) & 63) : 1;
}

bool http_field_search(const struct http_request *request, const char *name, size_t size, struct bytes *value);

/* The value of the first field of that name (lower case); false: there is none. */
static inline bool http_field_find(const struct http_request *request, const char *name, struct bytes *value)
{
    size_t size = strlen(name);
    return (!request->names || (request->names & http_name_bit(name, size))) && http_field_search(request, name, size, value);
}

/* Is `word` (lower case) one of the words, separated by commas, of the fields of that name? Parameters behind a semicolon are passed over. */
bool http_field_has(const struct http_request *request, const char *name, const char *word);

/* The percent-encoded `in` as what it stands for, at `room` (in.size bytes); `plus`: a plus sign is a space, as in queries. False: an escape is not whole,
 * or stands for NUL. */
bool http_decode(struct bytes in, bool plus, uint8_t *room, struct bytes *out);

/* The next parameter of a query, `*rest` in and out: name and value as they came, percent-encoded. False: there is none left. */
bool http_query_next(struct bytes *rest, struct bytes *name, struct bytes *value);

/* The next segment of a path, percent-encoded: what lies between two slashes. False: there is none left. */
bool http_path_next(struct bytes *rest, struct bytes *segment);

/* A host and perhaps a port (RFC 3986 section 3.2, without a user; a comma is none of a host's either): "localhost:80", "[::1]". */
bool http_is_authority(struct bytes text);

/* Splits a target in origin form ("/a?b") or absolute form ("http://host/a?b", then *authority is set) into path and query. False: it is neither, or has a user or a fragment. */
bool http_target_split(struct bytes target, struct bytes *authority, struct bytes *path, struct bytes *query);

/* A decimal number of at most 19 digits and nothing else. */
bool http_number(struct bytes text, uint64_t *number);

#endif
