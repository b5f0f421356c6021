/* The queue of an exchange of type x-delayed-message: what is published there with a delay is kept in its schedule (schedule.h), hidden from everybody, until it is
 * due; then the relay routes it as the exchange does at that time. The topology has it under a name that no client can say; it is declared before its exchange, and
 * deleted with it. */
#ifndef BROKER_DELAYED_H
#define BROKER_DELAYED_H

#include "broker/topology.h"

#define DELAYED_NAME_PREFIX 256u   /* bytes, more than a client can send */
#define DELAYED_NAME_MAX (DELAYED_NAME_PREFIX + 255u)

/* The name of the queue of the exchange of that name, in `room` (DELAYED_NAME_MAX bytes). */
struct bytes delayed_queue_name(struct bytes exchange, uint8_t *room);
struct queue_entry *delayed_queue(const struct exchange *exchange);
/* The exchange that the queue belongs to; NULL: it is being deleted. */
struct exchange *delayed_exchange(const struct queue_entry *queue);

#endif
