#include "client/remote.h"

#include "client/dial.h"
#include "client/remote_state.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLUSH_SIZE (256u * 1024u)        /* publishes are sent when so many bytes have gathered */
#define READ_SIZE_MIN 4096u
#define READ_SIZE_MAX (256u * 1024u)
#define CLOSE_TIMEOUT_MS 5000u
#define MESSAGE_MAX_DEFAULT (2ull << 30)

enum gw_err remote_fail(struct remote *remote, enum gw_err err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(remote->error, sizeof remote->error, format, arguments);
    va_end(arguments);
    return err;
}

static enum gw_err no_memory(struct remote *remote)
{
    return remote_fail(remote, GW_ERR_NOMEM, "out of memory");
}

struct remote *remote_new(const struct remote_settings *settings, const struct remote_events *events)
{
    struct remote *remote = calloc(1, sizeof *remote);
    if (!remote)
        return NULL;
    remote->uri = *settings->uri;
    remote->events = *events;
    remote->fd = -1;
    remote->wake_fd = settings->wake_fd;
    remote->frame_max = AMQP_FRAME_MIN_SIZE;
    remote->message_max = settings->message_max ? settings->message_max : MESSAGE_MAX_DEFAULT;
    remote->name = settings->name ? strdup(settings->name) : NULL;
    if (settings->name && !remote->name) {
        free(remote);
        return NULL;
    }
    return remote;
}

void remote_free(struct remote *remote)
{
    if (!remote)
        return;
    if (remote->fd >= 0)
        close(remote->fd);
    remote_buffer_deinit(&remote->in);
    remote_buffer_deinit(&remote->out);
    remote_buffer_deinit(&remote->answer);
    remote_buffer_deinit(&remote->content);
    free(remote->name);
    free(remote);
}

bool remote_channel_is_open(const struct remote *remote) { return remote->channel_open; }
const char *remote_error(const struct remote *remote) { return remote->error; }
unsigned remote_reply_code(const struct remote *remote) { return remote->reply_code; }
uint32_t remote_frame_max(const struct remote *remote) { return remote->frame_max; }
int remote_socket(const struct remote *remote) { return remote->fd; }
const char *remote_product(const struct remote *remote) { return remote->product; }

static void lose(struct remote *remote)
{
    if (remote->fd >= 0)
        close(remote->fd);
    remote->fd = -1;
    remote->connected = remote->channel_open = false;
}

/* Output. */

static enum gw_err check_open(struct remote *remote)
{
    if (remote->fd < 0)
        return remote_fail(remote, GW_ERR_CLOSED, "not connected");
    return GW_OK;
}

enum gw_err remote_send_on(struct remote *remote, uint16_t channel, uint32_t method, const struct amqp_value *values)
{
    enum gw_err err = check_open(remote);
    if (err)
        return err;
    size_t room = remote->frame_max;
    if (remote_buffer_reserve(&remote->out, room))
        return no_memory(remote);
    size_t size = amqp_method_frame(remote->out.data + remote->out.end, room, channel, method, values);
    if (size == 0)
        return remote_fail(remote, GW_ERR_INVALID, "a name is longer than 255 bytes");
    remote->out.end += size;
    return GW_OK;
}

enum gw_err remote_send(struct remote *remote, uint32_t method, const struct amqp_value *values)
{
    return remote_send_on(remote, REMOTE_CHANNEL, method, values);
}

/* Writes as much as the socket takes now. */
static enum gw_err write_some(struct remote *remote)
{
    while (remote_buffer_size(&remote->out) > 0) {
        struct bytes bytes = remote_buffer_bytes(&remote->out);
        ssize_t size = send(remote->fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return GW_OK;
        if (size < 0) {
            int error = errno;
            return remote_fail(remote, GW_ERR_CLOSED, "the connection to the broker was lost: %s", strerror(error));
        }
        remote_buffer_take(&remote->out, (size_t)size);
        remote->sent_ms = dial_now_ms();
    }
    return GW_OK;
}

/* Input: one frame after the other. */

static enum gw_err malformed(struct remote *remote, const char *what)
{
    lose(remote);
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
        lose(remote);
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
    remote->channel_open = false;
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

/* Makes a message of the complete content. */
static void content_message(const struct remote *remote, struct remote_message *message)
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
    content_message(remote, &message);
    remote->content_method = 0;
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
        lose(remote);
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
        lose(remote);
        return remote_fail(remote, GW_ERR_VERSION, "the broker speaks AMQP %u-%u-%u only, not 0-9-1", in.data[5], in.data[6], in.data[7]);
    }
    if (in.data[0] != AMQP_FRAME_METHOD) {
        lose(remote);
        return remote_fail(remote, GW_ERR_INVALID, "what answers there does not speak AMQP");
    }
    return GW_OK;
}

