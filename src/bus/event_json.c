#include "bus/event_json.h"

#include "base/base64.h"
#include "protocol/amqp/wire.h"

#include <jansson.h>
#include <stdio.h>
#include <strings.h>

#define PREFIX "cloudEvents_"
#define PREFIX_SIZE (sizeof(PREFIX) - 1)
#define NAME_MAX_SIZE 64u

bool event_is_json(struct bytes type)
{
    const uint8_t *end = type.size ? memchr(type.data, ';', type.size) : NULL;
    if (end)
        type.size = (size_t)(end - type.data);
    while (type.size && type.data[type.size - 1] == ' ')
        type.size--;
    const char *last = type.size >= 5 ? (const char *)type.data + type.size - 5 : "";
    return type.size >= 5 && (strncasecmp(last, "/json", 5) == 0 || strncasecmp(last, "+json", 5) == 0);
}

bool event_is_attribute(struct bytes name)
{
    for (size_t i = 0; i < name.size; i++)
        if (!(name.data[i] >= 'a' && name.data[i] <= 'z') && !(name.data[i] >= '0' && name.data[i] <= '9'))
            return false;
    return name.size > 0 && name.size <= NAME_MAX_SIZE;
}

/* json_dumps has been seen to leave out a name, and to answer nevertheless, when memory ran out in the middle: so its room is made first. NULL: out of memory. */
static char *text_of(const json_t *value, size_t *size)
{
    *size = value ? json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) : 0;
    char *text = *size ? malloc(*size) : NULL;
    if (text && json_dumpb(value, text, *size, JSON_COMPACT | JSON_ENCODE_ANY) == *size)
        return text;
    free(text);
    return NULL;
}

/* ---- attributes ------------------------------------------------------------------------------------------------------- */

/* Takes `value`. False: out of memory, also when there is no value for want of it. */
static bool set(json_t *event, const char *name, json_t *value) { return !json_object_set_new_nocheck(event, name, value); }

/* A text that is not UTF-8 can be no string of JSON's, and is left out. */
static bool set_text(json_t *event, const char *name, struct bytes text)
{
    return !amqp_utf8_valid(text) || set(event, name, json_stringn_nocheck(text.size ? (const char *)text.data : "", text.size));
}

static bool set_attributes(json_t *event, struct bytes headers)
{
    struct amqp_field field;
    while (amqp_table_next(&headers, &field) == WIRE_OK) {
        char name[NAME_MAX_SIZE + 1];
        if (field.name.size <= PREFIX_SIZE || memcmp(field.name.data, PREFIX, PREFIX_SIZE) != 0)
            continue;
        struct bytes attribute = bytes_of(field.name.data + PREFIX_SIZE, field.name.size - PREFIX_SIZE);
        if (!event_is_attribute(attribute) || bytes_equal(attribute, bytes_of_text("data")) || bytes_equal(attribute, bytes_of_text("datacontenttype")))
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)attribute.size, (const char *)attribute.data);
        if (field.type == 'S' ? field.bytes.size && !set_text(event, name, field.bytes)
                              : field.type == 't' ? !set(event, name, json_boolean(field.integer)) : amqp_field_is_integer(&field) && !set(event, name, json_integer(field.integer)))
            return false;
    }
    return true;
}

static bool set_if_missing(json_t *event, const char *name, struct bytes text)
{
    return json_object_get(event, name) || set_text(event, name, text);
}

static json_t *attributes_of(const struct message *message, const struct amqp_properties *properties, struct bytes id, struct bytes type, bool *is_event)
{
    json_t *event = json_object();
    bool good = event && (!(properties->flags & AMQP_HEADERS) || set_attributes(event, properties->headers));
    *is_event = json_object_get(event, "specversion");
    if (good && set_if_missing(event, "specversion", bytes_of_text("1.0")) && set_if_missing(event, "id", id) && set_if_missing(event, "source", bytes_of_text("/amqp")) &&
        set_if_missing(event, "type", message->routing_key.size ? message->routing_key : bytes_of_text("message")) && (!type.size || set_text(event, "datacontenttype", type)))
        return event;
    json_decref(event);
    return NULL;
}

/* ---- data ------------------------------------------------------------------------------------------------------------- */

enum form { FORM_NONE, FORM_JSON, FORM_TEXT, FORM_BASE64 };

/* What a CloudEvent without a type carries is JSON, if it can be (section 3.1 of the format). Where there is too little memory to see that, base64 says the same. */
static enum form form_of(struct bytes body, struct bytes type, bool is_event)
{
    if (type.size >= 5 && strncasecmp((const char *)type.data, "text/", 5) == 0 && amqp_utf8_valid(body))
        return FORM_TEXT;
    if (!body.size)
        return FORM_NONE;
    json_t *data = (type.size ? event_is_json(type) : is_event)
                       ? json_loadb((const char *)body.data, body.size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL) : NULL;
    bool is_json = data;
    json_decref(data);
    return is_json ? FORM_JSON : FORM_BASE64;
}

/* JSON has line ends between its words only: in strings they are escaped. */
static char *put_line(char *at, struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        *at++ = text.data[i] == '\n' || text.data[i] == '\r' ? ' ' : (char)text.data[i];
    return at;
}

/* `head` is an object with something in it: its last brace makes room for the data. */
static char *join(struct bytes head, enum form form, struct bytes data, size_t *size)
{
    size_t data_size = form == FORM_BASE64 ? base64_size(data.size) + 1 : data.size;
    char *made = malloc(head.size + sizeof(",\"data_base64\":}") + data_size), *at = made;
    if (!made)
        return NULL;
    memcpy(at, head.data, head.size);
    at += head.size - 1;
    if (form == FORM_BASE64) {
        at = stpcpy(at, ",\"data_base64\":\"");
        base64_encode(data, at);
        at += base64_size(data.size) - 1;
        *at++ = '"';
    } else if (form != FORM_NONE) {
        at = put_line(stpcpy(at, ",\"data\":"), data);
    }
    at = stpcpy(at, "}");
    *size = (size_t)(at - made);
    return made;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

char *event_json(const struct message *message, const struct amqp_properties *properties, struct bytes id, size_t *size)
{
    struct bytes type = properties->flags & AMQP_CONTENT_TYPE ? properties->content_type : (struct bytes){0}, data = message->body;
    bool is_event;
    size_t head_size, text_size = 0;
    json_t *event = attributes_of(message, properties, id, type, &is_event);
    char *head = text_of(event, &head_size), *text = NULL, *made = NULL;
    json_decref(event);
    enum form form = head ? form_of(data, type, is_event) : FORM_NONE;
    if (form == FORM_TEXT) {
        json_t *string = json_stringn_nocheck(data.size ? (const char *)data.data : "", data.size);
        text = text_of(string, &text_size);
        data = bytes_of(text, text_size);
        json_decref(string);
    }
    if (head && (form != FORM_TEXT || text))
        made = join(bytes_of(head, head_size), form, data, size);
    free(text);
    free(head);
    return made;
}
