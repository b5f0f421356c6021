#include "protocol/amqp/copies.h"

#include "protocol/amqp/table.h"

#include <stdio.h>

static const char *const names[] = {"CC", "BCC"};

enum copies_found copies_find(struct bytes headers, struct bytes copies[2], char *text, size_t room)
{
    enum copies_found found = COPIES_NONE;
    copies[0] = copies[1] = (struct bytes){0};
    bool seen[2] = {false, false};
    struct amqp_field field;
    for (struct bytes rest = headers; amqp_table_next(&rest, &field) == WIRE_OK;) {
        unsigned which = field.name.size == 3;   /* the first of a name counts */
        if (field.name.size < 2 || field.name.size > 3 || seen[which] || !bytes_equal(field.name, bytes_of_text(names[which])))
            continue;
        seen[which] = true;
        found = COPIES_FOUND;
        copies[which] = field.type == 'A' ? field.bytes : (struct bytes){0};
        if (field.type != 'A') {
            snprintf(text, room, "invalid message: {unacceptable_type_in_header,\"%s\",%s}", names[which], amqp_field_type_name(field.type));
            return COPIES_INVALID;
        }
    }
    return found;
}

bool copies_next(struct bytes *copies, struct bytes *key)
{
    struct amqp_field field;
    while (amqp_array_next(copies, &field) == WIRE_OK)
        if (field.type == 'S') {
            *key = field.bytes;
            return true;
        }
    return false;
}

size_t copies_without_bcc(struct bytes headers, uint8_t *at)
{
    uint8_t *begin = at;
    struct amqp_field field;
    for (struct bytes rest = headers, before = rest; amqp_table_next(&rest, &field) == WIRE_OK; before = rest) {
        size_t size = before.size - rest.size;
        if (bytes_equal(field.name, bytes_of_text("BCC")))
            continue;
        memcpy(at, before.data, size);
        at += size;
    }
    return (size_t)(at - begin);
}
