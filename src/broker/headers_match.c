#include "broker/headers_match.h"

#include "protocol/amqp/properties.h"

/* Numbers of different widths are equal by value; everything else by type and bytes. */
static bool same_value(const struct amqp_field *wanted, const struct amqp_field *given)
{
    if (wanted->type == 'V')
        return true;
    if (amqp_field_is_integer(wanted) && amqp_field_is_integer(given))
        return wanted->integer == given->integer;
    if ((wanted->type == 'f' || wanted->type == 'd') && (given->type == 'f' || given->type == 'd'))
        return wanted->real == given->real;
    if (wanted->type != given->type)
        return false;
    switch (wanted->type) {
    case 't':
    case 'T': return wanted->integer == given->integer;
    case 'D': return wanted->integer == given->integer && wanted->scale == given->scale;
    default: return bytes_equal(wanted->bytes, given->bytes);
    }
}

static bool find(struct bytes table, struct bytes name, struct amqp_field *found)
{
    while (amqp_table_next(&table, found) == WIRE_OK)
        if (bytes_equal(found->name, name))
            return true;
    return false;
}

static bool begins_with_x(struct bytes name)
{
    return name.size >= 2 && name.data[0] == 'x' && name.data[1] == '-';
}

bool headers_mode_valid(struct bytes arguments, struct bytes *value)
{
    static const char *const modes[] = {"all", "any", "all-with-x", "any-with-x"};
    struct amqp_field mode;
    *value = (struct bytes){0};
    if (!amqp_table_find(arguments, "x-match", &mode))
        return true;
    if (mode.type != 'S')
        return false;
    for (unsigned i = 0; i < sizeof(modes) / sizeof(*modes); i++)
        if (bytes_equal(mode.bytes, bytes_of_text(modes[i])))
            return true;
    *value = mode.bytes;
    return false;
}

bool headers_match(struct bytes arguments, struct bytes properties)
{
    struct amqp_properties decoded;
    struct bytes headers = {0};
    if (amqp_properties_decode(properties, &decoded) && (decoded.flags & AMQP_HEADERS))
        headers = decoded.headers;
    bool any = false, with_x = false;
    struct amqp_field mode;
    if (amqp_table_find(arguments, "x-match", &mode) && mode.type == 'S') {
        any = mode.bytes.size >= 3 && memcmp(mode.bytes.data, "any", 3) == 0;
        with_x = mode.bytes.size == 10 && memcmp(mode.bytes.data + 3, "-with-x", 7) == 0;
    }
    struct amqp_field wanted, given;
    while (amqp_table_next(&arguments, &wanted) == WIRE_OK) {
        if (bytes_equal(wanted.name, bytes_of_text("x-match")) || (!with_x && begins_with_x(wanted.name)))
            continue;
        bool matches = find(headers, wanted.name, &given) && same_value(&wanted, &given);
        if (matches && any)
            return true;
        if (!matches && !any)
            return false;
    }
    return !any;
}
