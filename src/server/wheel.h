/* A wheel of deadlines: thousands of them that are mostly moved before they are due, to a tenth of a second. */
#ifndef SERVER_WHEEL_H
#define SERVER_WHEEL_H

#include <stdint.h>

#define WHEEL_SLOTS 512u
#define WHEEL_TICK_US 100000u

/* Embedded in what has the deadline; zeroed before its first use. */
struct wheel_entry {
    struct wheel_entry *previous, *next;
    uint64_t tick;   /* when its slot is looked at; 0: it is in none */
};

struct wheel {
    struct wheel_entry *slots[WHEEL_SLOTS];
    uint64_t occupied[WHEEL_SLOTS / 64];
    uint64_t tick;   /* slots up to this one have been looked at */
};

void wheel_init(struct wheel *wheel, uint64_t now_us);

/* Has the entry's slot looked at no later than `deadline_us` (rounded up to a tick; UINT64_MAX: not on its account). One that is in an earlier slot
 * stays there: whoever takes it out asks for the deadline again. */
void wheel_set(struct wheel *wheel, struct wheel_entry *entry, uint64_t deadline_us);

void wheel_remove(struct wheel *wheel, struct wheel_entry *entry);

/* Takes out an entry whose slot is due; NULL: none is. */
struct wheel_entry *wheel_take(struct wheel *wheel, uint64_t now_us);

/* When wheel_take may have something next; UINT64_MAX: never. */
uint64_t wheel_next(const struct wheel *wheel);

#endif
