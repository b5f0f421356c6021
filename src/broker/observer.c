#include "broker/observer.h"

#include "broker/dedup.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"
#include "store/message.h"

#include <math.h>
#include <stdlib.h>

#define LOOK_US 100000u
#define QUEUES_A_TURN 4096u
#define PAUSE_US 5000u           /* between two parts of a look: with a million queues, too, others have their turn */
#define UNUSED_US 300000000u
#define BLOCKS_MAX 4096u         /* that are looked through for the oldest that is held */

/* ---- looking --------------------------------------------------------------------------------------------------------- */

static struct outlook_sample count(const struct queue *queue, uint64_t now_us)
{
    struct outlook_sample counts = {.at_us = now_us, .next_seq = queue->lane.next_seq, .lost = queue->lost};
    if (queue->stream) {
        counts.arrived = queue->stream->next;
        return counts;
    }
    unsigned at = 0;
    for (const struct lane *lane; (lane = queue_next_ready_lane((struct queue *)(uintptr_t)queue, &at));)
        counts.arrived += lane->next_seq - seq_base(seq_level(lane->next_seq)) - lane->passed_over;
    const struct queue_totals totals = queue_totals(queue);
    uint64_t gone = totals.ready + totals.unacked + counts.lost;
    counts.handled = counts.arrived > gone ? counts.arrived - gone : 0;
    return counts;
}

static uint32_t at_work(const struct queue *queue)
{
    uint32_t busy = 0;
    for (const struct consumer *consumer = queue->consumers; consumer; consumer = consumer->all_next)
        busy += consumer->unacked != 0;
    return busy;
}

void observer_forget(struct shard *shard, struct queue *queue)
{
    if (!queue->outlook)
        return;
    free(queue->outlook);
    queue->outlook = NULL;
    shard->observer.observed--;
}

static bool is_used(const struct queue *queue)
{
    const struct queue_totals totals = queue_totals(queue);
    return queue->consumer_count || totals.ready || totals.unacked;
}

static void look_at(struct shard *shard, struct queue *queue, uint64_t weight_us)
{
    struct observer *observer = &shard->observer;
    uint64_t now_us = shard->worker->now_us;
    if (queue->dedup)
        dedup_tidy(shard, queue);
    if (!queue->outlook) {
        if (observer->observed == OBSERVED_MAX || !is_used(queue) || (queue->settings && (queue->settings->flags & SETTINGS_DELAYED)))
            return;
        queue->outlook = calloc(1, sizeof(*queue->outlook));
        if (!queue->outlook)
            return;
        observer->observed++;
    }
    struct outlook_sample counts = count(queue, now_us);
    if (counts.handled < queue->outlook->last.handled)
        counts.handled = queue->outlook->last.handled;   /* what was lost is on its way to where dead letters go */
    outlook_add(queue->outlook, &counts, at_work(queue), queue->consumer_count, weight_us);
    if (now_us - queue->outlook->used_us > UNUSED_US && !is_used(queue))
        observer_forget(shard, queue);
}

/* Some time in the next tenth of a second. */
static uint64_t draw(struct observer *observer)
{
    uint64_t begin_us = observer->cell_us;
    observer->random = observer->random * 6364136223846793005u + 1442695040888963407u;
    observer->cell_us += LOOK_US;
    return begin_us + (observer->random >> 33) % LOOK_US;
}

/* How many times have passed for which a look that begins now stands, and when is the next? */
static void plan(struct observer *observer, uint64_t now_us)
{
    uint64_t late = observer->cell_us && now_us > observer->cell_us ? (now_us - observer->cell_us) / LOOK_US : 0;   /* whole cells that were passed over */
    observer->weight_us = observer->cell_us ? (1 + late) * LOOK_US : 0;
    observer->cell_us = observer->cell_us ? observer->cell_us + late * LOOK_US : now_us;
    while ((observer->planned_us = draw(observer)) <= now_us)
        observer->weight_us += LOOK_US;
}

