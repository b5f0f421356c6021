/* The libuv loop that a gw_loop stands on: made for it, or adopted from the program. The turn is outside of uv_run on a loop of our own, whose lists on the stack would not survive a longjmp;
 * in an adopted one it is a uv_check. */
#ifndef LIB_UVLOOP_H
#define LIB_UVLOOP_H

#include "lib/loop.h"
#include "runtime/wake.h"

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

struct post {
    struct post *next;
    void (*call)(void *context);
    void *context;
};

struct uvloop {
    struct gw_loop loop;             /* first */
    uv_loop_t *uv, own;              /* own: where it is not adopted */
    bool adopted, freeing;
    struct wake wake;                /* posts and stops from elsewhere */
    uv_check_t check;                /* adopted: the turn */
    uv_idle_t again;                 /* runs while the loop must not sleep */
    uv_timer_t timer;
    uint64_t timer_us;               /* what it is set to; LOOP_NEVER: nothing */
    bool referenced;
    unsigned handles;                /* of the above that are not closed yet */
    pthread_t thread;                /* its owner */
    const volatile uint32_t *alive;  /* a page that a child of fork finds wiped */
    pthread_mutex_t mutex;
    struct post *posts, **posts_last;   /* guarded by it */
    struct post *posted;             /* taken out, not yet called */
};

static inline struct uvloop *uvloop_of(const struct gw_loop *loop) { return (struct uvloop *)(uintptr_t)loop; }

/* post.c */
void posts_turn(struct uvloop *u);
bool posts_wait(struct uvloop *u);
void posts_free(struct uvloop *u);

#endif
