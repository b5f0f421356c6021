#include "broker/arguments.h"

#include "protocol/amqp/table.h"

#include <stdio.h>

static const char *const of_queue[] = {
    "x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-max-length",
    "x-max-length-bytes", "x-max-in-memory-length", "x-max-in-memory-bytes", "x-max-priority", "x-overflow", "x-queue-mode",
    "x-single-active-consumer", "x-delivery-limit", "x-queue-type", "x-quorum-initial-group-size", "x-max-age",
    "x-stream-max-segment-size-bytes", "x-initial-cluster-size", "x-queue-leader-locator", NULL,
};
static const char *const of_exchange[] = {"alternate-exchange", NULL};

static const char *type_text(uint8_t type)
{
    switch (type) {
    case 't': return "bool";
    case 'b': return "byte";
    case 'B': return "unsignedbyte";
    case 's': return "short";
    case 'u': return "unsignedshort";
    case 'I': return "signedint";
    case 'i': return "unsignedint";
    case 'l':
    case 'L': return "long";
    case 'f': return "float";
    case 'd': return "double";
    case 'D': return "decimal";
    case 'S': return "longstr";
    case 'T': return "timestamp";
    case 'A': return "array";
    case 'F': return "table";
    case 'x': return "binary";
    default: return "void";
    }
}

static void describe(bool present, const struct amqp_field *field, char *text, size_t room)
{
    if (!present)
        snprintf(text, room, "none");
    else if (field->type == 'S')
        snprintf(text, room, "the value '%.*s' of type 'longstr'", field->bytes.size > 60 ? 60 : (int)field->bytes.size, (const char *)field->bytes.data);
    else if (field->type == 't')
        snprintf(text, room, "the value '%s' of type 'bool'", field->integer ? "true" : "false");
    else if (amqp_field_is_integer(field) || field->type == 'T')
        snprintf(text, room, "the value '%lld' of type '%s'", (long long)field->integer, type_text(field->type));
    else
        snprintf(text, room, "a value of type '%s'", type_text(field->type));
}

static bool same(const struct amqp_field *a, const struct amqp_field *b)
{
    if (amqp_field_is_integer(a) && amqp_field_is_integer(b))
        return a->integer == b->integer;
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case 't':
    case 'T': return a->integer == b->integer;
    case 'D': return a->integer == b->integer && a->scale == b->scale;
    case 'f':
    case 'd': return a->real == b->real;
    case 'V': return true;
    default: return bytes_equal(a->bytes, b->bytes);
    }
}

bool arguments_equivalent(struct bytes current, struct bytes received, enum arguments_of of, const char *what, char *difference, size_t room)
{
    for (const char *const *name = of == ARGUMENTS_OF_QUEUE ? of_queue : of_exchange; *name; name++) {
        struct amqp_field before, now;
        bool had = amqp_table_find(current, *name, &before), has = amqp_table_find(received, *name, &now);
        if (had == has && (!had || same(&before, &now)))
            continue;
        char before_text[112], now_text[112];
        describe(had, &before, before_text, sizeof(before_text));
        describe(has, &now, now_text, sizeof(now_text));
        if (had && has && before.type == now.type && before.type == 'S') {   /* of one type: RabbitMQ says the bare values */
            snprintf(before_text, sizeof(before_text), "'%.*s'", before.bytes.size > 60 ? 60 : (int)before.bytes.size, (const char *)before.bytes.data);
            snprintf(now_text, sizeof(now_text), "'%.*s'", now.bytes.size > 60 ? 60 : (int)now.bytes.size, (const char *)now.bytes.data);
        } else if (had && has && amqp_field_is_integer(&before) && amqp_field_is_integer(&now)) {
            snprintf(before_text, sizeof(before_text), "'%lld'", (long long)before.integer);
            snprintf(now_text, sizeof(now_text), "'%lld'", (long long)now.integer);
        }
        snprintf(difference, room, "'%s' for %s: received %s but current is %s", *name, what, now_text, before_text);
        return false;
    }
    return true;
}