/* Handles every whole frame that was read; stops early when one that a call waits for is among them. */
static enum gw_err handle_input(struct remote *remote)
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

static bool has_frame(const struct remote *remote)
{
    struct amqp_frame frame;
    struct bytes in = remote_buffer_bytes(&remote->in);
    return in.size > 0 && amqp_frame_read(in, remote->frame_max, &frame) != WIRE_MORE;
}

/* Reads once and handles what came. */
static enum gw_err read_some(struct remote *remote)
{
    size_t room = remote->in.capacity < READ_SIZE_MIN ? READ_SIZE_MIN : remote->in.capacity;
    if (room > READ_SIZE_MAX)
        room = READ_SIZE_MAX;
    if (remote_buffer_reserve(&remote->in, room))
        return no_memory(remote);
    ssize_t size = recv(remote->fd, remote->in.data + remote->in.end, room, 0);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return GW_OK;
    if (size <= 0) {
        int error = errno;
        lose(remote);
        return remote_fail(remote, GW_ERR_CLOSED, size == 0 ? "the broker hung up" : "the connection to the broker was lost: %s",
                           strerror(error));
    }
    remote->in.end += (size_t)size;
    remote->received_ms = dial_now_ms();
    return handle_input(remote);
}

/* Waiting. */

enum gw_err remote_keep_alive(struct remote *remote)
{
    if (remote->fd < 0 || remote->heartbeat_ms == 0 || dial_now_ms() - remote->sent_ms < remote->heartbeat_ms / 2)
        return GW_OK;
    uint8_t heartbeat[AMQP_FRAME_OVERHEAD];
    amqp_heartbeat_write(heartbeat);
    if (remote_buffer_size(&remote->out) == 0 && remote_buffer_add(&remote->out, bytes_of(heartbeat, sizeof heartbeat)))
        return no_memory(remote);
    return write_some(remote);
}

/* One turn: waits at most until deadline_ms for anything of enum remote_ready, or for room to send. */
static enum gw_err turn(struct remote *remote, int extra_fd, uint64_t deadline_ms, unsigned *ready)
{
    enum gw_err err = check_open(remote);
    *ready = 0;
    if (!err)
        err = write_some(remote);
    if (!err)
        err = remote_keep_alive(remote);
    if (err)
        return err;
    uint64_t now = dial_now_ms(), wait_ms = deadline_ms > now ? deadline_ms - now : 0;
    if (remote->heartbeat_ms && wait_ms > remote->heartbeat_ms / 4)
        wait_ms = remote->heartbeat_ms / 4;
    if (wait_ms > 60000)
        wait_ms = 60000;
    bool has_output = remote_buffer_size(&remote->out) > 0;
    struct pollfd fds[] = {
        {.fd = remote->fd, .events = (short)(POLLIN | (has_output ? POLLOUT : 0))},
        {.fd = extra_fd, .events = POLLIN},
        {.fd = remote->wake_fd, .events = POLLIN},
    };
    int count = poll(fds, 3, (int)wait_ms);
    if (count < 0 && errno != EINTR)
        return remote_fail(remote, GW_ERR_IO, "cannot wait: %s", strerror(errno));
    if (count == 0 && remote->heartbeat_ms && dial_now_ms() - remote->received_ms > 2ull * remote->heartbeat_ms) {
        lose(remote);
        return remote_fail(remote, GW_ERR_CLOSED, "the broker gave no sign of life for %u s", 2 * remote->heartbeat_ms / 1000);
    }
    if (count <= 0)
        return GW_OK;
    *ready = (fds[1].revents ? REMOTE_READY_EXTRA : 0) | (fds[2].revents ? REMOTE_READY_WAKE : 0);
    if (fds[0].revents & (POLLIN | POLLERR | POLLHUP)) {
        *ready |= REMOTE_READY_INPUT;
        err = read_some(remote);
    }
    if (!err && (fds[0].revents & POLLOUT))
        err = write_some(remote);
    return err;
}

