#include "protocol/amqp/table.h"

/* Takes `size` bytes off the front of `rest`; NULL when there are fewer. */
static const uint8_t *take(struct bytes *rest, size_t size)
{
    if (rest->size < size)
        return NULL;
    const uint8_t *at = rest->data;
    rest->data += size;
    rest->size -= size;
    return at;
}

/* Bytes of a value of fixed size; -1: it begins with its own size (4 bytes); -2: no such type. */
static int value_size(uint8_t type)
{
    switch (type) {
    case 'V': return 0;
    case 't': case 'b': case 'B': return 1;
    case 's': case 'u': return 2;
    case 'I': case 'i': case 'f': return 4;
    case 'D': return 5;
    case 'l': case 'L': case 'd': case 'T': return 8;
    case 'S': case 'x': case 'A': case 'F': return -1;
    default: return -2;
    }
}

static void fixed_value(struct amqp_field *field, const uint8_t *at)
{
    switch (field->type) {
    case 't': field->integer = at[0] != 0; break;
    case 'b': field->integer = (int8_t)at[0]; break;
    case 'B': field->integer = at[0]; break;
    case 's': field->integer = (int16_t)load_be16(at); break;
    case 'u': field->integer = load_be16(at); break;
    case 'I': field->integer = (int32_t)load_be32(at); break;
    case 'i': field->integer = load_be32(at); break;
    case 'D': field->scale = at[0]; field->integer = load_be32(at + 1); break;
    case 'l': case 'L': case 'T': field->integer = (int64_t)load_be64(at); break;
    case 'f': {
        uint32_t raw = load_be32(at);
        float value;
        memcpy(&value, &raw, sizeof(value));
        field->real = (double)value;
        break;
    }
    case 'd': {
        uint64_t raw = load_be64(at);
        memcpy(&field->real, &raw, sizeof(field->real));
        break;
    }
    default: field->integer = 0; break; /* V */
    }
}

enum wire_answer amqp_array_next(struct bytes *rest, struct amqp_field *field)
{
    if (rest->size == 0)
        return WIRE_MORE;
    struct bytes left = *rest;
    field->name = bytes_of(NULL, 0);
    field->type = *take(&left, 1);
    field->scale = 0;
    int size = value_size(field->type);
    if (size == -2)
        return WIRE_BAD;
    if (size >= 0) {
        const uint8_t *at = take(&left, (size_t)size);
        if (!at && size > 0)
            return WIRE_BAD;
        fixed_value(field, at);
    } else {
        const uint8_t *at = take(&left, 4);
        if (!at)
            return WIRE_BAD;
        uint32_t length = load_be32(at);
        at = take(&left, length);
        if (!at)
            return WIRE_BAD;
        field->bytes = bytes_of(at, length);
    }
    *rest = left;
    return WIRE_OK;
}

enum wire_answer amqp_table_next(struct bytes *rest, struct amqp_field *field)
{
    if (rest->size == 0)
        return WIRE_MORE;
    struct bytes left = *rest;
    uint8_t length = *take(&left, 1);
    const uint8_t *name = take(&left, length);
    if (!name || amqp_array_next(&left, field) != WIRE_OK)
        return WIRE_BAD;
    field->name = bytes_of(name, length);
    *rest = left;
    return WIRE_OK;
}

static bool valid(struct bytes rest, bool is_table, int depth)
{
    if (depth > AMQP_TABLE_DEPTH_MAX)
        return false;
    for (;;) {
        struct amqp_field field;
        enum wire_answer answer = is_table ? amqp_table_next(&rest, &field) : amqp_array_next(&rest, &field);
        if (answer != WIRE_OK)
            return answer == WIRE_MORE;
        if ((field.type == 'F' || field.type == 'A') && !valid(field.bytes, field.type == 'F', depth + 1))
            return false;
    }
}

bool amqp_table_valid(struct bytes table)
{
    return valid(table, true, 1);
}

bool amqp_table_find(struct bytes table, const char *name, struct amqp_field *field)
{
    struct bytes wanted = bytes_of_text(name);
    while (amqp_table_next(&table, field) == WIRE_OK) {
        if (bytes_equal(field->name, wanted))
            return true;
    }
    return false;
}

