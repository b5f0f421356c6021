/* Writes JSON text from the front to the back, into memory that grows: for answers of any size, of which no tree is ever held.
 *
 * In an object every value is preceded by writer_key. Running out of memory is remembered, not told each time: writer_text says so at the end. */
#ifndef BROKER_WRITER_H
#define BROKER_WRITER_H

#include "base/bytes.h"
#include "base/err.h"

struct writer {
    char *text;
    size_t size, capacity;
    bool comma;              /* the next value or key is not the first of its object or array */
    bool failed;
};

void writer_init(struct writer *writer);
void writer_deinit(struct writer *writer);

/* '{' or '[', and their ends. */
void writer_open(struct writer *writer, char bracket);
void writer_close(struct writer *writer, char bracket);

void writer_key(struct writer *writer, struct bytes key);

/* Bytes need not be UTF-8: where they are not, each is written as the character of that number (Latin-1). */
void writer_string(struct writer *writer, struct bytes value);
void writer_integer(struct writer *writer, int64_t value);
/* So that reading it gives the same number again, and always with a fraction or an exponent; null for what JSON has no number for. */
void writer_real(struct writer *writer, double value);
void writer_boolean(struct writer *writer, bool value);
void writer_null(struct writer *writer);
/* Text that is JSON already: one value, or several separated by commas; nothing when empty. */
void writer_json(struct writer *writer, struct bytes json);

/* The text so far, borrowed from the writer; false: there was no memory for it. */
bool writer_text(const struct writer *writer, struct bytes *text);

/* A key and its value. */
void writer_put_string(struct writer *writer, const char *key, struct bytes value);
void writer_put_text(struct writer *writer, const char *key, const char *value);
void writer_put_integer(struct writer *writer, const char *key, int64_t value);
void writer_put_boolean(struct writer *writer, const char *key, bool value);
void writer_put_json(struct writer *writer, const char *key, struct bytes json);
void writer_put_open(struct writer *writer, const char *key, char bracket);

#endif
