#include "protocol/amqp/expiration.h"

#include <stdio.h>


static bool is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static bool is_printable(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < 32 || (text.data[i] > 126 && text.data[i] < 160))
            return false;
    return true;
}

/* What follows a number, as Erlang prints a list of characters. */
static void show_leftover(struct bytes rest, char *why, size_t room)
{
    if (is_printable(rest)) {
        snprintf(why, room, "{leftover_string,\"%.*s\"}", (int)rest.size, (const char *)rest.data);
        return;
    }
    size_t size = (size_t)snprintf(why, room, "{leftover_string,[");
    for (size_t i = 0; i < rest.size && size + 8 < room; i++)
        size += (size_t)snprintf(why + size, room - size, "%s%u", i ? "," : "", rest.data[i]);
    if (size + 3 < room)
        snprintf(why + size, room - size, "]}");
}

bool amqp_expiration_read(struct bytes text, uint64_t *ms, char *why, size_t room)
{
    size_t begin = text.size && (text.data[0] == '-' || text.data[0] == '+') ? 1 : 0, at = begin;
    bool negative = begin && text.data[0] == '-';
    char nowhere[1];
    uint64_t value = 0;
    if (!why) {
        why = nowhere;
        room = sizeof(nowhere);
    }
    for (; at < text.size && is_digit(text.data[at]); at++)
        value = value > EXPIRATION_MAX_MS ? value : value * 10 + (text.data[at] - '0');
    const uint8_t *digits = text.data + begin;
    while (digits + 1 < text.data + at && *digits == '0')   /* refusals show the number, not the text */
        digits++;
    int shown = (int)(text.data + at - digits);
    *ms = value;
    if (at == begin)
        snprintf(why, room, "no_integer");
    else if (at < text.size)
        show_leftover(bytes_of(text.data + at, text.size - at), why, room);
    else if (negative && value)
        snprintf(why, room, "{value_negative,-%.*s}", shown, (const char *)digits);
    else if (value > EXPIRATION_MAX_MS)
        snprintf(why, room, "{value_too_large,%.*s}", shown, (const char *)digits);
    else
        return true;
    return false;
}
