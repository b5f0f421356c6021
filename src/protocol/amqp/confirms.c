#include "protocol/amqp/confirms.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 256u

void confirms_init(struct confirms *confirms)
{
    memset(confirms, 0, sizeof(*confirms));
    confirms->next = confirms->low = confirms->told = 1;
}

void confirms_deinit(struct confirms *confirms)
{
    free(confirms->done_bits);
    free(confirms->refused_bits);
    confirms_init(confirms);
}

static bool bit_get(const struct confirms *confirms, const uint64_t *bits, uint64_t number)
{
    number &= confirms->capacity - 1;
    return bits[number / 64] >> number % 64 & 1;
}

static void bit_set(const struct confirms *confirms, uint64_t *bits, uint64_t number)
{
    number &= confirms->capacity - 1;
    bits[number / 64] |= 1ull << number % 64;
}

static void bit_clear(const struct confirms *confirms, uint64_t *bits, uint64_t number)
{
    number &= confirms->capacity - 1;
    bits[number / 64] &= ~(1ull << number % 64);
}

/* Makes the bitmaps wide enough for [told, next). */
static enum gw_err widen(struct confirms *confirms)
{
    uint64_t needed = confirms->next - confirms->told, capacity = confirms->capacity ? confirms->capacity : CAPACITY_MIN;
    if (needed <= confirms->capacity)
        return GW_OK;
    while (capacity < needed)
        capacity *= 2;
    struct confirms wide = *confirms;
    wide.capacity = capacity;
    wide.done_bits = calloc(capacity / 64, 8);
    wide.refused_bits = calloc(capacity / 64, 8);
    if (!wide.done_bits || !wide.refused_bits) {
        free(wide.done_bits);
        free(wide.refused_bits);
        return GW_ERR_NOMEM;
    }
    for (uint64_t number = confirms->told; confirms->capacity && number < confirms->told + confirms->capacity; number++) {
        if (bit_get(confirms, confirms->done_bits, number))
            bit_set(&wide, wide.done_bits, number);
        if (bit_get(confirms, confirms->refused_bits, number))
            bit_set(&wide, wide.refused_bits, number);
    }
    free(confirms->done_bits);
    free(confirms->refused_bits);
    *confirms = wide;
    return GW_OK;
}

/* Moves `low` over what is done already. */
static void advance(struct confirms *confirms)
{
    while (confirms->capacity && confirms->low < confirms->next && bit_get(confirms, confirms->done_bits, confirms->low)) {
        bit_clear(confirms, confirms->done_bits, confirms->low);
        confirms->low++;
    }
}

enum gw_err confirms_done(struct confirms *confirms, uint64_t first, uint64_t count, bool accepted)
{
    uint64_t end = count < confirms->next - first ? first + count : confirms->next;
    if (first >= confirms->next)
        return GW_OK;
    if (first < confirms->low)
        first = confirms->low;
    if (first >= end)
        return GW_OK;
    if (first > confirms->low || !accepted) {
        enum gw_err err = widen(confirms);
        if (err)
            return err;
    }
    for (uint64_t number = first; !accepted && number < end; number++) {
        if (first > confirms->low && bit_get(confirms, confirms->done_bits, number))
            continue;
        bit_set(confirms, confirms->refused_bits, number);
        confirms->refused++;
    }
    if (first > confirms->low) {
        for (uint64_t number = first; number < end; number++)
            bit_set(confirms, confirms->done_bits, number);
        return GW_OK;
    }
    for (uint64_t number = first; confirms->capacity && number < end; number++)
        bit_clear(confirms, confirms->done_bits, number);
    confirms->low = end;
    advance(confirms);
    return GW_OK;
}

/* Numbers further on than the bitmap is wide were accepted: refusing one widens it. */
static bool is_refused(const struct confirms *confirms, uint64_t number)
{
    return confirms->refused && number - confirms->told < confirms->capacity && bit_get(confirms, confirms->refused_bits, number);
}

bool confirms_tell(struct confirms *confirms, uint64_t *upto, bool *multiple, bool *accepted)
{
    if (!confirms_pending(confirms))
        return false;
    uint64_t end = confirms->told + 1;
    bool refused = is_refused(confirms, confirms->told);
    if (confirms->refused == 0)
        end = confirms->low;
    while (end < confirms->low && is_refused(confirms, end) == refused)
        end++;
    for (uint64_t number = confirms->told; refused && number < end; number++) {
        bit_clear(confirms, confirms->refused_bits, number);
        confirms->refused--;
    }
    *upto = end - 1;
    *multiple = end - confirms->told > 1;
    *accepted = !refused;
    confirms->told = end;
    return true;
}
