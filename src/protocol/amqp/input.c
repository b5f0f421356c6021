#include "protocol/amqp/input.h"

#include "protocol/amqp/channel.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/handshake.h"
#include "protocol/amqp/publish.h"

#include <stdio.h>
#include <stdlib.h>

/* A few clients count the frame's header and end wrongly: RabbitMQ lets frames be that much larger, and so do we. */
#define FRAME_FUDGE AMQP_FRAME_OVERHEAD

/* ---- frames ------------------------------------------------------------------------------------------------------------------ */

/* The input has lost its frames: nothing that follows makes sense. */
static void lose_sync(struct session *session, uint8_t type, struct bytes payload, const char *why)
{
    session->deaf = true;
    error_raise_frame(session, AMQP_FRAME_ERROR, type, payload, why);
}

static bool header_frame(struct session *session, uint16_t number, struct bytes payload)
{
    struct channel *channel = channel_find(session, number);
    if (channel && channel->state == CHANNEL_ASKED)
        return false;
    if (!channel)
        error_raise(session, NULL, AMQP_UNEXPECTED_FRAME, 0, "expected method frame, got non method frame instead");
    else if (channel->state == CHANNEL_OPEN)
        publish_header(channel, payload);
    return true;
}

/* A body frame begins: decides where its bytes go. False: it must wait. */
static bool body_frame(struct session *session, uint16_t number, uint32_t size)
{
    struct channel *channel = session->phase == PHASE_RUNNING ? channel_find(session, number) : NULL;
    if (channel && channel->state == CHANNEL_ASKED)
        return false;
    session->in_body = true;
    session->body_left = size;
    session->body_channel = number;
    session->body_wanted = false;
    if (session->phase != PHASE_RUNNING)
        return true;
    if (!channel)
        error_raise(session, NULL, AMQP_UNEXPECTED_FRAME, 0, "expected method frame, got non method frame instead");
    else if (channel->state == CHANNEL_OPEN)
        session->body_wanted = publish_body_begin(channel, size);
    return true;
}

/* A whole frame on a channel, while the connection runs. False: it must wait. */
static bool channel_frame(struct session *session, uint8_t type, uint16_t number, struct bytes payload)
{
    if (type == AMQP_FRAME_METHOD && payload.size >= 4)
        return channel_method(session, number, payload);
    if (type == AMQP_FRAME_HEADER && payload.size >= AMQP_CONTENT_HEADER_SIZE)
        return header_frame(session, number, payload);
    if (type == AMQP_FRAME_HEARTBEAT && payload.size == 0)
        error_raise_frame(session, AMQP_UNEXPECTED_FRAME, type, payload, NULL);
    else
        error_raise_frame(session, AMQP_FRAME_ERROR, type, payload, "unknown_frame");
    return true;
}

static void connection_frame(struct session *session, uint8_t type, struct bytes payload)
{
    if (type == AMQP_FRAME_HEARTBEAT && payload.size == 0)
        return;
    if (type == AMQP_FRAME_METHOD && payload.size >= 4)
        handshake_method(session, payload);
    else if (type == AMQP_FRAME_BODY || (type == AMQP_FRAME_HEADER && payload.size >= AMQP_CONTENT_HEADER_SIZE))
        error_raise_frame(session, AMQP_UNEXPECTED_FRAME, type, payload, NULL);
    else
        error_raise_frame(session, AMQP_FRAME_ERROR, type, payload, "unknown_frame");
}

/* False: it must wait. */
static bool do_frame(struct session *session, uint8_t type, uint16_t number, struct bytes payload)
{
    if (session->phase == PHASE_CLOSING)
        return true;
    if (session->opening && session->phase == PHASE_OPENING)
        return false;
    if (session->phase >= PHASE_CLOSED) {
        if (number == 0 && type == AMQP_FRAME_METHOD && payload.size >= 4)
            handshake_closed_method(session, amqp_method_id_read(payload.data));
        return true;
    }
    if (number == 0) {
        connection_frame(session, type, payload);
        return true;
    }
    if (session->phase == PHASE_RUNNING)
        return channel_frame(session, type, number, payload);
    error_raise_frame(session, AMQP_UNEXPECTED_FRAME, type, payload, NULL);
    return true;
}

