/* The publishes that a broker has not confirmed yet: numbered from 1 on, at most `capacity` of them. */
#ifndef CLI_CONFIRM_WINDOW_H
#define CLI_CONFIRM_WINDOW_H

#include "base/err.h"
#include "cli/histogram.h"

#include <stdbool.h>

struct confirm_window {
    uint64_t *stamps;         /* ring by number: when it was sent; 0: settled */
    uint64_t mask;            /* the ring's size less 1 */
    uint64_t capacity;
    uint64_t first, next;     /* numbers: the oldest unsettled one, the one to be given */
    uint64_t settled_ahead;   /* settled ones above `first` */
};

/* Errors: GW_ERR_NOMEM. */
enum gw_err confirm_window_init(struct confirm_window *window, uint64_t capacity);
void confirm_window_deinit(struct confirm_window *window);

static inline uint64_t confirm_window_pending(const struct confirm_window *window)
{
    return window->next - window->first - window->settled_ahead;
}

/* How many more may be sent now. */
static inline uint64_t confirm_window_room(const struct confirm_window *window)
{
    return window->capacity - (window->next - window->first);
}

/* Notes `count` publishes sent at `stamp` (not 0); needs the room for them. */
void confirm_window_add(struct confirm_window *window, uint64_t count, uint64_t stamp);

/* Settles a number, and all before it when `multiple`. Adds their age at `now` to `ages`, which may be NULL. Returns how many
 * that were; 0 for a number that was never sent or is settled already. */
uint64_t confirm_window_settle(struct confirm_window *window, uint64_t number, bool multiple, uint64_t now, struct histogram *ages);

#endif