void observer_look(struct shard *shard)
{
    struct observer *observer = &shard->observer;
    if (!observer->cursor)
        plan(observer, shard->worker->now_us);
    for (unsigned i = 0; i < QUEUES_A_TURN; i++) {
        struct queue *queue = map_next(&shard->queues, &observer->cursor);
        if (!queue) {
            observer->cursor = 0;
            observer->next_us = observer->planned_us;
            return;
        }
        look_at(shard, queue, observer->weight_us);
    }
    observer->next_us = shard->worker->now_us + PAUSE_US;
    observer->weight_us = 0;   /* the rest is looked at when something has happened: that says nothing of the time before */
}

/* ---- telling --------------------------------------------------------------------------------------------------------- */

/* The lowest number that is held; false: none is, or it lies too far behind. */
static bool first_held(const struct lane *lane, uint64_t *seq)
{
    uint64_t number = lane->first_block;
    for (unsigned i = 0; lane->unacked && number < lane->end_block && i < BLOCKS_MAX; i++, number++) {
        const struct block_slot *slot = lane_slot(lane, number);
        if (!slot || !slot->block || !slot->block->unacked_count)
            continue;
        *seq = number * BLOCK_SIZE + bits_next(slot->block->unacked, 0);
        return true;
    }
    return false;
}

/* The lowest number that is ready. */
static bool first_ready(struct lane *lane, uint64_t *seq)
{
    struct block_slot *slot;
    if (!lane->ready)
        return false;
    if (lane_first(lane, seq, &slot))
        return true;
    *seq = lane->head;   /* its block is not in memory */
    return true;
}

/* Its stamp says it; otherwise when it was that the queue had come so far. */
static double age_of(struct shard *shard, struct queue *queue, uint64_t seq, bool *at_least)
{
    struct block_slot *slot;
    struct message message;
    bool unacked;
    uint64_t age_us, now_ms = shard->worker->wall_us / 1000;
    const struct entry *entry = lane_entry_at(&queue->lane, seq, &slot, &unacked);
    *at_least = false;
    if (entry && entry->chunk && message_read(bytes_of(entry->chunk->data + entry->offset, entry->size), &message) && message.arrived_ms)
        return now_ms > message.arrived_ms ? (double)(now_ms - message.arrived_ms) / 1000 : 0;
    return queue->outlook && outlook_age(queue->outlook, seq, &age_us, at_least) ? (double)age_us / 1e6 : NAN;
}

struct observation observer_tell(struct shard *shard, struct queue *queue, double target_s, double utilisation)
{
    const struct queue_totals totals = queue_totals(queue);
    struct observation observation = {.ready = totals.ready, .unacked = queue->stream ? 0 : totals.unacked, .consumers = queue->consumer_count,
                                      .oldest_ready_seconds = NAN, .oldest_unacked_seconds = NAN};
    struct outlook *outlook = queue->outlook;
    uint64_t seq;
    if (outlook && shard->worker->now_us > outlook->last.at_us)
        look_at(shard, queue, 0);   /* up to now */
    outlook = queue->outlook;
    if (outlook)
        observation.numbers = outlook_numbers(outlook, totals.ready + totals.unacked, target_s, utilisation);
    if (!outlook || queue->stream) {
        double arrival_rate = outlook ? observation.numbers.arrival_rate : NAN;
        observation.numbers = (struct outlook_numbers){arrival_rate, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    }
    if (queue->stream || queue->levels)   /* of priorities, the oldest is not at the head */
        return observation;
    if (first_ready(&queue->lane, &seq))
        observation.oldest_ready_seconds = age_of(shard, queue, seq, &observation.ready_at_least);
    if (first_held(&queue->lane, &seq))
        observation.oldest_unacked_seconds = age_of(shard, queue, seq, &observation.unacked_at_least);
    return observation;
}
