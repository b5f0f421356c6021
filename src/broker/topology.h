/* The topology: exchanges, bindings, queues as names and places (their messages are with their shards), users.
 *
 * Every worker has a copy of its own that only it reads; worker 0 has the master copy besides (master.c), which is the one
 * that decides. Copies change by applying the same `topology_change`s in the same order; applying is tolerant (declaring what exists and
 * deleting what does not are no-ops), since the log may replay changes that a snapshot already holds.
 *
 *   change, as logged in shard 0 and sent between workers (little-endian):
 *   kind (1) · flags (1) · exchange type (1) · zero (1) · id (8) · owner (8)
 *   then five runs, each size (4) and bytes: name, source, routing_key, arguments, secret
 */
#ifndef BROKER_TOPOLOGY_H
#define BROKER_TOPOLOGY_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/map.h"
#include "broker/settings.h"

enum exchange_type { EXCHANGE_DIRECT, EXCHANGE_FANOUT, EXCHANGE_TOPIC, EXCHANGE_HEADERS };

enum topology_flags {
    TOPOLOGY_DURABLE = 1, TOPOLOGY_AUTO_DELETE = 2, TOPOLOGY_INTERNAL = 4, TOPOLOGY_EXCLUSIVE = 8,
    TOPOLOGY_TO_EXCHANGE = 16,      /* of a binding: its destination is an exchange */
};

enum change_kind {
    CHANGE_EXCHANGE_DECLARE = 1, CHANGE_EXCHANGE_DELETE, CHANGE_QUEUE_DECLARE, CHANGE_QUEUE_DELETE, CHANGE_BIND, CHANGE_UNBIND,
    CHANGE_USER_PUT, CHANGE_USER_DELETE,
};

struct topology_change {
    enum change_kind kind;
    unsigned flags;
    enum exchange_type type;
    uint64_t id;                    /* of a queue; its low 8 bits are its shard, see queue_id_shard */
    uint64_t owner;                 /* the client that an exclusive queue belongs to */
    struct bytes name;              /* exchange, queue, user; of a binding: its destination */
    struct bytes source;            /* of a binding */
    struct bytes routing_key;
    struct bytes arguments;         /* of a user: its tags, comma-separated */
    struct bytes secret;            /* of a user: 4 bytes of salt, then SHA-256 of salt and password */
};

/* Queue ids are never used twice; those of queues that are not durable have the top bit set and mean nothing after a restart. */
#define QUEUE_ID_TRANSIENT (1ull << 63)
static inline unsigned queue_id_shard(uint64_t id) { return id & 0xFF; }

struct binding;

/* The bindings of one routing key of a direct exchange. */
struct binding_list {
    struct bytes key;
    struct binding *first;
};

struct exchange {
    struct bytes name;
    enum exchange_type type;
    unsigned flags;
    struct bytes arguments;
    struct binding *outgoing, *incoming;   /* bindings whose source, whose destination it is */
    uint32_t outgoing_count;
    struct name_map direct;                /* EXCHANGE_DIRECT: routing key → struct binding_list */
    struct topic_node *topic;              /* EXCHANGE_TOPIC */
    uint64_t visited;                      /* routing's mark */
};

struct queue_entry {
    struct bytes name;
    uint64_t id, owner;
    unsigned flags;
    struct bytes arguments;
    struct queue_settings *settings;       /* what its arguments and policies say; NULL: nothing */
    struct binding *incoming;
    uint64_t visited;
    struct queue_entry *owned_next;        /* of exclusive queues of one owner */
};

struct binding {
    struct exchange *source;
    struct queue_entry *queue;             /* one of the two is the destination */
    struct exchange *exchange;
    struct bytes routing_key, arguments;
    struct bytes identity;                 /* what makes two bindings of one source the same */
    struct binding *source_next, *source_previous, *destination_next, *destination_previous;
    struct binding *route_next;            /* in the index of its source */
};

struct user {
    struct bytes name;
    struct bytes tags;
    uint8_t secret[36];
};

struct topology {
    struct name_map exchanges, queues, bindings, users;
    struct map queues_by_id;
    uint64_t version;                      /* grows with every change: what was routed before may route otherwise now */
    uint64_t visit;
    uint32_t exclusive_count;              /* queues with an owner */
    uint64_t next_queue;                   /* the next durable queue's number (id without its shard) */
};

/* Starts with the predeclared exchanges: "", amq.direct, amq.fanout, amq.topic, amq.headers, amq.match. `seed`: for the hash maps. */
enum gw_err topology_init(struct topology *topology, uint64_t seed);
void topology_deinit(struct topology *topology);

/* Applies a change. GW_ERR_NOMEM: nothing changed. GW_ERR_INVALID: a binding whose ends do not exist, a queue of that name with another id. */
enum gw_err topology_apply(struct topology *topology, const struct topology_change *change);

/* The bytes of a change. */
uint32_t topology_change_size(const struct topology_change *change);
void topology_change_write(const struct topology_change *change, uint8_t *at);
bool topology_change_read(struct bytes bytes, struct topology_change *change);

struct exchange *topology_exchange(const struct topology *topology, struct bytes name);
struct queue_entry *topology_queue(const struct topology *topology, struct bytes name);
struct queue_entry *topology_queue_by_id(const struct topology *topology, uint64_t id);
struct user *topology_user(const struct topology *topology, struct bytes name);
struct binding *topology_binding(const struct topology *topology, const struct topology_change *change);

/* Calls `each` with changes that, applied to a fresh topology, rebuild the durable part of this one: users, exchanges, queues, bindings. */
enum gw_err topology_dump(const struct topology *topology, enum gw_err (*each)(void *owner, const struct topology_change *change), void *owner);

/* "direct", "fanout", "topic", "headers". */
const char *exchange_type_name(enum exchange_type type);
bool exchange_type_parse(struct bytes name, enum exchange_type *type);

#endif
