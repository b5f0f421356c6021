#include "protocol/gateway/cloud_event.h"

#include "base/base64.h"
#include "base/err.h"
#include "bus/event_json.h"
#include "protocol/amqp/wire.h"
#include "protocol/gateway/json_slice.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT(bytes) (int)((bytes).size > 100 ? 100 : (bytes).size), (const char *)(bytes).data
#define NAME_MAX_SIZE 64u

__attribute__((format(printf, 2, 3)))
static bool wrong(char why[EVENT_WHY_MAX], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, EVENT_WHY_MAX, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- attributes ------------------------------------------------------------------------------------------------------- */

static struct event_attribute *add(struct cloud_event *event, struct bytes name, enum attribute_kind kind)
{
    if (event->count == EVENT_ATTRIBUTES_MAX)
        return NULL;
    struct event_attribute *made = &event->attributes[event->count++];
    *made = (struct event_attribute){.name = name, .kind = kind};
    return made;
}

bool event_put(struct cloud_event *event, const char *name, struct bytes value)
{
    struct event_attribute *attribute = value.size ? add(event, bytes_of_text(name), ATTRIBUTE_TEXT) : NULL;
    if (attribute)
        attribute->text = value;
    return attribute || !value.size;
}

static const struct event_attribute *find(const struct cloud_event *event, struct bytes name)
{
    for (unsigned i = 0; i < event->count; i++)
        if (bytes_equal(event->attributes[i].name, name))
            return &event->attributes[i];
    return NULL;
}

struct bytes event_text(const struct cloud_event *event, const char *name)
{
    const struct event_attribute *attribute = find(event, bytes_of_text(name));
    return attribute && attribute->kind == ATTRIBUTE_TEXT ? attribute->text : (struct bytes){0};
}

/* The specification's own attributes, which are texts with something in them. */
enum known { SPECVERSION, ID, SOURCE, TYPE, SUBJECT, TIME, DATASCHEMA, KNOWN };
#define NAME(text) {(const uint8_t *)(text), sizeof(text) - 1}
static const struct bytes known_names[KNOWN] = {NAME("specversion"), NAME("id"), NAME("source"), NAME("type"), NAME("subject"), NAME("time"), NAME("dataschema")};

/* KNOWN: none of them. */
static unsigned known_of(struct bytes name)
{
    unsigned i = 0;
    while (i < KNOWN && !(name.size == known_names[i].size && memcmp(name.data, known_names[i].data, name.size) == 0))
        i++;
    return i;
}

/* Which CloudEvents' strings do not have (section 3.1 of the specification, "Type System"). */
static bool has_control(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < ' ' || text.data[i] == 127)
            return true;
    return false;
}

bool event_check(const struct cloud_event *event, char why[EVENT_WHY_MAX])
{
    struct bytes known[KNOWN] = {{0}};
    uint8_t which[EVENT_ATTRIBUTES_MAX];
    int64_t seconds;
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_attribute *attribute = &event->attributes[i];
        which[i] = (uint8_t)known_of(attribute->name);
        if (which[i] < KNOWN && !known[which[i]].data && attribute->kind == ATTRIBUTE_TEXT)
            known[which[i]] = attribute->text;
    }
    for (unsigned i = SPECVERSION; i <= TYPE; i++)
        if (!known[i].size)
            return wrong(why, "The event has no %s.", (const char *)known_names[i].data);
    if (!bytes_equal(known[SPECVERSION], bytes_of_text("1.0")))
        return wrong(why, "The event's specversion is '%.*s'; 1.0 is understood.", TEXT(known[SPECVERSION]));
    for (unsigned i = 0; i < event->count; i++) {
        const struct event_attribute *attribute = &event->attributes[i];
        if (!event_is_attribute(attribute->name))
            return wrong(why, "An attribute's name consists of lower-case letters and digits, up to %u of them.", NAME_MAX_SIZE);
        if (which[i] < KNOWN && (attribute->kind != ATTRIBUTE_TEXT || !attribute->text.size))
            return wrong(why, "The event's %.*s must be a text that is not empty.", TEXT(attribute->name));
        if (attribute->kind == ATTRIBUTE_TEXT && !amqp_utf8_valid(attribute->text))
            return wrong(why, "The event's %.*s is not UTF-8.", TEXT(attribute->name));
        if (attribute->kind == ATTRIBUTE_TEXT && has_control(attribute->text))
            return wrong(why, "The event's %.*s has a control character in it.", TEXT(attribute->name));
        if (find(event, attribute->name) != attribute)
            return wrong(why, "The event's %.*s is there twice.", TEXT(attribute->name));
    }
    if (known[TYPE].size > UINT8_MAX || event->content_type.size > UINT8_MAX)
        return wrong(why, "The event's type and content type may have 255 bytes each.");
    if (known[TIME].size && !event_time_read(known[TIME], &seconds))
        return wrong(why, "The event's time must be like 2018-04-05T17:31:00Z (RFC 3339).");
    return true;
}

