/* Where a message goes: the queues that an exchange's bindings lead to, exchange-to-exchange bindings followed, each queue once. */
#ifndef BROKER_ROUTE_H
#define BROKER_ROUTE_H

#include "broker/topology.h"

/* Queue ids in the order of their shards. */
struct route {
    uint64_t version;       /* the topology's when this was found */
    uint32_t count, capacity;
    bool durable;           /* one of the queues is */
    bool cacheable;         /* depends on exchange and routing key alone */
    bool stamped;           /* one of the queues wants to know when messages arrived */
    uint64_t *queues;
};

/* Fills `route` (its array grows as needed; free with route_deinit). `properties`: AMQP's property bytes, for headers exchanges. */
enum gw_err topology_route(struct topology *topology, struct exchange *exchange, struct bytes routing_key, struct bytes properties,
                           struct route *route);
void route_deinit(struct route *route);

#endif
