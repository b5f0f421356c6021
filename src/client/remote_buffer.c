#include "client/remote_buffer.h"

#include <stdlib.h>

#define FIRST_CAPACITY 4096u

void remote_buffer_deinit(struct remote_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct remote_buffer){0};
}

enum gw_err remote_buffer_reserve(struct remote_buffer *buffer, size_t size)
{
    size_t held = remote_buffer_size(buffer);
    if (buffer->capacity - buffer->end >= size)
        return GW_OK;
    if (buffer->begin > 0 && buffer->capacity - held >= size && held <= buffer->capacity / 2) {
        memmove(buffer->data, buffer->data + buffer->begin, held);
        buffer->begin = 0;
        buffer->end = held;
        return GW_OK;
    }
    size_t needed, capacity = buffer->capacity ? buffer->capacity : FIRST_CAPACITY;
    if (__builtin_add_overflow(held, size, &needed) || needed > SIZE_MAX / 4)
        return GW_ERR_NOMEM;
    while (capacity < needed)
        capacity *= 2;
    uint8_t *data = malloc(capacity);
    if (!data)
        return GW_ERR_NOMEM;
    if (held)
        memcpy(data, buffer->data + buffer->begin, held);
    free(buffer->data);
    *buffer = (struct remote_buffer){data, 0, held, capacity};
    return GW_OK;
}

enum gw_err remote_buffer_add(struct remote_buffer *buffer, struct bytes bytes)
{
    enum gw_err err = remote_buffer_reserve(buffer, bytes.size);
    if (err)
        return err;
    if (bytes.size)
        memcpy(buffer->data + buffer->end, bytes.data, bytes.size);
    buffer->end += bytes.size;
    return GW_OK;
}

void remote_buffer_take(struct remote_buffer *buffer, size_t size)
{
    CHECK(size <= remote_buffer_size(buffer));
    buffer->begin += size;
    if (buffer->begin == buffer->end)
        buffer->begin = buffer->end = 0;
}

void remote_buffer_clear(struct remote_buffer *buffer)
{
    buffer->begin = buffer->end = 0;
}
