#include "broker/position.h"

#include "broker/lane.h"

#include <stdio.h>

#define SCHEDULED "scheduled/"

struct bytes position_write(uint64_t seq, char text[POSITION_SIZE])
{
    unsigned level = seq_level(seq);
    unsigned long long number = seq - seq_base(level);
    int size = level == LEVEL_SCHEDULED ? snprintf(text, POSITION_SIZE, SCHEDULED "%llu", number)
               : level                  ? snprintf(text, POSITION_SIZE, "%u/%llu", level, number)
                                        : snprintf(text, POSITION_SIZE, "%llu", number);
    return bytes_of(text, (size_t)size);
}

/* The digits at the front of `text`, which are taken off it. False: there are none, or it is more than `most`. */
static bool take_number(struct bytes *text, uint64_t most, uint64_t *number)
{
    size_t i = 0;
    *number = 0;
    for (; i < text->size && text->data[i] >= '0' && text->data[i] <= '9'; i++) {
        *number = *number * 10 + (text->data[i] - '0');
        if (*number > most)
            return false;
    }
    *text = bytes_of(text->data + i, text->size - i);
    return i > 0;
}

bool position_parse(struct bytes text, uint64_t *seq)
{
    size_t prefix = sizeof(SCHEDULED) - 1;
    uint64_t level = 0, number;
    if (text.size > prefix && memcmp(text.data, SCHEDULED, prefix) == 0) {
        text = bytes_of(text.data + prefix, text.size - prefix);
        level = LEVEL_SCHEDULED;
    }
    if (!take_number(&text, seq_base(1) - 1, &number))
        return false;
    if (!level && text.size && text.data[0] == '/') {
        level = number;
        text = bytes_of(text.data + 1, text.size - 1);
        if (level >= LEVEL_SCHEDULED || !take_number(&text, seq_base(1) - 1, &number))
            return false;
    }
    *seq = seq_base((unsigned)level) | number;
    return !text.size;
}
