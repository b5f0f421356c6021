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
    return remote_fail(remote, login_refusal(remote->reply_code), "the broker closed the %s: %u %.*s", closed, remote->reply_code, (int)text.size,
                       (const char *)text.data);
}

static enum gw_err on_connection_method(struct remote *remote, const struct amqp_method *method)
{
    switch (method->row->id) {
    case AMQP_CONNECTION_CLOSE: {
        enum gw_err err = refusal(remote, "connection", method->values[AMQP_CONNECTION_CLOSE_REPLY_CODE].number,
                                  method->values[AMQP_CONNECTION_CLOSE_REPLY_TEXT].bytes);
        uint8_t room[32];
        size_t size = amqp_method_frame(room, sizeof room, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
        ssize_t ignored = remote_push(remote, room, size);   /* A courtesy; what is lost here is lost anyway. */
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
    arrival_end(&remote->arriving);
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

static enum gw_err on_content_complete(struct remote *remote)
{
    struct remote_message message;
    uint32_t kind = remote->arriving.method;
    arrival_end(&remote->arriving);
    if (kind == AMQP_BASIC_GET_OK && remote->awaited[0] == kind) {
        remote->answered = true;   /* remote_get takes it out of `arriving`. */
        return GW_OK;
    }
    arrival_message(&remote->arriving, &message);
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

static enum gw_err on_arrival(struct remote *remote, enum arrival_answer answer, bool is_body)
{
    switch (answer) {
    case ARRIVAL_MORE: return GW_OK;
    case ARRIVAL_COMPLETE: return on_content_complete(remote);
    case ARRIVAL_OUT_OF_PLACE: return malformed(remote, arrival_complaint(&remote->arriving, is_body));
    case ARRIVAL_TOO_LARGE:
        remote_lose(remote);
        return remote_fail(remote, GW_ERR_LIMIT, "a message of %llu bytes is too large for this program",
                           (unsigned long long)remote->arriving.body_size);
    default: return no_memory(remote);
    }
}

static enum gw_err on_method(struct remote *remote, const struct amqp_frame *frame)
{
    struct amqp_method method;
    if (remote->arriving.method && frame->channel == REMOTE_CHANNEL)
        return malformed(remote, "a method amid a message");
    if (amqp_method_decode(frame->payload, &method) != AMQP_DECODED)
        return malformed(remote, method.row ? method.row->name : "a method without a name");
    if (method.row->flags & AMQP_HAS_CONTENT)
        return on_arrival(remote, arrival_begin(&remote->arriving, frame->payload), false);
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

static enum gw_err on_frame(struct remote *remote, const struct amqp_frame *frame)
{
    if (frame->type == AMQP_FRAME_HEARTBEAT)
        return GW_OK;
    if (frame->channel != 0 && frame->channel != REMOTE_CHANNEL)
        return malformed(remote, "a frame on a channel that was not opened");
    if (frame->type == AMQP_FRAME_METHOD)
        return on_method(remote, frame);
    if (frame->type == AMQP_FRAME_HEADER && frame->channel == REMOTE_CHANNEL)
        return on_arrival(remote, arrival_header(&remote->arriving, frame->payload, remote->message_max), false);
    if (frame->type == AMQP_FRAME_BODY && frame->channel == REMOTE_CHANNEL)
        return on_arrival(remote, arrival_body(&remote->arriving, frame->payload), true);
    return malformed(remote, "a frame of unknown type");
}

static enum gw_err check_greeting(struct remote *remote)
{
    struct bytes in = remote_buffer_bytes(&remote->in);
    if (in.size < AMQP_PROTOCOL_HEADER_SIZE)
        return GW_OK;
    remote->greeted = true;
    enum gw_err err = login_greeting(in.data, remote->error, sizeof remote->error);
    if (err)
        remote_lose(remote);
    return err;
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
