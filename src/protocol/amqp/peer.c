#include "protocol/amqp/peer.h"

#include <stdio.h>
#include <stdlib.h>

static void on_dirty(struct session_host *host, void *owner)
{
    (void)host;
    ((struct peer *)owner)->dirty = true;
}

void peer_open(struct peer *peer, bool byte_by_byte)
{
    memset(peer, 0, sizeof(*peer));
    fake_open(&peer->fake);
    peer->config = session_config_default;
    peer->host.dirty = on_dirty;
    peer->byte_by_byte = byte_by_byte;
    peer->now_us = peer->fake.now_us;
    CHECK(session_new(&peer->fake, &peer->config, &peer->host, peer, true, peer->now_us, &peer->session) == GW_OK);
}

void peer_close(struct peer *peer)
{
    session_free(peer->session);
    fake_close(&peer->fake);
    free(peer->received);
}

void peer_feed(struct peer *peer, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    size_t step = peer->byte_by_byte ? 1 : size;
    for (size_t done = 0; done < size; done += step) {
        /* A copy of its own size, so that a sanitizer sees who reads too far. */
        uint8_t *copy = malloc(step);
        CHECK(copy);
        memcpy(copy, at + done, step);
        session_feed(peer->session, bytes_of(copy, step), peer->now_us);
        free(copy);
        fake_lets_in(&peer->fake);
    }
}

void peer_send(struct peer *peer, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    uint8_t bytes[4096];
    size_t size = amqp_method_frame(bytes, sizeof(bytes), channel, id, values);
    CHECK(size > 0);
    peer_feed(peer, bytes, size);
}

void peer_send_frame(struct peer *peer, uint8_t type, uint16_t channel, const void *payload, size_t size)
{
    uint8_t *bytes = malloc(size + AMQP_FRAME_OVERHEAD);
    CHECK(bytes);
    uint8_t *at = amqp_frame_begin(bytes, type, channel, (uint32_t)size);
    if (size)
        memcpy(at, payload, size);
    at[size] = AMQP_FRAME_END;
    peer_feed(peer, bytes, size + AMQP_FRAME_OVERHEAD);
    free(bytes);
}

void peer_send_start_ok(struct peer *peer, const char *user, const char *password, bool capabilities)
{
    uint8_t room[512];
    char response[128];
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, sizeof(room));
    if (capabilities) {
        size_t mark = amqp_table_nest_begin(&writer, "capabilities");
        amqp_table_put_bool(&writer, "authentication_failure_close", true);
        amqp_table_put_bool(&writer, "consumer_cancel_notify", true);
        amqp_table_put_bool(&writer, "connection.blocked", true);
        amqp_table_nest_end(&writer, mark);
    }
    CHECK(amqp_table_finish(&writer, &table));
    size_t size = (size_t)snprintf(response, sizeof(response), "%c%s%c%s", 0, user, 0, password);
    struct amqp_value values[AMQP_CONNECTION_START_OK_COUNT] = {
        [AMQP_CONNECTION_START_OK_CLIENT_PROPERTIES] = amqp_bytes(table), [AMQP_CONNECTION_START_OK_MECHANISM] = amqp_text("PLAIN"),
        [AMQP_CONNECTION_START_OK_RESPONSE] = amqp_bytes(bytes_of(response, size)), [AMQP_CONNECTION_START_OK_LOCALE] = amqp_text("en_US")};
    peer_send(peer, 0, AMQP_CONNECTION_START_OK, values);
}

void peer_open_running(struct peer *peer, bool byte_by_byte)
{
    struct amqp_value tune[] = {amqp_number(2047), amqp_number(131072), amqp_number(60)};
    struct amqp_value open[] = {amqp_text("/"), amqp_text(""), amqp_number(0)};
    struct amqp_value channel[] = {amqp_text("")};
    peer_open(peer, byte_by_byte);
    peer_feed(peer, amqp_protocol_header, 8);
    peer_send_start_ok(peer, "guest", "guest", true);
    peer_send(peer, 0, AMQP_CONNECTION_TUNE_OK, tune);
    peer_send(peer, 0, AMQP_CONNECTION_OPEN, open);
    peer_send(peer, 1, AMQP_CHANNEL_OPEN, channel);
    peer_heard(peer);
    fake_said(&peer->fake);
}