bool amqp_field_is_integer(const struct amqp_field *field)
{
    return field->type != 0 && strchr("bBsuIilL", field->type) != NULL;
}

const char *amqp_field_type_name(uint8_t type)
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

bool amqp_table_flag(struct bytes table, const char *name)
{
    struct amqp_field field;
    return amqp_table_find(table, name, &field) && field.type == 't' && field.integer;
}

/* Room for `size` more bytes, or NULL once there is too little. */
static uint8_t *grow(struct amqp_table_writer *writer, size_t size)
{
    if (writer->overflow || (size_t)(writer->end - writer->at) < size) {
        writer->overflow = true;
        return NULL;
    }
    uint8_t *at = writer->at;
    writer->at += size;
    return at;
}

/* Writes name and type; returns room for a value of `size` bytes. */
static uint8_t *put(struct amqp_table_writer *writer, struct bytes name, uint8_t type, size_t size)
{
    if (name.size > UINT8_MAX) {
        writer->overflow = true;
        return NULL;
    }
    uint8_t *at = grow(writer, 1 + name.size + 1 + size);
    if (!at)
        return NULL;
    *at++ = (uint8_t)name.size;
    if (name.size)
        memcpy(at, name.data, name.size);
    at += name.size;
    *at++ = type;
    return at;
}

void amqp_table_begin(struct amqp_table_writer *writer, void *room, size_t size)
{
    *writer = (struct amqp_table_writer){.begin = room, .at = room, .end = (uint8_t *)room + size};
    grow(writer, 4);
}

void amqp_table_put_bool(struct amqp_table_writer *writer, const char *name, bool value)
{
    uint8_t *at = put(writer, bytes_of_text(name), 't', 1);
    if (at)
        *at = value;
}

void amqp_table_put_int(struct amqp_table_writer *writer, const char *name, int32_t value)
{
    uint8_t *at = put(writer, bytes_of_text(name), 'I', 4);
    if (at)
        store_be32(at, (uint32_t)value);
}

void amqp_table_put_long(struct amqp_table_writer *writer, const char *name, int64_t value)
{
    uint8_t *at = put(writer, bytes_of_text(name), 'l', 8);
    if (at)
        store_be64(at, (uint64_t)value);
}

void amqp_table_put_text(struct amqp_table_writer *writer, const char *name, struct bytes value)
{
    uint8_t *at = put(writer, bytes_of_text(name), 'S', 4 + value.size);
    if (!at)
        return;
    store_be32(at, (uint32_t)value.size);
    if (value.size)
        memcpy(at + 4, value.data, value.size);
}

void amqp_table_put_raw(struct amqp_table_writer *writer, struct bytes name, uint8_t type, struct bytes value)
{
    uint8_t *at = put(writer, name, type, value.size);
    if (at && value.size)
        memcpy(at, value.data, value.size);
}

void amqp_table_put_all(struct amqp_table_writer *writer, struct bytes table, const char *without, const char *nor)
{
    struct amqp_field field;
    const uint8_t *begin = table.data;
    while (amqp_table_next(&table, &field) == WIRE_OK) {
        size_t size = (size_t)(table.data - begin);
        bool passed_over = (without && bytes_equal(field.name, bytes_of_text(without))) || (nor && bytes_equal(field.name, bytes_of_text(nor)));
        uint8_t *at = passed_over ? NULL : grow(writer, size);
        if (at)
            memcpy(at, begin, size);
        begin = table.data;
    }
}

size_t amqp_table_nest_begin(struct amqp_table_writer *writer, const char *name)
{
    uint8_t *at = put(writer, bytes_of_text(name), 'F', 4);
    return at ? (size_t)(at - writer->begin) : 0;
}

void amqp_table_nest_end(struct amqp_table_writer *writer, size_t mark)
{
    if (!writer->overflow)
        store_be32(writer->begin + mark, (uint32_t)(writer->at - (writer->begin + mark) - 4));
}

bool amqp_table_finish(struct amqp_table_writer *writer, struct bytes *table)
{
    if (writer->overflow)
        return false;
    uint32_t size = (uint32_t)(writer->at - writer->begin - 4);
    store_be32(writer->begin, size);
    *table = bytes_of(writer->begin + 4, size);
    return true;
}
