/* The head of an HTTP/1 request, before a parser sees it: where it ends, and whether every recipient on the way would read it the same. Parsers forgive what
 * proxies in front of them read otherwise, and that difference is how requests are smuggled; so what leaves room for two readings is refused here
 * (RFC 9112 sections 2.2, 3, 5 and 6; RFC 9110 section 5.5).
 *
 * Refused: a bare CR or LF, NUL and other control characters, names that are no tokens or have a space behind them, folded lines, a request line that is not
 * three words with one space between them, no Host or two of them in HTTP/1.1, a Host that is none, Transfer-Encoding together with Content-Length or in HTTP/1.0 or other
 * than "chunked" alone, a Content-Length that is not one number. */
#ifndef PROTOCOL_HTTP_HEAD_H
#define PROTOCOL_HTTP_HEAD_H

#include "base/bytes.h"

#define HTTP_HEAD_MAX 65536u   /* bytes, the empty line included */

enum http_head_state { HTTP_HEAD_MORE, HTTP_HEAD_WHOLE, HTTP_HEAD_BAD };

struct http_head {
    size_t size;             /* WHOLE: bytes of it, the empty line included */
    unsigned fields;         /* WHOLE: lines behind the first */
    size_t seen;             /* MORE: bytes that need not be looked at again when more has come; 0 at first */
    unsigned status;         /* BAD: 400, 431, 501 or 505 … */
    const char *why;         /* … and a sentence that says why */
};

/* A character of a token (RFC 9110 section 5.6.2). */
bool http_is_token(uint8_t c);

/* `in` begins where the request does. */
enum http_head_state http_head_look(struct bytes in, struct http_head *head);

#endif
