/* The exchange amq.rabbitmq.event of the vhost "/": what happens to the broker, as messages that have headers and no body. Their routing keys and headers are those of
 * RabbitMQ's event exchange plug-in.
 *
 * Whoever decides something says so: the master of what it changes in the topology, workers of their connections, channels and consumers. As long as nothing is bound to
 * the exchange nobody puts an event together. */
#ifndef BROKER_EVENTS_H
#define BROKER_EVENTS_H

#include "broker/topology.h"
#include "protocol/amqp/table.h"

struct worker;

#define EVENT_EXCHANGE "amq.rabbitmq.event"
#define EVENT_NOBODY "rmq-internal"      /* the user who did what nobody asked for */

struct event {
    struct worker *worker;
    struct exchange *exchange;
    const char *key;
    struct amqp_table_writer headers;    /* the caller puts its own fields in, with amqp_table_put_… */
    uint8_t *room;
};

/* False: nobody listens, or memory is short; nothing is to be done. `more`: bytes of the longest texts that will be put in. */
bool event_begin(struct event *event, struct worker *worker, const char *key, size_t more);

/* Who did it; empty: nobody asked for it. */
void event_put_user(struct event *event, struct bytes user);

/* A table as the plug-in says it: an array of the text of its fields, {<<"x-max-length">>,signedint,5}. */
void event_put_arguments(struct event *event, const char *name, struct bytes table);

/* Publishes it, with its time. */
void event_end(struct event *event);

/* What `change` is about to do to the master's topology, and to what hangs on it. Borrows everything; `user` may be empty. */
void events_of_change(struct worker *worker, const struct topology *topology, const struct topology_change *change, struct bytes user);

/* A connection was let in, or has ended. `facts`: what the session told of it, see connections.h. */
void event_connection(struct worker *worker, bool created, uint64_t client, const struct vhost *vhost, struct bytes user, struct bytes facts);

/* Somebody gave a password. */
void event_authentication(struct worker *worker, bool success, struct bytes user, struct bytes connection);

/* The broker lacks something ("memory", "disk"), or no longer does. */
void event_alarm(struct worker *worker, bool set, const char *source);

#endif
