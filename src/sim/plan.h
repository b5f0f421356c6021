/* What one seed does: the broker's shape, its topology, how many clients with which habits, and what goes wrong. */
#ifndef SIM_PLAN_H
#define SIM_PLAN_H

#include "sim/content.h"
#include "sim/options.h"

#define PLAN_QUEUES_MAX 10u
#define PLAN_CLIENTS_MAX 6u
#define PLAN_CHANNELS_MAX 4u
#define PLAN_KEYS 6u

struct plan_queue {
    char name[24];
    bool durable;
    bool lossy;          /* purged, deleted, consumed without acknowledgement: what must be in it is known only between such events */
};

enum plan_exchange { PLAN_DEFAULT, PLAN_DIRECT, PLAN_FANOUT, PLAN_TOPIC, PLAN_HEADERS, PLAN_EXCHANGES };

struct plan {
    uint64_t seed;
    unsigned workers, shards, clients, channels;
    unsigned queue_count;
    struct plan_queue queues[PLAN_QUEUES_MAX];
    struct content_taste taste;
    uint64_t log_file_size, memory_per_worker;
    unsigned log_file_count;

    /* Habits: chances in 256 of an action to be this one. */
    unsigned publish, settle, get, purge, reopen, drop, sync, transact;
    unsigned burst;                  /* actions a client takes at most before others go on */
    unsigned window;                 /* unconfirmed publishes on a channel at most */
    unsigned unbalanced;             /* publishers' share of turns, in 256: above 128 backlogs grow */

    /* Faults. */
    bool crashes, disk_errors, rot, full_disk;
    uint64_t crash_every;            /* disk operations between deaths on average */
    bool names_any_order;
    unsigned read_error, write_error, sync_error;   /* in 65,536 */
    uint64_t capacity;               /* bytes */
    unsigned reset, half_open;       /* chances of a dropped connection to end in that way, in 256 */
    unsigned post_refused;           /* chance that a mailbox has no room, in 256 */
    unsigned slow_net;               /* chance that a transfer is tiny, in 256 */
};

void plan_make(struct plan *plan, const struct sim_options *options, uint64_t seed);

extern const char *const plan_exchange_names[PLAN_EXCHANGES];
extern const char *const plan_keys[PLAN_KEYS];

/* The routing key `key` of `exchange`: of the default exchange a queue's name. */
const char *plan_key(const struct plan *plan, enum plan_exchange exchange, unsigned key);

/* Is `queue` bound to `exchange` by the key numbered `key`? Of the headers exchange by that colour. PLAN_FANOUT has the key 0 alone. */
bool plan_bound(const struct plan *plan, enum plan_exchange exchange, unsigned queue, unsigned key);

/* The queues that a message goes to, a bit each. */
unsigned plan_route(const struct plan *plan, enum plan_exchange exchange, unsigned key, unsigned colour);

#endif
