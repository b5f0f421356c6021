#include "protocol/http/chunked.h"

#include "protocol/http/head.h"

#define SIZE_DIGITS_MAX 16u
#define AROUND_PER_BYTE 16u

enum {
    SIZE,            /* digits, or what is behind them */
    EXTENSION,
    SIZE_LF,         /* a CR has come */
    DATA,
    DATA_CR,
    DATA_LF,
    LINE,            /* the beginning of a trailer, or the end */
    NAME,
    VALUE,
    VALUE_LF,
    END_LF,
};

static enum http_chunked_found bad(struct http_chunked *chunked, const char *why)
{
    chunked->why = why;
    return HTTP_CHUNKED_BAD;
}

static int hex(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

static bool is_control(uint8_t c) { return (c < ' ' && c != '\t') || c == 127; }

static enum http_chunked_found take_size(struct http_chunked *chunked, uint8_t c)
{
    int digit = hex(c);
    if (digit >= 0) {
        if (++chunked->digits > SIZE_DIGITS_MAX || chunked->left >> 59)
            return bad(chunked, "A chunk's size is too long.");
        chunked->left = chunked->left << 4 | (unsigned)digit;
    } else if (!chunked->digits || (c != '\r' && c != ';')) {
        return bad(chunked, "A chunk must begin with its size in hexadecimal digits.");
    } else {
        chunked->state = c == '\r' ? SIZE_LF : EXTENSION;
    }
    return HTTP_CHUNKED_MORE;
}

/* A LF must come where a CR has. */
static enum http_chunked_found take_lf(struct http_chunked *chunked, uint8_t c, uint8_t next)
{
    if (c != '\n')
        return bad(chunked, "A CR must be followed by a LF.");
    chunked->state = next;
    return HTTP_CHUNKED_MORE;
}

static enum http_chunked_found take_text(struct http_chunked *chunked, uint8_t c, uint8_t next)
{
    if (c == '\r')
        chunked->state = next;
    else if (is_control(c))
        return bad(chunked, "A chunk's extensions and trailers must not contain control characters, and end with CR and LF.");
    return HTTP_CHUNKED_MORE;
}

static enum http_chunked_found take_line(struct http_chunked *chunked, uint8_t c)
{
    if (c == '\r')
        chunked->state = END_LF;
    else if (!http_is_token(c))
        return bad(chunked, "A trailer must be a token, a colon and a value, and not folded.");
    else
        chunked->state = NAME;
    return HTTP_CHUNKED_MORE;
}

static enum http_chunked_found take_name(struct http_chunked *chunked, uint8_t c)
{
    if (c != ':' && !http_is_token(c))
        return bad(chunked, "A trailer must be a token, a colon and a value, without a space before the colon.");
    chunked->state = c == ':' ? VALUE : NAME;
    return HTTP_CHUNKED_MORE;
}

static enum http_chunked_found take(struct http_chunked *chunked, uint8_t c)
{
    switch (chunked->state) {
    case SIZE: return take_size(chunked, c);
    case EXTENSION: return take_text(chunked, c, SIZE_LF);
    case SIZE_LF:
        chunked->last = !chunked->left;
        chunked->digits = 0;
        return take_lf(chunked, c, chunked->last ? LINE : DATA);
    case DATA_CR:
        if (c != '\r')
            return bad(chunked, "A chunk is longer than its size.");
        chunked->state = DATA_LF;
        return HTTP_CHUNKED_MORE;
    case DATA_LF: return take_lf(chunked, c, SIZE);
    case LINE: return take_line(chunked, c);
    case NAME: return take_name(chunked, c);
    case VALUE: return take_text(chunked, c, VALUE_LF);
    case VALUE_LF: return take_lf(chunked, c, LINE);
    default: return c == '\n' ? HTTP_CHUNKED_END : bad(chunked, "A CR must be followed by a LF.");
    }
}

enum http_chunked_found http_chunked_next(struct http_chunked *chunked, struct bytes *in, struct bytes *data)
{
    while (in->size) {
        if (chunked->state == DATA) {
            size_t size = chunked->left < in->size ? (size_t)chunked->left : in->size;
            *data = bytes_of(in->data, size);
            *in = bytes_of(in->data + size, in->size - size);
            chunked->left -= size;
            chunked->data += size;
            if (!chunked->left)
                chunked->state = DATA_CR;
            return HTTP_CHUNKED_DATA;
        }
        if (++chunked->around > HTTP_HEAD_MAX + AROUND_PER_BYTE * chunked->data)
            return bad(chunked, "There is too much around the chunks of the body.");
        enum http_chunked_found found = take(chunked, in->data[0]);
        *in = bytes_of(in->data + 1, in->size - 1);
        if (found != HTTP_CHUNKED_MORE)
            return found;
    }
    return HTTP_CHUNKED_MORE;
}
