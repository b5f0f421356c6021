/* The bus: what drains subscriptions. Each worker has one, which cares for those of all subscriptions that fall to it, whoever made them and wherever: they are parameters of their
 * virtual hosts, which every worker knows, and a bus follows what they say.
 *
 *   parameter `subscription` ──▶ drain ──consumes──▶ queue subscription.ID ──events──▶ hooks ──▶ a sender (io/outgoing.h): HTTP's, or AMQP's
 *
 * An event that is taken is acknowledged; one that is not goes back, and the queue's backoff says when it comes again, or that it is given up. So nothing that must survive a restart
 * is kept here. No clock, no system call. */
#ifndef BUS_BUS_H
#define BUS_BUS_H

#include "broker/worker.h"

struct bus;
struct outgoing_sender;

/* Of each, the first one reaches the internet (and where the configuration allows it), the second one the broker's own machine, too. */
struct bus_senders {
    struct outgoing_sender *http[2], *amqp[2];
};

/* The senders are borrowed. NULL: out of memory. */
struct bus *bus_new(struct worker *worker, unsigned workers, const struct bus_senders *senders);

/* Before each turn of the worker's, and by bus_deadline at the latest. Monotonic microseconds. */
void bus_tick(struct bus *bus, uint64_t now_us);
uint64_t bus_deadline(const struct bus *bus);

/* The broker stops: what is under way is given back. */
void bus_stop(struct bus *bus);
/* After bus_stop. */
void bus_free(struct bus *bus);

/* The worker whose bus drains a subscription. */
unsigned bus_place(struct bytes vhost, struct bytes id, unsigned workers);

/* How it goes with a subscription: {"state": "active", "delivered": 7, …}, with "attempts", the last of them. free() it. NULL: it is not here. */
char *bus_describe(struct bus *bus, struct bytes vhost, struct bytes id, bool attempts);

/* How far the subscription's replay has come: its parameter (rerun.h) as it would be now. free() it. NULL: none is under way here. */
char *bus_describe_replay(const struct bus *bus, struct bytes vhost, struct bytes id);

#endif
