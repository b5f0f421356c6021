#include "protocol/amqp/errors.h"

#include "protocol/amqp/channel.h"
#include "protocol/amqp/requests.h"

#include <stdarg.h>
#include <stdio.h>

/* How long the peer may take to answer connection.close; and when its answer might not be understood. */
#define CLOSE_TIMEOUT_US (10 * 1000000ull)
#define CLOSE_DEAF_TIMEOUT_US (3 * 1000000ull)

static const struct row {
    uint16_t code;
    bool closes_connection;
    const char *name;
} rows[] = {
    {311, false, "CONTENT_TOO_LARGE"}, {AMQP_NO_ROUTE, false, "NO_ROUTE"}, {313, false, "NO_CONSUMERS"},
    {AMQP_CONNECTION_FORCED, true, "CONNECTION_FORCED"}, {402, true, "INVALID_PATH"}, {AMQP_ACCESS_REFUSED, false, "ACCESS_REFUSED"},
    {AMQP_NOT_FOUND, false, "NOT_FOUND"}, {AMQP_RESOURCE_LOCKED, false, "RESOURCE_LOCKED"}, {AMQP_PRECONDITION_FAILED, false, "PRECONDITION_FAILED"},
    {AMQP_FRAME_ERROR, true, "FRAME_ERROR"}, {AMQP_SYNTAX_ERROR, true, "SYNTAX_ERROR"}, {AMQP_COMMAND_INVALID, true, "COMMAND_INVALID"},
    {AMQP_CHANNEL_ERROR, true, "CHANNEL_ERROR"}, {AMQP_UNEXPECTED_FRAME, true, "UNEXPECTED_FRAME"}, {AMQP_RESOURCE_ERROR, true, "RESOURCE_ERROR"},
    {AMQP_NOT_ALLOWED, true, "NOT_ALLOWED"}, {AMQP_NOT_IMPLEMENTED, true, "NOT_IMPLEMENTED"}, {AMQP_INTERNAL_ERROR, true, "INTERNAL_ERROR"},
};

static const struct row *find(uint16_t code)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == code)
            return &rows[i];
    }
    return &rows[sizeof(rows) / sizeof(rows[0]) - 1];
}

const char *error_name(uint16_t code)
{
    return find(code)->name;
}

bool error_closes_connection(uint16_t code)
{
    return find(code)->closes_connection;
}

/* The peer is not trusted before it has logged in, nor told what it did wrong: with these exceptions, which are RabbitMQ's. */
static bool peer_is_told(const struct session *session, uint16_t code)
{
    switch (session->phase) {
    case PHASE_STARTING: return session->capabilities & CLIENT_AUTHENTICATION_FAILURE_CLOSE;
    case PHASE_TUNING: return code == AMQP_NOT_ALLOWED || code == AMQP_CONNECTION_FORCED;
    case PHASE_OPENING: case PHASE_RUNNING: return true;
    default: return false;
    }
}

static void close_connection(struct session *session, uint16_t code, uint32_t id, struct bytes text)
{
    if (session->phase >= PHASE_CLOSING)
        return;
    if (!peer_is_told(session, code)) {
        session_die(session);
        return;
    }
    session_flush(session);
    struct amqp_value values[AMQP_CONNECTION_CLOSE_COUNT] = {
        [AMQP_CONNECTION_CLOSE_REPLY_CODE] = amqp_number(code), [AMQP_CONNECTION_CLOSE_REPLY_TEXT] = amqp_bytes(text),
        [AMQP_CONNECTION_CLOSE_CLASS_ID] = amqp_number(id >> 16), [AMQP_CONNECTION_CLOSE_METHOD_ID] = amqp_number(id & 0xFFFF)};
    session->phase = PHASE_CLOSED;
    session->is_forced = code == AMQP_CONNECTION_FORCED;
    session->closing_us = session->now_us + (session->deaf ? CLOSE_DEAF_TIMEOUT_US : CLOSE_TIMEOUT_US);
    session_release(session);
    request_delete_exclusive(session);
    session_send(session, 0, AMQP_CONNECTION_CLOSE, values);
    session_dirty(session);
}