enum gw_err remote_wait(struct remote *remote, int extra_fd, uint64_t timeout_ms, unsigned *ready)
{
    uint64_t start = dial_now_ms();
    uint64_t deadline = timeout_ms > UINT64_MAX - start ? UINT64_MAX : start + timeout_ms;
    *ready = 0;
    if (has_frame(remote)) {
        *ready = REMOTE_READY_INPUT;
        enum gw_err err = handle_input(remote);
        return err ? err : write_some(remote);
    }
    for (;;) {
        enum gw_err err = turn(remote, extra_fd, deadline, ready);
        if (err || *ready || dial_now_ms() >= deadline)
            return err;
    }
}

enum gw_err remote_flush(struct remote *remote)
{
    enum gw_err err = check_open(remote);
    if (!err)
        err = write_some(remote);
    while (!err && remote_buffer_size(&remote->out) > 0) {
        unsigned ready;
        err = turn(remote, -1, UINT64_MAX, &ready);
        if (!err && (ready & REMOTE_READY_WAKE))
            return remote_fail(remote, GW_ERR_CLOSED, "interrupted");
    }
    return err;
}

enum gw_err remote_await(struct remote *remote, uint32_t reply, uint32_t other_reply, uint64_t timeout_ms,
                         struct amqp_method *answer)
{
    uint64_t deadline = dial_now_ms() + timeout_ms;
    enum gw_err err = GW_OK;
    remote->awaited[0] = reply;
    remote->awaited[1] = other_reply;
    remote->answered = false;
    remote->reply_code = 0;
    if (has_frame(remote))
        err = handle_input(remote);
    while (!err && !remote->answered) {
        unsigned ready;
        err = turn(remote, -1, deadline, &ready);
        if (!err && !remote->answered && (ready & REMOTE_READY_WAKE))
            err = remote_fail(remote, GW_ERR_CLOSED, "interrupted");
        else if (!err && !remote->answered && dial_now_ms() >= deadline)
            err = remote_fail(remote, GW_ERR_IO, "the broker did not answer within %llu s", (unsigned long long)timeout_ms / 1000);
    }
    bool is_content = remote->awaited[0] != 0;   /* A plain method clears what is awaited. */
    remote->awaited[0] = remote->awaited[1] = 0;
    remote->answered = false;
    if (err)
        return err;
    answer->row = NULL;
    if (!is_content)
        CHECK(amqp_method_decode(remote_buffer_bytes(&remote->answer), answer) == AMQP_DECODED);
    return GW_OK;
}

enum gw_err remote_call_on(struct remote *remote, uint16_t channel, uint32_t method, const struct amqp_value *values,
                           uint32_t reply, uint32_t other_reply, uint64_t timeout_ms, struct amqp_method *answer)
{
    if (channel != 0 && !remote->channel_open && method != AMQP_CHANNEL_OPEN)
        return remote_fail(remote, GW_ERR_CLOSED, "the channel is closed");
    enum gw_err err = remote_send_on(remote, channel, method, values);
    return err ? err : remote_await(remote, reply, other_reply, timeout_ms, answer);
}

enum gw_err remote_call(struct remote *remote, uint32_t method, const struct amqp_value *values, uint32_t reply,
                        uint32_t other_reply, struct amqp_method *answer)
{
    uint16_t channel = method >> 16 == 10 ? 0 : REMOTE_CHANNEL;
    return remote_call_on(remote, channel, method, values, reply, other_reply, REMOTE_CALL_TIMEOUT_MS, answer);
}

/* Beginning and end. */

enum gw_err remote_connect(struct remote *remote)
{
    enum gw_err err = dial(remote->uri.host, remote->uri.port, remote->uri.connection_timeout_ms, &remote->fd, remote->error,
                           sizeof remote->error);
    if (err)
        return err;
    remote->sent_ms = remote->received_ms = dial_now_ms();
    err = remote_handshake(remote);
    if (err) {
        lose(remote);
        return err;
    }
    remote->connected = true;
    return remote_channel_open(remote);
}

enum gw_err remote_channel_open(struct remote *remote)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_CHANNEL_OPEN_COUNT] = {[AMQP_CHANNEL_OPEN_OUT_OF_BAND] = amqp_text("")};
    if (remote->channel_open)
        return GW_OK;
    enum gw_err err = remote_call(remote, AMQP_CHANNEL_OPEN, values, AMQP_CHANNEL_OPEN_OK, 0, &answer);
    remote->channel_open = err == GW_OK;
    return err;
}

