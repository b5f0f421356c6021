#include "broker/queue.h"
#include "base/bugs.h"

#include "broker/half.h"
#include "broker/schedule.h"

#include "base/bytes.h"

#include <stdlib.h>

void queue_init(struct queue *queue, uint64_t id)
{
    *queue = (struct queue){.id = id};
    lane_init(&queue->lane, 0);
}

void queue_deinit(struct queue *queue, struct chunk_account *account, struct block_pool *pool)
{
    lane_deinit(&queue->lane, account, pool);
    schedule_deinit(queue);
    half_free(queue);
    for (unsigned i = 0; queue->levels && i < queue->levels->count; i++) {
        struct lane *lane = queue->levels->lanes[queue->levels->numbers[i]];
        lane_deinit(lane, account, pool);
        free(lane);
    }
    free(queue->levels);
    queue->levels = NULL;
}

struct lane *queue_lane_make(struct queue *queue, unsigned level)
{
    CHECK(level < QUEUE_LEVELS);
    if (!level)
        return &queue->lane;
    if (!queue->levels) {
        queue->levels = calloc(1, sizeof(*queue->levels));
        if (!queue->levels)
            return NULL;
        queue->levels->occupied[0] = queue->lane.ready ? 1 : 0;
    }
    struct queue_levels *levels = queue->levels;
    if (levels->lanes[level])
        return levels->lanes[level];
    struct lane *lane = malloc(sizeof(*lane));
    if (!lane)
        return NULL;
    lane_init(lane, level);
    levels->lanes[level] = lane;
    levels->numbers[levels->count++] = (uint16_t)level;
    return lane;
}

static struct lane *lane_of_level(struct queue *queue, unsigned level)
{
    return level ? queue->levels->lanes[level] : &queue->lane;
}

/* Bits of levels that turn out to be empty are cleared on the way, so that each costs its look once. */
struct lane *queue_highest(struct queue *queue)
{
    if (bug_enabled(BUG_PRIORITY_UPSIDE_DOWN))
        return queue_lowest(queue);
    uint64_t *occupied = queue->levels->occupied;
    for (unsigned word = QUEUE_PRIORITIES / 64; word-- > 0;)
        while (occupied[word]) {
            unsigned bit = 63 - (unsigned)__builtin_clzll(occupied[word]);
            struct lane *lane = lane_of_level(queue, word * 64 + bit);
            if (lane->ready)
                return lane;
            occupied[word] &= ~(1ull << bit);
        }
    return &queue->lane;
}

struct lane *queue_lowest(struct queue *queue)
{
    uint64_t *occupied = queue->levels ? queue->levels->occupied : NULL;
    for (unsigned word = 0; occupied && word < QUEUE_PRIORITIES / 64; word++)
        while (occupied[word]) {
            unsigned bit = (unsigned)__builtin_ctzll(occupied[word]);
            struct lane *lane = lane_of_level(queue, word * 64 + bit);
            if (lane->ready)
                return lane;
            occupied[word] &= ~(1ull << bit);
        }
    return &queue->lane;
}

struct queue_totals queue_sum(const struct queue *queue)
{
    struct queue_totals totals = {queue->lane.ready, queue->lane.unacked, queue->lane.ready_bytes};
    for (unsigned i = 0; i < queue->levels->count; i++) {
        const struct lane *lane = queue->levels->lanes[queue->levels->numbers[i]];
        if (queue->levels->numbers[i] == LEVEL_SCHEDULED)
            continue;
        totals.ready += lane->ready;
        totals.unacked += lane->unacked;
        totals.ready_bytes += lane->ready_bytes;
    }
    return totals;
}