static void close_channel(struct channel *channel, uint16_t code, uint32_t id, struct bytes text)
{
    if (channel->state != CHANNEL_OPEN)
        return;
    session_flush(channel->session);
    struct amqp_value values[AMQP_CHANNEL_CLOSE_COUNT] = {
        [AMQP_CHANNEL_CLOSE_REPLY_CODE] = amqp_number(code), [AMQP_CHANNEL_CLOSE_REPLY_TEXT] = amqp_bytes(text),
        [AMQP_CHANNEL_CLOSE_CLASS_ID] = amqp_number(id >> 16), [AMQP_CHANNEL_CLOSE_METHOD_ID] = amqp_number(id & 0xFFFF)};
    channel->state = CHANNEL_FAILED;
    channel_release(channel);
    session_send(channel->session, channel->number, AMQP_CHANNEL_CLOSE, values);
    session_dirty(channel->session);
}

/* Cuts at 255 bytes without leaving half a character. */
static struct bytes cut(struct bytes text)
{
    if (text.size <= ERROR_TEXT_MAX)
        return text;
    text.size = ERROR_TEXT_MAX;
    while (text.size && (text.data[text.size] & 0xC0) == 0x80)
        text.size--;
    return text;
}

void error_raise_text(struct session *session, struct channel *channel, uint16_t code, uint32_t id, struct bytes text)
{
    if (!channel || error_closes_connection(code))
        close_connection(session, code, id, cut(text));
    else
        close_channel(channel, code, id, cut(text));
}

void error_raise(struct session *session, struct channel *channel, uint16_t code, uint32_t id, const char *format, ...)
{
    char text[1024];
    int size = snprintf(text, sizeof(text), "%s - ", error_name(code));
    va_list arguments;
    va_start(arguments, format);
    int more = vsnprintf(text + size, sizeof(text) - (size_t)size, format, arguments);
    va_end(arguments);
    size += more > 0 ? more : 0;
    if ((size_t)size >= sizeof(text))
        size = sizeof(text) - 1;
    error_raise_text(session, channel, code, id, bytes_of(text, (size_t)size));
}

/* As Erlang prints a binary: as text when all of it is printable. */
static void print_octets(char *at, size_t room, struct bytes octets)
{
    bool printable = octets.size > 0;
    for (size_t i = 0; i < octets.size; i++)
        printable = printable && octets.data[i] >= 32 && octets.data[i] < 127 && octets.data[i] != '"' && octets.data[i] != '\\';
    if (printable) {
        snprintf(at, room, "<<\"%.*s\">>", (int)octets.size, (const char *)octets.data);
        return;
    }
    size_t size = (size_t)snprintf(at, room, "<<");
    for (size_t i = 0; i < octets.size; i++)
        size += (size_t)snprintf(at + size, room - size, "%s%u", i ? "," : "", octets.data[i]);
    snprintf(at + size, room - size, ">>");
}

void error_raise_frame(struct session *session, uint16_t code, uint8_t type, struct bytes payload, const char *why)
{
    char octets[80];
    bool all = payload.size <= 16;
    print_octets(octets, sizeof(octets), bytes_of(payload.data, all ? payload.size : 16));
    error_raise(session, NULL, code, 0, "type %u, %s octets = %s%s%s", type, all ? "all" : "first 16", octets, why ? ": " : "", why ? why : "");
}

void error_raise_undecoded(struct session *session, const struct amqp_method *method, enum amqp_decoded decoded, struct bytes payload)
{
    uint32_t id = amqp_method_id_read(payload.data);
    char text[1024];
    int size = 0;
    switch (decoded) {
    case AMQP_UNKNOWN_METHOD:
        error_raise(session, NULL, AMQP_COMMAND_INVALID, id, "unknown method %u/%u", id >> 16, id & 0xFFFF);
        break;
    case AMQP_BAD_UTF8:
        error_raise(session, NULL, AMQP_FRAME_ERROR, id >> 16 == 10 ? id : 0, "Malformed UTF-8 in shortstr");
        return;
    default:
        for (size_t i = 4; i < payload.size && size < (int)ERROR_TEXT_MAX; i++)
            size += snprintf(text + size, sizeof(text) - (size_t)size, "%s%u", i > 4 ? "," : "", payload.data[i]);
        error_raise(session, NULL, AMQP_FRAME_ERROR, method->row->id, "cannot decode <<%.*s>>", size, text);
        break;
    }
    if (decoded != AMQP_MALFORMED)
        session_die(session);
}

void error_out_of_memory(struct session *session)
{
    error_raise(session, NULL, AMQP_RESOURCE_ERROR, 0, "out of memory");
}
