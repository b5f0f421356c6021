#include "broker/delay.h"

#include "protocol/amqp/properties.h"

#include <stdlib.h>

/* ---- the header ---------------------------------------------------------------------------------------------------- */

/* The text of a number, with or without a sign. */
static bool parse(struct bytes text, double *number)
{
    bool negative = text.size && text.data[0] == '-', sign = negative || (text.size && text.data[0] == '+');
    double value = 0;
    if (text.size == sign || text.size > 20)
        return false;
    for (size_t i = sign; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (text.data[i] - '0');
    }
    *number = negative ? -value : value;
    return true;
}

static bool is_number(const struct amqp_field *field, double *number)
{
    if (amqp_field_is_integer(field))
        *number = field->type == 'L' && field->integer < 0 ? DELAY_MAX_MS * 2.0 : (double)field->integer;
    else if (field->type == 'f' || field->type == 'd')
        *number = field->real;
    else
        return (field->type == 'S' || field->type == 'x') && parse(field->bytes, number);
    return true;
}

static bool is_delay(const struct amqp_field *field, uint64_t *delay_ms)
{
    double number = 0;
    if (!is_number(field, &number) || !(number >= 1))
        return false;
    *delay_ms = number > (double)DELAY_MAX_MS ? DELAY_MAX_MS + 1 : (uint64_t)number;
    return true;
}

/* The properties of a message whose headers may say when it is due: most have none of those names anywhere in them, and are not read. */
static bool headers_of(struct bytes properties, struct amqp_properties *decoded)
{
    struct bytes headers;
    return properties.size > 2 && (load_be16(properties.data) & AMQP_HEADERS) && amqp_properties_get(properties, AMQP_HEADERS, &headers) &&
           amqp_headers_extend(headers) && amqp_properties_decode(properties, decoded);
}

static uint64_t delay_in(const struct amqp_properties *decoded)
{
    struct amqp_field field;
    uint64_t delay_ms = 0;
    return amqp_table_find(decoded->headers, "x-delay", &field) && is_delay(&field, &delay_ms) ? delay_ms : 0;
}

uint64_t delay_of(struct bytes properties)
{
    struct amqp_properties decoded;
    return headers_of(properties, &decoded) ? delay_in(&decoded) : 0;
}

enum gw_err delay_due(struct bytes properties, uint64_t wall_us, uint64_t *due_ms)
{
    struct amqp_properties decoded;
    struct amqp_field field;
    double at = 0;
    uint64_t now_ms = wall_us / 1000;
    *due_ms = 0;
    if (!headers_of(properties, &decoded))
        return GW_OK;
    uint64_t delay_ms = delay_in(&decoded);
    if (delay_ms > DELAY_MAX_MS)
        return GW_ERR_LIMIT;
    *due_ms = delay_ms ? now_ms + delay_ms + 1 : 0;
    if (!amqp_table_find(decoded.headers, "x-deliver-at", &field))
        return GW_OK;
    if (field.type == 'T')
        at = (double)(uint64_t)field.integer * 1000;
    else if (!is_number(&field, &at))
        return GW_OK;
    if (at > (double)now_ms + (double)DELAY_MAX_MS)
        return GW_ERR_LIMIT;
    if (at > (double)now_ms && (uint64_t)at > *due_ms)
        *due_ms = (uint64_t)at + ((double)(uint64_t)at < at);
    return GW_OK;
}

enum gw_err delay_served(struct bytes properties, struct bytes *after)
{
    struct amqp_properties decoded;
    struct amqp_field field;
    uint64_t delay_ms;
    if (!amqp_properties_decode(properties, &decoded) || !amqp_table_find(decoded.headers, "x-delay", &field) || !is_delay(&field, &delay_ms))
        return GW_ERR_INVALID;
    size_t room = decoded.headers.size + 16;   /* a number of 8 bytes may take the place of one of 1 */
    uint8_t *table = malloc(4 + room), *written = malloc(2 * properties.size + 64);
    if (!table || !written) {
        free(table);
        free(written);
        return GW_ERR_NOMEM;
    }
    struct amqp_table_writer writer;
    bool replaced = false;
    amqp_table_begin(&writer, table, 4 + room);
    for (struct bytes rest = decoded.headers; amqp_table_next(&rest, &field) == WIRE_OK;) {
        const uint8_t *value = field.name.data + field.name.size + 1;
        if (replaced || !bytes_equal(field.name, bytes_of_text("x-delay")))
            amqp_table_put_raw(&writer, field.name, field.type, bytes_of(value, (size_t)(rest.data - value)));
        else if (delay_ms <= INT32_MAX)
            amqp_table_put_int(&writer, "x-delay", -(int32_t)delay_ms);
        else
            amqp_table_put_long(&writer, "x-delay", -(int64_t)delay_ms);
        replaced |= bytes_equal(field.name, bytes_of_text("x-delay"));
    }
    CHECK(amqp_table_finish(&writer, &decoded.headers));
    size_t size = amqp_properties_encode(&decoded, written, 2 * properties.size + 64);
    CHECK(size);
    free(table);
    *after = bytes_of(written, size);
    return GW_OK;
}

/* ---- the index ----------------------------------------------------------------------------------------------------- */

void delay_deinit(struct delay *delay)
{
    free(delay->heap);
    *delay = (struct delay){0};
}

static bool is_before(struct due a, struct due b)
{
    return a.at_ms != b.at_ms ? a.at_ms < b.at_ms : a.seq < b.seq;
}

bool delay_push(struct delay *delay, uint64_t at_ms, uint64_t seq)
{
    if (delay->count == delay->capacity) {
        if (delay->capacity > UINT32_MAX / 2)
            return false;
        uint32_t capacity = delay->capacity ? delay->capacity * 2 : 16;
        struct due *heap = realloc(delay->heap, capacity * sizeof(*heap));
        if (!heap)
            return false;
        delay->heap = heap;
        delay->capacity = capacity;
    }
    const struct due due = {at_ms, seq};
    uint32_t place = delay->count++;
    for (; place && is_before(due, delay->heap[(place - 1) / 2]); place = (place - 1) / 2)
        delay->heap[place] = delay->heap[(place - 1) / 2];
    delay->heap[place] = due;
    return true;
}

void delay_pop(struct delay *delay)
{
    CHECK(delay->count);
    const struct due last = delay->heap[--delay->count];
    uint32_t place = 0;
    for (uint32_t child; (child = place * 2 + 1) < delay->count; place = child) {
        if (child + 1 < delay->count && is_before(delay->heap[child + 1], delay->heap[child]))
            child++;
        if (!is_before(delay->heap[child], last))
            break;
        delay->heap[place] = delay->heap[child];
    }
    delay->heap[place] = last;
    if (delay->capacity > 1024 && delay->count < delay->capacity / 4) {
        struct due *heap = realloc(delay->heap, delay->capacity / 2 * sizeof(*heap));
        if (heap) {
            delay->heap = heap;
            delay->capacity /= 2;
        }
    }
}
