#include "broker/death.h"

#include "protocol/amqp/properties.h"

#include <stdlib.h>

#define DEATHS_MAX 512u   /* tables of x-death that are looked at; only a hand makes more */

/* ---- tables as rows ------------------------------------------------------------------------------------------------ */

enum shape {
    SHAPE_RAW,       /* `type` and the bytes of the value as they came */
    SHAPE_TEXT,      /* a string of `bytes` */
    SHAPE_NUMBER,    /* `number`, as `type` (l or T) */
    SHAPE_KEYS,      /* an array of strings: the routing keys */
    SHAPE_DEATHS,    /* an array of tables: the deaths */
};

struct row {
    struct bytes name;
    uint8_t type;
    enum shape shape;
    struct bytes bytes;
    int64_t number;
};

struct rows {
    struct row *rows;
    unsigned count, room;
};

/* One element of x-death. What is no table stays as it came. */
struct element {
    struct rows rows;
    struct row raw;
    bool is_table, taken;
};

struct deaths {
    struct element *elements;
    unsigned count;
};

static bool add_row(struct rows *rows, struct row row)
{
    if (rows->count == rows->room) {
        unsigned room = rows->room ? rows->room * 2 : 8;
        struct row *grown = realloc(rows->rows, room * sizeof(*grown));
        if (!grown)
            return false;
        rows->rows = grown;
        rows->room = room;
    }
    rows->rows[rows->count++] = row;
    return true;
}

static bool add_first(struct rows *rows, struct row row)
{
    if (!add_row(rows, row))
        return false;
    memmove(rows->rows + 1, rows->rows, (rows->count - 1) * sizeof(row));
    rows->rows[0] = row;
    return true;
}

static void remove_row(struct rows *rows, struct row *row)
{
    if (!row)
        return;
    size_t after = (size_t)(rows->rows + rows->count - (row + 1));
    memmove(row, row + 1, after * sizeof(*row));
    rows->count--;
}

static struct row *find_row(const struct rows *rows, const char *name)
{
    for (unsigned i = 0; i < rows->count; i++)
        if (bytes_equal(rows->rows[i].name, bytes_of_text(name)))
            return &rows->rows[i];
    return NULL;
}

static bool set_row(struct rows *rows, struct row row)
{
    for (unsigned i = 0; i < rows->count; i++)
        if (bytes_equal(rows->rows[i].name, row.name)) {
            rows->rows[i] = row;
            return true;
        }
    return add_row(rows, row);
}

/* Of a valid table. */
static bool parse_rows(struct bytes table, struct rows *rows)
{
    struct amqp_field field;
    while (amqp_table_next(&table, &field) == WIRE_OK) {
        const uint8_t *value = field.name.data + field.name.size + 1;
        struct row row = {.name = field.name, .type = field.type, .shape = SHAPE_RAW, .bytes = bytes_of(value, (size_t)(table.data - value))};
        if (!add_row(rows, row))
            return false;
    }
    return true;
}

