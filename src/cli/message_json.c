#include "cli/message_json.h"

#include "protocol/amqp/properties.h"

#include <math.h>
#include <stdlib.h>

static json_t *table_json(struct bytes table, unsigned depth);

/* RFC 4648, section 4. */
static json_t *base64(struct bytes bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = (bytes.size + 2) / 3 * 4;
    char *text = malloc(size + 1);
    if (!text)
        return NULL;
    char *at = text;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t count = bytes.size - i < 3 ? bytes.size - i : 3;
        uint32_t word = (uint32_t)bytes.data[i] << 16 | (count > 1 ? (uint32_t)bytes.data[i + 1] << 8 : 0) | (count > 2 ? bytes.data[i + 2] : 0);
        *at++ = digits[word >> 18];
        *at++ = digits[word >> 12 & 63];
        *at++ = count > 1 ? digits[word >> 6 & 63] : '=';
        *at++ = count > 2 ? digits[word & 63] : '=';
    }
    json_t *json = json_stringn(text, size);
    free(text);
    return json;
}

static json_t *text_json(struct bytes text)
{
    const char *data = text.size ? (const char *)text.data : "";
    if (amqp_utf8_valid(text))
        return json_stringn(data, text.size);
    return json_pack("{s:o}", "base64", base64(text));
}

static json_t *real_json(double real)
{
    return isfinite(real) ? json_real(real) : json_null();
}

static json_t *array_json(struct bytes array, unsigned depth);

static json_t *field_json(const struct amqp_field *field, unsigned depth)
{
    switch (field->type) {
    case 't': return json_boolean(field->integer != 0);
    case 'f':
    case 'd': return real_json(field->real);
    case 'D': return real_json((double)field->integer / pow(10, field->scale));
    case 'S': return text_json(field->bytes);
    case 'x': return json_pack("{s:o}", "base64", base64(field->bytes));
    case 'A': return array_json(field->bytes, depth + 1);
    case 'F': return table_json(field->bytes, depth + 1);
    case 'V': return json_null();
    default: return json_integer(field->integer);
    }
}

static json_t *array_json(struct bytes array, unsigned depth)
{
    struct amqp_field field;
    json_t *json = json_array();
    while (json && depth < AMQP_TABLE_DEPTH_MAX && amqp_array_next(&array, &field) == WIRE_OK) {
        if (json_array_append_new(json, field_json(&field, depth)) == 0)
            continue;
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *table_json(struct bytes table, unsigned depth)
{
    struct amqp_field field;
    json_t *json = json_object();
    while (json && depth < AMQP_TABLE_DEPTH_MAX && amqp_table_next(&table, &field) == WIRE_OK) {
        char name[256];
        memcpy(name, field.name.data, field.name.size);
        name[field.name.size] = '\0';
        /* A name that is no UTF-8 cannot be one in JSON; its header is left out. */
        if (!amqp_utf8_valid(field.name) || json_object_set_new(json, name, field_json(&field, depth)) == 0)
            continue;
        json_decref(json);
        return NULL;
    }
    return json;
}

static json_t *properties_json(const struct amqp_properties *p)
{
    json_t *json = json_object();
    const struct { enum amqp_property flag; const char *name; const struct bytes *text; } texts[] = {
        {AMQP_CONTENT_TYPE, "content_type", &p->content_type},
        {AMQP_CONTENT_ENCODING, "content_encoding", &p->content_encoding},
        {AMQP_CORRELATION_ID, "correlation_id", &p->correlation_id},
        {AMQP_REPLY_TO, "reply_to", &p->reply_to},
        {AMQP_EXPIRATION, "expiration", &p->expiration},
        {AMQP_MESSAGE_ID, "message_id", &p->message_id},
        {AMQP_TYPE, "type", &p->type},
        {AMQP_USER_ID, "user_id", &p->user_id},
        {AMQP_APP_ID, "app_id", &p->app_id},
        {AMQP_CLUSTER_ID, "cluster_id", &p->cluster_id},
    };
    int failed = json == NULL;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && !failed; i++) {
        if (p->flags & texts[i].flag)
            failed |= json_object_set_new(json, texts[i].name, text_json(*texts[i].text));
    }
    if (!failed && (p->flags & AMQP_DELIVERY_MODE))
        failed |= json_object_set_new(json, "delivery_mode", json_integer(p->delivery_mode));
    if (!failed && (p->flags & AMQP_PRIORITY))
        failed |= json_object_set_new(json, "priority", json_integer(p->priority));
    if (!failed && (p->flags & AMQP_MESSAGE_TIMESTAMP))
        failed |= json_object_set_new(json, "timestamp", json_integer((json_int_t)p->timestamp));
    if (!failed && (p->flags & AMQP_HEADERS))
        failed |= json_object_set_new(json, "headers", table_json(p->headers, 0));
    if (failed) {
        json_decref(json);
        return NULL;
    }
    return json;
}

json_t *message_json(const struct remote_message *message)
{
    struct amqp_properties properties;
    if (!amqp_properties_decode(message->properties, &properties))
        return NULL;
    bool is_text = amqp_utf8_valid(message->body);
    return json_pack("{s:o, s:o, s:b, s:o, s:o}",
                     "exchange", text_json(message->exchange),
                     "routing_key", text_json(message->routing_key),
                     "redelivered", message->redelivered,
                     "properties", properties_json(&properties),
                     is_text ? "body" : "body_base64", is_text ? text_json(message->body) : base64(message->body));
}
