#include "protocol/gateway/json_slice.h"

static bool is_space(uint8_t c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static struct bytes from(struct bytes text, size_t at) { return bytes_of(text.data + at, text.size - at); }

/* Passes over white space and, if they are next, the `marks`. */
static struct bytes pass(struct bytes text, const char *marks)
{
    size_t at = 0;
    while (at < text.size && (is_space(text.data[at]) || (text.data[at] && strchr(marks, text.data[at]))))
        at++;
    return from(text, at);
}

/* Bytes of the value that `text` begins with. */
static size_t value_size(struct bytes text)
{
    size_t at = 0, depth = 0;
    do {
        uint8_t c = text.data[at++];
        if (c == '"') {
            while (at < text.size && text.data[at] != '"')
                at += text.data[at] == '\\' ? 2 : 1;
            at++;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        } else if (!depth) {   /* a number or a word */
            while (at < text.size && !is_space(text.data[at]) && !memchr(",]}", text.data[at], 3))
                at++;
        }
    } while (depth && at < text.size);
    return at < text.size ? at : text.size;
}

struct bytes json_slice_open(struct bytes array)
{
    array = pass(array, "");
    return array.size ? from(array, 1) : array;
}

bool json_slice_next(struct bytes *rest, struct bytes *element)
{
    *rest = pass(*rest, ",");
    if (!rest->size || rest->data[0] == ']')
        return false;
    *element = bytes_of(rest->data, value_size(*rest));
    *rest = from(*rest, element->size);
    return true;
}

bool json_slice_member(struct bytes object, const char *name, struct bytes *value)
{
    size_t size = strlen(name);
    for (struct bytes rest = pass(object, "{"); rest.size && rest.data[0] == '"'; rest = pass(rest, ",")) {
        size_t key = value_size(rest);
        bool found = key == size + 2 && memcmp(rest.data + 1, name, size) == 0;
        rest = pass(from(rest, key), ":");
        if (!rest.size)
            return false;
        struct bytes member = bytes_of(rest.data, value_size(rest));
        if (found) {
            *value = member;
            return true;
        }
        rest = from(rest, member.size);
    }
    return false;
}
