#include "broker/writer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_CAPACITY 256u

void writer_init(struct writer *writer) { *writer = (struct writer){0}; }

void writer_deinit(struct writer *writer)
{
    free(writer->text);
    *writer = (struct writer){0};
}

/* Room for `size` more bytes; NULL: there is no memory. */
static char *reserve(struct writer *writer, size_t size)
{
    if (writer->failed)
        return NULL;
    if (writer->capacity - writer->size < size) {
        size_t capacity = writer->capacity ? writer->capacity * 2 : FIRST_CAPACITY;
        while (capacity - writer->size < size)
            capacity *= 2;
        char *text = realloc(writer->text, capacity);
        if (!text) {
            writer->failed = true;
            return NULL;
        }
        writer->text = text;
        writer->capacity = capacity;
    }
    return writer->text + writer->size;
}

static void append(struct writer *writer, const void *data, size_t size)
{
    char *at = size ? reserve(writer, size) : NULL;
    if (!at)
        return;
    memcpy(at, data, size);
    writer->size += size;
}

static void separate(struct writer *writer)
{
    if (writer->comma)
        append(writer, ",", 1);
    writer->comma = true;
}

void writer_open(struct writer *writer, char bracket)
{
    separate(writer);
    append(writer, &bracket, 1);
    writer->comma = false;
}

void writer_close(struct writer *writer, char bracket)
{
    append(writer, &bracket, 1);
    writer->comma = true;
}

/* Bytes of the UTF-8 character that begins there; 0: there is none. */
static size_t character_size(const uint8_t *at, size_t left)
{
    if (at[0] < 0x80)
        return 1;
    size_t size = at[0] >= 0xF0 && at[0] <= 0xF4 ? 4 : at[0] >= 0xE0 && at[0] < 0xF0 ? 3 : at[0] >= 0xC2 && at[0] < 0xE0 ? 2 : 0;
    if (!size || size > left)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    /* Longer than it need be, a surrogate, or above U+10FFFF. */
    if ((at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F) || (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F))
        return 0;
    return size;
}

static bool is_utf8(struct bytes text)
{
    for (size_t i = 0; i < text.size;) {
        size_t size = character_size(text.data + i, text.size - i);
        if (!size)
            return false;
        i += size;
    }
    return true;
}

/* One byte of a string that is not plain; at most 6 characters. */
static size_t escape(char *at, uint8_t byte, bool latin)
{
    switch (byte) {
    case '"': return (size_t)sprintf(at, "\\\"");
    case '\\': return (size_t)sprintf(at, "\\\\");
    case '\n': return (size_t)sprintf(at, "\\n");
    case '\r': return (size_t)sprintf(at, "\\r");
    case '\t': return (size_t)sprintf(at, "\\t");
    default: break;
    }
    if (byte < 0x20)
        return (size_t)sprintf(at, "\\u%04x", byte);
    if (latin && byte >= 0x80) {
        at[0] = (char)(0xC0 | byte >> 6);
        at[1] = (char)(0x80 | (byte & 0x3F));
        return 2;
    }
    at[0] = (char)byte;
    return 1;
}

static void quoted(struct writer *writer, struct bytes value)
{
    bool latin = !is_utf8(value);
    char *at = reserve(writer, value.size * 6 + 2);
    if (!at)
        return;
    char *begin = at;
    *at++ = '"';
    for (size_t i = 0; i < value.size; i++) {
        uint8_t byte = value.data[i];
        if (LIKELY(byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\'))
            *at++ = (char)byte;
        else
            at += escape(at, byte, latin);
    }
    *at++ = '"';
    writer->size += (size_t)(at - begin);
}

void writer_key(struct writer *writer, struct bytes key)
{
    separate(writer);
    quoted(writer, key);
    append(writer, ":", 1);
    writer->comma = false;
}

void writer_string(struct writer *writer, struct bytes value)
{
    separate(writer);
    quoted(writer, value);
}

static void plain(struct writer *writer, const char *text)
{
    separate(writer);
    append(writer, text, strlen(text));
}

void writer_integer(struct writer *writer, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    plain(writer, text);
}

void writer_real(struct writer *writer, double value)
{
    char text[40];
    if (!isfinite(value)) {
        writer_null(writer);
        return;
    }
    snprintf(text, sizeof(text), "%.15g", value);
    if (strtod(text, NULL) != value)
        snprintf(text, sizeof(text), "%.17g", value);
    if (!strpbrk(text, ".e"))
        strcat(text, ".0");
    plain(writer, text);
}

void writer_boolean(struct writer *writer, bool value) { plain(writer, value ? "true" : "false"); }
void writer_null(struct writer *writer) { plain(writer, "null"); }

void writer_json(struct writer *writer, struct bytes json)
{
    if (!json.size)
        return;
    separate(writer);
    append(writer, json.data, json.size);
}

bool writer_text(const struct writer *writer, struct bytes *text)
{
    *text = bytes_of(writer->text, writer->size);
    return !writer->failed;
}

/* ---- a key and its value ------------------------------------------------------------------------------------------- */

void writer_put_string(struct writer *writer, const char *key, struct bytes value)
{
    writer_key(writer, bytes_of_text(key));
    writer_string(writer, value);
}

void writer_put_text(struct writer *writer, const char *key, const char *value) { writer_put_string(writer, key, bytes_of_text(value)); }

void writer_put_integer(struct writer *writer, const char *key, int64_t value)
{
    writer_key(writer, bytes_of_text(key));
    writer_integer(writer, value);
}

void writer_put_boolean(struct writer *writer, const char *key, bool value)
{
    writer_key(writer, bytes_of_text(key));
    writer_boolean(writer, value);
}

void writer_put_json(struct writer *writer, const char *key, struct bytes json)
{
    writer_key(writer, bytes_of_text(key));
    writer_json(writer, json);
}

void writer_put_open(struct writer *writer, const char *key, char bracket)
{
    writer_key(writer, bytes_of_text(key));
    writer_open(writer, bracket);
}
