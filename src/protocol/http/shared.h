/* Bytes that many streams are sent alike: laid out once, in memory that all of them refer to, framed as a chunk of HTTP/1.1's chunked coding (RFC 9112 section 7.1).
 *
 *   size in hexadecimal, CR LF | the bytes | CR LF
 */
#ifndef PROTOCOL_HTTP_SHARED_H
#define PROTOCOL_HTTP_SHARED_H

#include "base/bytes.h"
#include "base/chunk.h"

struct http_shared {
    struct chunk *chunk;             /* NULL: nothing is laid out */
    struct bytes framed, bytes;      /* the second lies inside of the first */
};

/* Lays out the parts, one behind the other, in *stage, or in a new chunk that takes its place; both keep a reference. False: out of memory. */
bool http_shared_init(struct http_shared *shared, struct chunk_pool *pool, struct chunk **stage, const struct bytes *parts, unsigned count);
/* `pool` may be NULL, as in chunk_release. */
void http_shared_deinit(struct http_shared *shared, struct chunk_pool *pool);

#endif
