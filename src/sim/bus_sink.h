/* The sinks, on the other side of io/outgoing.h: what they answer depends on their moods, which change with time. They look at what is posted to them, and tell the model. */
#ifndef SIM_BUS_SINK_H
#define SIM_BUS_SINK_H

#include "protocol/webhook/signature.h"
#include "sim/bus_endpoint.h"
#include "sim/bus_model.h"
#include "sim/sim_broker.h"

struct bus_sinks;
struct bus_request;

struct bus_sender {
    struct outgoing_sender sender;   /* first */
    struct bus_sinks *sinks;
};

struct bus_sinks {
    const struct bus_plan *plan;
    struct random *random;
    struct trace *trace;
    struct bus_model *model;
    struct bus_endpoints endpoints;
    struct bus_sender sender;        /* of all workers */
    struct { enum bus_mood mood; uint64_t until_us; } sinks[BUS_SINKS_MAX];
    struct bus_request **requests;   /* under way */
    unsigned count, room;
    struct webhook_secret secret;
    bool calm;                       /* all of them are in a good mood */
    bool is_held;                    /* nobody answers */
};

void bus_sinks_init(struct bus_sinks *sinks, const struct bus_plan *plan, struct random *random, struct trace *trace, struct bus_model *model);
/* Nothing is under way any more. */
void bus_sinks_deinit(struct bus_sinks *sinks);

/* One that is due answers. False: none is. */
bool bus_sinks_step(struct bus_sinks *sinks);
/* When the next one is due; BUS_NEVER: nothing is under way. */
uint64_t bus_sinks_deadline(const struct bus_sinks *sinks);

#endif
