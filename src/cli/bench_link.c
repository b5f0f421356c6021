#include "cli/bench_link.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define GOODBYE_TIMEOUT_NS 5000000000u
#define READ_MAX (256u * 1024u)

enum bench_progress bench_link_break(struct bench_link *link, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(link->error, sizeof link->error, format, arguments);
    va_end(arguments);
    return BENCH_BROKEN;
}

enum gw_err bench_link_open(struct bench_link *link, const struct bench_plan *plan, const char *name, size_t capacity)
{
    struct uri uri = plan->uri;
    uri.heartbeat_s = 0;   /* Nobody here has the time. */
    *link = (struct bench_link){.fd = -1, .capacity = capacity};
    link->in = malloc(capacity);
    link->remote = remote_new(&(struct remote_settings){.uri = &uri, .name = name, .wake_fd = -1}, &(struct remote_events){0});
    if (!link->in || !link->remote) {
        bench_link_break(link, "out of memory");
        return GW_ERR_NOMEM;
    }
    enum gw_err err = remote_connect(link->remote);
    if (err) {
        bench_link_break(link, "%s", remote_error(link->remote));
        return err;
    }
    link->fd = remote_socket(link->remote);
    link->frame_max = remote_frame_max(link->remote);
    return GW_OK;
}

void bench_link_wait(struct bench_link *link, short events, uint64_t timeout_ns)
{
    struct pollfd wait = {.fd = link->fd, .events = events};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u)};
    ppoll(&wait, 1, &timeout, NULL);
}

enum bench_progress bench_link_read(struct bench_link *link)
{
    if (link->begin == link->end) {
        link->begin = link->end = 0;
    } else if (link->begin > 0) {
        memmove(link->in, link->in + link->begin, link->end - link->begin);
        link->end -= link->begin;
        link->begin = 0;
    }
    size_t room = link->capacity - link->end;
    if (room == 0)
        return bench_link_break(link, "the broker sent a frame larger than agreed");
    ssize_t size = recv(link->fd, link->in + link->end, room < READ_MAX ? room : READ_MAX, MSG_DONTWAIT);
    if (size > 0) {
        link->end += (size_t)size;
        return BENCH_SOME;
    }
    if (size == 0)
        return bench_link_break(link, "the broker hung up");
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return BENCH_NONE;
    return bench_link_break(link, "the connection was lost: %s", strerror(errno));
}

enum bench_progress bench_link_write(struct bench_link *link, const uint8_t **data, size_t *size)
{
    ssize_t written = send(link->fd, *data, *size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (written >= 0) {
        *data += written;
        *size -= (size_t)written;
        return BENCH_SOME;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return BENCH_NONE;
    return bench_link_break(link, "the connection was lost: %s", strerror(errno));
}

enum bench_progress bench_link_write_all(struct bench_link *link, const uint8_t *data, size_t size)
{
    while (size > 0) {
        enum bench_progress progress = bench_link_write(link, &data, &size);
        if (progress == BENCH_BROKEN)
            return progress;
        if (progress == BENCH_NONE)
            bench_link_wait(link, POLLOUT, 1000000000u);
    }
    return BENCH_SOME;
}

enum bench_progress bench_link_other(struct bench_link *link, const struct amqp_frame *frame)
{
    struct amqp_method method;
    if (frame->type == AMQP_FRAME_HEARTBEAT)
        return BENCH_SOME;
    if (frame->type != AMQP_FRAME_METHOD || amqp_method_decode(frame->payload, &method) != AMQP_DECODED)
        return bench_link_break(link, "the broker sent a frame out of place (type %u)", frame->type);
    switch (method.row->id) {
    case AMQP_CONNECTION_BLOCKED:
        link->blocked_since_ns = bench_now_ns();
        return BENCH_SOME;
    case AMQP_CONNECTION_UNBLOCKED:
        if (link->blocked_since_ns)
            link->blocked_ns += bench_now_ns() - link->blocked_since_ns;
        link->blocked_since_ns = 0;
        return BENCH_SOME;
    case AMQP_CONNECTION_CLOSE:
    case AMQP_CHANNEL_CLOSE: {
        /* Both have their arguments in the same places. */
        struct bytes text = method.values[AMQP_CHANNEL_CLOSE_REPLY_TEXT].bytes;
        return bench_link_break(link, "the broker closed the %s: %u %.*s", method.row->id == AMQP_CHANNEL_CLOSE ? "channel" : "connection",
                                (unsigned)method.values[AMQP_CHANNEL_CLOSE_REPLY_CODE].number, (int)text.size, (const char *)text.data);
    }
    default:
        return bench_link_break(link, "the broker sent %s, which nobody waits for", method.row->name);
    }
}

/* Reads on to the broker's goodbye, or to the end of the time. */
static void await_goodbye(struct bench_link *link)
{
    uint64_t deadline_ns = bench_now_ns() + GOODBYE_TIMEOUT_NS;
    while (bench_now_ns() < deadline_ns) {
        struct amqp_frame frame;
        while (amqp_frame_read(bench_link_held(link), link->frame_max, &frame) == WIRE_OK) {
            link->begin += frame.size;
            if (frame.type == AMQP_FRAME_METHOD && frame.payload.size >= 4 && amqp_method_id_read(frame.payload.data) == AMQP_CONNECTION_CLOSE_OK)
                return;
        }
        enum bench_progress progress = bench_link_read(link);
        if (progress == BENCH_BROKEN)
            return;
        if (progress == BENCH_NONE)
            bench_link_wait(link, POLLIN, 100000000u);
    }
}

void bench_link_close(struct bench_link *link)
{
    if (link->remote && link->fd >= 0 && link->error[0] == '\0') {
        uint8_t room[64];
        struct amqp_value values[AMQP_CONNECTION_CLOSE_COUNT] = {[AMQP_CONNECTION_CLOSE_REPLY_CODE] = amqp_number(200)};
        size_t size = amqp_method_frame(room, sizeof room, 0, AMQP_CONNECTION_CLOSE, values);
        if (bench_link_write_all(link, room, size) == BENCH_SOME)
            await_goodbye(link);
        link->error[0] = '\0';
    }
    remote_free(link->remote);
    free(link->in);
    link->remote = NULL;
    link->in = NULL;
    link->fd = -1;
}
