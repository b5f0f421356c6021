#include "broker/like.h"

static bool is_escape(struct bytes pattern, size_t at, uint8_t escape)
{
    return escape && pattern.data[at] == escape && at + 1 < pattern.size;
}

/* Where the run that begins at `p` ends; is it made of nothing but itself? */
static size_t run_end(struct bytes pattern, size_t p, uint8_t escape, bool *plain)
{
    *plain = true;
    while (p < pattern.size) {
        bool escaped = is_escape(pattern, p, escape);
        if (!escaped && pattern.data[p] == '%')
            break;
        *plain &= !escaped && pattern.data[p] != '_';
        p += 1 + escaped;
    }
    return p;
}

/* Does the run [p, end) of the pattern stand at *t? Then *t is behind it. */
static bool run_at(struct bytes text, size_t *t, struct bytes pattern, size_t p, size_t end, uint8_t escape)
{
    while (p < end) {
        bool escaped = is_escape(pattern, p, escape);
        if (*t == text.size)
            return false;
        if (!escaped && pattern.data[p] == '_') {
            do
                ++*t;
            while (*t < text.size && (text.data[*t] & 0xC0) == 0x80);
        } else if (text.data[(*t)++] != pattern.data[p + escaped]) {
            return false;
        }
        p += 1 + escaped;
    }
    return true;
}

/* The same somewhere from *t on; `last`: at the text's end. */
static bool run_behind(struct bytes text, size_t *t, struct bytes pattern, size_t p, size_t end, uint8_t escape, bool plain, bool last)
{
    size_t left = text.size - *t, size = end - p;
    if (plain && (size > left || !size)) {
        *t = last && !size ? text.size : *t;
        return !size;
    }
    if (plain && last) {
        *t = text.size;
        return memcmp(text.data + text.size - size, pattern.data + p, size) == 0;
    }
    if (plain) {
        const uint8_t *found = memmem(text.data + *t, left, pattern.data + p, size);
        if (found)
            *t = (size_t)(found - text.data) + size;
        return found;
    }
    for (size_t from = *t; from <= text.size; from++) {
        *t = from;
        if (run_at(text, t, pattern, p, end, escape) && (!last || *t == text.size))
            return true;
    }
    return false;
}

bool like_matches(struct bytes text, struct bytes pattern, uint8_t escape)
{
    size_t t = 0, p = 0;
    for (bool first = true;; first = false) {
        bool plain;
        size_t end = run_end(pattern, p, escape, &plain);
        bool last = end == pattern.size;
        if (first ? !run_at(text, &t, pattern, p, end, escape) : !run_behind(text, &t, pattern, p, end, escape, plain, last))
            return false;
        if (last)
            return t == text.size;
        p = end + 1;
    }
}

size_t like_slow_bytes(struct bytes pattern, uint8_t escape)
{
    size_t bytes = 0;
    bool plain;
    for (size_t end = run_end(pattern, 0, escape, &plain); end < pattern.size;) {
        size_t begin = end + 1;
        end = run_end(pattern, begin, escape, &plain);
        bytes += plain ? 0 : end - begin;
    }
    return bytes;
}
