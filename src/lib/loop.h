/* gw_loop: a libuv loop with what the library does in a turn of it.
 *
 *   uv_run: sockets, disks, sources (nothing of the program's own is called there) → loop_turn: what was posted, timers, then every bus: its engine's turn, and what is to be told
 *
 * The program's functions are called from loop_turn alone, each after everything that concerns it has been put in order, so that one may leave by longjmp. On a loop of our own the turn
 * is outside of uv_run, whose lists on the stack would not survive that. */
#ifndef LIB_LOOP_H
#define LIB_LOOP_H

#include "base/err.h"
#include "lib/timer.h"
#include "runtime/wake.h"

#include <godwit.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#define LOOP_NEVER UINT64_MAX
#define LOOP_ERROR_MAX 600u

struct post {
    struct post *next;
    void (*call)(void *context);
    void *context;
};

struct gw_loop {
    uv_loop_t *uv, own;              /* own: where it is not adopted */
    bool adopted, freeing;
    struct wake wake;                /* posts and stops from elsewhere */
    uv_check_t check;                /* adopted: the turn */
    uv_idle_t again;                 /* runs while the loop must not sleep */
    uv_timer_t timer;
    uint64_t timer_us;               /* what it is set to; LOOP_NEVER: nothing */
    bool again_is_on, referenced;
    unsigned handles;                /* of the above that are not closed yet */
    uint64_t turns;
    pthread_t thread;                /* its owner */
    const volatile uint32_t *alive;  /* a page that a child of fork finds wiped */
    uint64_t now_us;                 /* monotonic, of this turn */
    uint64_t called_us;              /* roughly when a handler was called last */
    struct gw_bus *buses;
    struct loop_timers timers;
    pthread_mutex_t mutex;
    struct post *posts, **posts_last;   /* guarded by it */
    struct post *posted;             /* taken out, not yet called */
    atomic_bool stopping;
    int failed;                      /* the first gw_open or gw_connect that did */
    char error[LOOP_ERROR_MAX];
};

/* GW_DONE when this thread may use it; otherwise what to answer. Leaves no sentence: another thread's is not ours to write. */
int loop_check(const struct gw_loop *loop);

/* Leaves a sentence and answers `result`. */
__attribute__((format(printf, 3, 4)))
int loop_fail(struct gw_loop *loop, int result, const char *format, ...);

/* What a broker's error is to the program. */
int loop_result(enum gw_err err);

void loop_keep_awake(struct gw_loop *loop);
/* Another turn soon: something was left to do. On its thread. */
static inline void loop_again_now(struct gw_loop *loop)
{
    if (!loop->again_is_on)
        loop_keep_awake(loop);
}

/* Monotonic microseconds now, not those of the turn. */
uint64_t loop_clock(void);
/* The same, some milliseconds ago at most, for next to nothing. */
uint64_t loop_clock_roughly(void);

/* Handlers have had the loop for long enough: sockets, disks and timers are to have a turn. */
#define LOOP_TURN_US 10000u
static inline bool loop_turn_is_over(const struct gw_loop *loop) { return loop->called_us > loop->now_us + LOOP_TURN_US; }

/* post.c */
void posts_turn(struct gw_loop *loop);
bool posts_wait(struct gw_loop *loop);
void posts_free(struct gw_loop *loop);

#endif
