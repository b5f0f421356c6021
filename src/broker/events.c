#include "broker/events.h"

#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ROOM_MIN 4096u

bool event_begin(struct event *event, struct worker *worker, const char *key, size_t more)
{
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, VHOST_DEFAULT);
    struct exchange *exchange = vhost ? topology_exchange(vhost, bytes_of_text(EVENT_EXCHANGE)) : NULL;
    if (!exchange || !exchange->outgoing)
        return false;
    *event = (struct event){.worker = worker, .exchange = exchange, .key = key, .room = malloc(ROOM_MIN + more)};
    if (!event->room)
        return false;
    amqp_table_begin(&event->headers, event->room, ROOM_MIN + more);
    amqp_table_put_long(&event->headers, "timestamp_in_ms", (int64_t)(worker->wall_us / 1000));
    return true;
}

void event_put_user(struct event *event, struct bytes user)
{
    amqp_table_put_text(&event->headers, "user_who_performed_action", user.size ? user : bytes_of_text(EVENT_NOBODY));
}

void event_end(struct event *event)
{
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_DELIVERY_MODE | AMQP_MESSAGE_TIMESTAMP, .delivery_mode = 2,
                                         .timestamp = event->worker->wall_us / 1000000};
    if (amqp_table_finish(&event->headers, &properties.headers)) {
        size_t size = amqp_properties_size(&properties);
        uint8_t *encoded = malloc(size);
        const struct own_message message = {.routing_key = bytes_of_text(event->key), .persistent = true,
                                            .properties = bytes_of(encoded, encoded ? amqp_properties_encode(&properties, encoded, size) : 0)};
        if (encoded)
            worker_publish(event->worker, event->exchange, &message);
        free(encoded);
    }
    free(event->room);
}

/* ---- arguments as text ----------------------------------------------------------------------------------------------- */

struct text {
    char *at;
    size_t used, room;
};

__attribute__((format(printf, 2, 3)))
static void say(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text->at + text->used, text->room - text->used, format, arguments);
    va_end(arguments);
    text->used = size < 0 || text->used + (size_t)size >= text->room ? text->room - 1 : text->used + (size_t)size;
}

static void say_value(struct text *text, const struct amqp_field *field, int depth);

static void say_list(struct text *text, struct bytes list, bool named, int depth)
{
    struct amqp_field field;
    const char *comma = "";
    say(text, "[");
    while (depth < AMQP_TABLE_DEPTH_MAX && (named ? amqp_table_next(&list, &field) : amqp_array_next(&list, &field)) == WIRE_OK) {
        say(text, "%s{", comma);
        if (named)
            say(text, "<<\"%.*s\">>,", (int)field.name.size, (const char *)field.name.data);
        say(text, "%s,", amqp_field_type_name(field.type));
        say_value(text, &field, depth + 1);
        say(text, "}");
        comma = ",";
    }
    say(text, "]");
}

static void say_value(struct text *text, const struct amqp_field *field, int depth)
{
    switch (field->type) {
    case 'S':
    case 'x': say(text, "<<\"%.*s\">>", (int)field->bytes.size, (const char *)field->bytes.data); break;
    case 't': say(text, "%s", field->integer ? "true" : "false"); break;
    case 'f':
    case 'd': say(text, "%.17g", field->real); break;
    case 'D': say(text, "{%u,%lld}", field->scale, (long long)field->integer); break;
    case 'A':
    case 'F': say_list(text, field->bytes, field->type == 'F', depth); break;
    case 'V': say(text, "undefined"); break;
    default: say(text, "%lld", (long long)field->integer); break;
    }
}

void event_put_arguments(struct event *event, const char *name, struct bytes table)
{
    /* A field's text is at most so many times as long as its bytes. */
    struct text text = {.room = 64 + table.size * 24};
    uint8_t *array = malloc(4 + text.room * 2);
    struct amqp_field field;
    uint32_t used = 4;
    text.at = malloc(text.room);
    while (array && text.at && amqp_table_next(&table, &field) == WIRE_OK) {
        text.used = 0;
        say(&text, "{<<\"%.*s\">>,%s,", (int)field.name.size, (const char *)field.name.data, amqp_field_type_name(field.type));
        say_value(&text, &field, 1);
        say(&text, "}");
        if (used + 5 + text.used > text.room * 2)
            break;
        array[used] = 'S';
        store_be32(array + used + 1, (uint32_t)text.used);
        memcpy(array + used + 5, text.at, text.used);
        used += 5 + (uint32_t)text.used;
    }
    if (array && text.at) {
        store_be32(array, used - 4);
        amqp_table_put_raw(&event->headers, bytes_of_text(name), 'A', bytes_of(array, used));
    }
    free(text.at);
    free(array);
}
