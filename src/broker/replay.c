#include "broker/replay.h"

#include "protocol/amqp/properties.h"

#include <stdlib.h>

#define HEADER "x-replayed"
#define DEATHS_MAX 512u          /* of x-death that are looked at, as in death.c */

/* The table of the array that says how a message died in `queue` (empty: any), the last one that does: that was first. */
static bool find_death(struct bytes array, struct bytes queue, struct bytes *death)
{
    struct amqp_field item, name;
    bool found = false;
    for (unsigned i = 0; i < DEATHS_MAX && amqp_array_next(&array, &item) == WIRE_OK; i++) {
        if (item.type != 'F' || !amqp_table_find(item.bytes, "queue", &name) || name.type != 'S' || (queue.size && !bytes_equal(name.bytes, queue)))
            continue;
        *death = item.bytes;
        found = true;
    }
    return found;
}

bool replay_of(struct bytes properties, struct replay *replay)
{
    struct amqp_properties decoded;
    struct amqp_field field;
    struct bytes first = {0}, death, keys;
    *replay = (struct replay){0};
    if (!amqp_properties_decode(properties, &decoded) || !(decoded.flags & AMQP_HEADERS))
        return false;
    if (amqp_table_find(decoded.headers, "x-first-death-queue", &field) && field.type == 'S')
        first = field.bytes;
    if (!amqp_table_find(decoded.headers, "x-death", &field) || field.type != 'A' || !find_death(field.bytes, first, &death))
        return false;
    amqp_table_find(death, "queue", &field);
    replay->queue = field.bytes;
    if (amqp_table_find(death, "exchange", &field) && field.type == 'S')
        replay->exchange = field.bytes;
    if (!amqp_table_find(death, "routing-keys", &field) || field.type != 'A')
        return replay->queue.size < 256 && replay->exchange.size < 256;
    keys = field.bytes;
    if (amqp_array_next(&keys, &field) == WIRE_OK && field.type == 'S')
        replay->routing_key = field.bytes;
    return replay->queue.size < 256 && replay->exchange.size < 256 && replay->routing_key.size < 256;
}

enum gw_err replay_properties(struct bytes properties, struct bytes *after)
{
    struct amqp_properties decoded;
    struct amqp_field field;
    if (!amqp_properties_decode(properties, &decoded) || !(decoded.flags & AMQP_HEADERS))
        return GW_ERR_INVALID;
    int64_t count = amqp_table_find(decoded.headers, HEADER, &field) && amqp_field_is_integer(&field) && field.integer > 0 && field.integer < INT32_MAX ? field.integer : 0;
    size_t room = 4 + decoded.headers.size + 32, size = properties.size + 64;
    uint8_t *table = malloc(room), *written = malloc(size);
    struct amqp_table_writer writer;
    if (!table || !written) {
        free(table);
        free(written);
        return GW_ERR_NOMEM;
    }
    amqp_table_begin(&writer, table, room);
    for (struct bytes rest = decoded.headers; amqp_table_next(&rest, &field) == WIRE_OK;) {
        const uint8_t *value = field.name.data + field.name.size + 1;
        if (!bytes_equal(field.name, bytes_of_text(HEADER)))
            amqp_table_put_raw(&writer, field.name, field.type, bytes_of(value, (size_t)(rest.data - value)));
    }
    amqp_table_put_long(&writer, HEADER, count + 1);
    CHECK(amqp_table_finish(&writer, &decoded.headers));
    size_t used = amqp_properties_encode(&decoded, written, size);
    CHECK(used);
    free(table);
    *after = bytes_of(written, used);
    return GW_OK;
}
