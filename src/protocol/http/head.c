#include "protocol/http/head.h"

#include "protocol/http/request.h"

static enum http_head_state bad(struct http_head *head, unsigned status, const char *why)
{
    head->status = status;
    head->why = why;
    return HTTP_HEAD_BAD;
}

/* What a byte may be part of: a token (RFC 9110 section 5.6.2); what has neither control characters nor spaces; what has no control character but the tab. */
enum kind { TOKEN = 1, VISIBLE = 2, PRINTABLE = 4 };

static const uint8_t kinds[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    4, 7, 6, 7, 7, 7, 7, 7, 6, 6, 7, 7, 6, 7, 7, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6,
    6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 6, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 7, 6, 7, 0,
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6,
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6,
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6,
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6,
};

#define EACH 0x0101010101010101u

/* Is one of eight bytes below `lowest`, or 127? */
static bool is_doubtful(uint64_t eight, uint8_t lowest)
{
    uint64_t low = (eight - EACH * lowest) & ~eight, other = eight ^ EACH * 0x7f, last = (other - EACH) & ~other;
    return (low | last) & EACH * 0x80;
}

static bool is_all(struct bytes text, enum kind kind)
{
    uint8_t lowest = kind == VISIBLE ? ' ' + 1 : ' ';
    for (size_t i = 0; i < text.size; i++) {
        while (kind != TOKEN && i + 8 < text.size && !is_doubtful(load_le64(text.data + i), lowest))
            i += 8;
        if (!(kinds[text.data[i]] & kind))
            return false;
    }
    return true;
}

bool http_is_token(uint8_t c) { return kinds[c] & TOKEN; }
static bool is_token(struct bytes text) { return text.size > 0 && is_all(text, TOKEN); }

static struct bytes up_to(struct bytes *line, uint8_t separator)
{
    const uint8_t *at = memchr(line->data, separator, line->size);
    if (!at)
        return (struct bytes){0};
    struct bytes before = bytes_of(line->data, (size_t)(at - line->data));
    *line = bytes_of(at + 1, line->size - before.size - 1);
    return before;
}

/* What the lines have said of the body and of the host. */
struct framing {
    bool old;                /* HTTP/1.0 */
    unsigned hosts, lengths, encodings;
};

static const char *request_line(struct bytes line, struct framing *framing, unsigned *status)
{
    struct bytes method = up_to(&line, ' '), target = up_to(&line, ' ');
    *status = 400;
    if (!is_token(method) || !target.size || !is_all(target, VISIBLE) || !line.size)
        return "The first line must be a method, a target and a version with one space between them.";
    if (line.size != 8 || memcmp(line.data, "HTTP/", 5) != 0 || line.data[6] != '.')
        return "The first line does not end with a version of HTTP.";
    if (line.data[5] != '1' || (line.data[7] != '0' && line.data[7] != '1')) {
        *status = 505;
        return "This server speaks HTTP/1.0, HTTP/1.1 and HTTP/2.";
    }
    framing->old = line.data[7] == '0';
    return NULL;
}

static const char *field_line(struct bytes line, struct framing *framing, unsigned *status)
{
    *status = 400;
    if (line.data[0] == ' ' || line.data[0] == '\t')
        return "A header line must not be folded.";
    struct bytes name = up_to(&line, ':');
    if (!is_token(name))
        return "A header line must be a token, a colon and a value, without a space before the colon.";
    if (!is_all(line, PRINTABLE))
        return "A header's value must not contain control characters.";
    struct bytes value = line;
    while (value.size && (value.data[0] == ' ' || value.data[0] == '\t'))
        value = bytes_of(value.data + 1, value.size - 1);
    while (value.size && (value.data[value.size - 1] == ' ' || value.data[value.size - 1] == '\t'))
        value.size--;
    if (http_name_is(name, "host")) {
        framing->hosts++;
        if (value.size && !http_is_authority(value))
            return "The Host header is not a host.";
    } else if (http_name_is(name, "content-length")) {
        uint64_t length;
        if (framing->lengths++ || !http_number(value, &length))
            return "Content-Length must be one number.";
    } else if (http_name_is(name, "transfer-encoding")) {
        if (framing->encodings++ || !http_name_is(value, "chunked")) {
            *status = 501;
            return "No transfer encoding is understood but chunked, once.";
        }
    }
    return NULL;
}

static enum http_head_state judge(struct bytes lines, size_t size, struct http_head *head)
{
    struct framing framing = {0};
    unsigned status = 400;
    bool first = true;
    head->fields = 0;
    while (lines.size > 2) {   /* the empty line is left out */
        const uint8_t *end = memchr(lines.data, '\n', lines.size);
        struct bytes line = bytes_of(lines.data, (size_t)(end - lines.data));
        lines = bytes_of(end + 1, lines.size - line.size - 1);
        if (!line.size || line.data[line.size - 1] != '\r')
            return bad(head, 400, "Lines must end with CR and LF.");
        line.size--;
        if (line.size && memchr(line.data, '\r', line.size))
            return bad(head, 400, "A CR must be followed by a LF.");
        const char *why = first ? request_line(line, &framing, &status) : field_line(line, &framing, &status);
        if (why)
            return bad(head, status, why);
        head->fields += !first;
        first = false;
    }
    if (framing.hosts > 1 || (!framing.hosts && !framing.old))
        return bad(head, 400, "A request must have one Host header.");
    if (framing.encodings && (framing.lengths || framing.old))
        return bad(head, 400, framing.old ? "HTTP/1.0 has no Transfer-Encoding." : "Content-Length and Transfer-Encoding exclude each other.");
    head->size = size;
    return HTTP_HEAD_WHOLE;
}

enum http_head_state http_head_look(struct bytes in, struct http_head *head)
{
    size_t begin = 0;
    while (begin + 2 <= in.size && begin < 4 && in.data[begin] == '\r' && in.data[begin + 1] == '\n')
        begin += 2;   /* an empty line or two before a request are passed over, RFC 9112 section 2.2 */
    size_t most = in.size < HTTP_HEAD_MAX ? in.size : HTTP_HEAD_MAX;
    for (size_t at = head->seen > begin + 3 ? head->seen - 3 : begin; at + 4 <= most; at++) {
        const uint8_t *next = memchr(in.data + at, '\n', most - at);
        if (!next)
            break;
        at = (size_t)(next - in.data);
        if (at + 1 < most && in.data[at + 1] == '\n')
            return bad(head, 400, "Lines must end with CR and LF.");
        if (at + 2 < most && in.data[at + 1] == '\r' && in.data[at + 2] == '\n')
            return judge(bytes_of(in.data + begin, at + 3 - begin), at + 3, head);
    }
    if (in.size >= HTTP_HEAD_MAX)
        return bad(head, 431, "The request's head is longer than 65536 bytes.");
    /* Another protocol's first bytes are told apart before a line of them is whole, which it may never be. */
    if (begin < in.size && in.data[begin] != '\r' && !http_is_token(in.data[begin]))
        return bad(head, 400, "This is no HTTP.");
    head->seen = in.size;
    return HTTP_HEAD_MORE;
}
