/* One change of the topology, as it is logged in shard 0 and sent from worker to worker (little-endian):
 *
 *   kind (1) · exchange type (1) · flags (2) · vhost (4) · id (8) · owner (8)
 *   then five runs, each size (4) and bytes: name, source, routing_key, arguments, secret
 */
#ifndef BROKER_TOPOLOGY_CHANGE_H
#define BROKER_TOPOLOGY_CHANGE_H

#include "base/bytes.h"

#include <stdbool.h>

enum exchange_type { EXCHANGE_DIRECT, EXCHANGE_FANOUT, EXCHANGE_TOPIC, EXCHANGE_HEADERS };

enum topology_flags {
    TOPOLOGY_DURABLE = 1, TOPOLOGY_AUTO_DELETE = 2, TOPOLOGY_INTERNAL = 4, TOPOLOGY_EXCLUSIVE = 8,
    TOPOLOGY_TO_EXCHANGE = 16,      /* of a binding: its destination is an exchange */
    TOPOLOGY_TRACING = 32,          /* of a vhost: its firehose is on */
};

enum change_kind {
    CHANGE_EXCHANGE_DECLARE = 1, CHANGE_EXCHANGE_DELETE, CHANGE_QUEUE_DECLARE, CHANGE_QUEUE_DELETE, CHANGE_BIND, CHANGE_UNBIND,
    CHANGE_USER_PUT, CHANGE_USER_DELETE, CHANGE_VHOST_PUT, CHANGE_VHOST_DELETE,
};

struct topology_change {
    enum change_kind kind;
    unsigned flags;
    enum exchange_type type;
    uint32_t vhost;                 /* id of the one that it is about, or in which */
    uint64_t id;                    /* of a queue; its low 8 bits are its shard, see queue_id_shard */
    uint64_t owner;                 /* the client that an exclusive queue belongs to */
    struct bytes name;              /* exchange, queue, user, vhost; of a binding: its destination */
    struct bytes source;            /* of a binding; of a vhost: its description */
    struct bytes routing_key;       /* of a vhost: its default queue type */
    struct bytes arguments;         /* of a user or a vhost: its tags, comma-separated */
    struct bytes secret;            /* of a user: 4 bytes of salt, then SHA-256 of salt and password */
};

/* The bytes of a change. */
uint32_t topology_change_size(const struct topology_change *change);
void topology_change_write(const struct topology_change *change, uint8_t *at);

/* `change` points into `bytes`. False: that is no change, or of a kind that is not known here. */
bool topology_change_read(struct bytes bytes, struct topology_change *change);

/* "direct", "fanout", "topic", "headers". */
const char *exchange_type_name(enum exchange_type type);
bool exchange_type_parse(struct bytes name, enum exchange_type *type);

#endif
