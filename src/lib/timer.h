/* A loop's timers. */
#ifndef LIB_TIMER_H
#define LIB_TIMER_H

#include <godwit.h>

struct timers {
    struct gw_timer **heap, *last;   /* last: one that fires, and is freed afterwards */
    size_t count, room;
};

/* Calls what is due. Monotonic microseconds. */
void timers_turn(struct timers *timers, uint64_t now_us);
/* When the next one is due; UINT64_MAX: there is none. */
uint64_t timers_due(const struct timers *timers);
void timers_deinit(struct timers *timers);

#endif
