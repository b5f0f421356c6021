/* gw_loop: what the library does in a turn of the program's loop, and what it has to know of that loop: the time, and how to have another turn soon. The loop itself is libuv's (uvloop.h), or a
 * simulator's.
 *
 *   the loop: sockets, disks, sources (nothing of the program's own is called there) → loop_turn: timers, then every bus: its engine's turn, and what is to be told
 *
 * The program's functions are called from loop_turn alone (and from what was posted, just before it), each after everything that concerns it has been put in order, so that one may leave by
 * longjmp. */
#ifndef LIB_LOOP_H
#define LIB_LOOP_H

#include "base/err.h"
#include "lib/timer.h"

#include <godwit.h>
#include <stdatomic.h>
#include <stdbool.h>

#define LOOP_NEVER UINT64_MAX
#define LOOP_ERROR_MAX 600u

struct loop_ops {
    /* GW_DONE when this thread may use it; otherwise what to answer. Leaves no sentence: another thread's is not ours to write. */
    int (*check)(const struct gw_loop *loop);
    /* Monotonic microseconds now, not those of the turn; and the same, some milliseconds ago at most, for next to nothing. */
    uint64_t (*clock)(const struct gw_loop *loop);
    uint64_t (*clock_roughly)(const struct gw_loop *loop);
    /* Seconds since 1970. */
    uint64_t (*wall_s)(const struct gw_loop *loop);
    void (*random)(struct gw_loop *loop, void *to, size_t size);
    /* Another turn soon, without sleep: again_is_on is set. */
    void (*keep_awake)(struct gw_loop *loop);
};

struct gw_loop {
    const struct loop_ops *ops;
    bool again_is_on;                /* the next turn comes at once; may_sleep of the loop's own undoes it */
    uint64_t turns;
    uint64_t now_us;                 /* monotonic, of this turn */
    uint64_t called_us;              /* roughly when a handler was called last */
    struct gw_bus *buses;
    struct loop_timers timers;
    atomic_bool stopping;            /* gw_loop_run is to return, set by any thread … */
    bool is_run;                     /* … and this is a turn of its, so that nothing more of the program's is called */
    int failed;                      /* the first gw_open or gw_connect that did */
    char error[LOOP_ERROR_MAX];
};

static inline int loop_check(const struct gw_loop *loop) { return loop ? loop->ops->check(loop) : GW_E_INVALID; }
static inline uint64_t loop_clock(const struct gw_loop *loop) { return loop->ops->clock(loop); }
static inline uint64_t loop_clock_roughly(const struct gw_loop *loop) { return loop->ops->clock_roughly(loop); }
static inline uint64_t loop_wall_s(const struct gw_loop *loop) { return loop->ops->wall_s(loop); }

/* Leaves a sentence and answers `result`. */
__attribute__((format(printf, 3, 4)))
int loop_fail(struct gw_loop *loop, int result, const char *format, ...);

/* What a broker's error is to the program. */
int loop_result(enum gw_err err);

/* Another turn soon: something was left to do. On its thread. */
static inline void loop_again_now(struct gw_loop *loop)
{
    if (!loop->again_is_on)
        loop->ops->keep_awake(loop);
}

/* Handlers have had the loop for long enough: sockets, disks and timers are to have a turn. */
#define LOOP_TURN_US 10000u
static inline bool loop_is_to_stop(const struct gw_loop *loop) { return atomic_load_explicit(&loop->stopping, memory_order_relaxed) && loop->is_run; }
static inline bool loop_turn_is_over(const struct gw_loop *loop) { return loop->called_us > loop->now_us + LOOP_TURN_US || loop_is_to_stop(loop); }

/* Timers and buses; answers when there is something again. loop->now_us is set. */
uint64_t loop_turn(struct gw_loop *loop);

#endif
