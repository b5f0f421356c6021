/* Wakes a loop from another thread: an eventfd. Instead of uv_async_t, whose receiver in libuv 1.44 spins until the sender has returned from its
 * system call, which costs more than the wake-up itself where threads share processors. */
#ifndef RUNTIME_WAKE_H
#define RUNTIME_WAKE_H

#include "base/err.h"

#include <stdatomic.h>
#include <uv.h>

struct wake {
    uv_poll_t poll;
    int event;
    atomic_bool pending;                /* sent, and not yet heard */
    void (*heard)(struct wake *wake);
    void (*closed)(struct wake *wake);
};

/* `heard` (may be NULL) is called on the loop's thread after one or more wake_send. Keeps the loop alive unless wake_unref is called. GW_ERR_LIMIT: no
 * descriptor. */
enum gw_err wake_init(struct wake *wake, uv_loop_t *loop, void (*heard)(struct wake *wake));

/* From any thread. What was written before is seen by the loop's next turn. */
void wake_send(struct wake *wake);

/* Nobody sends any more. `closed` (may be NULL) is called by the loop when the memory may go. */
void wake_close(struct wake *wake, void (*closed)(struct wake *wake));

static inline void wake_ref(struct wake *wake) { uv_ref((uv_handle_t *)&wake->poll); }
static inline void wake_unref(struct wake *wake) { uv_unref((uv_handle_t *)&wake->poll); }

#endif
