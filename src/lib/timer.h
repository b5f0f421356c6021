/* A loop's timers. */
#ifndef LIB_TIMER_H
#define LIB_TIMER_H

#include <godwit.h>

struct loop_timers {
    struct gw_timer **heap;
    struct gw_timer *fired;          /* for the last time: freed when its call returns; one whose call left by longjmp, with the loop */
    size_t count, room;
};

/* Calls what is due. Monotonic microseconds. */
void loop_timers_turn(struct gw_loop *loop, uint64_t now_us);
/* When the next one is due; UINT64_MAX: there is none. */
uint64_t loop_timers_due(const struct loop_timers *timers);
void loop_timers_deinit(struct loop_timers *timers);

#endif
