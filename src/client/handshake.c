#include "client/remote_state.h"

#include <stdio.h>

#define FRAME_MAX_WANTED 131072u

static size_t put(uint8_t *at, const char *text)
{
    size_t size = strlen(text);
    memcpy(at, text, size);
    return size;
}

static void append_text(char *to, size_t size, struct bytes text)
{
    size_t length = strlen(to);
    snprintf(to + length, size - length, "%s%.*s", length ? " " : "", (int)(text.size < 60 ? text.size : 60),
             (const char *)text.data);
}

static void note_product(struct remote *remote, struct bytes properties)
{
    struct amqp_field field;
    remote->product[0] = '\0';
    /* Godwit says RabbitMQ where clients look, and its own name in `platform`. */
    if (amqp_table_find(properties, "platform", &field) && field.type == 'S' && field.bytes.size > 7 && memcmp(field.bytes.data, "Godwit ", 7) == 0) {
        append_text(remote->product, sizeof remote->product, field.bytes);
        return;
    }
    if (amqp_table_find(properties, "product", &field) && field.type == 'S')
        append_text(remote->product, sizeof remote->product, field.bytes);
    if (amqp_table_find(properties, "version", &field) && field.type == 'S')
        append_text(remote->product, sizeof remote->product, field.bytes);
}

static bool has_word(struct bytes words, const char *word)
{
    size_t size = strlen(word);
    for (size_t i = 0; i + size <= words.size; i++) {
        bool begins = i == 0 || words.data[i - 1] == ' ';
        bool ends = i + size == words.size || words.data[i + size] == ' ';
        if (begins && ends && memcmp(words.data + i, word, size) == 0)
            return true;
    }
    return false;
}

static enum gw_err send_start_ok(struct remote *remote)
{
    uint8_t room[1024], response[2 * URI_PART_MAX + 2];
    struct amqp_table_writer writer;
    struct bytes properties;
    amqp_table_begin(&writer, room, sizeof room);
    amqp_table_put_text(&writer, "product", bytes_of_text("godwit"));
    amqp_table_put_text(&writer, "version", bytes_of_text(GODWIT_VERSION));
    amqp_table_put_text(&writer, "platform", bytes_of_text("C"));
    if (remote->name)
        amqp_table_put_text(&writer, "connection_name", bytes_of_text(remote->name));
    size_t mark = amqp_table_nest_begin(&writer, "capabilities");
    amqp_table_put_bool(&writer, "publisher_confirms", true);
    amqp_table_put_bool(&writer, "exchange_exchange_bindings", true);
    amqp_table_put_bool(&writer, "basic.nack", true);
    amqp_table_put_bool(&writer, "consumer_cancel_notify", true);
    amqp_table_put_bool(&writer, "connection.blocked", true);
    amqp_table_put_bool(&writer, "authentication_failure_close", true);
    amqp_table_nest_end(&writer, mark);
    if (!amqp_table_finish(&writer, &properties))
        return remote_fail(remote, GW_ERR_LIMIT, "the connection's name is too long");

    /* PLAIN (RFC 4616): NUL, user, NUL, password. */
    size_t size = 0;
    response[size++] = '\0';
    size += put(response + size, remote->uri.user);
    response[size++] = '\0';
    size += put(response + size, remote->uri.password);
    struct amqp_value values[AMQP_CONNECTION_START_OK_COUNT] = {
        [AMQP_CONNECTION_START_OK_CLIENT_PROPERTIES] = amqp_bytes(properties),
        [AMQP_CONNECTION_START_OK_MECHANISM] = amqp_text("PLAIN"),
        [AMQP_CONNECTION_START_OK_RESPONSE] = amqp_bytes(bytes_of(response, size)),
        [AMQP_CONNECTION_START_OK_LOCALE] = amqp_text("en_US"),
    };
    return remote_send_on(remote, 0, AMQP_CONNECTION_START_OK, values);
}

/* 0 means no limit on either side. */
static uint32_t agree(uint32_t ours, uint32_t theirs)
{
    return theirs == 0 || (ours != 0 && ours < theirs) ? ours : theirs;
}

static enum gw_err answer_tune(struct remote *remote, const struct amqp_method *tune)
{
    uint32_t frame_max = agree(FRAME_MAX_WANTED, (uint32_t)tune->values[AMQP_CONNECTION_TUNE_FRAME_MAX].number);
    uint32_t heartbeat_s = (uint32_t)tune->values[AMQP_CONNECTION_TUNE_HEARTBEAT].number;
    if (frame_max < AMQP_FRAME_MIN_SIZE)
        return remote_fail(remote, GW_ERR_INVALID, "the broker's largest frame is %u bytes, less than AMQP's smallest limit", frame_max);
    /* Whoever wants none gets none; otherwise the shorter one holds. */
    if (remote->uri.heartbeat_s == 0 || (heartbeat_s && heartbeat_s > remote->uri.heartbeat_s) || heartbeat_s == 0)
        heartbeat_s = remote->uri.heartbeat_s;
    struct amqp_value values[AMQP_CONNECTION_TUNE_OK_COUNT] = {
        [AMQP_CONNECTION_TUNE_OK_CHANNEL_MAX] = amqp_number(agree(2047, (uint32_t)tune->values[AMQP_CONNECTION_TUNE_CHANNEL_MAX].number)),
        [AMQP_CONNECTION_TUNE_OK_FRAME_MAX] = amqp_number(frame_max),
        [AMQP_CONNECTION_TUNE_OK_HEARTBEAT] = amqp_number(heartbeat_s),
    };
    enum gw_err err = remote_send_on(remote, 0, AMQP_CONNECTION_TUNE_OK, values);
    remote->frame_max = frame_max;
    remote->heartbeat_ms = heartbeat_s * 1000;
    return err;
}

enum gw_err remote_handshake(struct remote *remote)
{
    struct amqp_method method;
    uint64_t timeout_ms = remote->uri.connection_timeout_ms;
    enum gw_err err = remote_buffer_add(&remote->out, bytes_of(amqp_protocol_header, AMQP_PROTOCOL_HEADER_SIZE));
    if (err)
        return remote_fail(remote, err, "out of memory");
    err = remote_await(remote, AMQP_CONNECTION_START, 0, timeout_ms, &method);
    if (err)
        return err;
    note_product(remote, method.values[AMQP_CONNECTION_START_SERVER_PROPERTIES].bytes);
    if (!has_word(method.values[AMQP_CONNECTION_START_MECHANISMS].bytes, "PLAIN"))
        return remote_fail(remote, GW_ERR_PERMISSION, "the broker does not let users log in with a password (PLAIN)");
    err = send_start_ok(remote);
    if (!err)
        err = remote_await(remote, AMQP_CONNECTION_TUNE, 0, timeout_ms, &method);
    if (err == GW_ERR_CLOSED && remote->reply_code == 0)
        return remote_fail(remote, GW_ERR_PERMISSION, "the broker hung up during log-in; is the password of user %s right?", remote->uri.user);
    if (!err)
        err = answer_tune(remote, &method);
    if (err)
        return err;
    struct amqp_value values[AMQP_CONNECTION_OPEN_COUNT] = {
        [AMQP_CONNECTION_OPEN_VIRTUAL_HOST] = amqp_text(remote->uri.vhost),
        [AMQP_CONNECTION_OPEN_CAPABILITIES] = amqp_text(""),
    };
    return remote_call_on(remote, 0, AMQP_CONNECTION_OPEN, values, AMQP_CONNECTION_OPEN_OK, 0, timeout_ms, &method);
}
