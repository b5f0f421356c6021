#include "client/remote.h"

#include "client/dial.h"
#include "client/publish_frames.h"
#include "client/remote_state.h"
#include "client/seal.h"

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
    remote_lose(remote);
    remote_buffer_deinit(&remote->in);
    remote_buffer_deinit(&remote->out);
    remote_buffer_deinit(&remote->answer);
    arrival_deinit(&remote->arriving);
    remote_buffer_deinit(&remote->control.answer);
    free(remote->name);
    free(remote);
}

bool remote_channel_is_open(const struct remote *remote) { return remote->channel_open; }
const char *remote_error(const struct remote *remote) { return remote->error; }
unsigned remote_reply_code(const struct remote *remote) { return remote->reply_code; }
uint32_t remote_frame_max(const struct remote *remote) { return remote->frame_max; }
int remote_socket(const struct remote *remote) { return remote->fd; }
const char *remote_product(const struct remote *remote) { return remote->product; }

void remote_lose(struct remote *remote)
{
    seal_free(remote->seal);
    remote->seal = NULL;
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
        return remote_fail(remote, GW_ERR_NOMEM, "out of memory");
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

ssize_t remote_push(struct remote *remote, const void *data, size_t size)
{
    return remote->seal ? seal_send(remote->seal, data, size) : send(remote->fd, data, size, MSG_NOSIGNAL);
}

/* Writes as much as the socket takes now. */
static enum gw_err write_some(struct remote *remote)
{
    while (remote_buffer_size(&remote->out) > 0) {
        struct bytes bytes = remote_buffer_bytes(&remote->out);
        ssize_t size = remote_push(remote, bytes.data, bytes.size);
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
    if (remote->seal && room < SEAL_RECORD_MAX)
        room = SEAL_RECORD_MAX;
    if (remote_buffer_reserve(&remote->in, room))
        return remote_fail(remote, GW_ERR_NOMEM, "out of memory");
    uint8_t *at = remote->in.data + remote->in.end;
    ssize_t size = remote->seal ? seal_recv(remote->seal, at, room) : recv(remote->fd, at, room, 0);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return GW_OK;
    if (size <= 0) {
        int error = errno;
        remote_lose(remote);
        return remote_fail(remote, GW_ERR_CLOSED, size == 0 ? "the broker hung up" : "the connection to the broker was lost: %s",
                           strerror(error));
    }
    remote->in.end += (size_t)size;
    remote->received_ms = dial_now_ms();
    return remote_handle_input(remote);
}

/* Waiting. */

enum gw_err remote_keep_alive(struct remote *remote)
{
    if (remote->fd < 0 || remote->heartbeat_ms == 0 || dial_now_ms() - remote->sent_ms < remote->heartbeat_ms / 2)
        return GW_OK;
    uint8_t heartbeat[AMQP_FRAME_OVERHEAD];
    amqp_heartbeat_write(heartbeat);
    if (remote_buffer_size(&remote->out) == 0 && remote_buffer_add(&remote->out, bytes_of(heartbeat, sizeof heartbeat)))
        return remote_fail(remote, GW_ERR_NOMEM, "out of memory");
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
        remote_lose(remote);
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
        enum gw_err err = remote_handle_input(remote);
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
        err = remote_handle_input(remote);
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
    const struct uri *uri = &remote->uri;
    if (uri->tls) {
        const struct seal_settings settings = {.host = uri->host, .ca = uri->ca[0] ? uri->ca : NULL, .trusts_anybody = uri->trusts_anybody,
                                               .timeout_ms = uri->connection_timeout_ms};
        err = seal_connect(remote->fd, &settings, &remote->seal, remote->error, sizeof remote->error);
    }
    if (!err)
        err = remote_handshake(remote);
    if (err) {
        remote_lose(remote);
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
    remote_lose(remote);
    return err;
}

/* Messages. */

enum gw_err remote_publish(struct remote *remote, struct bytes exchange, struct bytes routing_key, bool mandatory,
                           struct bytes properties, struct bytes body)
{
    if (!remote->channel_open)
        return remote_fail(remote, GW_ERR_CLOSED, "the channel is closed");
    struct publish_frames frames = {.channel = REMOTE_CHANNEL, .frame_max = remote->frame_max, .mandatory = mandatory, .exchange = exchange,
                                    .routing_key = routing_key, .properties = properties, .body = body};
    switch (publish_frames_add(&remote->out, &frames)) {
    case GW_OK: break;
    case GW_ERR_LIMIT:
        return remote_fail(remote, GW_ERR_LIMIT, "the message's properties and headers are larger than a frame (%u bytes)", remote->frame_max);
    case GW_ERR_INVALID: return remote_fail(remote, GW_ERR_INVALID, "the exchange or the routing key is longer than 255 bytes");
    default: return remote_fail(remote, GW_ERR_NOMEM, "out of memory");
    }
    return remote_buffer_size(&remote->out) < FLUSH_SIZE ? GW_OK : remote_flush(remote);
}

static enum gw_err settle(struct remote *remote, uint32_t method, uint64_t delivery_tag, uint8_t flags)
{
    if (!remote->channel_open)
        return remote_fail(remote, GW_ERR_CLOSED, "the channel is closed");
    if (remote_buffer_reserve(&remote->out, AMQP_ACK_FRAME_SIZE))
        return remote_fail(remote, GW_ERR_NOMEM, "out of memory");
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
    arrival_message(&remote->arriving, message);
    *found = true;
    return GW_OK;
}