enum gw_err remote_close(struct remote *remote)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_CONNECTION_CLOSE_COUNT] = {
        [AMQP_CONNECTION_CLOSE_REPLY_CODE] = amqp_number(200),
        [AMQP_CONNECTION_CLOSE_REPLY_TEXT] = amqp_text("goodbye"),
    };
    if (remote->fd < 0)
        return GW_OK;
    remote->events = (struct remote_events){0};
    enum gw_err err = remote_call_on(remote, 0, AMQP_CONNECTION_CLOSE, values, AMQP_CONNECTION_CLOSE_OK, 0, CLOSE_TIMEOUT_MS, &answer);
    lose(remote);
    return err;
}

/* Messages. */

enum gw_err remote_publish(struct remote *remote, struct bytes exchange, struct bytes routing_key, bool mandatory,
                           struct bytes properties, struct bytes body)
{
    if (!remote->channel_open)
        return remote_fail(remote, GW_ERR_CLOSED, "the channel is closed");
    size_t frame_body = remote->frame_max - AMQP_FRAME_OVERHEAD;
    if (properties.size + AMQP_CONTENT_HEADER_SIZE > frame_body)
        return remote_fail(remote, GW_ERR_LIMIT, "the message's properties and headers are larger than a frame (%u bytes)", remote->frame_max);
    size_t frames = body.size / frame_body + 1;
    size_t room = 600 + AMQP_CONTENT_HEADER_SIZE + properties.size + 2 * AMQP_FRAME_OVERHEAD + body.size + frames * AMQP_FRAME_OVERHEAD;
    if (remote_buffer_reserve(&remote->out, room))
        return no_memory(remote);
    uint8_t *at = remote->out.data + remote->out.end;
    size_t size = amqp_publish_frame(at, room, REMOTE_CHANNEL, exchange, routing_key, mandatory);
    if (size == 0)
        return remote_fail(remote, GW_ERR_INVALID, "the exchange or the routing key is longer than 255 bytes");
    at = amqp_content_header_write(at + size, REMOTE_CHANNEL, body.size, properties);
    while (body.size > 0) {
        size = body.size < frame_body ? body.size : frame_body;
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, REMOTE_CHANNEL, (uint32_t)size);
        memcpy(at, body.data, size);
        at[size] = AMQP_FRAME_END;
        at += size + 1;
        body = bytes_of(body.data + size, body.size - size);
    }
    remote->out.end = (size_t)(at - remote->out.data);
    return remote_buffer_size(&remote->out) < FLUSH_SIZE ? GW_OK : remote_flush(remote);
}

static enum gw_err settle(struct remote *remote, uint32_t method, uint64_t delivery_tag, uint8_t flags)
{
    if (!remote->channel_open)
        return remote_fail(remote, GW_ERR_CLOSED, "the channel is closed");
    if (remote_buffer_reserve(&remote->out, AMQP_ACK_FRAME_SIZE))
        return no_memory(remote);
    amqp_ack_write(remote->out.data + remote->out.end, REMOTE_CHANNEL, method, delivery_tag, flags);
    remote->out.end += AMQP_ACK_FRAME_SIZE;
    return GW_OK;
}

enum gw_err remote_ack(struct remote *remote, uint64_t delivery_tag, bool multiple)
{
    return settle(remote, AMQP_BASIC_ACK, delivery_tag, multiple);
}

enum gw_err remote_nack(struct remote *remote, uint64_t delivery_tag, bool multiple, bool requeue)
{
    return settle(remote, AMQP_BASIC_NACK, delivery_tag, (uint8_t)(multiple | requeue << 1));
}

enum gw_err remote_get(struct remote *remote, const char *queue, bool no_ack, struct remote_message *message, bool *found)
{
    struct amqp_method answer;
    struct amqp_value values[AMQP_BASIC_GET_COUNT] = {
        [AMQP_BASIC_GET_QUEUE] = amqp_text(queue),
        [AMQP_BASIC_GET_NO_ACK] = amqp_number(no_ack),
    };
    *found = false;
    enum gw_err err = remote_call(remote, AMQP_BASIC_GET, values, AMQP_BASIC_GET_OK, AMQP_BASIC_GET_EMPTY, &answer);
    if (err || answer.row)
        return err;
    uint32_t kind = remote->content_method;
    remote->content_method = AMQP_BASIC_GET_OK;
    content_message(remote, message);
    remote->content_method = kind;
    *found = true;
    return GW_OK;
}
