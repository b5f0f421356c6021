#include "sources/text.h"

#define TEXT_FIRST 256u

bool text_add(struct text *text, struct bytes more)
{
    if (!more.size)
        return true;
    if (more.size > text->capacity - text->size) {
        size_t capacity = text->capacity ? text->capacity : TEXT_FIRST;
        while (capacity - text->size < more.size) {
            if (capacity > SIZE_MAX / 2)
                return false;
            capacity *= 2;
        }
        uint8_t *grown = realloc(text->data, capacity);
        if (!grown)
            return false;
        text->data = grown;
        text->capacity = capacity;
    }
    memcpy(text->data + text->size, more.data, more.size);
    text->size += more.size;
    return true;
}

/* How many bytes a sequence has that begins here, and whether they are one: what is none has the length of its maximal part. */
static size_t sequence(const uint8_t *at, size_t left, bool *valid)
{
    uint8_t first = at[0], low = 0x80, high = 0xbf;
    size_t size = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    *valid = false;
    if (size == 0)
        return 1;
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f;
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < size; i++) {
        if (i >= left || at[i] < low || at[i] > high)
            return i;
        low = 0x80;
        high = 0xbf;
    }
    *valid = true;
    return size;
}

bool text_add_utf8(struct text *text, struct bytes more)
{
    size_t begin = 0, at = 0, before = text->size;
    if (!more.size)
        return true;
    while (at < more.size) {
        bool valid;
        size_t size = sequence(more.data + at, more.size - at, &valid);
        if (!valid) {
            if (!text_add(text, bytes_of(more.data + begin, at - begin)) || !text_add(text, bytes_of("\xef\xbf\xbd", 3)))
                goto err_after_some;
            begin = at + size;
        }
        at += size;
    }
    if (text_add(text, bytes_of(more.data + begin, at - begin)))
        return true;

err_after_some:
    text->size = before;
    return false;
}

void text_clear(struct text *text, size_t keep)
{
    text->size = 0;
    if (text->capacity > keep)
        text_deinit(text);
}

void text_deinit(struct text *text)
{
    free(text->data);
    *text = (struct text){0};
}

void utf8_mend(char *text)
{
    for (size_t at = 0, left = strlen(text), size; left; at += size, left -= size) {
        bool valid;
        size = sequence((const uint8_t *)text + at, left, &valid);
        if (!valid || (uint8_t)text[at] < 0x20 || text[at] == 0x7f)
            memset(text + at, '?', size);
    }
}

bool utf8_is_valid(struct bytes bytes)
{
    bool valid = true;
    for (size_t at = 0; at < bytes.size && valid;)
        at += sequence(bytes.data + at, bytes.size - at, &valid);
    return valid;
}
