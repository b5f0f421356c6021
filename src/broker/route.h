/* Where a message goes: the queues that an exchange's bindings lead to, each once. Exchanges that are bound to it are gone through too, and the alternate exchange of
 * one that matches nothing; each once, so that circles end. */
#ifndef BROKER_ROUTE_H
#define BROKER_ROUTE_H

#include "broker/topology.h"

/* Queue ids in the order of their shards. */
struct route {
    uint64_t version;       /* the topology's when this was found */
    uint32_t count, capacity;
    bool durable;           /* one of the queues is */
    bool cacheable;         /* depends on exchange and routing key alone */
    bool traced;            /* the vhost's firehose is on */
    bool keeps;             /* one of the queues keeps what it gets over a restart, whatever the message says: quorum queues, streams, those that deduplicate */
    bool stamped;           /* one of the queues wants to know when messages arrived */
    bool decides;           /* the exchange is that for decisions of transactions, see half.h */
    bool asks;              /* it keeps, wants stamps, or decides */
    uint64_t *queues;
};

/* Fills `route` (its array grows as needed; free with route_deinit). */
enum gw_err topology_route(struct topology *topology, struct exchange *exchange, const struct routed_message *message, struct route *route);
void route_deinit(struct route *route);

#endif
