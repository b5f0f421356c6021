/* The watch over room: when memory or disk run low on any worker, publishers are blocked on all of them (connection.blocked) until there is room again;
 * consumers go on, and make it. */
#include "broker/events.h"
#include "broker/worker_internal.h"

#define WATCH_US 250000u
#define MEMORY_FACTOR 8u    /* queues page out at their limit; so many times that, and paging out does not keep up or cannot */

static void free_space_known(struct disk_op *op)
{
    struct worker *worker = op->owner;
    worker->asking_free_space = false;
    if (op->error)
        return;
    bool low = (uint64_t)op->result < worker->broker->config.disk_free_limit;
    if (low != worker->disk_is_low)
        alarm_raise(worker->broker->config.alarms, low ? ALARM_WARNING : ALARM_INFO, "%lld bytes free on disk, the limit is %llu: publishers are %s",
                    (long long)op->result, (unsigned long long)worker->broker->config.disk_free_limit, low ? "blocked" : "let on again");
    worker->disk_is_low = low;
}

static void ask_free_space(struct worker *worker)
{
    if (worker->index != 0 || !worker->disk || worker->asking_free_space)
        return;
    worker->asking_free_space = true;
    worker->free_space = (struct disk_op){.kind = DISK_FREE_SPACE, .file = -1, .done = free_space_known, .owner = worker};
    worker->disk->submit(worker->disk, &worker->free_space);
}

static unsigned reasons_here(const struct worker *worker)
{
    unsigned reasons = worker->disk_is_low ? BLOCK_DISK : 0;
    for (unsigned i = 0; i < worker->broker->shards; i++) {
        const struct shard *shard = worker->shards[i];
        if (!shard)
            continue;
        if (log_state(shard->log) == GW_ERR_FULL)
            reasons |= BLOCK_DISK;
        if (shard->segments && shard->account.resident > shard->memory_limit * MEMORY_FACTOR)
            reasons |= BLOCK_MEMORY;
    }
    return reasons;
}

static const char *text_of(unsigned reasons)
{
    return reasons & BLOCK_MEMORY ? "low on memory" : reasons & BLOCK_DISK ? "low on disk" : NULL;
}

static void tell_alarms(struct worker *worker, unsigned reasons)
{
    static const struct { unsigned reason; const char *source; } rows[] = {{BLOCK_MEMORY, "memory"}, {BLOCK_DISK, "disk"}};
    for (unsigned i = 0; i < 2; i++)
        if ((reasons ^ worker->blocked) & rows[i].reason)
            event_alarm(worker, reasons & rows[i].reason, rows[i].source);
}

static void take(struct worker *worker, unsigned reasons)
{
    bool changed = !reasons != !worker->blocked || (reasons && worker->newcomers);
    if (worker->index == 0)
        tell_alarms(worker, reasons);
    worker->blocked = reasons;
    worker->newcomers = false;
    for (uint32_t i = 0; changed && i < worker->place_count; i++) {
        struct client *client = worker->places[i].client;
        if (!client)
            continue;
        worker_client_touched(worker, client);
        if (client->ops->blocked)
            client->ops->blocked(client, text_of(reasons));
        if (!reasons && client->stalled && client->in_flight < CLIENT_IN_FLIGHT_MAX) {
            client->stalled = false;
            if (client->ops->resumed)
                client->ops->resumed(client);
        }
    }
}

unsigned watch_reasons(struct broker *broker)
{
    unsigned reasons = 0;
    for (unsigned i = 0; i < broker->config.workers; i++)
        reasons |= atomic_load_explicit(&broker->block_reasons[i], memory_order_relaxed);
    return reasons;
}

void watch_turn(struct worker *worker)
{
    if (worker->now_us < worker->watch_us)
        return;
    worker->watch_us = worker->now_us + WATCH_US;
    ask_free_space(worker);
    atomic_uint *all = worker->broker->block_reasons;
    atomic_store_explicit(&all[worker->index], reasons_here(worker), memory_order_relaxed);
    unsigned reasons = watch_reasons(worker->broker);
    if (reasons != worker->blocked || (reasons && worker->newcomers))
        take(worker, reasons);
}

uint64_t watch_deadline(const struct worker *worker)
{
    /* The first worker looks at the disk for all: a connection that is opened elsewhere is its business too, and wakes it. */
    bool any = worker->index ? worker->client_count : atomic_load_explicit(&worker->broker->clients, memory_order_relaxed);
    return any || worker->blocked ? worker->watch_us : UINT64_MAX;
}

enum gw_err worker_storage(const struct worker *worker)
{
    enum gw_err worst = (enum gw_err)atomic_load_explicit(&worker->broker->log_states[0], memory_order_relaxed);
    for (unsigned i = 0; i < worker->broker->shards && worst != GW_ERR_FAILED; i++) {
        enum gw_err state = worker->shards[i] ? log_state(worker->shards[i]->log) : GW_OK;
        worst = state ? state : worst;
    }
    return worst;
}