/* ---- time ------------------------------------------------------------------------------------------------------------- */

static bool digits(struct bytes *text, unsigned count, unsigned most, int64_t *number)
{
    *number = 0;
    if (text->size < count)
        return false;
    for (unsigned i = 0; i < count; i++) {
        if (text->data[i] < '0' || text->data[i] > '9')
            return false;
        *number = *number * 10 + (text->data[i] - '0');
    }
    *text = bytes_of(text->data + count, text->size - count);
    return *number <= (int64_t)most;
}

static bool mark(struct bytes *text, const char *marks)
{
    if (!text->size || !text->data[0] || !strchr(marks, text->data[0]))
        return false;
    *text = bytes_of(text->data + 1, text->size - 1);
    return true;
}

bool event_time_read(struct bytes text, int64_t *seconds)
{
    int64_t year, month, day, hour, minute, second, fraction, zone_hour = 0, zone_minute = 0;
    if (!digits(&text, 4, 9999, &year) || !mark(&text, "-") || !digits(&text, 2, 12, &month) || !mark(&text, "-") || !digits(&text, 2, 31, &day) ||
        !mark(&text, "Tt ") || !digits(&text, 2, 23, &hour) || !mark(&text, ":") || !digits(&text, 2, 59, &minute) || !mark(&text, ":") ||
        !digits(&text, 2, 60, &second) || !month || !day)
        return false;
    if (mark(&text, ".")) {
        if (!digits(&text, 1, 9, &fraction))
            return false;
        while (digits(&text, 1, 9, &fraction))
            ;
    }
    int sign = text.size && text.data[0] == '-' ? -1 : 1;
    if (!mark(&text, "Zz") && (!mark(&text, "+-") || !digits(&text, 2, 23, &zone_hour) || !mark(&text, ":") || !digits(&text, 2, 59, &zone_minute)))
        return false;
    if (text.size)
        return false;
    /* Days since 1970 of a civil date, in years that begin in March. */
    int64_t shifted = month > 2 ? year : year - 1, era = shifted / 400, of_era = shifted % 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t days = era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
    *seconds = days * 86400 + hour * 3600 + minute * 60 + second - sign * (zone_hour * 3600 + zone_minute * 60);
    return true;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------- */

static struct bytes text_of(const json_t *value) { return bytes_of(json_string_value(value), json_string_length(value)); }

static bool read_attribute(struct cloud_event *event, const char *name, const json_t *value, char why[EVENT_WHY_MAX])
{
    struct bytes key = bytes_of_text(name);
    if (json_is_null(value) || strcmp(name, "data") == 0 || strcmp(name, "data_base64") == 0)
        return true;
    if (strcmp(name, "datacontenttype") == 0) {
        if (!json_is_string(value) || !json_string_length(value))
            return wrong(why, "The event's datacontenttype must be a text that is not empty.");
        event->content_type = text_of(value);
        return true;
    }
    if (!json_is_string(value) && !json_is_boolean(value) && !(json_is_integer(value) && json_integer_value(value) == (int32_t)json_integer_value(value)))
        return wrong(why, "The event's %.*s must be a text, a boolean or a whole number of 32 bits.", TEXT(key));
    struct event_attribute *made = add(event, key, json_is_string(value) ? ATTRIBUTE_TEXT : json_is_boolean(value) ? ATTRIBUTE_BOOLEAN : ATTRIBUTE_NUMBER);
    if (!made)
        return wrong(why, "An event may have %u attributes.", EVENT_ATTRIBUTES_MAX);
    if (json_is_string(value))
        made->text = text_of(value);
    else
        made->number = json_is_boolean(value) ? json_is_true(value) : (int32_t)json_integer_value(value);
    return true;
}

static bool read_base64(struct cloud_event *event, const json_t *value, char why[EVENT_WHY_MAX])
{
    struct bytes text = text_of(value);
    event->owned = json_is_string(value) ? malloc(text.size + 1) : NULL;
    if (!event->owned || !base64_decode(text, event->owned, &event->data))
        return wrong(why, "The event's data_base64 is not base64.");
    return true;
}

static bool read_data(struct cloud_event *event, const json_t *value, struct bytes text, char why[EVENT_WHY_MAX])
{
    bool is_json = !event->content_type.size || event_is_json(event->content_type);
    if (!event->content_type.size)
        event->content_type = bytes_of_text("application/json");
    if (!is_json && json_is_string(value)) {
        event->data = text_of(value);
    } else if (!json_slice_member(text, "data", &event->data)) {   /* its name is spelled with escapes */
        event->owned = (uint8_t *)json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!event->owned)
            return wrong(why, "There is too little memory.");
        event->data = bytes_of_text((const char *)event->owned);
    }
    return true;
}

