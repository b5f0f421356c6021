#include "protocol/amqp/properties.h"

#include <stddef.h>

enum shape { SHORT_TEXT, HEADERS, OCTET, SECONDS };

/* One row a property, in the order in which they are on the wire. */
static const struct row {
    uint16_t flag;
    uint8_t shape;
    uint8_t offset;
} rows[] = {
    {AMQP_CONTENT_TYPE, SHORT_TEXT, offsetof(struct amqp_properties, content_type)},
    {AMQP_CONTENT_ENCODING, SHORT_TEXT, offsetof(struct amqp_properties, content_encoding)},
    {AMQP_HEADERS, HEADERS, offsetof(struct amqp_properties, headers)},
    {AMQP_DELIVERY_MODE, OCTET, offsetof(struct amqp_properties, delivery_mode)},
    {AMQP_PRIORITY, OCTET, offsetof(struct amqp_properties, priority)},
    {AMQP_CORRELATION_ID, SHORT_TEXT, offsetof(struct amqp_properties, correlation_id)},
    {AMQP_REPLY_TO, SHORT_TEXT, offsetof(struct amqp_properties, reply_to)},
    {AMQP_EXPIRATION, SHORT_TEXT, offsetof(struct amqp_properties, expiration)},
    {AMQP_MESSAGE_ID, SHORT_TEXT, offsetof(struct amqp_properties, message_id)},
    {AMQP_MESSAGE_TIMESTAMP, SECONDS, offsetof(struct amqp_properties, timestamp)},
    {AMQP_TYPE, SHORT_TEXT, offsetof(struct amqp_properties, type)},
    {AMQP_USER_ID, SHORT_TEXT, offsetof(struct amqp_properties, user_id)},
    {AMQP_APP_ID, SHORT_TEXT, offsetof(struct amqp_properties, app_id)},
    {AMQP_CLUSTER_ID, SHORT_TEXT, offsetof(struct amqp_properties, cluster_id)},
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

/* Bytes of the property at the start of `at`, of which `left` are there; 0: it is cut off. */
static size_t decode_one(const struct row *row, const uint8_t *at, size_t left, void *field)
{
    switch (row->shape) {
    case OCTET:
        if (left < 1)
            return 0;
        *(uint8_t *)field = at[0];
        return 1;
    case SECONDS:
        if (left < 8)
            return 0;
        *(uint64_t *)field = load_be64(at);
        return 8;
    case HEADERS: {
        if (left < 4 || left - 4 < load_be32(at))
            return 0;
        struct bytes table = bytes_of(at + 4, load_be32(at));
        *(struct bytes *)field = table;
        return amqp_table_valid(table) ? 4 + table.size : 0;
    }
    default:
        if (left < 1 || left - 1 < at[0])
            return 0;
        *(struct bytes *)field = bytes_of(at + 1, at[0]);
        return 1 + (size_t)at[0];
    }
}

bool amqp_properties_decode(struct bytes in, struct amqp_properties *properties)
{
    memset(properties, 0, sizeof(*properties));
    if (in.size < 2)
        return false;
    uint16_t flags = properties->flags = load_be16(in.data) & 0xFFFC;
    const uint8_t *at = in.data + 2, *end = in.data + in.size;
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        if (!(flags & rows[i].flag))
            continue;
        size_t size = decode_one(&rows[i], at, (size_t)(end - at), (char *)properties + rows[i].offset);
        if (size == 0)
            return false;
        at += size;
    }
    return at == end;
}

/* Bytes of the property at `at`, its value in *value. */
static size_t pass_one(const struct row *row, const uint8_t *at, struct bytes *value)
{
    switch (row->shape) {
    case OCTET:
        *value = bytes_of(at, 1);
        return 1;
    case SECONDS:
        *value = bytes_of(at, 8);
        return 8;
    case HEADERS:
        *value = bytes_of(at + 4, load_be32(at));
        return 4 + value->size;
    default:
        *value = bytes_of(at + 1, at[0]);
        return 1 + (size_t)at[0];
    }
}

bool amqp_properties_get(struct bytes in, enum amqp_property which, struct bytes *value)
{
    uint16_t flags = in.size < 2 ? 0 : load_be16(in.data);
    const uint8_t *at = in.data + 2;
    if (!(flags & which))
        return false;
    for (unsigned i = 0;; i++) {
        if (!(flags & rows[i].flag))
            continue;
        at += pass_one(&rows[i], at, value);
        if (rows[i].flag == which)
            return true;
    }
}

/* SIZE_MAX: it cannot be written. */
static size_t size_one(const struct row *row, const void *field)
{
    switch (row->shape) {
    case OCTET: return 1;
    case SECONDS: return 8;
    case HEADERS: return 4 + ((const struct bytes *)field)->size;
    default: {
        size_t size = ((const struct bytes *)field)->size;
        return size > UINT8_MAX ? SIZE_MAX : 1 + size;
    }
    }
}

size_t amqp_properties_size(const struct amqp_properties *properties)
{
    size_t total = 2;
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        if (!(properties->flags & rows[i].flag))
            continue;
        size_t size = size_one(&rows[i], (const char *)properties + rows[i].offset);
        if (size == SIZE_MAX)
            return SIZE_MAX;
        total += size;
    }
    return total;
}

static uint8_t *encode_bytes(uint8_t *at, struct bytes bytes)
{
    if (bytes.size)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static uint8_t *encode_one(const struct row *row, const void *field, uint8_t *at)
{
    const struct bytes *bytes = field;
    switch (row->shape) {
    case OCTET:
        *at = *(const uint8_t *)field;
        return at + 1;
    case SECONDS:
        store_be64(at, *(const uint64_t *)field);
        return at + 8;
    case HEADERS:
        store_be32(at, (uint32_t)bytes->size);
        return encode_bytes(at + 4, *bytes);
    default:
        *at = (uint8_t)bytes->size;
        return encode_bytes(at + 1, *bytes);
    }
}

size_t amqp_properties_encode(const struct amqp_properties *properties, uint8_t *at, size_t room)
{
    size_t size = amqp_properties_size(properties);
    if (size > room)
        return 0;
    store_be16(at, properties->flags & 0xFFFC);
    at += 2;
    for (unsigned i = 0; i < ROW_COUNT; i++) {
        if (properties->flags & rows[i].flag)
            at = encode_one(&rows[i], (const char *)properties + rows[i].offset, at);
    }
    return size;
}
