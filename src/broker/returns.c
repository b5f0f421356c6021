/* How often messages came back to their queue: to a quorum queue, and to any queue whose messages wait before they are delivered again (retry.h). Consumers are told
 * (x-delivery-count), and one that came back more often than x-delivery-limit is given up. The log knows the count of each, absolute, so that replaying it twice
 * changes nothing; snapshots take it over. */
#include "broker/rules.h"
#include "base/bugs.h"

#include "broker/retry.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

const struct returned *returns_find(const struct queue *queue, uint64_t seq)
{
    return queue->rules && queue->rules->returns.count ? map_get(&queue->rules->returns, seq) : NULL;
}

/* Made if need be; NULL: out of memory. */
static struct returned *returned_of(struct queue *queue, uint64_t seq)
{
    if (!queue->rules && !(queue->rules = calloc(1, sizeof(*queue->rules))))
        return NULL;
    struct returned *returned = map_get(&queue->rules->returns, seq);
    if (returned)
        return returned;
    returned = calloc(1, sizeof(*returned));
    if (!returned || map_put(&queue->rules->returns, seq, returned)) {
        free(returned);
        return NULL;
    }
    returned->seq = seq;
    return returned;
}

enum gw_err returns_restore(struct queue *queue, uint64_t seq, uint64_t count, uint64_t due_ms, uint64_t why)
{
    struct returned *returned = returned_of(queue, seq);
    if (!returned)
        return GW_ERR_NOMEM;
    if (count <= returned->count)   /* an older record may be replayed over a newer snapshot */
        return GW_OK;
    struct queue_rules *rules = queue->rules;
    if (due_ms && !delay_push(&rules->due, due_ms, seq))
        return GW_ERR_NOMEM;
    returned->count = count;
    returned->reason = (uint8_t)((why & UINT8_MAX) < RETRY_REASONS ? why : RETRY_NONE);
    returned->own_ms = why >> 8;
    returned->due_ms = due_ms;
    rules->loose += (due_ms != 0) - (uint64_t)(returned->state == RETURNED_LOOSE);
    returned->state = due_ms ? RETURNED_LOOSE : RETURNED_READY;
    rules->restored = true;
    return GW_OK;
}

/* Without memory for it a count may be forgotten over a restart. */
static void log_return(struct shard *shard, const struct queue *queue, const struct returned *returned)
{
    bool parks = queue_retries(queue);
    uint32_t size = RECORD_HEADER_SIZE + (parks ? PARK_TARGET_SIZE : SETTLE_TARGET_SIZE);
    uint8_t *at = shard_own_room(shard, size);
    if (!at)
        return;
    store_le64(at + RECORD_HEADER_SIZE, queue->id);
    store_le64(at + RECORD_HEADER_SIZE + 8, returned->seq);
    store_le64(at + RECORD_HEADER_SIZE + 16, returned->count);
    if (parks) {
        store_le64(at + RECORD_HEADER_SIZE + 24, returned->due_ms);
        store_le64(at + RECORD_HEADER_SIZE + 32, returned_why(returned));
    }
    record_begin(at, size, parks ? RECORD_PARK : RECORD_RETURN, 1, 0);
    record_seal(at);
    stage_advance(&shard->own, size);
}

static enum retry_reason reason_of(enum settle_kind kind)
{
    return kind == SETTLE_TIMED_OUT ? RETRY_TIMEOUT : kind == SETTLE_LOST ? RETRY_CONNECTION_LOST : kind == SETTLE_CLOSED ? RETRY_CLOSED : RETRY_REJECTED;
}

enum return_verdict returns_count(struct shard *shard, struct queue *queue, struct entry *entry, uint64_t seq, enum settle_kind kind, const uint64_t *delay_ms)
{
    const struct queue_settings *settings = queue->settings;
    bool retries = queue_retries(queue), waits = false;
    if (!settings || (settings->type != QUEUE_QUORUM && !retries) || (retries && kind == SETTLE_FORCED))
        return RETURN_READY;
    struct returned *returned = returned_of(queue, seq);
    if (!returned)
        return RETURN_READY;   /* without memory it is counted the next time */
    queue->rules->loose -= returned->state == RETURNED_LOOSE;   /* it was due, and nobody had looked yet */
    returned->state = RETURNED_READY;
    returned->count++;
    returned->reason = (uint8_t)reason_of(kind);
    returned->due_ms = returned->own_ms = 0;
    if ((settings->flags & SETTINGS_DELIVERY_LIMIT) && returned->count > settings->delivery_limit + bug_enabled(BUG_LIMIT_ONE_MORE))
        return RETURN_TOO_OFTEN;
    if (retries)
        waits = retry_park(shard, queue, returned, entry, delay_ms);
    if (queue->durable && (entry->flags & ENTRY_PERSISTENT) && !(retries && bug_enabled(BUG_RETRY_UNLOGGED)))
        log_return(shard, queue, returned);
    return waits ? RETURN_WAITS : RETURN_READY;
}

static void let_go(struct queue_rules *rules, struct returned *returned)
{
    rules->loose -= returned->state == RETURNED_LOOSE;
    rules->parked -= returned->state == RETURNED_PARKED;
    free(returned);
}

void returns_forget(struct queue *queue, uint64_t seq)
{
    struct returned *returned = map_remove(&queue->rules->returns, seq);
    if (returned)
        let_go(queue->rules, returned);
}

/* Is the message in its queue, in memory or not? */
static bool is_there(struct queue *queue, uint64_t seq)
{
    const struct lane *lane = queue_lane(queue, seq);
    const struct block_slot *slot = lane ? lane_slot(lane, seq / BLOCK_SIZE) : NULL;
    unsigned index = seq % BLOCK_SIZE;
    return slot && (slot->block ? bit_get(slot->block->ready, index) || bit_get(slot->block->unacked, index) : slot->live > 0);
}

void returns_prune(struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    struct map before = rules->returns;
    uint32_t cursor = 0;
    rules->returns = (struct map){0};
    for (struct returned *returned; (returned = map_next(&before, &cursor));)
        if (!is_there(queue, returned->seq) || map_put(&rules->returns, returned->seq, returned))
            let_go(rules, returned);
    map_deinit(&before);
}

void returns_forget_all(struct queue *queue)
{
    struct queue_rules *rules = queue->rules;
    uint32_t cursor = 0;
    for (struct returned *returned; (returned = map_next(&rules->returns, &cursor));)
        let_go(rules, returned);
    map_deinit(&rules->returns);
    delay_deinit(&rules->due);
}