/* ---- parsing ------------------------------------------------------------------------------------------------------------------ */

/* Bytes of the body frame that is under way. Answers how many were taken. */
static size_t parse_body(struct session *session, const uint8_t *data, size_t size)
{
    struct channel *channel = session->body_wanted ? channel_find(session, session->body_channel) : NULL;
    size_t taken = size < session->body_left ? size : session->body_left;
    if (channel && !channel->content)
        channel = NULL; /* It was closed meanwhile. */
    if (channel && taken)
        publish_body(channel, bytes_of(data, taken), false);
    session->body_left -= (uint32_t)taken;
    if (taken == size)
        return taken;
    session->in_body = false;
    if (data[taken] != AMQP_FRAME_END) {
        char why[48];
        snprintf(why, sizeof(why), "{invalid_frame_end_marker,%u}", data[taken]);
        lose_sync(session, AMQP_FRAME_BODY, bytes_of(NULL, 0), why);
    } else if (channel) {
        publish_body(channel, bytes_of(NULL, 0), true);
    }
    return taken + 1;
}

/* Answers whether the frame may be that large; raises otherwise. */
static bool size_is_allowed(struct session *session, struct amqp_frame_header header)
{
    uint32_t max = session->frame_max - AMQP_FRAME_OVERHEAD;
    if (LIKELY(header.size <= max + FRAME_FUDGE))
        return true;
    char why[64];
    snprintf(why, sizeof(why), "{frame_too_large,%u,%u}", header.size, max);
    lose_sync(session, header.type, bytes_of(NULL, 0), why);
    return false;
}

/* Counts what comes before the login. False: it was too much. */
static bool count_before_login(struct session *session, size_t size)
{
    if (LIKELY(session->phase > PHASE_STARTING))
        return true;
    session->before_login += (uint32_t)size;
    if (session->before_login <= INPUT_BEFORE_LOGIN_MAX)
        return true;
    session_die(session);
    return false;
}

/* The frame at the start of `data`, which is at least a frame header. Answers how many bytes it took; 0: it is not there whole, or must wait (stalled). */
static size_t parse_frame(struct session *session, const uint8_t *data, size_t size)
{
    struct amqp_frame_header header = amqp_frame_header_read(data);
    if (!size_is_allowed(session, header))
        return size;
    if (header.type == AMQP_FRAME_BODY && header.channel != 0 && session->phase >= PHASE_RUNNING) {
        session->stalled = !body_frame(session, header.channel, header.size);
        return session->stalled ? 0 : AMQP_FRAME_HEADER_SIZE;
    }
    size_t total = (size_t)header.size + AMQP_FRAME_OVERHEAD;
    if (size < total)
        return 0;
    struct bytes payload = bytes_of(data + AMQP_FRAME_HEADER_SIZE, header.size);
    if (data[total - 1] != AMQP_FRAME_END) {
        char why[48];
        snprintf(why, sizeof(why), "{invalid_frame_end_marker,%u}", data[total - 1]);
        lose_sync(session, header.type, payload, why);
        return size;
    }
    if (!count_before_login(session, total))
        return size;
    session->stalled = !do_frame(session, header.type, header.channel, payload);
    return session->stalled ? 0 : total;
}

