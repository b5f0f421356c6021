#include "client/publish_frames.h"

#include "protocol/amqp/methods.h"

#define METHOD_FRAME_MAX 600u    /* two short strings and what is around them */

enum gw_err publish_frames_add(struct remote_buffer *out, const struct publish_frames *publish)
{
    struct bytes body = publish->body, properties = publish->properties;
    size_t frame_body = publish->frame_max - AMQP_FRAME_OVERHEAD;
    if (properties.size + AMQP_CONTENT_HEADER_SIZE > frame_body)
        return GW_ERR_LIMIT;
    size_t frames = body.size / frame_body + 1;
    size_t room = METHOD_FRAME_MAX + AMQP_CONTENT_HEADER_SIZE + properties.size + 2 * AMQP_FRAME_OVERHEAD + body.size + frames * AMQP_FRAME_OVERHEAD;
    if (remote_buffer_reserve(out, room))
        return GW_ERR_NOMEM;
    uint8_t *at = out->data + out->end;
    size_t size = amqp_publish_frame(at, room, publish->channel, publish->exchange, publish->routing_key, publish->mandatory);
    if (size == 0)
        return GW_ERR_INVALID;
    at = amqp_content_header_write(at + size, publish->channel, body.size, properties);
    while (body.size > 0) {
        size = body.size < frame_body ? body.size : frame_body;
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, publish->channel, (uint32_t)size);
        memcpy(at, body.data, size);
        at[size] = AMQP_FRAME_END;
        at += size + 1;
        body = bytes_of(body.data + size, body.size - size);
    }
    out->end = (size_t)(at - out->data);
    return GW_OK;
}
