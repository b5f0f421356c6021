#include "broker/headers_match.h"

#include "base/map.h"
#include "protocol/amqp/properties.h"

#include <stdio.h>

/* ---- values -------------------------------------------------------------------------------------------------------- */

/* Types that are compared with one another. */
enum family { FAMILY_INTEGER, FAMILY_REAL, FAMILY_TEXT, FAMILY_BOOLEAN, FAMILY_DECIMAL, FAMILY_LIST, FAMILY_VOID };

static enum family family_of(const struct amqp_field *field)
{
    switch (field->type) {
    case 'f':
    case 'd': return FAMILY_REAL;
    case 'S':
    case 'x': return FAMILY_TEXT;
    case 't': return FAMILY_BOOLEAN;
    case 'D': return FAMILY_DECIMAL;
    case 'A':
    case 'F': return FAMILY_LIST;
    case 'V': return FAMILY_VOID;
    default: return FAMILY_INTEGER;   /* a timestamp too */
    }
}

static double number_of(const struct amqp_field *field, enum family family)
{
    return family == FAMILY_REAL ? field->real : (double)field->integer;
}

static bool same_value(const struct amqp_field *wanted, const struct amqp_field *given)
{
    enum family a = family_of(wanted), b = family_of(given);
    if (a == FAMILY_VOID)
        return true;
    if (a != b)
        return a <= FAMILY_REAL && b <= FAMILY_REAL && number_of(wanted, a) == number_of(given, b);
    switch (a) {
    case FAMILY_INTEGER:
    case FAMILY_BOOLEAN: return wanted->integer == given->integer;
    case FAMILY_REAL: return wanted->real == given->real;
    case FAMILY_DECIMAL: return wanted->integer == given->integer && wanted->scale == given->scale;
    case FAMILY_LIST: return (wanted->type == given->type || !wanted->bytes.size) && bytes_equal(wanted->bytes, given->bytes);
    default: return bytes_equal(wanted->bytes, given->bytes);
    }
}

uint64_t headers_value_hash(const struct amqp_field *value, uint64_t seed)
{
    enum family family = family_of(value);
    double number;
    switch (family) {
    case FAMILY_INTEGER:
    case FAMILY_REAL:
        number = number_of(value, family) + 0.0;
        return bytes_hash(bytes_of(&number, sizeof(number)), seed + 1);
    case FAMILY_TEXT: return bytes_hash(value->bytes, seed + 2);
    case FAMILY_BOOLEAN: return seed + 3 + (value->integer != 0);
    default: return seed + 5 + family;
    }
}

/* ---- bindings ------------------------------------------------------------------------------------------------------ */

static bool begins_with_x(struct bytes name)
{
    return name.size >= 2 && name.data[0] == 'x' && name.data[1] == '-';
}

bool headers_mode_valid(struct bytes arguments, char *text, size_t room)
{
    static const char *const modes[] = {"all", "any", "all-with-x", "any-with-x"};
    struct amqp_field mode;
    if (!amqp_table_find(arguments, "x-match", &mode))
        return true;
    for (unsigned i = 0; mode.type == 'S' && i < sizeof(modes) / sizeof(*modes); i++)
        if (bytes_equal(mode.bytes, bytes_of_text(modes[i])))
            return true;
    if (mode.type == 'S')
        snprintf(text, room, "Invalid x-match field value <<\"%.*s\">>; expected all, any, all-with-x, or any-with-x", (int)mode.bytes.size,
                 (const char *)mode.bytes.data);
    else if (amqp_field_is_integer(&mode) || mode.type == 'T')
        snprintf(text, room, "Invalid x-match field type %s (value %lld); expected longstr", amqp_field_type_name(mode.type), (long long)mode.integer);
    else
        snprintf(text, room, "Invalid x-match field type %s (value %s); expected longstr", amqp_field_type_name(mode.type),
                 mode.type == 't' ? mode.integer ? "true" : "false" : "undefined");
    return false;
}

static bool mode_is(struct bytes arguments, const char *one, const char *other)
{
    struct amqp_field mode;
    return amqp_table_find(arguments, "x-match", &mode) && mode.type == 'S' &&
           (bytes_equal(mode.bytes, bytes_of_text(one)) || bytes_equal(mode.bytes, bytes_of_text(other)));
}

bool headers_mode_is_any(struct bytes arguments)
{
    return mode_is(arguments, "any", "any-with-x");
}

bool headers_mode_takes_x(struct bytes arguments)
{
    return mode_is(arguments, "all-with-x", "any-with-x");
}

bool headers_next_pair(struct bytes *rest, bool with_x, struct amqp_field *pair)
{
    while (amqp_table_next(rest, pair) == WIRE_OK)
        if (with_x ? !bytes_equal(pair->name, bytes_of_text("x-match")) : !begins_with_x(pair->name))
            return true;
    return false;
}

static bool find(struct bytes table, struct bytes name, struct amqp_field *found)
{
    while (amqp_table_next(&table, found) == WIRE_OK)
        if (bytes_equal(found->name, name))
            return true;
    return false;
}

bool headers_match(struct bytes arguments, struct bytes headers)
{
    return headers_match_in_mode(arguments, headers, headers_mode_is_any(arguments), headers_mode_takes_x(arguments));
}

bool headers_match_in_mode(struct bytes arguments, struct bytes headers, bool any, bool with_x)
{
    struct amqp_field wanted, given;
    for (struct bytes rest = arguments; headers_next_pair(&rest, with_x, &wanted);) {
        bool matches = find(headers, wanted.name, &given) && same_value(&wanted, &given);
        if (matches == any)
            return any;
    }
    return !any;
}

struct bytes headers_of(struct bytes properties)
{
    struct amqp_properties decoded;
    if (amqp_properties_decode(properties, &decoded) && (decoded.flags & AMQP_HEADERS))
        return decoded.headers;
    return (struct bytes){0};
}