/* Answers how many bytes of `data` need not be seen again. */
static size_t parse(struct session *session, const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size && session->phase != PHASE_DEAD && !session->deaf) {
        size_t left = size - at, taken = 0;
        if (session->in_body)
            taken = parse_body(session, data + at, left);
        else if (UNLIKELY(session->phase == PHASE_HEADER))
            taken = handshake_header(session, bytes_of(data + at, left));
        else if (left >= 12 && load_be32(data + at + 7) == AMQP_BASIC_PUBLISH && data[at] == AMQP_FRAME_METHOD && session->phase == PHASE_RUNNING)
            taken = publish_whole(session, data + at, left);
        if (taken == 0 && session->phase != PHASE_HEADER && left >= AMQP_FRAME_HEADER_SIZE)
            taken = parse_frame(session, data + at, left);
        if (taken == 0)
            return at;
        at += taken;
    }
    return size;
}

/* ---- what is pending -------------------------------------------------------------------------------------------------------- */

void input_deinit(struct session *session)
{
    free(session->pending);
    session->pending = NULL;
    session->pending_at = session->pending_size = session->pending_capacity = 0;
}

static bool keep(struct session *session, struct bytes bytes)
{
    size_t have = session->pending_size - session->pending_at;
    if (session->pending_at) {
        memmove(session->pending, session->pending + session->pending_at, have);
        session->pending_at = 0;
        session->pending_size = have;
    }
    if (have + bytes.size > session->pending_capacity) {
        size_t capacity = session->pending_capacity ? session->pending_capacity * 2 : 256;
        while (capacity < have + bytes.size)
            capacity *= 2;
        uint8_t *pending = realloc(session->pending, capacity);
        if (!pending) {
            error_out_of_memory(session);
            session_die(session);
            return false;
        }
        session->pending = pending;
        session->pending_capacity = capacity;
    }
    memcpy(session->pending + have, bytes.data, bytes.size);
    session->pending_size = have + bytes.size;
    return true;
}

static void parse_pending(struct session *session)
{
    session->pending_at += parse(session, session->pending + session->pending_at, session->pending_size - session->pending_at);
    if (session->pending_at == session->pending_size || session->phase == PHASE_DEAD)
        input_deinit(session);
}

/* Bytes that must be there, counted from pending_at, before it is worth looking again. */
static size_t needed(const struct session *session)
{
    size_t have = session->pending_size - session->pending_at;
    if (session->phase == PHASE_HEADER)
        return AMQP_PROTOCOL_HEADER_SIZE;
    if (have < AMQP_FRAME_HEADER_SIZE)
        return AMQP_FRAME_HEADER_SIZE;
    return amqp_frame_header_read(session->pending + session->pending_at).size + AMQP_FRAME_OVERHEAD;
}

/* The frames are lost, but the peer's last one may still be recognised: connection.close-ok, after which nothing comes. */
static void listen_for_the_end(struct session *session, struct bytes in)
{
    uint8_t end[AMQP_FRAME_OVERHEAD + 4];
    size_t size = amqp_method_frame(end, sizeof(end), 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    if (in.size >= size && memcmp(in.data + in.size - size, end, size) == 0)
        session_die(session);
}

void input_feed(struct session *session, struct bytes in)
{
    if (session->deaf)
        listen_for_the_end(session, in);
    while (in.size && session->phase != PHASE_DEAD && !session->deaf) {
        size_t have = session->pending_size - session->pending_at, take;
        if (session->stalled) {
            keep(session, in);
            return;
        }
        if (have == 0) {
            take = parse(session, in.data, in.size);
            if (take < in.size && !keep(session, bytes_of(in.data + take, in.size - take)))
                return;
            return;
        }
        /* Only what completes the frame is copied; what follows is looked at where it lies. */
        take = needed(session) - have < in.size ? needed(session) - have : in.size;
        if (!keep(session, bytes_of(in.data, take)))
            return;
        in = bytes_of(in.data + take, in.size - take);
        parse_pending(session);
    }
}

void input_go_on(struct session *session)
{
    if (!session->stalled)
        return;
    session->stalled = false;
    if (session->pending_size)
        parse_pending(session);
    session_dirty(session);
}
