#include "client/remote_state.h"

static enum gw_err send_frame(struct remote *remote, const uint8_t *frame, size_t size)
{
    if (remote_buffer_add(&remote->out, bytes_of(frame, size)))
        return remote_fail(remote, GW_ERR_NOMEM, "out of memory");
    return GW_OK;
}

static enum gw_err send_start_ok(struct remote *remote)
{
    uint8_t frame[LOGIN_FRAME_MAX];
    size_t size = login_start_ok(frame, sizeof frame, &remote->uri, remote->name);
    if (size == 0)
        return remote_fail(remote, GW_ERR_LIMIT, "the connection's name is too long");
    return send_frame(remote, frame, size);
}

static enum gw_err answer_tune(struct remote *remote, const struct amqp_method *tune)
{
    uint8_t frame[LOGIN_FRAME_MAX];
    struct login_limits limits;
    size_t size = login_tune_ok(frame, sizeof frame, &remote->uri, tune, &limits);
    if (size == 0)
        return remote_fail(remote, GW_ERR_INVALID, "the broker's largest frame is %u bytes, less than AMQP's smallest limit", limits.frame_max);
    enum gw_err err = send_frame(remote, frame, size);
    remote->frame_max = limits.frame_max;
    remote->heartbeat_ms = limits.heartbeat_ms;
    return err;
}

enum gw_err remote_handshake(struct remote *remote)
{
    struct amqp_method method;
    uint8_t frame[LOGIN_FRAME_MAX];
    uint64_t timeout_ms = remote->uri.connection_timeout_ms;
    enum gw_err err = send_frame(remote, amqp_protocol_header, AMQP_PROTOCOL_HEADER_SIZE);
    if (!err)
        err = remote_await(remote, AMQP_CONNECTION_START, 0, timeout_ms, &method);
    if (err)
        return err;
    login_product(method.values[AMQP_CONNECTION_START_SERVER_PROPERTIES].bytes, remote->product);
    if (!login_is_offered(&method))
        return remote_fail(remote, GW_ERR_PERMISSION, "the broker does not let users log in with a password (PLAIN)");
    err = send_start_ok(remote);
    if (!err)
        err = remote_await(remote, AMQP_CONNECTION_TUNE, 0, timeout_ms, &method);
    if (err == GW_ERR_CLOSED && remote->reply_code == 0)
        return remote_fail(remote, GW_ERR_PERMISSION, "the broker hung up during log-in; is the password of user %s right?", remote->uri.user);
    if (!err)
        err = answer_tune(remote, &method);
    if (!err)
        err = send_frame(remote, frame, login_open(frame, sizeof frame, &remote->uri));
    return err ? err : remote_await(remote, AMQP_CONNECTION_OPEN_OK, 0, timeout_ms, &method);
}
