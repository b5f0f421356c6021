/* Bytes on their way to or from a broker: filled at the end, taken from the beginning, growing up to a limit. */
#ifndef CLIENT_REMOTE_BUFFER_H
#define CLIENT_REMOTE_BUFFER_H

#include "base/bytes.h"
#include "base/err.h"

struct remote_buffer {
    uint8_t *data;
    size_t begin, end, capacity;   /* what is held: data[begin..end) */
};

/* A zeroed buffer is an empty one. */
void remote_buffer_deinit(struct remote_buffer *buffer);

static inline size_t remote_buffer_size(const struct remote_buffer *buffer)
{
    return buffer->end - buffer->begin;
}

static inline struct bytes remote_buffer_bytes(const struct remote_buffer *buffer)
{
    return buffer->data ? bytes_of(buffer->data + buffer->begin, buffer->end - buffer->begin) : (struct bytes){0};
}

/* Makes room for `size` bytes after the end; what is held may move. Errors: GW_ERR_NOMEM. */
enum gw_err remote_buffer_reserve(struct remote_buffer *buffer, size_t size);

/* Adds a copy of `bytes`. Errors: GW_ERR_NOMEM. */
enum gw_err remote_buffer_add(struct remote_buffer *buffer, struct bytes bytes);

/* Forgets the first `size` bytes. */
void remote_buffer_take(struct remote_buffer *buffer, size_t size);

void remote_buffer_clear(struct remote_buffer *buffer);

#endif
