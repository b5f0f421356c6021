#include "broker/table_json.h"

#include "protocol/amqp/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- to JSON ------------------------------------------------------------------------------------------------------- */

static void write_value(const struct amqp_field *field, struct writer *writer);

static void write_array(struct bytes rest, struct writer *writer)
{
    struct amqp_field item;
    writer_open(writer, '[');
    while (amqp_array_next(&rest, &item) == WIRE_OK)
        write_value(&item, writer);
    writer_close(writer, ']');
}

static void write_value(const struct amqp_field *field, struct writer *writer)
{
    switch (field->type) {
    case 't': writer_boolean(writer, field->integer != 0); break;
    case 'f':
    case 'd': writer_real(writer, field->real); break;
    case 'D': writer_real(writer, (double)field->integer / pow(10, field->scale)); break;
    case 'S':
    case 'x': writer_string(writer, field->bytes); break;
    case 'F': table_write_json(field->bytes, writer); break;
    case 'A': write_array(field->bytes, writer); break;
    case 'V': writer_null(writer); break;
    default: writer_integer(writer, field->integer); break;
    }
}

void table_write_json(struct bytes table, struct writer *writer)
{
    struct amqp_field field;
    writer_open(writer, '{');
    while (amqp_table_next(&table, &field) == WIRE_OK) {
        writer_key(writer, field.name);
        write_value(&field, writer);
    }
    writer_close(writer, '}');
}

/* ---- from JSON ----------------------------------------------------------------------------------------------------- */

struct building {
    uint8_t *data;
    size_t size, capacity;
    char *why;
    size_t room;
};

static bool refuse(struct building *building, const char *why)
{
    snprintf(building->why, building->room, "%s", why);
    return false;
}

/* Room for `size` more bytes at the end; NULL: out of memory. */
static uint8_t *grow(struct building *building, size_t size)
{
    if (building->capacity - building->size < size) {
        size_t capacity = (building->size + size) * 2;
        uint8_t *data = realloc(building->data, capacity);
        if (!data) {
            refuse(building, "out of memory");
            return NULL;
        }
        building->data = data;
        building->capacity = capacity;
    }
    building->size += size;
    return building->data + building->size - size;
}

static bool add_number(struct building *building, uint8_t type, uint64_t raw)
{
    uint8_t *at = grow(building, 9);
    if (!at)
        return false;
    at[0] = type;
    store_be64(at + 1, raw);
    return true;
}

static bool add_string(struct building *building, const json_t *value)
{
    size_t size = json_string_length(value);
    if (size > INT32_MAX)
        return refuse(building, "a text is too long");
    uint8_t *at = grow(building, 5 + size);
    if (!at)
        return false;
    at[0] = 'S';
    store_be32(at + 1, (uint32_t)size);
    memcpy(at + 5, json_string_value(value), size);
    return true;
}

static bool add_nested(struct building *building, const json_t *value, unsigned depth);

static bool add_value(struct building *building, const json_t *value, unsigned depth)
{
    uint8_t *at;
    double real;
    uint64_t raw;
    switch (json_typeof(value)) {
    case JSON_INTEGER: return add_number(building, 'l', (uint64_t)json_integer_value(value));
    case JSON_REAL:
        real = json_real_value(value);
        memcpy(&raw, &real, sizeof(raw));
        return add_number(building, 'd', raw);
    case JSON_STRING: return add_string(building, value);
    case JSON_OBJECT:
    case JSON_ARRAY: return add_nested(building, value, depth + 1);
    case JSON_NULL:
        at = grow(building, 1);
        if (at)
            at[0] = 'V';
        return at != NULL;
    default:
        at = grow(building, 2);
        if (!at)
            return false;
        at[0] = 't';
        at[1] = json_is_true(value);
        return true;
    }
}

static bool add_fields(struct building *building, const json_t *object, unsigned depth)
{
    for (void *field = json_object_iter((json_t *)(uintptr_t)object); field; field = json_object_iter_next((json_t *)(uintptr_t)object, field)) {
        size_t size = json_object_iter_key_len(field);
        if (size > UINT8_MAX)
            return refuse(building, "a name is longer than 255 bytes");
        uint8_t *at = grow(building, 1 + size);
        if (!at)
            return false;
        at[0] = (uint8_t)size;
        memcpy(at + 1, json_object_iter_key(field), size);
        if (!add_value(building, json_object_iter_value(field), depth))
            return false;
    }
    return true;
}

/* An object or an array, type and size before it. */
static bool add_nested(struct building *building, const json_t *value, unsigned depth)
{
    if (depth > AMQP_TABLE_DEPTH_MAX)
        return refuse(building, "it is nested too deeply");
    size_t begin = building->size;
    if (!grow(building, 5))
        return false;
    building->data[begin] = json_is_object(value) ? 'F' : 'A';
    if (json_is_object(value)) {
        if (!add_fields(building, value, depth))
            return false;
    } else {
        for (size_t i = 0; i < json_array_size(value); i++)
            if (!add_value(building, json_array_get(value, i), depth))
                return false;
    }
    store_be32(building->data + begin + 1, (uint32_t)(building->size - begin - 5));
    return true;
}

bool table_from_json(const json_t *object, struct bytes *table, char *why, size_t room)
{
    struct building building = {.why = why, .room = room};
    bool empty_array = json_is_array(object) && json_array_size(object) == 0;
    *table = (struct bytes){0};
    if (!json_is_object(object) && !empty_array)
        return refuse(&building, "it is no object");
    if (empty_array || add_fields(&building, object, 1)) {
        if (building.size <= INT32_MAX) {
            *table = bytes_of(building.data, building.size);
            return true;
        }
        refuse(&building, "it is too large");
    }
    free(building.data);
    return false;
}
