/* What a broker says, one frame after the other. */
#include "client/control.h"
#include "client/remote_state.h"

#include <sys/socket.h>

static enum gw_err no_memory(struct remote *remote)
{
    return remote_fail(remote, GW_ERR_NOMEM, "out of memory");
}

static enum gw_err malformed(struct remote *remote, const char *what)
{
    remote_lose(remote);
    return remote_fail(remote, GW_ERR_CLOSED, "the broker does not keep to AMQP 0-9-1: %s", what);
}

static enum gw_err refusal(struct remote *remote, const char *closed, uint64_t code, struct bytes text)
{
    remote->reply_code = (unsigned)code;
    remote_fail(remote, GW_ERR_INVALID, "the broker closed the %s: %u %.*s", closed, remote->reply_code, (int)text.size,
                (const char *)text.data);
    switch (code) {
    case 404: return GW_ERR_NOT_FOUND;
    case 403: return GW_ERR_PERMISSION;
    case 405: return GW_ERR_BUSY;
    default: return GW_ERR_INVALID;
    }
}

static enum gw_err on_connection_method(struct remote *remote, const struct amqp_method *method)
{
    switch (method->row->id) {
    case AMQP_CONNECTION_CLOSE: {
        enum gw_err err = refusal(remote, "connection", method->values[AMQP_CONNECTION_CLOSE_REPLY_CODE].number,
                                  method->values[AMQP_CONNECTION_CLOSE_REPLY_TEXT].bytes);
        uint8_t room[32];
        size_t size = amqp_method_frame(room, sizeof room, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
        ssize_t ignored = send(remote->fd, room, size, MSG_NOSIGNAL);   /* A courtesy; what is lost here is lost anyway. */
        (void)ignored;
        remote_lose(remote);
        return err;
    }
    case AMQP_CONNECTION_BLOCKED:
        if (remote->events.blocked)
            remote->events.blocked(remote->events.owner, true, method->values[AMQP_CONNECTION_BLOCKED_REASON].bytes);
        return GW_OK;
    case AMQP_CONNECTION_UNBLOCKED:
        if (remote->events.blocked)
            remote->events.blocked(remote->events.owner, false, bytes_of(NULL, 0));
        return GW_OK;
    default:
        return malformed(remote, method->row->name);
    }
}

static enum gw_err on_channel_close(struct remote *remote, const struct amqp_method *method)
{
    enum gw_err err = refusal(remote, "channel", method->values[AMQP_CHANNEL_CLOSE_REPLY_CODE].number,
                              method->values[AMQP_CHANNEL_CLOSE_REPLY_TEXT].bytes);
    remote->channel_open = remote->control.consuming = false;
    remote->content_method = 0;
    enum gw_err send_err = remote_send(remote, AMQP_CHANNEL_CLOSE_OK, NULL);
    return send_err ? send_err : err;
}

static enum gw_err on_cancel(struct remote *remote, const struct amqp_method *method)
{
    struct bytes tag = method->values[AMQP_BASIC_CANCEL_CONSUMER_TAG].bytes;
    if (remote->events.cancelled)
        remote->events.cancelled(remote->events.owner, tag);
    if (method->values[AMQP_BASIC_CANCEL_NO_WAIT].number)
        return GW_OK;
    struct amqp_value values[AMQP_BASIC_CANCEL_OK_COUNT] = {[AMQP_BASIC_CANCEL_OK_CONSUMER_TAG] = amqp_bytes(tag)};
    return remote_send(remote, AMQP_BASIC_CANCEL_OK, values);
}

static enum gw_err on_channel_method(struct remote *remote, const struct amqp_method *method)
{
    const struct remote_events *events = &remote->events;
    const struct amqp_value *values = method->values;
    switch (method->row->id) {
    case AMQP_BASIC_ACK:
        if (events->confirmed)
            events->confirmed(events->owner, values[AMQP_BASIC_ACK_DELIVERY_TAG].number, values[AMQP_BASIC_ACK_MULTIPLE].number, true);
        return GW_OK;
    case AMQP_BASIC_NACK:
        if (events->confirmed)
            events->confirmed(events->owner, values[AMQP_BASIC_NACK_DELIVERY_TAG].number, values[AMQP_BASIC_NACK_MULTIPLE].number, false);
        return GW_OK;
    case AMQP_BASIC_CANCEL:
        return on_cancel(remote, method);
    case AMQP_CHANNEL_CLOSE:
        return on_channel_close(remote, method);
    case AMQP_CHANNEL_FLOW: {
        struct amqp_value echo[AMQP_CHANNEL_FLOW_OK_COUNT] = {[AMQP_CHANNEL_FLOW_OK_ACTIVE] = values[AMQP_CHANNEL_FLOW_ACTIVE]};
        return remote_send(remote, AMQP_CHANNEL_FLOW_OK, echo);
    }
    default:
        return malformed(remote, method->row->name);
    }
}

static enum gw_err on_method(struct remote *remote, const struct amqp_frame *frame)
{
    struct amqp_method method;
    if (remote->content_method && frame->channel == REMOTE_CHANNEL)
        return malformed(remote, "a method amid a message");
    if (amqp_method_decode(frame->payload, &method) != AMQP_DECODED)
        return malformed(remote, method.row ? method.row->name : "a method without a name");
    if (method.row->flags & AMQP_HAS_CONTENT) {
        remote_buffer_clear(&remote->content);
        remote->content_method = method.row->id;
        remote->content_header_seen = false;
        remote->content_method_size = frame->payload.size;
        return remote_buffer_add(&remote->content, frame->payload) ? no_memory(remote) : GW_OK;
    }
    if (method.row->id == remote->awaited[0] || method.row->id == remote->awaited[1]) {
        remote_buffer_clear(&remote->answer);
        if (remote_buffer_add(&remote->answer, frame->payload))
            return no_memory(remote);
        remote->answered = true;
        remote->awaited[0] = remote->awaited[1] = 0;
        return GW_OK;
    }
    return frame->channel == 0 ? on_connection_method(remote, &method) : on_channel_method(remote, &method);
}

void remote_content_message(const struct remote *remote, struct remote_message *message)
{
    struct amqp_method method;
    const uint8_t *data = remote->content.data + remote->content.begin;
    *message = (struct remote_message){
        .properties = bytes_of(data + remote->content_method_size, remote->content_properties_size),
        .body = bytes_of(data + remote->content_method_size + remote->content_properties_size, remote->content_body_size),
    };
    CHECK(amqp_method_decode(bytes_of(data, remote->content_method_size), &method) == AMQP_DECODED);
    const struct amqp_value *values = method.values;
    switch (remote->content_method) {
    case AMQP_BASIC_DELIVER:
        message->consumer_tag = values[AMQP_BASIC_DELIVER_CONSUMER_TAG].bytes;
        message->delivery_tag = values[AMQP_BASIC_DELIVER_DELIVERY_TAG].number;
        message->redelivered = values[AMQP_BASIC_DELIVER_REDELIVERED].number;
        message->exchange = values[AMQP_BASIC_DELIVER_EXCHANGE].bytes;
        message->routing_key = values[AMQP_BASIC_DELIVER_ROUTING_KEY].bytes;
        break;
    case AMQP_BASIC_GET_OK:
        message->delivery_tag = values[AMQP_BASIC_GET_OK_DELIVERY_TAG].number;
        message->redelivered = values[AMQP_BASIC_GET_OK_REDELIVERED].number;
        message->exchange = values[AMQP_BASIC_GET_OK_EXCHANGE].bytes;
        message->routing_key = values[AMQP_BASIC_GET_OK_ROUTING_KEY].bytes;
        message->left = (uint32_t)values[AMQP_BASIC_GET_OK_MESSAGE_COUNT].number;
        break;
    case AMQP_BASIC_RETURN:
        message->reply_code = (uint16_t)values[AMQP_BASIC_RETURN_REPLY_CODE].number;
        message->reply_text = values[AMQP_BASIC_RETURN_REPLY_TEXT].bytes;
        message->exchange = values[AMQP_BASIC_RETURN_EXCHANGE].bytes;
        message->routing_key = values[AMQP_BASIC_RETURN_ROUTING_KEY].bytes;
        break;
    default:
        break;
    }
}

static enum gw_err on_content_complete(struct remote *remote)
{
    struct remote_message message;
    uint32_t kind = remote->content_method;
    if (kind == AMQP_BASIC_GET_OK && remote->awaited[0] == kind) {
        remote->answered = true;   /* remote_get takes it out of `content`. */
        remote->content_method = 0;
        return GW_OK;
    }
    remote_content_message(remote, &message);
    remote->content_method = 0;
    if ((kind == AMQP_BASIC_DELIVER || kind == AMQP_BASIC_RETURN) && remote_control_takes(remote, &message))
        return GW_OK;
    if (kind == AMQP_BASIC_DELIVER && remote->events.delivered)
        remote->events.delivered(remote->events.owner, &message);
    else if (kind == AMQP_BASIC_RETURN && remote->events.returned)
        remote->events.returned(remote->events.owner, &message);
    else if (kind != AMQP_BASIC_DELIVER && kind != AMQP_BASIC_RETURN)
        return malformed(remote, "a message that nobody asked for");
    return GW_OK;
}

static enum gw_err on_content_header(struct remote *remote, struct bytes payload)
{
    struct amqp_content_header header;
    if (!remote->content_method || remote->content_header_seen || !amqp_content_header_decode(payload, &header))
        return malformed(remote, "a content header out of place");
    if (header.body_size > remote->message_max) {
        remote_lose(remote);
        return remote_fail(remote, GW_ERR_LIMIT, "a message of %llu bytes is too large for this program",
                           (unsigned long long)header.body_size);
    }
    remote->content_header_seen = true;
    remote->content_properties_size = header.properties.size;
    remote->content_body_size = header.body_size;
    if (remote_buffer_add(&remote->content, header.properties))
        return no_memory(remote);
    return header.body_size == 0 ? on_content_complete(remote) : GW_OK;
}

static enum gw_err on_content_body(struct remote *remote, struct bytes payload)
{
    uint64_t before = remote->content_method_size + remote->content_properties_size;
    if (!remote->content_method || !remote->content_header_seen)
        return malformed(remote, "a body out of place");
    uint64_t held = remote_buffer_size(&remote->content) - before;
    if (payload.size > remote->content_body_size - held)
        return malformed(remote, "a body longer than announced");
    if (remote_buffer_add(&remote->content, payload))
        return no_memory(remote);
    return held + payload.size == remote->content_body_size ? on_content_complete(remote) : GW_OK;
}

static enum gw_err on_frame(struct remote *remote, const struct amqp_frame *frame)
{
    if (frame->type == AMQP_FRAME_HEARTBEAT)
        return GW_OK;
    if (frame->channel != 0 && frame->channel != REMOTE_CHANNEL)
        return malformed(remote, "a frame on a channel that was not opened");
    if (frame->type == AMQP_FRAME_METHOD)
        return on_method(remote, frame);
    if (frame->type == AMQP_FRAME_HEADER && frame->channel == REMOTE_CHANNEL)
        return on_content_header(remote, frame->payload);
    if (frame->type == AMQP_FRAME_BODY && frame->channel == REMOTE_CHANNEL)
        return on_content_body(remote, frame->payload);
    return malformed(remote, "a frame of unknown type");
}

/* A peer that is no broker, or speaks another version, says so in its first bytes. */
static enum gw_err check_greeting(struct remote *remote)
{
    struct bytes in = remote_buffer_bytes(&remote->in);
    if (in.size < AMQP_PROTOCOL_HEADER_SIZE)
        return GW_OK;
    remote->greeted = true;
    if (memcmp(in.data, "AMQP", 4) == 0) {
        remote_lose(remote);
        return remote_fail(remote, GW_ERR_VERSION, "the broker speaks AMQP %u-%u-%u only, not 0-9-1", in.data[5], in.data[6], in.data[7]);
    }
    if (in.data[0] != AMQP_FRAME_METHOD) {
        remote_lose(remote);
        return remote_fail(remote, GW_ERR_INVALID, "what answers there does not speak AMQP");
    }
    return GW_OK;
}

enum gw_err remote_handle_input(struct remote *remote)
{
    enum gw_err err = remote->greeted ? GW_OK : check_greeting(remote);
    while (!err && remote->fd >= 0) {
        struct amqp_frame frame;
        struct bytes in = remote_buffer_bytes(&remote->in);
        enum wire_answer answer = amqp_frame_read(in, remote->frame_max, &frame);
        if (answer == WIRE_MORE)
            break;
        if (answer == WIRE_BAD)
            return malformed(remote, "a frame too large or without its end");
        err = on_frame(remote, &frame);
        remote_buffer_take(&remote->in, frame.size);
        if (remote->answered)
            break;
    }
    return err;
}
