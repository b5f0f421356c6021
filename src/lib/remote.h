/* The engine of a bus at a broker elsewhere: a line (client/line.h) over its circuit (host/circuit.h). */
#ifndef LIB_REMOTE_H
#define LIB_REMOTE_H

#include "host/circuit.h"
#include "lib/bus.h"
#include "lib/handler.h"

struct resting;

struct remote_bus {
    struct gw_bus *bus;
    struct circuit *circuit;
    struct line *line;                   /* the circuit's */
    bool closing, said_goodbye;
    bool gave_up;                        /* as often as the program lets it, the broker did not let us in */
    struct resting *resting;             /* the soonest first */
};

static inline struct remote_bus *remote_of(const struct gw_bus *bus) { return bus->engine; }

/* ---- remote_rest.c: brokers that know no backoff ---- */
/* The event failed: a copy that says how often comes after the delay, which the event waits for here; or it is given up. */
void remote_rest(struct remote_bus *remote, struct gw_event *event, uint64_t delay_ms);
/* Sends the copies that are due; answers when the next one is. */
uint64_t remote_rested(struct remote_bus *remote, uint64_t now_us);
/* They wait no longer: the broker has the events. */
void remote_rest_end(struct remote_bus *remote);

#endif
