#include "broker/pick.h"

#include "protocol/amqp/properties.h"

#include <stdio.h>
#include <stdlib.h>

static struct bytes text_of(const json_t *value)
{
    return json_is_string(value) ? bytes_of(json_string_value(value), json_string_length(value)) : (struct bytes){0};
}

bool pick_init(struct pick *pick, const json_t *request, char *why, size_t room)
{
    const json_t *id = json_object_get(request, "id"), *headers = json_object_get(request, "headers"), *filter = json_object_get(request, "filter");
    char wrong[300];
    *pick = (struct pick){0};
    if ((id && !json_is_string(id)) || (headers && !json_is_object(headers)) || (filter && !json_is_string(filter))) {
        snprintf(why, room, "the argument '%s' is no %s", id && !json_is_string(id) ? "id" : headers && !json_is_object(headers) ? "headers" : "filter",
                 headers && !json_is_object(headers) && (!id || json_is_string(id)) ? "object" : "text");
        return false;
    }
    pick->id = text_of(id);
    pick->headers = json_object_size(headers) ? headers : NULL;
    enum gw_err err = filter ? selector_compile(text_of(filter), &pick->selector, wrong, sizeof(wrong)) : GW_OK;
    if (err)
        snprintf(why, room, "%s%s", err == GW_ERR_NOMEM ? "" : "the filter makes no sense: ", err == GW_ERR_NOMEM ? "out of memory" : wrong);
    return !err;
}

void pick_deinit(struct pick *pick)
{
    selector_free(pick->selector);
    *pick = (struct pick){0};
}

/* Does a header read like the value? */
static bool is_alike(const struct amqp_field *field, const json_t *value)
{
    char text[40];
    double wanted;
    char *end;
    if (json_is_string(value) && (field->type == 'S' || field->type == 'x'))
        return bytes_equal(field->bytes, text_of(value));
    if (json_is_boolean(value) || field->type == 't')
        return field->type == 't' && (json_is_boolean(value) ? json_is_true(value) == (field->integer != 0) : bytes_equal(text_of(value), bytes_of_text(field->integer ? "true" : "false")));
    if (json_is_number(value)) {
        wanted = json_number_value(value);
    } else {
        struct bytes given = text_of(value);
        if (!given.size || given.size >= sizeof(text))
            return false;
        memcpy(text, given.data, given.size);
        text[given.size] = 0;
        wanted = strtod(text, &end);
        if (*end)
            return false;
        if (amqp_field_is_integer(field)) {   /* to the last digit, where it is a whole number */
            char exact[40];
            snprintf(exact, sizeof(exact), "%lld", (long long)field->integer);
            return strcmp(exact, text) == 0;
        }
    }
    return amqp_field_is_integer(field) ? (double)field->integer == wanted : (field->type == 'f' || field->type == 'd') && field->real == wanted;
}

static bool has_headers(const json_t *wanted, struct bytes properties)
{
    struct amqp_properties decoded;
    struct amqp_field field;
    const char *name;
    json_t *value;
    if (!amqp_properties_decode(properties, &decoded) || !(decoded.flags & AMQP_HEADERS))
        return false;
    json_object_foreach((json_t *)(uintptr_t)wanted, name, value) {
        if (!amqp_table_find(decoded.headers, name, &field) || !is_alike(&field, value))
            return false;
    }
    return true;
}

bool pick_takes(const struct pick *pick, const struct message *message)
{
    struct bytes id;
    if (pick->id.size && (!amqp_properties_get(message->properties, AMQP_MESSAGE_ID, &id) || !bytes_equal(id, pick->id)))
        return false;
    if (pick->headers && !has_headers(pick->headers, message->properties))
        return false;
    return !pick->selector || selector_matches(pick->selector, message);
}
