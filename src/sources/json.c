#include "sources/json.h"

#include "sources/text.h"

#define DIGITS_SAFE 18u              /* digits of a whole number that always fits */
#define EXPONENT_SAFE 2u             /* digits of an exponent that always does */

static json_t *load(struct bytes text) { return json_loadb((const char *)text.data, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL); }

static bool is_digit(struct bytes text, size_t at) { return at < text.size && text.data[at] >= '0' && text.data[at] <= '9'; }

static size_t digits_from(struct bytes text, size_t at)
{
    size_t count = 0;
    while (is_digit(text, at + count))
        count++;
    return count;
}

/* The size of the number at the beginning; 0: there is none. */
static size_t number_size(struct bytes text, bool *is_safe)
{
    size_t at = text.size && text.data[0] == '-', whole = digits_from(text, at), exponent = 0;
    bool is_whole = true;
    if (!whole || (whole > 1 && text.data[at] == '0'))
        return 0;
    at += whole;
    if (at < text.size && text.data[at] == '.') {
        size_t more = digits_from(text, at + 1);
        if (!more)
            return 0;
        at += 1 + more;
        is_whole = false;
    }
    if (at < text.size && (text.data[at] == 'e' || text.data[at] == 'E')) {
        at++;
        at += at < text.size && (text.data[at] == '+' || text.data[at] == '-');
        if (!(exponent = digits_from(text, at)))
            return 0;
        at += exponent;
        is_whole = false;
    }
    *is_safe = is_whole ? whole <= DIGITS_SAFE : whole < 100 && exponent <= EXPONENT_SAFE;
    return at;
}

/* Where the text that begins here ends. */
static size_t string_size(struct bytes text)
{
    size_t at = 1;
    while (at < text.size && text.data[at] != '"')
        at += text.data[at] == '\\' ? 2 : 1;
    return at < text.size ? at + 1 : text.size;
}

/* Puts numbers that may not fit between quotes. False: out of memory. */
static bool quote_numbers(struct bytes text, struct text *out, bool *any)
{
    for (size_t at = 0, size; at < text.size; at += size) {
        struct bytes left = bytes_of(text.data + at, text.size - at);
        bool is_safe = true, is_number = is_digit(left, 0) || left.data[0] == '-';
        size = is_number ? number_size(left, &is_safe) : left.data[0] == '"' ? string_size(left) : 1;
        if (!size)
            size = 1;
        *any |= !is_safe;
        if (!text_add(out, bytes_of("\"", !is_safe)) || !text_add(out, bytes_of(left.data, size)) || !text_add(out, bytes_of("\"", !is_safe)))
            return false;
    }
    return true;
}

json_t *json_read(struct bytes text)
{
    struct text quoted = {0};
    bool any = false;
    json_t *json = load(text);
    /* Lines that are none at all are many: they are told by how they begin. */
    bool may_be = text.size && strchr(" \t\r\n{[-0123456789", text.data[0]) && text.data[0];
    if (!json && may_be && quote_numbers(text, &quoted, &any) && any)
        json = load(text_bytes(&quoted));
    text_deinit(&quoted);
    return json;
}
