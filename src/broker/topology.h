/* The topology: virtual hosts, each with exchanges, bindings and queues as names and places (their messages are with their shards); users.
 *
 * Every worker has a copy of its own that only it reads; worker 0 has the master copy besides (master.c), which is the one
 * that decides. Copies change by applying the same `topology_change`s in the same order; applying is tolerant (declaring what exists,
 * deleting what does not, and whatever is said of a vhost that is gone are no-ops), since the log may replay changes that a snapshot already holds.
 */
#ifndef BROKER_TOPOLOGY_H
#define BROKER_TOPOLOGY_H

#include "base/map.h"
#include "broker/access.h"
#include "broker/policies.h"
#include "broker/settings.h"
#include "broker/topology_change.h"

/* Queue ids are never used twice; those of queues that are not durable have the top bit set and mean nothing after a restart. */
#define QUEUE_ID_TRANSIENT (1ull << 63)
static inline unsigned queue_id_shard(uint64_t id) { return id & 0xFF; }

struct binding;

/* A virtual host: a world of names of its own. Its id is never used for another one. */
struct vhost {
    struct bytes name;
    uint32_t id;
    unsigned flags;                        /* TOPOLOGY_TRACING */
    struct bytes description, tags, default_queue_type;   /* tags: comma-separated */
    uint8_t *texts;                        /* what these point into */
    struct name_map exchanges, queues, bindings;
    struct name_map accesses;              /* user → struct access */
    uint32_t next_access;
    struct policies policies, operator_policies;
    struct parameter *parameters;
    uint64_t max_connections, max_queues;  /* or TOPOLOGY_UNLIMITED */
    uint32_t hidden_count;                 /* queues that no list shows, and no limit counts */
    uint64_t half_queue;                   /* the id of the one for half messages (half.h); 0: there is none */
};

struct exchange {
    struct bytes name;
    struct vhost *vhost;
    enum exchange_type type;
    enum exchange_type routes_as;          /* the type, or the x-delayed-type of a delayed one */
    bool by_key;                           /* where a message goes depends on its routing key alone */
    unsigned flags;
    struct bytes arguments;
    struct bytes alternate;                /* the exchange that gets what matches nothing here, from the arguments or a policy; empty: none */
    uint8_t *alternate_memory;             /* what that points into */
    struct binding *outgoing, *incoming;   /* bindings whose source, whose destination it is */
    uint32_t outgoing_count;
    void *index;                           /* of its bindings, see exchange_kind.h; NULL: that kind needs none */
    uint64_t visited;                      /* routing's mark */
};

struct queue_entry {
    struct bytes name;
    struct vhost *vhost;
    uint64_t id, owner;
    unsigned flags;
    struct bytes arguments;
    uint8_t *changed_arguments;            /* what they lie in when they were changed; NULL: behind the entry */
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
    struct bytes tags, secret;
    uint8_t *memory;                       /* what these point into */
    enum password_hash hash;
    uint64_t max_connections, max_channels;   /* or TOPOLOGY_UNLIMITED */
};

struct topology {
    struct name_map vhosts, users;
    struct map vhosts_by_id, queues_by_id;
    uint64_t version;                      /* grows with every change: what was routed before may route otherwise now */
    struct parameter *parameters;          /* the global ones */
    uint64_t parameters_version;           /* grows when a parameter may have changed */
    uint64_t visit;
    uint32_t exclusive_count;              /* queues with an owner */
    uint64_t next_queue;                   /* the next durable queue's number (id without its shard) */
    uint32_t next_vhost;                   /* the next vhost's id */
};

/* Starts with the vhost "/". A vhost starts with the exchanges "", amq.direct, amq.fanout, amq.topic, amq.headers, amq.match, amq.rabbitmq.trace and
 * amq.godwit.transactions.
 * `seed`: for the hash maps. */
enum gw_err topology_init(struct topology *topology, uint64_t seed);
void topology_deinit(struct topology *topology);

/* Applies a change. GW_ERR_NOMEM: nothing changed. GW_ERR_INVALID: a vhost or
 * a binding's ends that do not exist, a queue or a vhost of that name with another id. */
enum gw_err topology_apply(struct topology *topology, const struct topology_change *change);

/* The vhost "/" has this id as long as it has not been deleted. */
#define VHOST_DEFAULT 1u

struct vhost *topology_vhost(const struct topology *topology, struct bytes name);
struct vhost *topology_vhost_by_id(const struct topology *topology, uint32_t id);
struct exchange *topology_exchange(const struct vhost *vhost, struct bytes name);
struct queue_entry *topology_queue(const struct vhost *vhost, struct bytes name);
struct queue_entry *topology_queue_by_id(const struct topology *topology, uint64_t id);
struct user *topology_user(const struct topology *topology, struct bytes name);
/* Has the user this tag? */
bool user_is_tagged(const struct user *user, const char *tag);
/* What a user may do in a vhost; NULL: nothing. */
const struct access *topology_access(const struct vhost *vhost, struct bytes user);
struct binding *topology_binding(const struct vhost *vhost, const struct topology_change *change);

/* The policies that apply to a queue or exchange of that name; NULL: none. `definition` is empty when there is none. Those whose definition is not for queues
 * of that type are passed over. */
void topology_policy_for(const struct vhost *vhost, struct bytes name, enum policy_target target, const struct policy **user_policy,
                         const struct policy **operator_policy);

/* Calls `each` with changes that, applied to a fresh topology, rebuild the durable part of this one. */
enum gw_err topology_dump(const struct topology *topology, enum gw_err (*each)(void *owner, const struct topology_change *change), void *owner);

#endif
