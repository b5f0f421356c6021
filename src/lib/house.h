/* Where the broker of an embedded bus lives: a data directory that this process has open (open.c), or a simulated one. There is one worker, and the bus is what has it turn. */
#ifndef LIB_HOUSE_H
#define LIB_HOUSE_H

#include <stdbool.h>
#include <stdint.h>

struct house;
struct worker;

struct house_ops {
    /* Before each turn of the worker: looks at the time of day now and then. */
    void (*clock)(struct house *house, uint64_t now_us);
    /* Waits until the disk has done something, at most for so long (milliseconds; < 0: for ever); or, when it has nothing to do, for a moment. */
    void (*wait)(struct house *house, int timeout_ms);
    /* The bus's client is detached. Closes the broker and all that it stands on; the house is gone. The result is one of the program's, GW_DONE or GW_E_…. */
    int (*close)(struct house *house, uint64_t now_us);
    /* The same in a thread of its own, and `closed` is told in the loop when the house is gone; once is_idle. */
    void (*close_aside)(struct house *house, uint64_t now_us, void (*closed)(void *owner, int result), void *owner);
    /* The disk has nothing to do. Until it is, the loop has a turn when something of it is done. */
    bool (*is_idle)(struct house *house);
    /* In a child of fork: closes descriptors, and touches nothing that the parent uses. */
    void (*forked)(struct house *house);
};

struct house {
    const struct house_ops *ops;
    struct worker *worker;
};

#endif
