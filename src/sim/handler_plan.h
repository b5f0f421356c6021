/* What one seed of the library's simulation does: which handlers the program has, with which options and habits, and what goes wrong. */
#ifndef SIM_HANDLER_PLAN_H
#define SIM_HANDLER_PLAN_H

#include "sim/plan.h"

#define HANDLERS_MAX 5u
#define HANDLER_TYPES 5u
#define HANDLER_KEYS 4u
#define HANDLER_DELAYS_MAX 3u
#define HANDLER_HABITS 16u           /* in so many */

extern const char *const handler_types[HANDLER_TYPES];

/* How a handler of the program's is declared, in each of the program's lives. */
struct handler_terms {
    char name[16];                   /* of its queue */
    const char *pattern;
    unsigned types;                  /* that it matches, a bit each */
    uint32_t concurrency;
    uint32_t retries;                /* UINT32_MAX: for ever */
    uint64_t delays_ms[HANDLER_DELAYS_MAX];
    unsigned delay_count;
    uint64_t timeout_ms;             /* 0: none */
    char letter[16];                 /* the type of its dead letters; empty: they go to a queue of theirs */
    bool order_by_key, transient;

    /* What it does with an event, of HANDLER_HABITS; the rest is acknowledged at once. */
    unsigned later, retry, retry_after, reject, never, reply;
};

struct handler_plan {
    struct plan base;
    struct handler_terms list[HANDLERS_MAX];
    unsigned count;
    unsigned publish, change, ask;   /* chances, in 4096 of a step */
    unsigned delayed, keyed, transient, waited;   /* of published events, in 16; waited: in 256 */
    unsigned jump;                   /* chance that time jumps, in 4096 of a step */
    uint64_t jump_us, delay_ms;      /* the most of either */
};

void handler_plan_make(struct handler_plan *plan, const struct sim_options *options, uint64_t seed);

/* Tells a verbose trace of the handlers. */
struct trace;
void handler_plan_note(const struct handler_plan *plan, struct trace *trace);

/* How long an event waits that has failed for the `fails`th time. */
uint64_t handler_terms_delay_ms(const struct handler_terms *terms, uint32_t fails);

#endif
