/* The process-wide part of a broker: what all workers share, written before they start or atomically. */
#ifndef BROKER_BROKER_INTERNAL_H
#define BROKER_BROKER_INTERNAL_H

#include "broker/broker.h"

#include <stdatomic.h>

#define WORKERS_MAX 64u
#define SHARDS_MAX 256u

/* Why publishers are blocked. */
enum block_reason { BLOCK_DISK = 1, BLOCK_MEMORY = 2 };

struct broker {
    struct broker_config config;
    unsigned shards;
    uint8_t random[32];
    char node[128];                /* its name */
    uint64_t hash_seed;
    struct worker *workers[WORKERS_MAX];
    /* Would shard i's log refuse an append? enum gw_err; written by its owner, read by whoever publishes. */
    atomic_int log_states[SHARDS_MAX];
    atomic_uint clients;           /* of all workers */
    /* enum block_reason that worker i sees; all workers block when one does. */
    atomic_uint block_reasons[WORKERS_MAX];
};

#endif
