/* What one seed of the features' simulation does: chains of a queue with arguments and the queue that its dead letters go to, and who works on them.
 *
 *   publishers ─→ [exchange that delays] ─→ source ─→ consumers that acknowledge, reject, requeue, or vanish
 *                                             │ expired, rejected, too many, too often
 *                                             └─→ exchange ─→ dead ─→ a consumer that looks and keeps nothing
 *
 * The broker's shape and what goes wrong come from the same plan as the other simulation's (sim/plan.h). */
#ifndef SIM_FEATURE_PLAN_H
#define SIM_FEATURE_PLAN_H

#include "sim/plan.h"

#define CHAINS_MAX 3u
#define FEATURE_CLIENTS_MAX 8u
#define NO_TTL UINT32_MAX
#define GROUP_KEYS_MAX 8u
#define RETRY_STEPS_MAX 3u
#define RETRY_MULTIPLIER 3u
#define RETRY_JITTER_PERCENT 40u

enum chain_features {
    CHAIN_TTL = 1,               /* x-message-ttl */
    CHAIN_EXPIRATION = 2,        /* some messages have one of their own */
    CHAIN_DROP_HEAD = 4,         /* x-max-length */
    CHAIN_REJECT_PUBLISH = 8,    /* x-max-length, x-overflow: reject-publish */
    CHAIN_PRIORITY = 16,         /* x-max-priority */
    CHAIN_DELIVERY_LIMIT = 32,   /* a quorum queue with x-delivery-limit */
    CHAIN_SINGLE_ACTIVE = 64,
    CHAIN_DELAY = 128,           /* with x-delay, to an x-delayed-message exchange or straight to the queue */
    CHAIN_STREAM = 256,          /* the source is a stream: nothing dies */
    CHAIN_GROUPS = 512,          /* x-group-key */
    CHAIN_GROUP_FAIR = 1024,     /* and x-group-fair */
    CHAIN_DEDUP = 2048,          /* x-dedup-window, on the header "id" */
    CHAIN_RETRY = 4096,          /* x-retry-backoff */
    CHAIN_HALF = 8192,           /* most messages are of transactions; none of the others */
    CHAIN_FILTER = 16384,        /* consumers with x-filter, on the header "k" */
    CHAIN_INSIDE = 32768,        /* somebody moves messages between source and dead queue, see feature_inside.c; none of the others */
};

struct chain {
    unsigned features;           /* enum chain_features */
    char source[24], dead[24], delayed[24], asks[24];
    uint32_t ttl_ms;             /* CHAIN_TTL */
    uint32_t max_length, delivery_limit;
    uint32_t window_ms, most_ids, ids;   /* CHAIN_DEDUP: publishers draw from so many ids */
    uint32_t half_ms, half_limit;        /* CHAIN_HALF: x-check-after, x-check-limit */
    uint8_t max_priority;
    uint8_t keys;                /* CHAIN_GROUPS, CHAIN_FILTER: from 1; 0 is none */
    bool regrouped;              /* a policy gives it groups, other ones, and none, again and again */
    uint8_t retry_steps;         /* CHAIN_RETRY: so many of the times below, or 0: from the first to the second of them, with a multiplier and jitter */
    bool classic;                /* though it has a delivery limit */
    uint32_t retry_ms[RETRY_STEPS_MAX];
    uint32_t own_wait_ms;        /* the longest that consumers ask for themselves (basic.nack-after); 0: they do not */
    bool keyed;                  /* x-dead-letter-routing-key; otherwise the dead queue is bound by the source's name */
};

enum feature_role { ROLE_PUBLISHER, ROLE_CONSUMER, ROLE_MOURNER /* of the dead queue */, ROLE_ADMIN };

struct feature_part {
    enum feature_role role;
    unsigned chain;
    uint16_t prefetch;           /* of consumers */
    uint8_t wants;               /* CHAIN_FILTER: bits of the keys that a consumer wants; 0: it has no filter */
};

struct feature_plan {
    struct plan base;
    unsigned chain_count, client_count;
    struct chain chains[CHAINS_MAX];
    struct feature_part parts[FEATURE_CLIENTS_MAX];   /* of the clients; the last one is the admin */
    unsigned drop;               /* chance in 4096 of a client's turn to lose its connection */
    unsigned slack;              /* chance in 256 of a turn to be spent waiting for time to pass */
};

void feature_plan_make(struct feature_plan *plan, const struct sim_options *options, uint64_t seed);

#endif
