/* Which messages may have been delivered before a crash? What is in flight is not logged. Instead the log is told ahead, now and then, how far a lane's deliveries may
 * go: after a restart what lies below that mark is flagged redelivered, and no more. A persistent message at or above the mark waits until a higher one is
 * committed, which the first consumer of a queue asks for as it arrives, and deliveries ask for long before they get there.
 *
 * The mark is a settle target of no messages: count 0, and the mark as its first sequence number. */
#include "broker/shard.h"
#include "base/bugs.h"

#include "broker/worker_internal.h"

#define AHEAD 8192u    /* sequence numbers */

void redelivery_ask(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq)
{
    if (lane->asked_below > seq + AHEAD / 2)
        return;
    uint64_t mark = seq + AHEAD;
    if (log_state(shard->log) || !shard_log_mark(shard, queue->id, mark)) {
        lane->flagged_below = mark;   /* a log that takes nothing must not keep messages from their consumers */
        return;
    }
    lane->asked_below = mark;
}

bool redelivery_may_deliver(struct shard *shard, struct queue *queue, struct lane *lane, const struct entry *entry, uint64_t seq)
{
    if (!queue->durable || !(entry->flags & ENTRY_PERSISTENT))
        return true;
    if (UNLIKELY(seq + AHEAD / 2 >= lane->asked_below))
        redelivery_ask(shard, queue, lane, seq);
    return seq < lane->flagged_below;
}

void redelivery_committed(struct shard *shard, uint64_t id, uint64_t mark)
{
    struct queue *queue = map_get(&shard->queues, id);
    struct lane *lane = queue ? queue_lane(queue, mark) : NULL;
    if (!lane || mark <= lane->flagged_below)
        return;
    lane->flagged_below = mark;
    shard_mark_dirty(shard, queue);
}

void redelivery_recovered(struct lane *lane, bool clean)
{
    /* What is published from now on lies above every mark in the log, so that no replay flags it for what was delivered before it came. */
    if (lane->next_seq < lane->redelivered_below)
        lane->next_seq = lane->redelivered_below;
    if (clean || bug_enabled(BUG_REDELIVERED_LOST_IN_CRASH))
        lane->redelivered_below = lane->clean_below;
    lane->asked_below = lane->flagged_below = lane->redelivered_below;
    lane->delivered_below = 0;
}
