#include "bus/event_type.h"

static struct bytes next_word(struct bytes *rest)
{
    const uint8_t *dot = rest->size ? memchr(rest->data, '.', rest->size) : NULL;
    struct bytes word = bytes_of(rest->data, dot ? (size_t)(dot - rest->data) : rest->size);
    *rest = dot ? bytes_of(dot + 1, rest->size - word.size - 1) : (struct bytes){0};
    return word;
}

/* What # took is given one word more where the rest does not fit: no more than words times words. `data` NULL: there are no words left. */
bool event_type_fits(struct bytes type, struct bytes pattern)
{
    struct bytes after = {0}, taken = {0};
    bool many = false;
    for (;;) {
        if (!pattern.data && !type.data)
            return true;
        struct bytes rest = pattern, word = pattern.data ? next_word(&rest) : (struct bytes){0};
        if (pattern.data && word.size == 1 && word.data[0] == '#') {
            many = true;
            after = pattern = rest;
            taken = type;
            continue;
        }
        struct bytes type_rest = type, type_word = type.data ? next_word(&type_rest) : (struct bytes){0};
        if (pattern.data && type.data && ((word.size == 1 && word.data[0] == '*') || bytes_equal(word, type_word))) {
            pattern = rest;
            type = type_rest;
            continue;
        }
        if (!many || !taken.data)
            return false;
        next_word(&taken);
        type = taken;
        pattern = after;
    }
}
