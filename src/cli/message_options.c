#include "cli/message_options.h"

#include "protocol/amqp/properties.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

__attribute__((format(printf, 3, 4)))
static enum gw_err complain(char *complaint, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(complaint, size, format, arguments);
    va_end(arguments);
    return GW_ERR_INVALID;
}

static bool read_integer(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return end != text && *end == '\0' && errno == 0;
}

static bool read_real(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == '\0';
}

static bool type_is(struct bytes type, const char *name)
{
    return bytes_equal(type, bytes_of_text(name));
}

/* Adds one field; `text` is the value as it was written. */
static bool put_typed(struct amqp_table_writer *writer, const char *name, struct bytes type, const char *text)
{
    int64_t integer;
    double real;
    uint8_t raw[8];
    if (type_is(type, "int")) {
        if (!read_integer(text, &integer))
            return false;
        if (integer >= INT32_MIN && integer <= INT32_MAX)
            amqp_table_put_int(writer, name, (int32_t)integer);
        else
            amqp_table_put_long(writer, name, integer);
    } else if (type_is(type, "bool")) {
        bool is_true = strcmp(text, "true") == 0;
        if (!is_true && strcmp(text, "false") != 0)
            return false;
        amqp_table_put_bool(writer, name, is_true);
    } else if (type_is(type, "float")) {
        if (!read_real(text, &real))
            return false;
        memcpy(&integer, &real, sizeof integer);
        store_be64(raw, (uint64_t)integer);
        amqp_table_put_raw(writer, bytes_of_text(name), 'd', bytes_of(raw, 8));
    } else if (type_is(type, "time")) {
        if (!read_integer(text, &integer) || integer < 0)
            return false;
        store_be64(raw, (uint64_t)integer);
        amqp_table_put_raw(writer, bytes_of_text(name), 'T', bytes_of(raw, 8));
    } else {
        if (*text)
            return false;
        amqp_table_put_raw(writer, bytes_of_text(name), 'V', bytes_of(raw, 0));
    }
    return true;
}

static enum gw_err put_header(struct amqp_table_writer *writer, const char *text, char *complaint, size_t complaint_size)
{
    char name[256];
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return complain(complaint, complaint_size, "--header takes NAME=VALUE, not '%s'", text);
    size_t size = (size_t)(equals - text);
    struct bytes type = bytes_of(NULL, 0);
    for (size_t i = size; i > 1; i--) {
        if (text[i - 1] != ':')
            continue;
        type = bytes_of(text + i, size - i);
        break;
    }
    bool is_typed = type_is(type, "int") || type_is(type, "bool") || type_is(type, "float") || type_is(type, "time") || type_is(type, "null");
    if (is_typed)
        size -= type.size + 1;
    if (size > 255)
        return complain(complaint, complaint_size, "--header has a name longer than 255 bytes");
    memcpy(name, text, size);
    name[size] = '\0';
    if (!is_typed)
        amqp_table_put_text(writer, name, bytes_of_text(equals + 1));
    else if (!put_typed(writer, name, type, equals + 1))
        return complain(complaint, complaint_size, "--header %.*s does not take the value '%s'", (int)(equals - text), text, equals + 1);
    return GW_OK;
}

/* Fills in a short string property where its option was given. */
static bool set_text(struct amqp_properties *properties, enum amqp_property flag, struct bytes *field, const char *text)
{
    if (!text)
        return true;
    *field = bytes_of_text(text);
    properties->flags |= flag;
    return field->size <= 255;
}

enum gw_err message_options_encode(const struct message_settings *settings, uint8_t *room, struct bytes *encoded,
                                   char *complaint, size_t complaint_size)
{
    struct amqp_properties properties = {.flags = AMQP_DELIVERY_MODE, .delivery_mode = 2};
    uint8_t headers[MESSAGE_PROPERTIES_MAX / 2];
    if (settings->transient)
        properties.delivery_mode = 1;
    else if (settings->delivery_mode)
        properties.delivery_mode = (uint8_t)settings->delivery_mode;
    if (settings->priority < MESSAGE_NO_PRIORITY) {
        properties.priority = (uint8_t)settings->priority;
        properties.flags |= AMQP_PRIORITY;
    }
    if (settings->timestamp) {
        properties.timestamp = settings->timestamp;
        properties.flags |= AMQP_MESSAGE_TIMESTAMP;
    }
    const struct { enum amqp_property flag; struct bytes *field; const char *text, *option; } texts[] = {
        {AMQP_CONTENT_TYPE, &properties.content_type, settings->content_type, "content-type"},
        {AMQP_CONTENT_ENCODING, &properties.content_encoding, settings->content_encoding, "content-encoding"},
        {AMQP_CORRELATION_ID, &properties.correlation_id, settings->correlation_id, "correlation-id"},
        {AMQP_REPLY_TO, &properties.reply_to, settings->reply_to, "reply-to"},
        {AMQP_EXPIRATION, &properties.expiration, settings->expiration, "expiration"},
        {AMQP_MESSAGE_ID, &properties.message_id, settings->message_id, "message-id"},
        {AMQP_TYPE, &properties.type, settings->type, "type"},
        {AMQP_USER_ID, &properties.user_id, settings->user_id, "user-id"},
        {AMQP_APP_ID, &properties.app_id, settings->app_id, "app-id"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (!set_text(&properties, texts[i].flag, texts[i].field, texts[i].text))
            return complain(complaint, complaint_size, "--%s is longer than 255 bytes", texts[i].option);
    }
    struct amqp_table_writer writer;
    amqp_table_begin(&writer, headers, sizeof headers);
    for (size_t i = 0; i < settings->headers.count; i++) {
        enum gw_err err = put_header(&writer, settings->headers.items[i], complaint, complaint_size);
        if (err)
            return err;
    }
    if (!amqp_table_finish(&writer, &properties.headers))
        return complain(complaint, complaint_size, "the headers are larger than %u bytes together", MESSAGE_PROPERTIES_MAX / 2);
    if (settings->headers.count)
        properties.flags |= AMQP_HEADERS;
    size_t size = amqp_properties_encode(&properties, room, MESSAGE_PROPERTIES_MAX);
    if (size == 0)
        return complain(complaint, complaint_size, "the properties are too large");
    *encoded = bytes_of(room, size);
    return GW_OK;
}
