#include "broker/half_message.h"

#include "protocol/amqp/properties.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ID_HEADER "x-transaction"
#define COMMITTED "x-transaction-committed"

/* ---- reading ------------------------------------------------------------------------------------------------------- */

static bool is_text(const struct amqp_field *field)
{
    return field->type == 'S' || field->type == 'x';
}

static bool headers_of(struct bytes properties, struct amqp_properties *decoded)
{
    return properties.size > 2 && amqp_properties_decode(properties, decoded);
}

bool half_is_asked(struct bytes properties)
{
    struct bytes headers;
    struct amqp_field field;
    return properties.size > 2 && (load_be16(properties.data) & AMQP_HEADERS) && amqp_properties_get(properties, AMQP_HEADERS, &headers) &&
           amqp_headers_extend(headers) && amqp_table_find(headers, ID_HEADER, &field);
}

__attribute__((format(printf, 3, 4)))
static bool complain(char *why, size_t room, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, room, format, arguments);
    va_end(arguments);
    return false;
}

/* The headers that are looked at, found in one pass; the type of one that is not there is 0. */
enum header { HEADER_ID, HEADER_AFTER, HEADER_LIMIT, HEADER_QUEUE, HEADER_DELAY, HEADER_DELIVER_AT, HEADER_COUNT, HEADERS };

static void find_headers(struct bytes table, struct amqp_field found[HEADERS])
{
    static const char *const names[HEADERS] = {ID_HEADER, "x-check-after", "x-check-limit", "x-check-queue", "x-delay", "x-deliver-at", "x-check-count"};
    struct amqp_field field;
    for (unsigned i = 0; i < HEADERS; i++)
        found[i] = (struct amqp_field){0};
    while (amqp_table_next(&table, &field) == WIRE_OK) {
        if (field.name.size < 7 || field.name.data[0] != 'x' || field.name.data[1] != '-')
            continue;
        for (unsigned i = 0; i < HEADERS; i++)
            if (!found[i].type && bytes_equal(field.name, bytes_of_text(names[i])))
                found[i] = field;
    }
}

/* The id in the header. False: `why` says what is wrong with it. */
static bool read_id(const struct amqp_field *field, struct half_said *said, char *why, size_t room)
{
    if (!field->type)
        return true;
    if (!is_text(field) || !field->bytes.size || field->bytes.size > HALF_ID_MAX)
        return complain(why, room, "invalid header '" ID_HEADER "': a text of 1 to %u bytes is needed", HALF_ID_MAX);
    said->id = field->bytes;
    return true;
}

static bool read_options(const struct amqp_properties *properties, const struct amqp_field headers[HEADERS], struct half_said *said, char *why, size_t room)
{
    const struct amqp_field *after = &headers[HEADER_AFTER], *limit = &headers[HEADER_LIMIT], *queue = &headers[HEADER_QUEUE];
    if (after->type && (!amqp_field_is_integer(after) || after->integer < 1 || (uint64_t)after->integer > HALF_AFTER_MAX_MS))
        return complain(why, room, "invalid header 'x-check-after': a number of milliseconds from 1 to %u is needed", HALF_AFTER_MAX_MS);
    if (limit->type && (!amqp_field_is_integer(limit) || limit->integer < 0 || limit->integer > HALF_LIMIT_MAX))
        return complain(why, room, "invalid header 'x-check-limit': a number from 0 to %u is needed", HALF_LIMIT_MAX);
    if (queue->type && (!is_text(queue) || !queue->bytes.size || queue->bytes.size > UINT8_MAX))
        return complain(why, room, "invalid header 'x-check-queue': the name of a queue is needed");
    if (headers[HEADER_DELAY].type || headers[HEADER_DELIVER_AT].type)
        return complain(why, room, "invalid header '%s': a message of a transaction is routed when that is committed", headers[HEADER_DELAY].type ? "x-delay" : "x-deliver-at");
    said->says_after = after->type;
    said->says_limit = limit->type;
    if (said->says_after)
        said->check_after_ms = (uint64_t)after->integer;
    if (said->says_limit)
        said->check_limit = (uint32_t)limit->integer;
    said->check_queue = queue->type ? queue->bytes : properties->flags & AMQP_REPLY_TO ? properties->reply_to : (struct bytes){0};
    return true;
}

static void complain_of_key(struct bytes routing_key, char *why, size_t room)
{
    complain(why, room, "invalid routing key '%.*s' for exchange '" HALF_EXCHANGE "': it is 'commit' or 'rollback'", (int)routing_key.size,
             (const char *)routing_key.data);
}

static enum half_kind read_decision(struct bytes routing_key, const struct amqp_properties *properties, const struct amqp_field *count, uint64_t body_size,
                                    struct half_said *said, char *why, size_t room)
{
    enum half_kind kind = bytes_equal(routing_key, bytes_of_text("commit"))     ? HALF_COMMIT
                          : bytes_equal(routing_key, bytes_of_text("rollback")) ? HALF_ROLLBACK
                          : bytes_equal(routing_key, bytes_of_text("check"))    ? HALF_NOTE
                                                                                : HALF_BAD;
    if (kind == HALF_BAD) {
        complain_of_key(routing_key, why, room);
        return kind;
    }
    if (!said->id.size && (properties->flags & AMQP_CORRELATION_ID))
        said->id = properties->correlation_id;
    if (!said->id.size) {
        complain(why, room, "no transaction is named: the header '" ID_HEADER "' or the property correlation-id is needed");
        return HALF_BAD;
    }
    if (body_size > HALF_BODY_MAX) {
        complain(why, room, "a decision has a body of at most %u bytes", HALF_BODY_MAX);
        return HALF_BAD;
    }
    if (kind == HALF_NOTE && amqp_field_is_integer(count) && count->integer > 0)
        said->checks = (uint32_t)count->integer;
    return kind;
}

