/* The frames of a publish: its method, its header, and as many frames of body as it needs. */
#ifndef CLIENT_PUBLISH_FRAMES_H
#define CLIENT_PUBLISH_FRAMES_H

#include "client/remote_buffer.h"

struct publish_frames {
    uint16_t channel;
    uint32_t frame_max;              /* bytes */
    bool mandatory;
    struct bytes exchange, routing_key;
    struct bytes properties;         /* encoded */
    struct bytes body;
};

/* Adds them to `out`, all or none. Errors: GW_ERR_NOMEM; GW_ERR_LIMIT: the properties are larger than a frame; GW_ERR_INVALID: the exchange or the routing key is
 * longer than 255 bytes. */
enum gw_err publish_frames_add(struct remote_buffer *out, const struct publish_frames *publish);

#endif
