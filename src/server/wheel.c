#include "server/wheel.h"

#include <stddef.h>
#include <string.h>

void wheel_init(struct wheel *wheel, uint64_t now_us)
{
    memset(wheel, 0, sizeof(*wheel));
    wheel->tick = now_us / WHEEL_TICK_US;
}

void wheel_remove(struct wheel *wheel, struct wheel_entry *entry)
{
    if (entry->tick == 0)
        return;
    unsigned slot = entry->tick % WHEEL_SLOTS;
    if (entry->next)
        entry->next->previous = entry->previous;
    if (entry->previous)
        entry->previous->next = entry->next;
    else
        wheel->slots[slot] = entry->next;
    if (!wheel->slots[slot])
        wheel->occupied[slot / 64] &= ~(1ull << (slot % 64));
    entry->previous = entry->next = NULL;
    entry->tick = 0;
}

void wheel_set(struct wheel *wheel, struct wheel_entry *entry, uint64_t deadline_us)
{
    if (deadline_us == UINT64_MAX)
        return;
    uint64_t tick = deadline_us / WHEEL_TICK_US + 1;
    if (tick <= wheel->tick)
        tick = wheel->tick + 1;
    /* Too far away for the wheel: it is looked at, and set again, once in a while. */
    if (tick > wheel->tick + WHEEL_SLOTS - 1)
        tick = wheel->tick + WHEEL_SLOTS - 1;
    if (entry->tick != 0 && entry->tick <= tick)
        return;
    wheel_remove(wheel, entry);
    unsigned slot = tick % WHEEL_SLOTS;
    entry->tick = tick;
    entry->next = wheel->slots[slot];
    if (entry->next)
        entry->next->previous = entry;
    wheel->slots[slot] = entry;
    wheel->occupied[slot / 64] |= 1ull << (slot % 64);
}

/* The first tick after wheel->tick whose slot is not empty; UINT64_MAX: none. */
static uint64_t next_tick(const struct wheel *wheel)
{
    for (uint64_t tick = wheel->tick + 1; tick < wheel->tick + WHEEL_SLOTS;) {
        unsigned slot = tick % WHEEL_SLOTS;
        uint64_t word = wheel->occupied[slot / 64] >> (slot % 64);
        if (word) {
            tick += (unsigned)__builtin_ctzll(word);
            return tick < wheel->tick + WHEEL_SLOTS ? tick : UINT64_MAX;
        }
        tick += 64 - slot % 64;
    }
    return UINT64_MAX;
}

struct wheel_entry *wheel_take(struct wheel *wheel, uint64_t now_us)
{
    uint64_t now = now_us / WHEEL_TICK_US;
    uint64_t tick = next_tick(wheel);
    if (tick > now) {
        if (now > wheel->tick)
            wheel->tick = now;
        return NULL;
    }
    wheel->tick = tick - 1;
    struct wheel_entry *entry = wheel->slots[tick % WHEEL_SLOTS];
    wheel_remove(wheel, entry);
    return entry;
}

uint64_t wheel_next(const struct wheel *wheel)
{
    uint64_t tick = next_tick(wheel);
    return tick == UINT64_MAX ? UINT64_MAX : tick * WHEEL_TICK_US;
}