static int compare_names(struct bytes a, struct bytes b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = shorter ? memcmp(a.data, b.data, shorter) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* By name; rows of the same name keep their order. Clients choose the headers, so not by insertion alone. */
static void merge(struct row *from, struct row *to, unsigned begin, unsigned middle, unsigned end)
{
    for (unsigned at = begin, left = begin, right = middle; at < end; at++)
        to[at] = left < middle && (right == end || compare_names(from[left].name, from[right].name) <= 0) ? from[left++] : from[right++];
}

static bool sort_rows(struct rows *rows)
{
    struct row *other = rows->count > 1 ? malloc(rows->count * sizeof(*other)) : NULL;
    if (rows->count > 1 && !other)
        return false;
    for (unsigned width = 1; width < rows->count; width *= 2) {
        for (unsigned begin = 0; begin < rows->count; begin += 2 * width) {
            unsigned middle = begin + width < rows->count ? begin + width : rows->count;
            unsigned end = middle + width < rows->count ? middle + width : rows->count;
            merge(rows->rows, other, begin, middle, end);
        }
        memcpy(rows->rows, other, rows->count * sizeof(*other));
    }
    free(other);
    return true;
}

static struct row text_row(const char *name, struct bytes text)
{
    return (struct row){.name = bytes_of_text(name), .type = 'S', .shape = SHAPE_TEXT, .bytes = text};
}

static struct row number_row(const char *name, uint8_t type, int64_t number)
{
    return (struct row){.name = bytes_of_text(name), .type = type, .shape = SHAPE_NUMBER, .number = number};
}

/* The row's value as a field; a text that was made here too. */
static bool row_text(const struct row *row, struct bytes *text)
{
    if (row && row->shape == SHAPE_TEXT) {
        *text = row->bytes;
        return true;
    }
    if (!row || row->shape != SHAPE_RAW || row->type != 'S' || row->bytes.size < 4)
        return false;
    *text = bytes_of(row->bytes.data + 4, row->bytes.size - 4);
    return true;
}

static bool row_integer(const struct row *row, int64_t *number)
{
    if (row->shape == SHAPE_NUMBER) {
        *number = row->number;
        return true;
    }
    struct bytes value = bytes_of(row->bytes.data - 1, row->bytes.size + 1);
    struct amqp_field field;
    if (row->shape != SHAPE_RAW || amqp_array_next(&value, &field) != WIRE_OK || !amqp_field_is_integer(&field))
        return false;
    *number = field.integer;
    return true;
}

/* ---- x-death ------------------------------------------------------------------------------------------------------- */

static void deaths_deinit(struct deaths *deaths)
{
    for (unsigned i = 0; i < deaths->count; i++)
        free(deaths->elements[i].rows.rows);
    free(deaths->elements);
}

/* `array`: of a valid table. One more element is left room for. */
static bool parse_deaths(struct bytes array, struct deaths *deaths)
{
    struct bytes rest = array;
    struct amqp_field field;
    unsigned count = 0;
    while (count < DEATHS_MAX && amqp_array_next(&rest, &field) == WIRE_OK)
        count++;
    deaths->elements = calloc(count + 1u, sizeof(*deaths->elements));
    if (!deaths->elements)
        return false;
    for (rest = array; deaths->count < count; deaths->count++) {
        struct element *element = &deaths->elements[deaths->count];
        const uint8_t *at = rest.data;
        amqp_array_next(&rest, &field);
        element->raw = (struct row){.type = at[0], .shape = SHAPE_RAW, .bytes = bytes_of(at + 1, (size_t)(rest.data - at) - 1)};
        element->is_table = field.type == 'F';
        if (element->is_table && !parse_rows(field.bytes, &element->rows)) {
            deaths->count++;
            return false;
        }
    }
    return true;
}

static bool same_value(const struct row *a, const struct row *b)
{
    if (!a || !b)
        return !a && !b;
    struct bytes x, y;
    if (row_text(a, &x) && row_text(b, &y))
        return bytes_equal(x, y);
    return a->shape == SHAPE_RAW && b->shape == SHAPE_RAW && a->type == b->type && bytes_equal(a->bytes, b->bytes);
}

static bool same_kind(const struct element *a, const struct element *b)
{
    return a->is_table && b->is_table && same_value(find_row(&a->rows, "queue"), find_row(&b->rows, "queue")) &&
           same_value(find_row(&a->rows, "reason"), find_row(&b->rows, "reason"));
}

/* Tables of one kind, as old brokers and hands make them, become one, with a count; and they are turned around. */
static bool group(struct deaths *deaths)
{
    if (deaths->count < 2)
        return true;
    unsigned kept = 0;
    for (unsigned i = 0; i < deaths->count; i++) {
        struct element *element = &deaths->elements[i];
        int64_t alike = 1;
        bool seen = false;
        for (unsigned k = 0; k < kept && !seen; k++)
            seen = same_kind(&deaths->elements[k], element);
        for (unsigned k = i + 1; k < deaths->count && !seen; k++)
            alike += same_kind(element, &deaths->elements[k]);
        if (seen) {
            free(element->rows.rows);
            element->rows = (struct rows){0};
            continue;
        }
        if (element->is_table && !find_row(&element->rows, "count") && !add_first(&element->rows, number_row("count", 'l', alike)))
            return false;
        struct element moved = *element;
        element->rows = (struct rows){0};
        deaths->elements[kept++] = moved;
    }
    deaths->count = kept;
    for (unsigned i = 0; i < kept / 2; i++) {
        struct element swapped = deaths->elements[i];
        deaths->elements[i] = deaths->elements[kept - 1 - i];
        deaths->elements[kept - 1 - i] = swapped;
    }
    return true;
}

static bool new_table(const struct message *message, const struct death *death, const struct amqp_properties *properties, struct rows *rows)
{
    const struct row made[] = {
        number_row("count", 'l', 1), text_row("reason", death->reason), text_row("queue", death->queue), number_row("time", 'T', (int64_t)death->time_s),
        text_row("exchange", message->exchange), {.name = bytes_of_text("routing-keys"), .type = 'A', .shape = SHAPE_KEYS},
    };
    for (unsigned i = 0; i < sizeof(made) / sizeof(*made); i++)
        if (!add_row(rows, made[i]))
            return false;
    return !(properties->flags & AMQP_EXPIRATION) || add_row(rows, text_row("original-expiration", properties->expiration));
}

static bool count_up(struct rows *rows)
{
    struct row *count = find_row(rows, "count");
    int64_t number = 0;
    if (!count)
        return add_first(rows, number_row("count", 'l', 1));
    if (!row_integer(count, &number))
        number = 0;
    *count = number_row("count", 'l', number + 1);
    return true;
}

/* The death becomes the first element: a new table, or the one of its kind counted up. */
static bool add_death(struct deaths *deaths, struct element *death)
{
    unsigned at = 0;
    while (at < deaths->count && !same_kind(&deaths->elements[at], death))
        at++;
    bool known = at < deaths->count;
    struct element first = known ? deaths->elements[at] : *death;
    memmove(deaths->elements + 1, deaths->elements, at * sizeof(first));
    deaths->elements[0] = first;
    if (known)
        free(death->rows.rows);
    else
        deaths->count++;
    death->rows = (struct rows){0};
    return (!known || count_up(&deaths->elements[0].rows)) && sort_rows(&deaths->elements[0].rows);
}

/* ---- writing ------------------------------------------------------------------------------------------------------- */

struct out {
    uint8_t *begin, *at, *end;
    const struct message *message;
    struct bytes headers;            /* as the message came with them: CC is there */
    const struct deaths *deaths;
};

static void put(struct out *out, const void *bytes, size_t size)
{
    CHECK((size_t)(out->end - out->at) >= size);
    if (size)
        memcpy(out->at, bytes, size);
    out->at += size;
}

static void put8(struct out *out, uint8_t value) { put(out, &value, 1); }

static size_t begin_sized(struct out *out)
{
    put(out, "\0\0\0", 4);
    return (size_t)(out->at - out->begin);
}

static void end_sized(struct out *out, size_t mark)
{
    store_be32(out->begin + mark - 4, (uint32_t)((size_t)(out->at - out->begin) - mark));
}

static void put_text(struct out *out, struct bytes text)
{
    size_t mark = begin_sized(out);
    put(out, text.data, text.size);
    end_sized(out, mark);
}

/* The routing key, and the keys of CC. */
static void put_keys(struct out *out)
{
    size_t mark = begin_sized(out);
    put8(out, 'S');
    put_text(out, out->message->routing_key);
    struct amqp_field cc, key;
    if (amqp_table_find(out->headers, "CC", &cc) && cc.type == 'A')
        while (amqp_array_next(&cc.bytes, &key) == WIRE_OK)
            if (key.type == 'S') {
                put8(out, 'S');
                put_text(out, key.bytes);
            }
    end_sized(out, mark);
}

static void put_rows(struct out *out, const struct rows *rows);

static void put_deaths(struct out *out)
{
    size_t mark = begin_sized(out);
    for (unsigned i = 0; i < out->deaths->count; i++) {
        const struct element *element = &out->deaths->elements[i];
        if (element->is_table) {
            put8(out, 'F');
            put_rows(out, &element->rows);
        } else {
            put8(out, element->raw.type);
            put(out, element->raw.bytes.data, element->raw.bytes.size);
        }
    }
    end_sized(out, mark);
}

static void put_rows(struct out *out, const struct rows *rows)
{
    size_t mark = begin_sized(out);
    for (unsigned i = 0; i < rows->count; i++) {
        const struct row *row = &rows->rows[i];
        uint8_t number[8];
        put8(out, (uint8_t)row->name.size);
        put(out, row->name.data, row->name.size);
        put8(out, row->type);
        switch (row->shape) {
        case SHAPE_RAW: put(out, row->bytes.data, row->bytes.size); break;
        case SHAPE_TEXT: put_text(out, row->bytes); break;
        case SHAPE_NUMBER:
            store_be64(number, (uint64_t)row->number);
            put(out, number, sizeof(number));
            break;
        case SHAPE_KEYS: put_keys(out); break;
        case SHAPE_DEATHS: put_deaths(out); break;
        }
    }
    end_sized(out, mark);
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

static bool set_named_deaths(struct rows *headers, const struct message *message, const struct death *death, bool first)
{
    const struct row made[] = {
        text_row("x-first-death-reason", death->reason), text_row("x-first-death-queue", death->queue), text_row("x-first-death-exchange", message->exchange),
        text_row("x-last-death-reason", death->reason), text_row("x-last-death-queue", death->queue), text_row("x-last-death-exchange", message->exchange),
    };
    for (unsigned i = first ? 0 : 3; i < 6; i++)
        if (!set_row(headers, made[i]))
            return false;
    return true;
}

/* Every table of x-death may get a count of 15 bytes, and takes at least 5; everything else that is new is counted here. */
static size_t room_for(const struct message *message, const struct death *death)
{
    return 4 * message->properties.size + 3 * (death->queue.size + death->reason.size + message->exchange.size) + message->routing_key.size +
           2 * message->properties.size + 1024;
}

/* The new headers, and with them what lies around: written to `out`, encoded into properties. */
static enum gw_err write_properties(struct out *out, const struct rows *headers, struct amqp_properties *old, struct bytes *properties)
{
    put_rows(out, headers);
    old->headers = bytes_of(out->begin + 4, (size_t)(out->at - out->begin) - 4);
    old->flags = (old->flags | AMQP_HEADERS) & (uint16_t)~AMQP_EXPIRATION;
    size_t size = amqp_properties_size(old);
    uint8_t *written = malloc(size);
    if (!written)
        return GW_ERR_NOMEM;
    CHECK(amqp_properties_encode(old, written, size) == size);
    *properties = bytes_of(written, size);
    return GW_OK;
}

static bool set_returns(struct rows *headers, const struct death *death)
{
    return (!death->returns || set_row(headers, number_row("x-delivery-count", 'l', (int64_t)death->returns))) &&
           (!death->retry_reason.size || set_row(headers, text_row("x-retry-reason", death->retry_reason)));
}

/* Headers and deaths of the message as it goes on. */
static bool change(const struct message *message, const struct death *death, const struct amqp_properties *old, struct rows *headers, struct deaths *deaths)
{
    struct element made = {.is_table = true};
    struct amqp_field before;
    bool known = amqp_table_find(old->headers, "x-death", &before), grouped = known && before.type == 'A';
    bool ok = parse_rows(old->headers, headers) && parse_deaths(grouped ? before.bytes : (struct bytes){0}, deaths) && group(deaths) &&
              new_table(message, death, old, &made.rows);
    if (!ok) {
        free(made.rows.rows);
        return false;
    }
    if (grouped) {
        ok = add_death(deaths, &made);
    } else {   /* the first, or in the place of what was no array: not sorted */
        deaths->elements[0] = made;
        deaths->count = 1;
    }
    if (death->rerouted) {
        remove_row(headers, find_row(headers, "CC"));
        remove_row(headers, find_row(headers, "BCC"));
    }
    return ok && set_named_deaths(headers, message, death, !known) && set_returns(headers, death) &&
           set_row(headers, (struct row){.name = bytes_of_text("x-death"), .type = 'A', .shape = SHAPE_DEATHS}) && sort_rows(headers);
}

enum gw_err death_properties(const struct message *message, const struct death *death, struct bytes *properties)
{
    struct amqp_properties old;
    if (!amqp_properties_decode(message->properties, &old))
        return GW_ERR_INVALID;
    struct rows headers = {0};
    struct deaths deaths = {0};
    size_t room = room_for(message, death);
    uint8_t *scratch = malloc(room);
    enum gw_err err = GW_ERR_NOMEM;
    if (scratch && change(message, death, &old, &headers, &deaths)) {
        struct out out = {.begin = scratch, .at = scratch, .end = scratch + room, .message = message, .headers = old.headers, .deaths = &deaths};
        err = write_properties(&out, &headers, &old, properties);
    }
    free(scratch);
    free(headers.rows);
    deaths_deinit(&deaths);
    return err;
}

/* ---- cycles -------------------------------------------------------------------------------------------------------- */

static bool table_says(struct bytes table, const char *name, struct bytes text)
{
    struct amqp_field field;
    return amqp_table_find(table, name, &field) && field.type == 'S' && bytes_equal(field.bytes, text);
}

bool death_was_in(struct bytes properties, struct bytes queue)
{
    struct bytes headers;
    struct amqp_field deaths, death;
    if (!amqp_properties_get(properties, AMQP_HEADERS, &headers) || !amqp_table_find(headers, "x-death", &deaths) || deaths.type != 'A')
        return false;
    while (amqp_array_next(&deaths.bytes, &death) == WIRE_OK)
        if (death.type == 'F' && table_says(death.bytes, "queue", queue))
            return true;
    return false;
}

bool death_is_cycle(struct bytes properties, struct bytes queue)
{
    struct amqp_properties decoded;
    struct amqp_field deaths, death;
    if (!amqp_properties_decode(properties, &decoded) || !(decoded.flags & AMQP_HEADERS) || !amqp_table_find(decoded.headers, "x-death", &deaths) ||
        deaths.type != 'A')
        return false;
    while (amqp_array_next(&deaths.bytes, &death) == WIRE_OK) {
        if (death.type != 'F' || table_says(death.bytes, "reason", bytes_of_text("rejected")))
            return false;   /* somebody had a hand in it */
        if (table_says(death.bytes, "queue", queue))
            return true;
    }
    return false;
}
