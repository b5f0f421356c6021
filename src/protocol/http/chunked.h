/* A body in chunks (RFC 9112 section 7.1), byte by byte: sizes, extensions and trailers are judged and passed over, data is found where it lies.
 *
 *   5;name=value CR LF hello CR LF … 0 CR LF Name: value CR LF … CR LF
 *
 * As strict as heads are (head.h), for the same reason: a line that ends with a LF alone, a folded trailer or a space behind a size is read one way here and another way by a proxy. What
 * is around the data may be 64 KiB and sixteen times as long as the data. */
#ifndef PROTOCOL_HTTP_CHUNKED_H
#define PROTOCOL_HTTP_CHUNKED_H

#include "base/bytes.h"

enum http_chunked_found { HTTP_CHUNKED_MORE, HTTP_CHUNKED_DATA, HTTP_CHUNKED_END, HTTP_CHUNKED_BAD };

/* All zeros at first. */
struct http_chunked {
    uint64_t left;           /* of the chunk's data */
    uint64_t data, around;   /* bytes so far */
    uint8_t state, digits;
    bool last;               /* the chunk of size 0 */
    const char *why;         /* BAD: a sentence */
};

/* Takes bytes off the front of `in`, up to a piece of data (DATA: it is `data`) or the body's end; MORE: all are taken. */
enum http_chunked_found http_chunked_next(struct http_chunked *chunked, struct bytes *in, struct bytes *data);

#endif
