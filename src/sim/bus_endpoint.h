/* Where sinks are, in the model: what the subscriptions of one worker's bus share that post to the same sink (bus/endpoint.h), counted by what the sinks say and by nothing else.
 *
 *   after ENDPOINT_AFTER requests in a row that nobody answered nothing is posted there for a while; then one request at a time shows how it goes
 *
 * A change of a subscription is a reason to try again at once, and when the bus sees it is not known here: from then on it is not known what the bus counts, until somebody answers. */
#ifndef SIM_BUS_ENDPOINT_H
#define SIM_BUS_ENDPOINT_H

#include "sim/bus_model.h"
#include "sim/sim_broker.h"

struct bus_endpoint {
    bool is_counted;                 /* the next three are what the bus has counted */
    unsigned failures, opened;
    uint64_t open_until_us;
    unsigned under_way;
};

struct bus_endpoints {
    struct bus_model *model;
    struct bus_endpoint list[SIM_WORKERS_MAX][BUS_SINKS_MAX];
    uint64_t changes[SIM_WORKERS_MAX];   /* of the model's that are counted in */
    uint32_t epoch;
};

/* A request begins; it was answered; it was taken back. Questions are none of the endpoint's. */
void bus_endpoint_posted(struct bus_endpoints *all, const struct bus_post *post);
void bus_endpoint_answered(struct bus_endpoints *all, const struct bus_post *post, const struct outgoing_result *result);
void bus_endpoint_cancelled(struct bus_endpoints *all, const struct bus_post *post);

#endif
