#include "sim/plan.h"

#include <stdio.h>
#include <string.h>

const char *const plan_exchange_names[PLAN_EXCHANGES] = {"", "sim.direct", "sim.fanout", "sim.topic", "sim.headers"};

/* As binding keys of the topic exchange the last two match more than themselves. */
const char *const plan_keys[PLAN_KEYS] = {"a", "b", "a.b", "b.a", "*.b", "a.#"};

const char *plan_key(const struct plan *plan, enum plan_exchange exchange, unsigned key)
{
    return exchange == PLAN_DEFAULT ? key < plan->queue_count ? plan->queues[key].name : "sim.nowhere" : plan_keys[key % PLAN_KEYS];
}

bool plan_bound(const struct plan *plan, enum plan_exchange exchange, unsigned queue, unsigned key)
{
    unsigned chance = exchange == PLAN_FANOUT ? 3 : 4;
    uint64_t draw = random_mix(plan->seed ^ (uint64_t)exchange << 32 ^ (uint64_t)queue << 16 ^ key);
    if (exchange == PLAN_FANOUT && key != 0)
        return false;
    if (exchange == PLAN_HEADERS && key >= CONTENT_COLOURS)
        return false;
    return exchange != PLAN_DEFAULT && draw % chance == 0;
}

/* Does the binding key `pattern` of the topic exchange match the routing key? Both are among plan_keys. */
static bool topic_matches(unsigned pattern, unsigned key)
{
    static const bool matches[PLAN_KEYS][PLAN_KEYS] = {
        /*            a  b  a.b b.a *.b a.# */
        /* a   */ {true, false, false, false, false, false},
        /* b   */ {false, true, false, false, false, false},
        /* a.b */ {false, false, true, false, false, false},
        /* b.a */ {false, false, false, true, false, false},
        /* *.b */ {false, false, true, false, true, false},
        /* a.# */ {true, false, true, false, false, true},
    };
    return matches[pattern][key];
}

unsigned plan_route(const struct plan *plan, enum plan_exchange exchange, unsigned key, unsigned colour)
{
    unsigned route = 0;
    if (exchange == PLAN_DEFAULT)
        return key < plan->queue_count ? 1u << key : 0;
    for (unsigned queue = 0; queue < plan->queue_count; queue++) {
        bool goes = false;
        switch (exchange) {
        case PLAN_DIRECT: goes = plan_bound(plan, exchange, queue, key); break;
        case PLAN_FANOUT: goes = plan_bound(plan, exchange, queue, 0); break;
        case PLAN_TOPIC:
            for (unsigned pattern = 0; pattern < PLAN_KEYS; pattern++)
                goes = goes || (plan_bound(plan, exchange, queue, pattern) && topic_matches(pattern, key));
            break;
        default: goes = plan_bound(plan, exchange, queue, colour);
        }
        route |= (unsigned)goes << queue;
    }
    return route;
}

static void plan_queues(struct plan *plan, struct random *random)
{
    plan->queue_count = (unsigned)random_between(random, 1, random_chance(random, 1, 3) ? PLAN_QUEUES_MAX : 4);
    for (unsigned i = 0; i < plan->queue_count; i++) {
        struct plan_queue *queue = &plan->queues[i];
        snprintf(queue->name, sizeof(queue->name), "sim.queue.%u", i);
        queue->durable = random_chance(random, 4, 5);
        queue->lossy = random_chance(random, 1, 4);
    }
}

static void plan_habits(struct plan *plan, struct random *random)
{
    plan->publish = (unsigned)random_between(random, 60, 200);
    plan->settle = (unsigned)random_between(random, 20, 200);
    plan->get = random_chance(random, 1, 2) ? (unsigned)random_between(random, 2, 40) : 0;
    plan->purge = random_chance(random, 1, 2) ? (unsigned)random_between(random, 1, 6) : 0;
    plan->reopen = (unsigned)random_below(random, 6);
    plan->drop = (unsigned)random_below(random, 3);
    plan->sync = (unsigned)random_below(random, 10);
    plan->transact = random_chance(random, 1, 2) ? (unsigned)random_between(random, 1, 4) : 0;
    plan->burst = (unsigned)random_between(random, 1, 40);
    plan->window = (unsigned)random_between(random, 1, random_chance(random, 1, 2) ? 10 : 1000);
    plan->unbalanced = (unsigned)random_between(random, 60, 230);
}

static void plan_faults(struct plan *plan, const struct sim_options *options, struct random *random)
{
    plan->crashes = options->faults >= SIM_FAULTS_CRASH && random_chance(random, 7, 8);
    plan->crash_every = random_between(random, 20, random_chance(random, 1, 2) ? 200 : 2000);
    plan->names_any_order = random_chance(random, 1, 2);
    if (options->faults >= SIM_FAULTS_CRASH) {
        plan->reset = 128;
        plan->half_open = random_chance(random, 1, 2) ? 40 : 0;
    } else {
        plan->drop = 0;
    }
    plan->post_refused = random_chance(random, 1, 2) ? (unsigned)random_between(random, 1, 128) : 0;
    plan->slow_net = random_chance(random, 1, 2) ? (unsigned)random_between(random, 1, 40) : 0;
    plan->capacity = UINT64_MAX;
    if (options->faults < SIM_FAULTS_ALL)
        return;
    plan->disk_errors = random_chance(random, 1, 2);
    plan->read_error = random_chance(random, 1, 3) ? 600 : 0;
    plan->write_error = random_chance(random, 1, 2) ? 300 : 0;
    plan->sync_error = random_chance(random, 1, 2) ? 300 : 0;
    plan->rot = random_chance(random, 1, 3);
    plan->full_disk = random_chance(random, 1, 3);
    if (plan->full_disk)
        plan->capacity = random_between(random, 3, 20) << 20;
}

void plan_make(struct plan *plan, const struct sim_options *options, uint64_t seed)
{
    struct random random;
    memset(plan, 0, sizeof(*plan));
    random_init(&random, seed ^ 0x706c616e);
    plan->seed = random_next(&random);
    plan->workers = (unsigned)random_between(&random, 1, 3);
    plan->shards = (unsigned)random_between(&random, 1, 5);
    plan->clients = (unsigned)random_between(&random, 2, PLAN_CLIENTS_MAX);
    plan->channels = (unsigned)random_between(&random, 1, PLAN_CHANNELS_MAX);
    plan->log_file_size = 1u << 20;
    plan->log_file_count = (unsigned)random_between(&random, 2, 4);
    plan->memory_per_worker = random_chance(&random, 1, 2) ? 1u << 20 : 16u << 20;
    plan->taste.seed = plan->seed;
    plan->taste.usual = random_chance(&random, 1, 3) ? 6000 : 120;
    plan->taste.largest = random_chance(&random, 1, 4) ? 600000 : 9000;
    plan->taste.persistent = random_chance(&random, 1, 2) ? 16 : 12;
    plan_queues(plan, &random);
    plan_habits(plan, &random);
    plan_faults(plan, options, &random);
}