enum half_kind half_read(struct bytes exchange, struct bytes routing_key, struct bytes properties, uint64_t body_size, struct half_said *said, char *why, size_t room)
{
    struct amqp_properties decoded = {0};
    struct amqp_field headers[HEADERS];
    *said = (struct half_said){.check_after_ms = HALF_AFTER_DEFAULT_MS, .check_limit = HALF_LIMIT_DEFAULT};
    headers_of(properties, &decoded);
    find_headers(decoded.headers, headers);
    if (!read_id(&headers[HEADER_ID], said, why, room))
        return HALF_BAD;
    if (bytes_equal(exchange, bytes_of_text(HALF_EXCHANGE)))
        return read_decision(routing_key, &decoded, &headers[HEADER_COUNT], body_size, said, why, room);
    if (!said->id.size)
        return HALF_NONE;
    return read_options(&decoded, headers, said, why, room) ? HALF_MESSAGE : HALF_BAD;
}

enum half_kind half_judge(const struct half_asked *asked, struct half_said *said, char *why, size_t room)
{
    enum half_kind kind = half_read(asked->exchange, asked->routing_key, asked->properties, asked->body_size, said, why, room);
    if (kind != HALF_NOTE)
        return kind;
    complain_of_key(asked->routing_key, why, room);
    return HALF_BAD;
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

static bool is_of_transaction(struct bytes name)
{
    static const char *const names[] = {"x-check-after", "x-check-queue", "x-check-limit", COMMITTED};
    bool found = false;
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
        found |= bytes_equal(name, bytes_of_text(names[i]));
    return found;
}

enum gw_err half_committed_properties(struct bytes properties, struct bytes *after)
{
    struct amqp_properties decoded;
    struct amqp_field field;
    if (!headers_of(properties, &decoded) || !amqp_table_find(decoded.headers, ID_HEADER, &field))
        return GW_ERR_INVALID;
    size_t room = decoded.headers.size + sizeof(COMMITTED) + 8, size = 2 * properties.size + 64 + room;
    uint8_t *table = malloc(4 + room), *written = malloc(size);
    if (!table || !written) {
        free(table);
        free(written);
        return GW_ERR_NOMEM;
    }
    struct amqp_table_writer writer;
    amqp_table_begin(&writer, table, 4 + room);
    bool renamed = false;
    for (struct bytes rest = decoded.headers; amqp_table_next(&rest, &field) == WIRE_OK;) {
        const uint8_t *value = field.name.data + field.name.size + 1;
        bool names = bytes_equal(field.name, bytes_of_text(ID_HEADER));
        if (names && !renamed)
            amqp_table_put_raw(&writer, bytes_of_text(COMMITTED), field.type, bytes_of(value, (size_t)(rest.data - value)));
        else if (!names && !is_of_transaction(field.name))
            amqp_table_put_raw(&writer, field.name, field.type, bytes_of(value, (size_t)(rest.data - value)));
        renamed |= names;
    }
    CHECK(amqp_table_finish(&writer, &decoded.headers));
    size = amqp_properties_encode(&decoded, written, size);
    CHECK(size);
    free(table);
    *after = bytes_of(written, size);
    return GW_OK;
}

static struct bytes encode(struct amqp_properties *properties, struct amqp_table_writer *headers, uint8_t *room)
{
    CHECK(amqp_table_finish(headers, &properties->headers));
    size_t size = amqp_properties_encode(properties, room, HALF_PROPERTIES_SIZE);
    CHECK(size);
    return bytes_of(room, size);
}

struct bytes half_check_properties(const struct half_check *check, uint8_t *room)
{
    uint8_t table[HALF_PROPERTIES_SIZE / 2];
    struct amqp_table_writer headers;
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_DELIVERY_MODE | AMQP_CORRELATION_ID | AMQP_MESSAGE_TIMESTAMP | AMQP_TYPE, .delivery_mode = 2,
                                         .correlation_id = check->id, .timestamp = check->now_s, .type = bytes_of_text("transaction-check")};
    amqp_table_begin(&headers, table, sizeof(table));
    amqp_table_put_text(&headers, ID_HEADER, check->id);
    amqp_table_put_int(&headers, "x-check-count", (int32_t)check->count);
    amqp_table_put_int(&headers, "x-check-limit", (int32_t)check->limit);
    amqp_table_put_long(&headers, "x-transaction-messages", (int64_t)check->messages);
    return encode(&properties, &headers, room);
}

struct bytes half_note_properties(struct bytes id, uint32_t checks, uint8_t *room)
{
    uint8_t table[HALF_PROPERTIES_SIZE / 2];
    struct amqp_table_writer headers;
    struct amqp_properties properties = {.flags = AMQP_HEADERS | AMQP_DELIVERY_MODE, .delivery_mode = 2};
    amqp_table_begin(&headers, table, sizeof(table));
    amqp_table_put_text(&headers, ID_HEADER, id);
    amqp_table_put_int(&headers, "x-check-count", (int32_t)checks);
    return encode(&properties, &headers, room);
}
