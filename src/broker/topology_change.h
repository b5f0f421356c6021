/* One change of the topology, as it is logged in shard 0 and sent from worker to worker (little-endian):
 *
 *   kind (1) · exchange type (1) · flags (2) · vhost (4) · id (8) · owner (8)
 *   then five runs, each size (4) and bytes: name, source, routing_key, arguments, secret
 */
#ifndef BROKER_TOPOLOGY_CHANGE_H
#define BROKER_TOPOLOGY_CHANGE_H

#include "base/bytes.h"
#include "broker/exchange_kind.h"

#include <stdbool.h>

enum topology_flags {
    TOPOLOGY_DURABLE = 1, TOPOLOGY_AUTO_DELETE = 2, TOPOLOGY_INTERNAL = 4, TOPOLOGY_EXCLUSIVE = 8,
    TOPOLOGY_TO_EXCHANGE = 16,      /* of a binding: its destination is an exchange */
    TOPOLOGY_TRACING = 32,          /* of a vhost: its firehose is on */
    TOPOLOGY_HIDDEN = 2048,         /* of a queue: it is in no list */
    TOPOLOGY_DELAYED = 4096,        /* of a queue: it is a delayed exchange's, see delayed.h */
    TOPOLOGY_HALF = 8192,           /* of a queue: it is for a vhost's half messages, see half.h */
    TOPOLOGY_OPERATOR = 64,         /* of a policy: it is the operator's */
    /* What administration.c understands; none of these is logged. */
    TOPOLOGY_NEW = 128,             /* a user or vhost that is there already is refused (409) */
    TOPOLOGY_KEEP_SECRET = 256, TOPOLOGY_KEEP_TAGS = 512,   /* of a user, who must be there: this does not change */
    TOPOLOGY_PASSWORD = 1024,       /* of a user: `secret` is the password itself */
    TOPOLOGY_IF_SAME = 16384,       /* of a parameter: only if its value is `secret`, byte for byte, or it is not there, and `secret` is empty (412) */
};

enum change_kind {
    CHANGE_EXCHANGE_DECLARE = 1, CHANGE_EXCHANGE_DELETE, CHANGE_QUEUE_DECLARE, CHANGE_QUEUE_DELETE, CHANGE_BIND, CHANGE_UNBIND,
    CHANGE_USER_PUT, CHANGE_USER_DELETE, CHANGE_VHOST_PUT, CHANGE_VHOST_DELETE,
    CHANGE_USER_LIMITS, CHANGE_VHOST_LIMITS, CHANGE_PERMISSION_PUT, CHANGE_PERMISSION_DELETE, CHANGE_TOPIC_PERMISSION_PUT, CHANGE_TOPIC_PERMISSION_DELETE,
    CHANGE_POLICY_PUT, CHANGE_POLICY_DELETE, CHANGE_PARAMETER_PUT, CHANGE_PARAMETER_DELETE,
    CHANGE_QUEUE_ARGUMENTS,         /* the queue of that name has these from now on */
    CHANGE_LAST = CHANGE_QUEUE_ARGUMENTS,
};

/* How a user's password is hashed; the secret is 4 bytes of salt, then the digest of salt and password. Any other secret matches no password. */
enum password_hash { HASH_SHA256, HASH_SHA512, HASH_MD5 };

/* What a policy applies to. */
enum policy_target {
    POLICY_EXCHANGES = 1, POLICY_CLASSIC_QUEUES = 2, POLICY_QUORUM_QUEUES = 4, POLICY_STREAMS = 8,
    POLICY_QUEUES = POLICY_CLASSIC_QUEUES | POLICY_QUORUM_QUEUES | POLICY_STREAMS, POLICY_ALL = POLICY_QUEUES | POLICY_EXCHANGES,
};

#define TOPOLOGY_UNLIMITED UINT64_MAX

/* Which field means what:
 *
 *                        name        source      routing_key         arguments    secret   id             owner
 *   EXCHANGE_DECLARE     exchange                                    arguments
 *   QUEUE_DECLARE        queue                                       arguments             id, shard      client of an exclusive one
 *   QUEUE_ARGUMENTS      queue                                       arguments
 *   BIND, UNBIND         destination source      routing key         arguments
 *   USER_PUT             user                                        tags         hash     password_hash
 *   USER_LIMITS          user                                                              max-connections, max-channels (owner)
 *   VHOST_PUT            vhost       description default queue type  tags
 *   VHOST_LIMITS                                                                           max-connections, max-queues (owner)
 *   PERMISSION_PUT       user        configure   write               read
 *   TOPIC_PERMISSION_PUT user        exchange    write               read
 *   POLICY_PUT           policy      pattern                         definition            policy_target  priority (int64_t)
 *   PARAMETER_PUT        parameter   component                       value
 *
 * Tags are separated by commas; definitions and values are JSON text; the ones that delete name the same things. A parameter of vhost 0 is global, without a component. */
struct topology_change {
    enum change_kind kind;
    unsigned flags;
    enum exchange_type type;
    uint32_t vhost;                 /* id of the one that it is about, or in which */
    uint64_t id;                    /* of a queue: its low 8 bits are its shard, see queue_id_shard */
    uint64_t owner;
    struct bytes name, source, routing_key, arguments, secret;
};

/* The bytes of a change. */
uint32_t topology_change_size(const struct topology_change *change);
void topology_change_write(const struct topology_change *change, uint8_t *at);

/* `change` points into `bytes`. False: that is no change, or of a kind that is not known here. */
bool topology_change_read(struct bytes bytes, struct topology_change *change);

#endif