bool event_read_json(struct cloud_event *event, json_t *root, struct bytes text, char why[EVENT_WHY_MAX])
{
    const char *name;
    json_t *value;
    event_init(event);
    if (!json_is_object(root))
        return wrong(why, "An event must be a JSON object.");
    json_object_foreach(root, name, value)
        if (!read_attribute(event, name, value, why))
            return false;
    const json_t *data = json_object_get(root, "data"), *base64 = json_object_get(root, "data_base64");
    if (data && base64)
        return wrong(why, "An event must not have both data and data_base64.");
    bool read = base64 && !json_is_null(base64) ? read_base64(event, base64, why) : !data || read_data(event, data, text, why);
    return read && event_check(event, why);
}

/* ---- headers ---------------------------------------------------------------------------------------------------------- */

static int hex(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Section 3.1.3.2 of the binding: quotes around the whole are taken off, as those of a quoted string, then percent-encoding is. There are libraries that do not encode: what does not look encoded
 * stays as it is. */
static struct bytes decode_value(struct bytes value, uint8_t *room)
{
    bool quoted = value.size >= 2 && value.data[0] == '"' && value.data[value.size - 1] == '"';
    size_t size = 0, end = value.size - quoted;
    for (size_t i = quoted; i < end; i++) {
        i += quoted && value.data[i] == '\\' && i + 1 < end;
        room[size++] = value.data[i];
    }
    size_t out = 0;
    for (size_t i = 0; i < size; i++) {
        bool encoded = room[i] == '%' && size - i > 2 && hex(room[i + 1]) >= 0 && hex(room[i + 2]) >= 0;
        room[out++] = encoded ? (uint8_t)(hex(room[i + 1]) << 4 | hex(room[i + 2])) : room[i];
        i += encoded ? 2 : 0;
    }
    return bytes_of(room, out);
}

/* What is the same when it is decoded. */
static bool is_bare(struct bytes value)
{
    return !value.size || (value.data[0] != '"' && !memchr(value.data, '%', value.size));
}

static bool is_lower(struct bytes name)
{
    for (size_t i = 0; i < name.size; i++)
        if (name.data[i] >= 'A' && name.data[i] <= 'Z')
            return false;
    return true;
}

/* Room for whatever has to be decoded of the request's headers. */
static uint8_t *decoding_room(const struct http_request *request)
{
    size_t size = 1;
    for (unsigned i = 0; i < request->field_count; i++)
        size += request->fields[i].name.size + request->fields[i].value.size;
    return malloc(size);
}

bool event_read_binary(struct cloud_event *event, const struct http_request *request, struct bytes body, char why[EVENT_WHY_MAX])
{
    uint8_t *at = NULL;
    event_init(event);
    event->data = body;
    for (unsigned i = 0; i < request->field_count; i++) {
        struct bytes name = request->fields[i].name, value = request->fields[i].value;
        if (name.size < 4 || name.data[2] != '-' || (name.data[0] | 32) != 'c' || (name.data[1] | 32) != 'e')
            continue;
        name = bytes_of(name.data + 3, name.size - 3);
        if (!event->owned && !(is_bare(value) && is_lower(name)) && !(at = event->owned = decoding_room(request)))
            return wrong(why, "There is too little memory.");
        if (!is_lower(name)) {
            for (size_t k = 0; k < name.size; k++)
                at[k] = name.data[k] >= 'A' && name.data[k] <= 'Z' ? name.data[k] | 32 : name.data[k];
            name = bytes_of(at, name.size);
            at += name.size;
        }
        if (!is_bare(value)) {
            value = decode_value(value, at);
            at += value.size;
        }
        struct event_attribute *made = add(event, name, ATTRIBUTE_TEXT);
        if (!made)
            return wrong(why, "An event may have %u attributes.", EVENT_ATTRIBUTES_MAX);
        made->text = value;
    }
    http_field_find(request, "content-type", &event->content_type);
    return event_check(event, why);
}

void event_deinit(struct cloud_event *event)
{
    free(event->owned);
    event->owned = NULL;
}

/* ---- as a message ----------------------------------------------------------------------------------------------------- */

static void put_attribute(struct amqp_table_writer *writer, const struct event_attribute *attribute)
{
    char name[sizeof(EVENT_PREFIX) + NAME_MAX_SIZE];
    size_t size = attribute->name.size < NAME_MAX_SIZE ? attribute->name.size : NAME_MAX_SIZE;
    memcpy(name, EVENT_PREFIX, sizeof(EVENT_PREFIX) - 1);
    memcpy(name + sizeof(EVENT_PREFIX) - 1, attribute->name.data, size);
    name[sizeof(EVENT_PREFIX) - 1 + size] = 0;
    if (attribute->kind == ATTRIBUTE_TEXT)
        amqp_table_put_text(writer, name, attribute->text);
    else if (attribute->kind == ATTRIBUTE_BOOLEAN)
        amqp_table_put_bool(writer, name, attribute->number);
    else
        amqp_table_put_int(writer, name, attribute->number);
}

size_t event_properties_size(const struct cloud_event *event)
{
    size_t size = 16;
    for (unsigned i = 0; i < event->count; i++)
        size += sizeof(EVENT_PREFIX) + event->attributes[i].name.size + event->attributes[i].text.size + 16;
    return size;
}

void event_properties_in(const struct cloud_event *event, struct amqp_properties *properties, uint8_t *room, size_t size)
{
    struct amqp_table_writer writer;
    struct bytes id = event_text(event, "id"), time = event_text(event, "time");
    int64_t seconds;
    *properties = (struct amqp_properties){.flags = AMQP_HEADERS | AMQP_DELIVERY_MODE | AMQP_TYPE, .delivery_mode = 2, .type = event_text(event, "type")};
    amqp_table_begin(&writer, room, size);
    for (unsigned i = 0; i < event->count; i++)
        put_attribute(&writer, &event->attributes[i]);
    CHECK(amqp_table_finish(&writer, &properties->headers));
    if (event->content_type.size) {
        properties->flags |= AMQP_CONTENT_TYPE;
        properties->content_type = event->content_type;
    }
    if (id.size <= UINT8_MAX) {
        properties->flags |= AMQP_MESSAGE_ID;
        properties->message_id = id;
    }
    if (time.size && event_time_read(time, &seconds) && seconds >= 0) {
        properties->flags |= AMQP_MESSAGE_TIMESTAMP;
        properties->timestamp = (uint64_t)seconds;
    }
}

bool event_properties(const struct cloud_event *event, struct amqp_properties *properties, uint8_t **room)
{
    size_t size = event_properties_size(event);
    *room = malloc(size);
    if (*room)
        event_properties_in(event, properties, *room, size);
    return *room;
}
