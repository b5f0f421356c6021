#include "broker/retry.h"
#include "base/bugs.h"

#include "broker/filters.h"
#include "broker/groups.h"
#include "broker/worker_internal.h"

#define RELEASED_MAX 4096u   /* messages at a time, so that others have their turn */
#define CAPACITY_KEPT 1024u  /* of the times of a queue in which nothing waits */

/* ---- in -------------------------------------------------------------------------------------------------------------- */

static bool is_waiting(const struct shard *shard, const struct returned *returned)
{
    return returned->due_ms > shard->worker->wall_us / 1000;
}

bool retry_park(struct shard *shard, struct queue *queue, struct returned *returned, struct entry *entry, const uint64_t *own_ms)
{
    struct queue_rules *rules = queue->rules;
    if (bug_enabled(BUG_RETRY_OWN_WAIT_IGNORED))
        own_ms = NULL;
    uint64_t delay_ms = !own_ms ? backoff_ms(&queue->settings->retry_backoff, returned->count, worker_random(shard->worker)) : *own_ms < DELAY_MAX_MS ? *own_ms : DELAY_MAX_MS;
    uint64_t now_ms = (shard->worker->wall_us + 999) / 1000;   /* the fraction that milliseconds do not say is counted as whole: never early */
    uint64_t due_ms = now_ms + (bug_enabled(BUG_RETRY_EARLY) ? delay_ms / 2 : delay_ms);
    if (!delay_ms || !delay_push(&rules->due, due_ms, returned->seq))
        return false;   /* without memory for 16 bytes it does not wait */
    returned->due_ms = due_ms;
    returned->own_ms = own_ms ? delay_ms : 0;
    returned->state = RETURNED_PARKED;
    rules->parked++;
    entry->holder = RETRY_HOLDER;
    if (queue->groups)
        groups_kept(queue, returned->seq);
    shard_timer(shard, queue, shard->worker->now_us + (due_ms - now_ms) * 1000);
    return true;
}

/* A ready message that is not due yet. */
static void hold(struct queue *queue, struct returned *returned, struct lane *lane, struct block_slot *slot, struct entry *entry)
{
    rules_leaves(queue, lane, returned->seq, entry);
    lane_hold(lane, returned->seq, slot, entry, RETRY_HOLDER);
    returned->state = RETURNED_PARKED;
    queue->rules->loose--;
    queue->rules->parked++;
}

bool retry_holds_back(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry)
{
    struct returned *returned = queue_retries(queue) ? map_get(&queue->rules->returns, seq) : NULL;
    if (!returned || returned->state != RETURNED_LOOSE || !is_waiting(shard, returned) || bug_enabled(BUG_RETRY_NOT_PARKED_AGAIN))
        return false;
    hold(queue, returned, lane, slot, entry);
    return true;
}

/* After a restart: what is in memory is parked now; what was replayed of messages that were gone already is forgotten. */
static void park_restored(struct shard *shard, struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    uint32_t cursor = 0;
    rules->restored = false;
    returns_prune(queue);
    for (struct returned *returned; rules->loose && (returned = map_next(&rules->returns, &cursor));) {
        struct block_slot *slot;
        bool unacked;
        struct lane *lane = queue_lane(queue, returned->seq);
        struct entry *entry = returned->state == RETURNED_LOOSE && lane ? lane_entry_at(lane, returned->seq, &slot, &unacked) : NULL;
        if (entry && !unacked)
            retry_holds_back(shard, queue, lane, returned->seq, slot, entry);
    }
}

/* ---- out ------------------------------------------------------------------------------------------------------------- */

static void release(struct queue *queue, struct returned *returned)
{
    struct block_slot *slot;
    bool unacked = false, was_loose = returned->state == RETURNED_LOOSE;
    struct lane *lane = queue_lane(queue, returned->seq);
    struct entry *entry = lane && !was_loose ? lane_entry_at(lane, returned->seq, &slot, &unacked) : NULL;
    queue->rules->loose -= was_loose;
    queue->rules->parked -= !was_loose;
    returned->state = RETURNED_READY;
    if (!entry || !unacked || entry->holder != RETRY_HOLDER)
        return;
    rules_returned(queue, lane, returned->seq, entry);
    if (!entry->chunk)
        slot->block->bodies = false;   /* what could not be read while it was held is asked for once more, and told if it is lost */
    lane_requeue(lane, returned->seq, slot, entry, !bug_enabled(BUG_REDELIVERED_FORGOTTEN));
    queue_occupied(queue, seq_level(returned->seq));
    if (filters_apply(queue))
        filters_returned(queue, returned->seq, entry);
}

/* The one that the heap's entry is of; NULL: it has left, or waits for another time by now. */
static struct returned *waiting_for(const struct queue_rules *rules, const struct due *due)
{
    struct returned *returned = map_get(&rules->returns, due->seq);
    return returned && returned->state != RETURNED_READY && returned->due_ms == due->at_ms ? returned : NULL;
}

/* The clock was set back: what would have to wait for it to come that far again waits from now on, and no longer than it may. */
static void wait_anew(struct shard *shard, struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    uint64_t now_ms = shard->worker->wall_us / 1000 + 1;
    uint32_t cursor = 0;
    rules->set_back = shard->worker->set_back;
    for (struct returned *returned; (returned = map_next(&rules->returns, &cursor));) {
        uint64_t latest_ms = now_ms + (returned->own_ms ? returned->own_ms : backoff_most_ms(&queue->settings->retry_backoff, returned->count));
        if (returned->state == RETURNED_READY || returned->due_ms <= latest_ms)
            continue;
        returned->due_ms = latest_ms;
        if (!delay_push(&rules->due, latest_ms, returned->seq))
            release(queue, returned);
    }
}

void retry_look(struct shard *shard, struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    uint64_t now_us = shard->worker->now_us, wall_us = shard->worker->wall_us;
    const struct due *first;
    if (!rules)
        return;
    if (rules->restored)
        park_restored(shard, queue);
    if (!rules->due.count || !queue_retries(queue))
        return;
    if (UNLIKELY(rules->set_back != shard->worker->set_back))
        wait_anew(shard, queue);
    for (unsigned i = 0; (first = delay_first(&rules->due)); i++) {
        struct returned *returned = waiting_for(rules, first);
        if (returned && is_waiting(shard, returned))
            break;
        if (i == RELEASED_MAX) {
            shard_timer(shard, queue, now_us);
            return;
        }
        delay_pop(&rules->due);
        if (returned)
            release(queue, returned);
    }
    if (!first && rules->due.capacity > CAPACITY_KEPT)
        delay_deinit(&rules->due);
    if (!first)
        return;
    uint64_t at_us = first->at_ms * 1000;
    shard_timer(shard, queue, now_us + (at_us > wall_us ? at_us - wall_us : 0));
}

void retry_release_all(struct shard *shard, struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    uint32_t cursor = 0;
    if (!rules)
        return;
    for (struct returned *returned; rules->parked + rules->loose && (returned = map_next(&rules->returns, &cursor));)
        if (returned->state != RETURNED_READY)
            release(queue, returned);
    delay_deinit(&rules->due);
    shard_mark_dirty(shard, queue);
}
