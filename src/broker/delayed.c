#include "broker/delayed.h"
#include "base/bugs.h"

#include "broker/delay.h"
#include "broker/relay.h"
#include "broker/worker_internal.h"
#include "store/message.h"

#include <stdlib.h>

#define LOOK_MAX 512u   /* messages in one look */

struct bytes delayed_queue_name(struct bytes exchange, uint8_t *room)
{
    memset(room, '.', DELAYED_NAME_PREFIX);
    memcpy(room, "delayed", 7);
    memcpy(room + DELAYED_NAME_PREFIX, exchange.data, exchange.size);
    return bytes_of(room, DELAYED_NAME_PREFIX + exchange.size);
}

struct queue_entry *delayed_queue(const struct exchange *exchange)
{
    uint8_t room[DELAYED_NAME_MAX];
    return topology_queue(exchange->vhost, delayed_queue_name(exchange->name, room));
}

struct exchange *delayed_exchange(const struct queue_entry *queue)
{
    CHECK(queue->name.size > DELAYED_NAME_PREFIX);
    return topology_exchange(queue->vhost, bytes_of(queue->name.data + DELAYED_NAME_PREFIX, queue->name.size - DELAYED_NAME_PREFIX));
}

enum gw_err delayed_init(struct queue *queue)
{
    if (!queue->delay)
        queue->delay = calloc(1, sizeof(*queue->delay));
    return queue->delay ? GW_OK : GW_ERR_NOMEM;
}

void delayed_deinit(struct queue *queue)
{
    if (queue->delay)
        delay_deinit(queue->delay);
    free(queue->delay);
    queue->delay = NULL;
}

/* When a message is due, milliseconds since 1970; never before its delay is over, so the fraction of its arrival that the stamp does not say is counted as whole. */
static bool due_of(const struct content *content, uint64_t *at_ms)
{
    struct message message;
    if (!message_read(bytes_of(content->chunk->data + content->offset, content->size), &message))
        return false;
    *at_ms = message.arrived_ms + delay_of(message.properties) / (1 + bug_enabled(BUG_DELAY_EARLY)) + 1;
    return true;
}

void delayed_entered(struct queue *queue, const struct content *content, uint64_t seq)
{
    uint64_t at_ms;
    if (due_of(content, &at_ms))
        CHECK(delay_push(queue->delay, at_ms, seq));   /* no memory for 16 bytes: ending here loses nothing confirmed */
}

/* False: not now, it has to be read first or the relay is full. */
static bool give(struct shard *shard, struct queue *queue, uint64_t seq)
{
    struct block_slot *slot = lane_slot(&queue->lane, seq / BLOCK_SIZE);
    bool unacked;
    if (slot && (!slot->block || !slot->block->entries)) {
        shard_load_block(shard, queue, slot, seq / BLOCK_SIZE);
        return false;
    }
    if (!relay_has_room(shard, queue))
        return false;
    struct entry *entry = lane_entry_at(&queue->lane, seq, &slot, &unacked);
    if (entry && !unacked)
        relay_take(shard, queue, &queue->lane, seq, slot, entry, false, DISCARD_DUE);
    return true;
}

void delayed_look(struct shard *shard, struct queue *queue)
{
    const struct due *first;
    uint64_t now_us = shard->worker->now_us, wall_us = shard->worker->wall_us;
    for (unsigned i = 0; (first = delay_first(queue->delay)) && first->at_ms <= wall_us / 1000; i++) {
        if (i == LOOK_MAX) {
            shard_timer(shard, queue, now_us);
            return;
        }
        if (!give(shard, queue, first->seq))
            return;
        delay_pop(queue->delay);
    }
    if (first)
        shard_timer(shard, queue, now_us + (first->at_ms * 1000 - wall_us));
}

/* ---- after a restart ----------------------------------------------------------------------------------------------- */

static enum gw_err index_block(struct queue *queue, const struct block *block, uint64_t number)
{
    for (unsigned i = bits_next(block->ready, 0); i < BLOCK_SIZE; i = i + 1 < BLOCK_SIZE ? bits_next(block->ready, i + 1) : BLOCK_SIZE) {
        const struct entry *entry = &block->entries[i];
        const struct content content = {.chunk = entry->chunk, .offset = entry->offset, .size = entry->size};
        uint64_t at_ms;
        if (entry->chunk && due_of(&content, &at_ms) && !delay_push(queue->delay, at_ms, number * BLOCK_SIZE + i))
            return GW_ERR_NOMEM;
    }
    return GW_OK;
}

static enum gw_err index_queue(struct shard *shard, struct queue *queue)
{
    enum gw_err err = GW_OK;
    for (uint64_t number = queue->lane.first_block; !err && number < queue->lane.end_block; number++) {
        struct block_slot *slot = lane_slot(&queue->lane, number);
        bool any = slot && (slot->block ? slot->block->ready_count : slot->live);
        if (!any || !shard_load_now(shard, queue, &queue->lane, number))
            continue;
        slot = lane_slot(&queue->lane, number);
        err = index_block(queue, slot->block, number);
        shard_page_out(shard);
    }
    shard_mark_dirty(shard, queue);
    return err;
}

enum gw_err delayed_recover(struct broker *broker)
{
    enum gw_err err = GW_OK;
    for (unsigned i = 0; !err && i < broker->shards; i++) {
        struct shard *shard = broker->workers[i % broker->config.workers]->shards[i];
        uint32_t cursor = 0;
        shard->recovering = true;   /* what is paged out is written before it is gone on */
        for (struct queue *queue; !err && (queue = map_next(&shard->queues, &cursor));)
            if (queue->delay)
                err = index_queue(shard, queue);
        shard->recovering = false;
    }
    return err;
}
