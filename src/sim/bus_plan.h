/* What one seed of the bus's simulation does: who publishes which events, which subscriptions there are and what becomes of them, and how the sinks behave.
 *
 *   publishers ─HTTP→ events ─→ subscription.ID ─→ drain ─→ sink, in some mood
 *                                    └─ given up ─→ subscription.ID.dead
 *
 * The broker's shape and its crashes come from the same plan as the other simulations' (sim/plan.h). */
#ifndef SIM_BUS_PLAN_H
#define SIM_BUS_PLAN_H

#include "sim/plan.h"

#include <jansson.h>

#define BUS_SINKS_MAX 4u
#define BUS_SLOTS_MAX 5u             /* ids of subscriptions: what has one is made, changed, removed, and made anew */
#define BUS_PUBLISHERS_MAX 3u
#define BUS_TYPES 6u                 /* of events */
#define BUS_PATTERNS 7u              /* of types */
#define BUS_GRADES 4u                /* values of an attribute that filters look at */
#define BUS_FILTERS 6u
#define BUS_KEYS 3u                  /* subjects that a publisher has */
#define BUS_RETRIES 5u
#define BUS_BODY_MAX 20000u
#define BUS_SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define BUS_PASSWORD "sesame"
#define BUS_ORIGIN "shop.example"

enum bus_mood {
    MOOD_GOOD, MOOD_SLOW, MOOD_FLAKY, MOOD_ERRORS, MOOD_REFUSES, MOOD_THROTTLES, MOOD_HANGS, MOOD_RESETS, MOOD_BREAKS, MOOD_FORBIDDEN, MOOD_GONE /* 410 */, BUS_MOODS
};

enum bus_order { ORDER_NONE, ORDER_SUBJECT, ORDER_ALL };

/* What of a subscription stays as it was made. */
struct bus_terms {
    unsigned concurrency, attempts, timeout_s;
    enum bus_order order;
    uint8_t retry;                   /* of bus_retry_text */
    bool origin, is_signed;
};

/* What of it changes. */
struct bus_wish {
    uint8_t patterns, filter, sink;  /* patterns: a bit each */
    bool is_broker;                  /* the sink is one */
    bool paused;
};

struct bus_plan {
    struct plan base;
    unsigned sinks, slots, publishers, workers, listeners;
    unsigned brokers;                /* which of the sinks are brokers, a bit each */
    unsigned moods;                  /* those that sinks have, a bit each */
    uint64_t mood_us, jump_us;       /* how long a mood lasts, and by how much time jumps, at the most */
    unsigned jump, change;           /* chances in 4096 of a step to be one in which time jumps, somebody changes subscriptions */
    uint64_t body_size;              /* at the most */
};

void bus_plan_make(struct bus_plan *plan, const struct sim_options *options, uint64_t seed);

extern const char *const bus_types[BUS_TYPES], *const bus_patterns[BUS_PATTERNS];

/* The attempt after the `failed`-th one comes so much later at the least. */
uint64_t bus_retry_least_us(const struct bus_terms *terms, unsigned failed);

void bus_terms_draw(struct bus_terms *terms, struct random *random);
void bus_wish_draw(struct bus_wish *wish, const struct bus_plan *plan, struct random *random);

/* Does it want an event of this type and grade? */
bool bus_wish_has(const struct bus_wish *wish, unsigned type, unsigned grade);

/* The whole subscription as JSON, or the members in which `wish` is other than `before`; `life`: the number that the sink is to be posted to with. The caller's. */
json_t *bus_wish_json(const struct bus_wish *wish, const struct bus_wish *before, unsigned life);
json_t *bus_subscription_json(const struct bus_terms *terms, const struct bus_wish *wish, unsigned slot, unsigned life);

/* Is that what the broker shows? */
bool bus_wish_is(const struct bus_wish *wish, const json_t *shown, unsigned life);

#endif
