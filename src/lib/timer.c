/* Timers of the program's: a heap by the time at which they are due. */
#include "lib/timer.h"

#include "lib/loop.h"

#include <stdlib.h>

#define LONGEST_MS (UINT64_MAX / 4000u)

struct gw_timer {
    struct gw_loop *loop;
    gw_timer_fn fire;
    void *context;
    uint64_t due_us, every_us;
    size_t place;                    /* in the heap; NOWHERE: it fires for the last time, and is in the list `fired` */
    struct gw_timer *next;           /* there */
};
#define NOWHERE SIZE_MAX

/* ---- the heap --------------------------------------------------------------------------------------------------------------- */

static void put(struct loop_timers *timers, size_t place, struct gw_timer *timer)
{
    timers->heap[place] = timer;
    timer->place = place;
}

/* Moves the one at `place` to where it belongs. */
static void settle(struct loop_timers *timers, size_t place)
{
    struct gw_timer *timer = timers->heap[place];
    for (; place && timers->heap[(place - 1) / 2]->due_us > timer->due_us; place = (place - 1) / 2)
        put(timers, place, timers->heap[(place - 1) / 2]);
    for (size_t child; (child = 2 * place + 1) < timers->count; place = child) {
        if (child + 1 < timers->count && timers->heap[child + 1]->due_us < timers->heap[child]->due_us)
            child++;
        if (timers->heap[child]->due_us >= timer->due_us)
            break;
        put(timers, place, timers->heap[child]);
    }
    put(timers, place, timer);
}

static bool add(struct loop_timers *timers, struct gw_timer *timer)
{
    if (timers->count == timers->room) {
        size_t room = timers->room ? 2 * timers->room : 8;
        struct gw_timer **heap = realloc(timers->heap, room * sizeof(struct gw_timer *));
        if (!heap)
            return false;
        timers->heap = heap;
        timers->room = room;
    }
    put(timers, timers->count++, timer);
    settle(timers, timer->place);
    return true;
}

static void take_out(struct loop_timers *timers, struct gw_timer *timer)
{
    struct gw_timer *last = timers->heap[--timers->count];
    if (last != timer) {
        put(timers, timer->place, last);
        settle(timers, last->place);
    }
    timer->place = NOWHERE;
}

/* One that has fired for the last time, unless it was freed meanwhile: its address alone is looked at. */
static void free_fired(struct loop_timers *timers, struct gw_timer *timer)
{
    for (struct gw_timer **at = &timers->fired; *at; at = &(*at)->next)
        if (*at == timer) {
            *at = timer->next;
            free(timer);
            return;
        }
}

/* ---- what the program may say ------------------------------------------------------------------------------------------------ */

gw_timer *gw_timer_start(gw_loop *loop, uint64_t after_ms, uint64_t every_ms, gw_timer_fn fire, void *context)
{
    if (loop_check(loop) != GW_DONE)
        return NULL;
    if (!fire || after_ms > LONGEST_MS || every_ms > LONGEST_MS) {
        loop_fail(loop, GW_E_INVALID, "a timer needs a function, and times that can be waited for");
        return NULL;
    }
    struct gw_timer *timer = malloc(sizeof(*timer));
    if (timer)
        *timer = (struct gw_timer){.loop = loop, .fire = fire, .context = context, .due_us = loop_clock(loop) + after_ms * 1000, .every_us = every_ms * 1000};
    if (!timer || !add(&loop->timers, timer)) {
        free(timer);
        loop_fail(loop, GW_E_MEMORY, "out of memory");
        return NULL;
    }
    loop_again_now(loop);   /* the turn sets the loop's clock */
    return timer;
}

void gw_timer_stop(gw_timer *timer)
{
    if (!timer || loop_check(timer->loop) != GW_DONE)
        return;
    struct loop_timers *timers = &timer->loop->timers;
    if (timer->place == NOWHERE) {
        free_fired(timers, timer);
        return;
    }
    take_out(timers, timer);
    free(timer);
}

/* ---- the turn ------------------------------------------------------------------------------------------------------------------ */

void loop_timers_turn(struct gw_loop *loop, uint64_t now_us)
{
    struct loop_timers *timers = &loop->timers;
    while (loop_timers_due(timers) <= now_us && !loop_is_to_stop(loop)) {
        struct gw_timer *timer = timers->heap[0];
        /* Everything is in order before the call: it may stop this timer or any other, run the loop, and it need not return. */
        bool is_last = !timer->every_us;
        if (is_last) {
            take_out(timers, timer);
            timer->next = timers->fired;
            timers->fired = timer;
        } else {
            timer->due_us += timer->every_us * ((now_us - timer->due_us) / timer->every_us + 1);
            settle(timers, 0);
        }
        timer->fire(timer, timer->context);
        if (is_last)
            free_fired(timers, timer);
    }
}

uint64_t loop_timers_due(const struct loop_timers *timers) { return timers->count ? timers->heap[0]->due_us : UINT64_MAX; }

void loop_timers_deinit(struct loop_timers *timers)
{
    while (timers->fired)
        free_fired(timers, timers->fired);
    for (size_t i = 0; i < timers->count; i++)
        free(timers->heap[i]);
    free(timers->heap);
    *timers = (struct loop_timers){0};
}