void peer_publish(struct peer *peer, uint16_t channel, const char *exchange, const char *key, const char *body, bool mandatory, bool persistent)
{
    uint8_t bytes[4096];
    size_t body_size = strlen(body);
    size_t size = amqp_publish_frame(bytes, sizeof(bytes), channel, bytes_of_text(exchange), bytes_of_text(key), mandatory);
    struct bytes properties = persistent ? bytes_of("\x10\0\x02", 3) : bytes_of("\0\0", 2);
    uint8_t *at = amqp_content_header_write(bytes + size, channel, body_size, properties);
    if (body_size) {
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, channel, (uint32_t)body_size);
        memcpy(at, body, body_size);
        at += body_size;
        *at++ = AMQP_FRAME_END;
    }
    peer_feed(peer, bytes, (size_t)(at - bytes));
}

/* ---- listening ------------------------------------------------------------------------------------------------------------------------- */

/* Takes what waits, three vectors at a time so that several rounds are needed. */
static void receive(struct peer *peer)
{
    struct iovec iov[3];
    unsigned count;
    while ((count = session_output(peer->session, iov, 3)) > 0) {
        size_t size = 0;
        for (unsigned i = 0; i < count; i++) {
            peer->received = realloc(peer->received, peer->received_size + iov[i].iov_len);
            CHECK(peer->received);
            memcpy(peer->received + peer->received_size, iov[i].iov_base, iov[i].iov_len);
            peer->received_size += iov[i].iov_len;
            size += iov[i].iov_len;
        }
        session_sent(peer->session, size, peer->now_us);
    }
}

static size_t print_method(char *at, size_t room, const struct amqp_method *method)
{
    size_t size = (size_t)snprintf(at, room, "%s", method->row->name);
    for (unsigned i = 0; i < method->row->count; i++) {
        const struct amqp_value *value = &method->values[i];
        uint8_t kind = method->row->arguments[i].kind;
        if (kind <= AMQP_BIT)
            size += (size_t)snprintf(at + size, room - size, " %llu", (unsigned long long)value->number);
        else if (kind != AMQP_TABLE)
            size += (size_t)snprintf(at + size, room - size, " \"%.*s\"", (int)value->bytes.size, (const char *)value->bytes.data);
    }
    return size;
}

static size_t print_frame(char *at, size_t room, const struct amqp_frame *frame)
{
    struct amqp_method method;
    struct amqp_content_header header;
    size_t size = (size_t)snprintf(at, room, "%u ", frame->channel);
    switch (frame->type) {
    case AMQP_FRAME_METHOD:
        CHECK(amqp_method_decode(frame->payload, &method) == AMQP_DECODED);
        return size + print_method(at + size, room - size, &method);
    case AMQP_FRAME_HEADER:
        CHECK(amqp_content_header_decode(frame->payload, &header));
        return size + (size_t)snprintf(at + size, room - size, "header %u %llu", header.class_id, (unsigned long long)header.body_size);
    case AMQP_FRAME_BODY:
        if (frame->payload.size > 64)
            return size + (size_t)snprintf(at + size, room - size, "body of %zu bytes", frame->payload.size);
        return size + (size_t)snprintf(at + size, room - size, "body \"%.*s\"", (int)frame->payload.size, (const char *)frame->payload.data);
    default:
        CHECK(frame->type == AMQP_FRAME_HEARTBEAT);
        return size + (size_t)snprintf(at + size, room - size, "heartbeat");
    }
}

const char *peer_heard(struct peer *peer)
{
    receive(peer);
    size_t at = 0, size = 0;
    peer->text[0] = 0;
    while (at < peer->received_size) {
        struct amqp_frame frame;
        struct bytes rest = bytes_of(peer->received + at, peer->received_size - at);
        if (amqp_protocol_header_read(rest) == WIRE_OK) {
            size += (size_t)snprintf(peer->text + size, sizeof(peer->text) - size, "AMQP 0-9-1\n");
            at += AMQP_PROTOCOL_HEADER_SIZE;
            continue;
        }
        CHECK(amqp_frame_read(rest, 131072 + 4096, &frame) == WIRE_OK);
        size += print_frame(peer->text + size, sizeof(peer->text) - size, &frame);
        size += (size_t)snprintf(peer->text + size, sizeof(peer->text) - size, "\n");
        at += frame.size;
    }
    peer->received_size = 0;
    return peer->text;
}
