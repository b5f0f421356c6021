#include "bus/hook_request.h"

#include "bus/event_json.h"
#include "protocol/amqp/properties.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFIX "cloudEvents_"
#define PREFIX_SIZE (sizeof(PREFIX) - 1)
#define OWN_SIZE 4096u               /* bytes of all headers but the attributes */
#define OWN_COUNT 12u

struct writing {
    struct hook_request *request;
    char *at, *end;
};

/* ---- headers ---------------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3)))
static void put(struct writing *writing, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = (size_t)(writing->end - writing->at);
    int size = vsnprintf(writing->at, room, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= room || writing->request->count == HOOK_HEADERS_MAX)
        return;
    writing->request->headers[writing->request->count++] = writing->at;
    writing->at += size + 1;
}

/* Section 3.1.3.2 of the binding: what is not visible ASCII, quotes and percent signs are percent-encoded. */
static void put_encoded(struct writing *writing, const char *name, struct bytes value)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t size = strlen(name);
    if ((size_t)(writing->end - writing->at) < size + 3 + 3 * value.size || writing->request->count == HOOK_HEADERS_MAX)
        return;
    writing->request->headers[writing->request->count++] = writing->at;
    writing->at += sprintf(writing->at, "%s: ", name);
    for (size_t i = 0; i < value.size; i++) {
        uint8_t c = value.data[i];
        if (c > ' ' && c <= '~' && c != '"' && c != '%') {
            *writing->at++ = (char)c;
        } else {
            *writing->at++ = '%';
            *writing->at++ = hex[c >> 4];
            *writing->at++ = hex[c & 15];
        }
    }
    *writing->at++ = 0;
}

static void put_attributes(struct writing *writing, struct bytes headers)
{
    struct amqp_field field;
    while (writing->request->count + OWN_COUNT < HOOK_HEADERS_MAX && amqp_table_next(&headers, &field) == WIRE_OK) {
        char name[3 + 64 + 1];
        if (field.name.size <= PREFIX_SIZE || memcmp(field.name.data, PREFIX, PREFIX_SIZE) != 0)
            continue;
        struct bytes attribute = bytes_of(field.name.data + PREFIX_SIZE, field.name.size - PREFIX_SIZE);
        if (!event_is_attribute(attribute) || bytes_equal(attribute, bytes_of_text("datacontenttype")))
            continue;
        snprintf(name, sizeof(name), "ce-%.*s", (int)attribute.size, (const char *)attribute.data);
        if (field.type == 'S')
            put_encoded(writing, name, field.bytes);
        else if (field.type == 't')
            put(writing, "%s: %s", name, field.integer ? "true" : "false");
        else if (amqp_field_is_integer(&field))
            put(writing, "%s: %" PRId64, name, field.integer);
    }
}

/* The text of an attribute; empty: there is none. */
static struct bytes attribute_of(struct bytes headers, const char *name)
{
    struct amqp_field field;
    return amqp_table_find(headers, name, &field) && field.type == 'S' ? field.bytes : (struct bytes){0};
}

static void put_if_missing(struct writing *writing, struct bytes headers, const char *attribute, const char *name, struct bytes value)
{
    if (!attribute_of(headers, attribute).size)
        put_encoded(writing, name, value);
}

/* A media type goes as it is, as long as it cannot be mistaken for more than that. */
static bool is_plain(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < ' ' || text.data[i] > '~')
            return false;
    return text.size > 0;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

/* Webhooks' ids are visible ASCII. */
static void choose_id(struct hook_request *request, const struct amqp_properties *properties, const char *otherwise)
{
    struct bytes id = attribute_of(properties->headers, PREFIX "id");
    if (!id.size && (properties->flags & AMQP_MESSAGE_ID))
        id = properties->message_id;
    bool visible = id.size > 0 && id.size < HOOK_ID_MAX;
    for (size_t i = 0; visible && i < id.size; i++)
        visible = id.data[i] > ' ' && id.data[i] <= '~';
    if (visible)
        snprintf(request->id, HOOK_ID_MAX, "%.*s", (int)id.size, (const char *)id.data);
    else
        snprintf(request->id, HOOK_ID_MAX, "%s", otherwise);
}

static void put_binary(struct writing *writing, const struct message *message, const struct amqp_properties *properties)
{
    /* An event that does not say what its data is has no such header (section 3.1.1 of the binding). */
    if ((properties->flags & AMQP_CONTENT_TYPE) && is_plain(properties->content_type))
        put(writing, "content-type: %.*s", (int)properties->content_type.size, (const char *)properties->content_type.data);
    else
        put(writing, attribute_of(properties->headers, PREFIX "specversion").size ? "content-type:" : "content-type: application/octet-stream");
    put_if_missing(writing, properties->headers, PREFIX "specversion", "ce-specversion", bytes_of_text("1.0"));
    put_if_missing(writing, properties->headers, PREFIX "id", "ce-id", bytes_of_text(writing->request->id));
    put_if_missing(writing, properties->headers, PREFIX "source", "ce-source", bytes_of_text("/amqp"));
    put_if_missing(writing, properties->headers, PREFIX "type", "ce-type", message->routing_key.size ? message->routing_key : bytes_of_text("message"));
}

static bool put_structured(struct writing *writing, const struct message *message, const struct amqp_properties *properties)
{
    struct hook_request *request = writing->request;
    size_t size;
    request->event = event_json(message, properties, bytes_of_text(request->id), &size);
    if (!request->event)
        return false;
    request->body = bytes_of(request->event, size);
    put(writing, "content-type: application/cloudevents+json");
    return true;
}

bool hook_request_init(struct hook_request *request, const struct message *message, const struct subscription *subscription, const char *otherwise, uint64_t attempt,
                       uint64_t now_s)
{
    struct amqp_properties properties;
    char signature[SIGNATURE_MAX] = "";
    *request = (struct hook_request){.body = message->body};
    if (!amqp_properties_decode(message->properties, &properties))
        properties = (struct amqp_properties){0};
    size_t size = OWN_SIZE + 4 * properties.headers.size + HOOK_HEADERS_MAX * 8;
    request->room = malloc(size);
    if (!request->room)
        return false;
    struct writing writing = {.request = request, .at = request->room, .end = request->room + size};
    choose_id(request, &properties, otherwise);
    if (!subscription->is_structured)
        put_binary(&writing, message, &properties);
    if ((subscription->is_structured && !put_structured(&writing, message, &properties)) ||
        (subscription->secret_count && !webhook_sign(subscription->secrets, subscription->secret_count, bytes_of_text(request->id), now_s, request->body, signature))) {
        hook_request_deinit(request);
        return false;
    }
    put(&writing, "user-agent: Godwit/" GODWIT_VERSION);
    put(&writing, "webhook-id: %s", request->id);
    put(&writing, "webhook-timestamp: %" PRIu64, now_s);
    if (signature[0])
        put(&writing, "webhook-signature: %s", signature);
    put(&writing, "webhook-attempt: %" PRIu64, attempt);
    if (!subscription->is_structured)
        put_attributes(&writing, properties.headers);
    return true;
}

void hook_request_deinit(struct hook_request *request)
{
    free(request->room);
    free(request->event);
    request->room = request->event = NULL;
}
