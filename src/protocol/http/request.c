#include "protocol/http/request.h"

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 32) : c; }

bool http_name_same(const uint8_t *name, const char *lower_case, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (name[i] != (uint8_t)lower_case[i] && lower(name[i]) != (uint8_t)lower_case[i])
            return false;
    return true;
}

bool http_field_search(const struct http_request *request, const char *name, size_t size, struct bytes *value)
{
    for (unsigned i = 0; i < request->field_count; i++)
        if (request->fields[i].name.size == size && http_name_same(request->fields[i].name.data, name, size)) {
            *value = request->fields[i].value;
            return true;
        }
    return false;
}

static struct bytes trimmed(struct bytes text)
{
    while (text.size && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.size--;
    }
    while (text.size && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* Cuts `rest` at the first `separator`: what lies before it. */
static struct bytes cut(struct bytes *rest, uint8_t separator)
{
    const uint8_t *at = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
    struct bytes before = bytes_of(rest->data, at ? (size_t)(at - rest->data) : rest->size);
    *rest = at ? bytes_of(at + 1, rest->size - before.size - 1) : (struct bytes){0};
    return before;
}

bool http_field_has(const struct http_request *request, const char *name, const char *word)
{
    if (request->names && !(request->names & http_name_bit(name, strlen(name))))
        return false;
    for (unsigned i = 0; i < request->field_count; i++) {
        if (!http_name_is(request->fields[i].name, name))
            continue;
        for (struct bytes rest = request->fields[i].value; rest.size;) {
            struct bytes item = cut(&rest, ',');
            if (http_name_is(trimmed(cut(&item, ';')), word))
                return true;
        }
    }
    return false;
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool http_decode(struct bytes in, bool plus, uint8_t *room, struct bytes *out)
{
    uint8_t *at = room;
    for (size_t i = 0; i < in.size; i++) {
        uint8_t c = in.data[i];
        if (c == '%') {
            int high = i + 2 < in.size ? hex(in.data[i + 1]) : -1, low = i + 2 < in.size ? hex(in.data[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0))
                return false;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        *at++ = c;
    }
    *out = bytes_of(room, (size_t)(at - room));
    return true;
}

bool http_query_next(struct bytes *rest, struct bytes *name, struct bytes *value)
{
    while (rest->size) {
        struct bytes pair = cut(rest, '&');
        if (!pair.size)
            continue;
        *name = cut(&pair, '=');
        *value = pair;
        return true;
    }
    return false;
}

bool http_path_next(struct bytes *rest, struct bytes *segment)
{
    if (!rest->size || rest->data[0] != '/')
        return false;
    *rest = bytes_of(rest->data + 1, rest->size - 1);
    const uint8_t *at = rest->size ? memchr(rest->data, '/', rest->size) : NULL;
    *segment = bytes_of(rest->data, at ? (size_t)(at - rest->data) : rest->size);
    *rest = bytes_of(rest->data + segment->size, rest->size - segment->size);
    return true;
}

bool http_is_authority(struct bytes text)
{
    size_t at = 0;
    if (text.size && text.data[0] == '[') {   /* what is in the brackets is for whoever connects to it to judge */
        for (at = 1; at < text.size && (hex(text.data[at]) >= 0 || text.data[at] == ':' || text.data[at] == '.'); at++)
            ;
        if (at < 3 || at == text.size || text.data[at] != ']')
            return false;
        at++;
    }
    size_t host = at;
    for (; at < text.size && text.data[at] != ':'; at++) {
        uint8_t c = lower(text.data[at]);
        if (host || !c || !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._~%!$&'()*+;=", c)))
            return false;
    }
    if (!at || at == text.size)
        return at;
    uint64_t port = 0;
    struct bytes digits = bytes_of(text.data + at + 1, text.size - at - 1);
    return !digits.size || (http_number(digits, &port) && port <= UINT16_MAX);
}

bool http_target_split(struct bytes target, struct bytes *authority, struct bytes *path, struct bytes *query)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (unsigned i = 0; i < 2; i++) {
        size_t size = strlen(schemes[i]);
        if (target.size < size || !http_name_is(bytes_of(target.data, size), schemes[i]))
            continue;
        struct bytes rest = bytes_of(target.data + size, target.size - size);
        size_t end = 0;
        while (end < rest.size && rest.data[end] != '/' && rest.data[end] != '?')
            end++;
        *authority = bytes_of(rest.data, end);
        target = bytes_of(rest.data + end, rest.size - end);
        if (!http_is_authority(*authority))
            return false;
        if (!target.size || target.data[0] == '?') {   /* no path is the root */
            *path = bytes_of_text("/");
            *query = target.size ? bytes_of(target.data + 1, target.size - 1) : (struct bytes){0};
            return true;
        }
    }
    if (!target.size || memchr(target.data, '#', target.size) || (target.data[0] != '/' && !(target.size == 1 && target.data[0] == '*')))
        return false;
    *query = target;
    *path = cut(query, '?');
    return true;
}

bool http_number(struct bytes text, uint64_t *number)
{
    uint64_t found = 0;
    if (!text.size || text.size > 19)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        found = found * 10 + (text.data[i] - '0');
    }
    *number = found;
    return true;
}
