/* A message as the answer to a request. */
#include "protocol/gateway/reception.h"

#include "broker/worker.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define FIELDS_MAX 100u              /* headers beyond are left out */
#define NAME_SIZE (UINT8_MAX + 16u)

/* Fields and the bytes that they lie in. */
struct fields {
    struct http_field items[FIELDS_MAX];
    unsigned count;
    uint8_t *room, *at, *end;
};

/* Names are tokens in lower case. */
static bool put_name(struct fields *fields, const char *prefix, struct bytes name)
{
    size_t size = strlen(prefix);
    if (fields->count == FIELDS_MAX || (size_t)(fields->end - fields->at) < size + name.size)
        return false;
    uint8_t *begin = fields->at;
    memcpy(begin, prefix, size);
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] | 32 : name.data[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.')
            return false;
        begin[size + i] = c;
    }
    fields->items[fields->count].name = bytes_of(begin, size + name.size);
    return true;
}

/* What is no visible ASCII, and the percent sign, is percent-encoded. */
static void put(struct fields *fields, const char *prefix, struct bytes name, struct bytes value)
{
    static const char hex[] = "0123456789ABCDEF";
    if (!put_name(fields, prefix, name) || (size_t)(fields->end - fields->at) < fields->items[fields->count].name.size + 3 * value.size)
        return;
    uint8_t *begin = fields->at + fields->items[fields->count].name.size, *at = begin;
    for (size_t i = 0; i < value.size; i++) {
        uint8_t c = value.data[i];
        bool edge = i == 0 || i + 1 == value.size;
        if (c > 32 && c < 127 && c != '%') {
            *at++ = c;
        } else if (c == ' ' && !edge) {
            *at++ = c;
        } else {
            *at++ = '%';
            *at++ = (uint8_t)hex[c >> 4];
            *at++ = (uint8_t)hex[c & 15];
        }
    }
    fields->items[fields->count++].value = bytes_of(begin, (size_t)(at - begin));
    fields->at = at;
}

static void put_text(struct fields *fields, const char *name, const char *value) { put(fields, name, (struct bytes){0}, bytes_of_text(value)); }

static void put_number(struct fields *fields, const char *prefix, struct bytes name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    put(fields, prefix, name, bytes_of_text(text));
}

/* Texts, numbers and booleans; what is nested has no place in a header. */
static void put_headers(struct fields *fields, struct bytes table)
{
    struct amqp_field field;
    while (amqp_table_next(&table, &field) == WIRE_OK) {
        if (field.type == 'S')
            put(fields, "message-", field.name, field.bytes);
        else if (field.type == 't')
            put(fields, "message-", field.name, bytes_of_text(field.integer ? "true" : "false"));
        else if (amqp_field_is_integer(&field) || field.type == 'T')
            put_number(fields, "message-", field.name, field.integer);
    }
}

static void put_properties(struct fields *fields, const struct amqp_properties *properties)
{
    static const struct { uint16_t flag; const char *name; size_t offset; } rows[] = {
        {AMQP_CONTENT_ENCODING, "content-encoding", offsetof(struct amqp_properties, content_encoding)},
        {AMQP_CORRELATION_ID, "godwit-correlation-id", offsetof(struct amqp_properties, correlation_id)},
        {AMQP_REPLY_TO, "godwit-reply-to", offsetof(struct amqp_properties, reply_to)},
        {AMQP_MESSAGE_ID, "godwit-message-id", offsetof(struct amqp_properties, message_id)},
        {AMQP_TYPE, "godwit-type", offsetof(struct amqp_properties, type)},
        {AMQP_APP_ID, "godwit-app-id", offsetof(struct amqp_properties, app_id)},
        {AMQP_USER_ID, "godwit-user-id", offsetof(struct amqp_properties, user_id)},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (properties->flags & rows[i].flag)
            put(fields, rows[i].name, (struct bytes){0}, *(const struct bytes *)((const char *)properties + rows[i].offset));
    if (properties->flags & AMQP_PRIORITY)
        put_number(fields, "godwit-priority", (struct bytes){0}, properties->priority);
    if (properties->flags & AMQP_MESSAGE_TIMESTAMP)
        put_number(fields, "godwit-timestamp", (struct bytes){0}, (int64_t)properties->timestamp);
    if (properties->flags & AMQP_HEADERS)
        put_headers(fields, properties->headers);
}

/* The media type, if it may stand in a header as it is. */
static const char *media_type(const struct amqp_properties *properties, char room[UINT8_MAX + 1])
{
    struct bytes type = properties->content_type;
    if (!(properties->flags & AMQP_CONTENT_TYPE) || !type.size)
        return "application/octet-stream";
    for (size_t i = 0; i < type.size; i++)
        if (type.data[i] < 32 || type.data[i] > 126)
            return "application/octet-stream";
    memcpy(room, type.data, type.size);
    room[type.size] = 0;
    return room;
}

bool reception_answer(struct task *task, const struct delivery *delivery, const char *token)
{
    struct message message;
    struct amqp_properties properties = {0};
    char type[UINT8_MAX + 1];
    if (!message_read(delivery->content, &message) || (message.properties.size && !amqp_properties_decode(message.properties, &properties)))
        return false;
    size_t size = 4096 + 3 * (message.exchange.size + message.routing_key.size + message.properties.size) + FIELDS_MAX * 16;
    struct fields fields = {.room = malloc(size)};
    if (!fields.room)
        return false;
    fields.at = fields.room;
    fields.end = fields.room + size;
    if (token)
        put_text(&fields, "godwit-token", token);
    put_text(&fields, "godwit-redelivered", delivery->redelivered ? "true" : "false");
    put(&fields, "godwit-exchange", (struct bytes){0}, message.exchange);
    put(&fields, "godwit-routing-key", (struct bytes){0}, message.routing_key);
    if (delivery->added != DELIVERY_ADDS_NOTHING && delivery->added != DELIVERY_ADDS_OFFSET)
        put_number(&fields, "godwit-delivery-count", (struct bytes){0}, (int64_t)(delivery->added_value & ((1ull << DELIVERY_REASON_SHIFT) - 1)));
    put_properties(&fields, &properties);
    task->state = TASK_ANSWERED;
    http_answer(task->call, &(struct http_answer){.status = 200, .type = media_type(&properties, type), .fields = fields.items, .field_count = fields.count,
                                                  .body = message.body});
    free(fields.room);
    return true;
}
