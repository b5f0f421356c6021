#include "protocol/amqp/methods.h"

static const struct amqp_method_row rows[] = {
#define METHOD(class_id, method_id, NAME, text, row_flags) \
    {.id = AMQP_##NAME, .flags = (row_flags), .count = AMQP_##NAME##_COUNT, .name = text, .arguments = {
#define ARGUMENT(NAME, ARGUMENT_NAME, KIND, text) {.name = text, .kind = AMQP_##KIND},
#define END(NAME) {.name = NULL}}},
#include "protocol/amqp/method_rows.h"
#undef METHOD
#undef ARGUMENT
#undef END
};

/* The same methods' places in `rows`. */
enum {
#define METHOD(class_id, method_id, NAME, text, row_flags) ROW_##NAME,
#define ARGUMENT(NAME, ARGUMENT_NAME, KIND, text)
#define END(NAME)
#include "protocol/amqp/method_rows.h"
#undef METHOD
#undef ARGUMENT
#undef END
};

const struct amqp_method_row *amqp_method_rows(unsigned *count)
{
    *count = sizeof(rows) / sizeof(rows[0]);
    return rows;
}

const struct amqp_method_row *amqp_method_row(uint32_t id)
{
    switch (id) {
#define METHOD(class_id, method_id, NAME, text, row_flags) case AMQP_##NAME: return &rows[ROW_##NAME];
#define ARGUMENT(NAME, ARGUMENT_NAME, KIND, text)
#define END(NAME)
#include "protocol/amqp/method_rows.h"
#undef METHOD
#undef ARGUMENT
#undef END
    default: return NULL;
    }
}

/* Bytes of a number, 0 for the other kinds. */
static unsigned number_size(uint8_t kind)
{
    switch (kind) {
    case AMQP_OCTET: return 1;
    case AMQP_SHORT: return 2;
    case AMQP_LONG: return 4;
    case AMQP_LONGLONG: case AMQP_TIMESTAMP: return 8;
    default: return 0;
    }
}

/* Which octet's bit a bit argument is, counted from the first of its run. */
static unsigned bit_place(const struct amqp_method_row *row, unsigned index)
{
    unsigned place = 0;
    while (index > 0 && row->arguments[index - 1].kind == AMQP_BIT) {
        index--;
        place++;
    }
    return place % 8;
}

/* Decodes one argument that is no bit; moves `in` past it. */
static enum amqp_decoded decode_argument(uint8_t kind, struct bytes *in, struct amqp_value *value)
{
    unsigned size = number_size(kind), prefix = kind == AMQP_SHORTSTR ? 1 : 4;
    if (size) {
        if (in->size < size)
            return AMQP_MALFORMED;
        value->number = 0;
        for (unsigned i = 0; i < size; i++)
            value->number = value->number << 8 | in->data[i];
        *in = bytes_of(in->data + size, in->size - size);
        return AMQP_DECODED;
    }
    if (in->size < prefix)
        return AMQP_MALFORMED;
    size_t length = prefix == 1 ? in->data[0] : load_be32(in->data);
    if (in->size - prefix < length)
        return AMQP_MALFORMED;
    value->bytes = bytes_of(in->data + prefix, length);
    *in = bytes_of(in->data + prefix + length, in->size - prefix - length);
    if (kind == AMQP_TABLE && !amqp_table_valid(value->bytes))
        return AMQP_BAD_TABLE;
    if (kind == AMQP_SHORTSTR && !amqp_utf8_valid(value->bytes))
        return AMQP_BAD_UTF8;
    return AMQP_DECODED;
}

enum amqp_decoded amqp_method_decode(struct bytes payload, struct amqp_method *method)
{
    method->row = NULL;
    if (payload.size < 4)
        return AMQP_UNKNOWN_METHOD;
    const struct amqp_method_row *row = method->row = amqp_method_row(amqp_method_id_read(payload.data));
    if (!row)
        return AMQP_UNKNOWN_METHOD;
    struct bytes in = bytes_of(payload.data + 4, payload.size - 4);
    uint8_t octet = 0;
    enum amqp_decoded worst = AMQP_DECODED;
    for (unsigned i = 0; i < row->count; i++) {
        if (row->arguments[i].kind == AMQP_BIT) {
            unsigned place = bit_place(row, i);
            if (place == 0) {
                if (in.size < 1)
                    return AMQP_MALFORMED;
                octet = in.data[0];
                in = bytes_of(in.data + 1, in.size - 1);
            }
            method->values[i].number = octet >> place & 1;
            continue;
        }
        enum amqp_decoded decoded = decode_argument(row->arguments[i].kind, &in, &method->values[i]);
        if (decoded == AMQP_MALFORMED || decoded == AMQP_BAD_TABLE)
            return decoded;
        if (decoded != AMQP_DECODED)
            worst = decoded;
    }
    /* Methods with content come too often for RabbitMQ to look at their text. */
    return in.size ? AMQP_MALFORMED : row->flags & AMQP_HAS_CONTENT ? AMQP_DECODED : worst;
}

/* Bytes that argument `index` adds; SIZE_MAX: it cannot be written. */
static size_t argument_size(const struct amqp_method_row *row, unsigned index, const struct amqp_value *value)
{
    uint8_t kind = row->arguments[index].kind;
    switch (kind) {
    case AMQP_BIT: return bit_place(row, index) == 0 ? 1 : 0;
    case AMQP_SHORTSTR: return value->bytes.size > UINT8_MAX ? SIZE_MAX : 1 + value->bytes.size;
    case AMQP_LONGSTR: case AMQP_TABLE: return value->bytes.size > UINT32_MAX ? SIZE_MAX : 4 + value->bytes.size;
    default: return number_size(kind);
    }
}

/* Writes argument `index`, for which there is room. */
static uint8_t *encode_argument(const struct amqp_method_row *row, unsigned index, const struct amqp_value *value, uint8_t *at)
{
    uint8_t kind = row->arguments[index].kind;
    unsigned size = number_size(kind);
    for (unsigned i = size; i > 0; i--)
        *at++ = (uint8_t)(value->number >> (8 * (i - 1)));
    if (size)
        return at;
    if (kind == AMQP_BIT) {
        unsigned place = bit_place(row, index);
        if (place == 0)
            *at++ = 0;
        at[-1] |= (uint8_t)((value->number != 0) << place);
        return at;
    }
    if (kind == AMQP_SHORTSTR) {
        *at++ = (uint8_t)value->bytes.size;
    } else {
        store_be32(at, (uint32_t)value->bytes.size);
        at += 4;
    }
    if (value->bytes.size)
        memcpy(at, value->bytes.data, value->bytes.size);
    return at + value->bytes.size;
}

size_t amqp_method_encode(uint8_t *at, size_t room, enum amqp_method_id id, const struct amqp_value *values)
{
    const struct amqp_method_row *row = amqp_method_row(id);
    if (!row || room < 4)
        return 0;
    uint8_t *begin = at;
    store_be32(at, id);
    at += 4;
    for (unsigned i = 0; i < row->count; i++) {
        if (argument_size(row, i, &values[i]) > room - (size_t)(at - begin))
            return 0;
        at = encode_argument(row, i, &values[i], at);
    }
    return (size_t)(at - begin);
}

size_t amqp_method_frame(uint8_t *at, size_t room, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    if (room < AMQP_FRAME_OVERHEAD)
        return 0;
    size_t size = amqp_method_encode(at + AMQP_FRAME_HEADER_SIZE, room - AMQP_FRAME_OVERHEAD, id, values);
    if (size == 0)
        return 0;
    amqp_frame_begin(at, AMQP_FRAME_METHOD, channel, (uint32_t)size);
    at[AMQP_FRAME_HEADER_SIZE + size] = AMQP_FRAME_END;
    return size + AMQP_FRAME_OVERHEAD;
}

size_t amqp_publish_frame(uint8_t *at, size_t room, uint16_t channel, struct bytes exchange, struct bytes routing_key, bool mandatory)
{
    size_t size = 4 + 2 + 1 + exchange.size + 1 + routing_key.size + 1;
    if (exchange.size > UINT8_MAX || routing_key.size > UINT8_MAX || room < size + AMQP_FRAME_OVERHEAD)
        return 0;
    at = amqp_frame_begin(at, AMQP_FRAME_METHOD, channel, (uint32_t)size);
    store_be32(at, AMQP_BASIC_PUBLISH);
    store_be16(at + 4, 0);
    at = amqp_shortstr_write(at + 6, exchange);
    at = amqp_shortstr_write(at, routing_key);
    at[0] = mandatory;
    at[1] = AMQP_FRAME_END;
    return size + AMQP_FRAME_OVERHEAD;
}
