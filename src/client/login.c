#include "client/login.h"

#include <stdio.h>

#define FRAME_MAX_WANTED 131072u
#define CHANNEL_MAX_WANTED 2047u

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

void login_product(struct bytes server_properties, char *product)
{
    struct amqp_field field;
    product[0] = '\0';
    /* Godwit says RabbitMQ where clients look, and its own name in `platform`. */
    if (amqp_table_find(server_properties, "platform", &field) && field.type == 'S' && field.bytes.size > 7 && memcmp(field.bytes.data, "Godwit ", 7) == 0) {
        append_text(product, LOGIN_PRODUCT_SIZE, field.bytes);
        return;
    }
    if (amqp_table_find(server_properties, "product", &field) && field.type == 'S')
        append_text(product, LOGIN_PRODUCT_SIZE, field.bytes);
    if (amqp_table_find(server_properties, "version", &field) && field.type == 'S')
        append_text(product, LOGIN_PRODUCT_SIZE, field.bytes);
}

bool login_is_capable(struct bytes server_properties, const char *capability)
{
    struct amqp_field field;
    return amqp_table_find(server_properties, "capabilities", &field) && field.type == 'F' && amqp_table_flag(field.bytes, capability);
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

bool login_is_offered(const struct amqp_method *start)
{
    return has_word(start->values[AMQP_CONNECTION_START_MECHANISMS].bytes, "PLAIN");
}

size_t login_start_ok(uint8_t *at, size_t room, const struct uri *uri, const char *name)
{
    uint8_t table[1024], response[2 * URI_PART_MAX + 2];
    struct amqp_table_writer writer;
    struct bytes properties;
    amqp_table_begin(&writer, table, sizeof table);
    amqp_table_put_text(&writer, "product", bytes_of_text("godwit"));
    amqp_table_put_text(&writer, "version", bytes_of_text(GODWIT_VERSION));
    amqp_table_put_text(&writer, "platform", bytes_of_text("C"));
    if (name)
        amqp_table_put_text(&writer, "connection_name", bytes_of_text(name));
    size_t mark = amqp_table_nest_begin(&writer, "capabilities");
    amqp_table_put_bool(&writer, "publisher_confirms", true);
    amqp_table_put_bool(&writer, "exchange_exchange_bindings", true);
    amqp_table_put_bool(&writer, "basic.nack", true);
    amqp_table_put_bool(&writer, "consumer_cancel_notify", true);
    amqp_table_put_bool(&writer, "connection.blocked", true);
    amqp_table_put_bool(&writer, "authentication_failure_close", true);
    amqp_table_nest_end(&writer, mark);
    if (!amqp_table_finish(&writer, &properties))
        return 0;

    /* PLAIN (RFC 4616): NUL, user, NUL, password. */
    size_t size = 0;
    response[size++] = '\0';
    size += put(response + size, uri->user);
    response[size++] = '\0';
    size += put(response + size, uri->password);
    struct amqp_value values[AMQP_CONNECTION_START_OK_COUNT] = {
        [AMQP_CONNECTION_START_OK_CLIENT_PROPERTIES] = amqp_bytes(properties),
        [AMQP_CONNECTION_START_OK_MECHANISM] = amqp_text("PLAIN"),
        [AMQP_CONNECTION_START_OK_RESPONSE] = amqp_bytes(bytes_of(response, size)),
        [AMQP_CONNECTION_START_OK_LOCALE] = amqp_text("en_US"),
    };
    return amqp_method_frame(at, room, 0, AMQP_CONNECTION_START_OK, values);
}

/* 0 means no limit on either side. */
static uint32_t agree(uint32_t ours, uint32_t theirs)
{
    return theirs == 0 || (ours != 0 && ours < theirs) ? ours : theirs;
}

size_t login_tune_ok(uint8_t *at, size_t room, const struct uri *uri, const struct amqp_method *tune, struct login_limits *limits)
{
    uint32_t heartbeat_s = (uint32_t)tune->values[AMQP_CONNECTION_TUNE_HEARTBEAT].number;
    limits->frame_max = agree(FRAME_MAX_WANTED, (uint32_t)tune->values[AMQP_CONNECTION_TUNE_FRAME_MAX].number);
    limits->channel_max = (uint16_t)agree(CHANNEL_MAX_WANTED, (uint32_t)tune->values[AMQP_CONNECTION_TUNE_CHANNEL_MAX].number);
    if (limits->frame_max < AMQP_FRAME_MIN_SIZE)
        return 0;
    /* Whoever wants none gets none; otherwise the shorter one holds. */
    if (uri->heartbeat_s == 0 || (heartbeat_s && heartbeat_s > uri->heartbeat_s) || heartbeat_s == 0)
        heartbeat_s = uri->heartbeat_s;
    limits->heartbeat_ms = heartbeat_s * 1000;
    struct amqp_value values[AMQP_CONNECTION_TUNE_OK_COUNT] = {
        [AMQP_CONNECTION_TUNE_OK_CHANNEL_MAX] = amqp_number(limits->channel_max),
        [AMQP_CONNECTION_TUNE_OK_FRAME_MAX] = amqp_number(limits->frame_max),
        [AMQP_CONNECTION_TUNE_OK_HEARTBEAT] = amqp_number(heartbeat_s),
    };
    return amqp_method_frame(at, room, 0, AMQP_CONNECTION_TUNE_OK, values);
}

size_t login_open(uint8_t *at, size_t room, const struct uri *uri)
{
    struct amqp_value values[AMQP_CONNECTION_OPEN_COUNT] = {
        [AMQP_CONNECTION_OPEN_VIRTUAL_HOST] = amqp_text(uri->vhost),
        [AMQP_CONNECTION_OPEN_CAPABILITIES] = amqp_text(""),
    };
    return amqp_method_frame(at, room, 0, AMQP_CONNECTION_OPEN, values);
}

enum gw_err login_greeting(const uint8_t *first, char *complaint, size_t complaint_size)
{
    if (memcmp(first, "AMQP", 4) == 0) {
        snprintf(complaint, complaint_size, "the broker speaks AMQP %u-%u-%u only, not 0-9-1", first[5], first[6], first[7]);
        return GW_ERR_VERSION;
    }
    if (first[0] != AMQP_FRAME_METHOD) {
        snprintf(complaint, complaint_size, "what answers there does not speak AMQP");
        return GW_ERR_INVALID;
    }
    return GW_OK;
}

enum gw_err login_refusal(unsigned reply_code)
{
    switch (reply_code) {
    case 404: return GW_ERR_NOT_FOUND;
    case 403: return GW_ERR_PERMISSION;
    case 405: return GW_ERR_BUSY;
    default: return GW_ERR_INVALID;
    }
}
