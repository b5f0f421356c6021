/* How often messages of a quorum queue came back to it. Consumers are told (x-delivery-count), and one that came back more often than x-delivery-limit is given up.
 * The log knows the count of each, absolute, so that replaying it twice changes nothing; snapshots take it over. */
#include "broker/rules.h"
#include "base/bugs.h"

#include "broker/worker_internal.h"

#include <stdlib.h>

uint64_t returns_of(const struct queue *queue, uint64_t seq)
{
    const struct returned *returned = queue->rules && queue->rules->returns.count ? map_get(&queue->rules->returns, seq) : NULL;
    return returned ? returned->count : 0;
}

enum gw_err returns_restore(struct queue *queue, uint64_t seq, uint64_t count)
{
    if (!queue->rules && !(queue->rules = calloc(1, sizeof(*queue->rules))))
        return GW_ERR_NOMEM;
    struct returned *returned = map_get(&queue->rules->returns, seq);
    if (!returned) {
        returned = calloc(1, sizeof(*returned));
        if (!returned || map_put(&queue->rules->returns, seq, returned)) {
            free(returned);
            return GW_ERR_NOMEM;
        }
        returned->seq = seq;
    }
    if (count > returned->count)   /* an older record may be replayed over a newer snapshot */
        returned->count = count;
    return GW_OK;
}

/* Without memory for it a count may be forgotten over a restart. */
static void log_return(struct shard *shard, uint64_t queue, uint64_t seq, uint64_t count)
{
    uint32_t size = RECORD_HEADER_SIZE + SETTLE_TARGET_SIZE;
    uint8_t *at = shard_own_room(shard, size);
    if (!at)
        return;
    store_le64(at + RECORD_HEADER_SIZE, queue);
    store_le64(at + RECORD_HEADER_SIZE + 8, seq);
    store_le64(at + RECORD_HEADER_SIZE + 16, count);
    record_begin(at, size, RECORD_RETURN, 1, 0);
    record_seal(at);
    stage_advance(&shard->own, size);
}

bool returns_count(struct shard *shard, struct queue *queue, const struct entry *entry, uint64_t seq)
{
    uint64_t count = returns_of(queue, seq) + 1;
    const struct queue_settings *settings = queue->settings;
    if (!settings || settings->type != QUEUE_QUORUM)
        return false;
    if ((settings->flags & SETTINGS_DELIVERY_LIMIT) && count > settings->delivery_limit + bug_enabled(BUG_LIMIT_ONE_MORE))
        return true;
    if (returns_restore(queue, seq, count))
        return false;   /* without memory it is counted the next time */
    if (queue->durable && (entry->flags & ENTRY_PERSISTENT))
        log_return(shard, queue->id, seq, count);
    return false;
}

void returns_forget(struct queue *queue, uint64_t seq)
{
    free(map_remove(&queue->rules->returns, seq));
}
