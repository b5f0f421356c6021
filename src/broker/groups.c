#include "broker/groups.h"
#include "base/bugs.h"

#include "broker/group_key.h"
#include "broker/relay.h"
#include "broker/retry.h"
#include "broker/worker_internal.h"

#include <stdlib.h>

#define LOOKED_AT_MAX 2048u    /* messages at a time, so that others have their turn */
#define LOOK_STEP 32u
#define LOADS_AHEAD 8u         /* blocks */
#define GIVEN_UP_MAX 4096u
#define NO_MEMORY_US 10000u    /* after which it is tried again */
#define FAR_AHEAD 1024u        /* messages */

struct groups {
    struct shard *shard;
    struct queue *queue;
    struct group_index *index;
    uint64_t seed;             /* of the keys' hashes: nobody outside can choose keys that are one */
    uint64_t looked_below;     /* what lies below it is in the index, or was found to be of no interest */
    uint64_t held_below;       /* nothing is delivered before it was looked at up to here: something there may be in flight */
    uint32_t gone;             /* messages of the index that were given up meanwhile */
    unsigned left;             /* messages that may still be looked at this time */
    bool fair;
    unsigned where;            /* see group_key.h */
    uint8_t key_size;
    uint8_t key[GROUP_KEY_MAX];
};

static struct group_holder *holder_of(void *owner, uint32_t handle)
{
    struct consumer *consumer = shard_consumer(owner, handle);
    return consumer ? &consumer->keys : NULL;
}

/* ---- lifecycle ------------------------------------------------------------------------------------------------------- */

void groups_forget(struct queue *queue)
{
    struct groups *groups = queue->groups;
    group_index_clear(groups->index);
    for (struct consumer *consumer = queue->consumers; consumer; consumer = consumer->all_next)
        consumer->keys = (struct group_holder){0};
    groups->looked_below = 0;
    groups->held_below = queue->lane.delivered_below;
    groups->gone = 0;
    shard_mark_dirty(groups->shard, queue);
}

void groups_free(struct queue *queue)
{
    struct groups *groups = queue->groups;
    if (!groups)
        return;
    for (struct consumer *consumer = queue->consumers; consumer; consumer = consumer->all_next)
        consumer->keys = (struct group_holder){0};
    group_index_free(groups->index);
    free(groups);
    queue->groups = NULL;
}

static bool says_the_same(const struct groups *groups, const struct queue_settings *settings)
{
    return groups->fair == ((settings->flags & SETTINGS_GROUP_FAIR) != 0) && bytes_equal(bytes_of(groups->key, groups->key_size), settings->group_key);
}

void groups_set(struct shard *shard, struct queue *queue)
{
    const struct queue_settings *settings = queue->settings;
    bool wanted = settings && (settings->flags & SETTINGS_GROUPS);
    if (queue->groups && wanted && says_the_same(queue->groups, settings))
        return;
    groups_free(queue);
    if (!wanted)
        return;
    struct groups *groups = calloc(1, sizeof(*groups));
    CHECK(groups);   /* ending here loses nothing confirmed */
    groups->shard = shard;
    groups->queue = queue;
    groups->fair = settings->flags & SETTINGS_GROUP_FAIR;
    groups->index = group_index_new(groups->fair, holder_of, shard);
    CHECK(groups->index);
    groups->seed = worker_random(shard->worker);
    groups->key_size = (uint8_t)settings->group_key.size;
    memcpy(groups->key, settings->group_key.data, settings->group_key.size);
    group_key_parse(settings->group_key, &groups->where);
    queue->groups = groups;
    groups_forget(queue);
}

/* ---- looking through the lane ---------------------------------------------------------------------------------------- */

/* False: the message has no key. */
static bool hash_of(const struct groups *groups, const struct entry *entry, uint64_t *hash)
{
    char room[GROUP_KEY_ROOM];
    struct bytes key, content = bytes_of(entry->chunk->data + entry->offset, entry->size);
    if (!group_key_of(content, bytes_of(groups->key, groups->key_size), groups->where, room, &key))
        return false;
    *hash = bytes_hash(key, groups->seed);
    return true;
}

static bool is_in_memory(const struct block_slot *slot) { return slot->block && slot->block->entries && slot->block->bodies; }

static bool is_empty(const struct block_slot *slot)
{
    return slot->block ? !slot->block->ready_count && !slot->block->unacked_count : !slot->live;
}

static void load_from(struct groups *groups, uint64_t number)
{
    struct lane *lane = &groups->queue->lane;
    const struct block_slot *first = lane_slot(lane, number);
    for (uint64_t end = number + LOADS_AHEAD; number < end && number < lane->end_block; number++)
        shard_load_block(groups->shard, groups->queue, lane_slot(lane, number), number);
    if (!first->loading)
        shard_timer(groups->shard, groups->queue, groups->shard->worker->now_us + NO_MEMORY_US);
}

/* False: out of memory. */
static bool take_note(struct groups *groups, const struct block *block, unsigned i, uint64_t seq)
{
    const struct entry *entry = &block->entries[i];
    uint64_t hash;
    bool keyed = hash_of(groups, entry, &hash);
    if (bit_get(block->ready, i))
        return group_index_add(groups->index, seq, keyed ? &hash : NULL, false);
    uint32_t holder = entry->holder == RETRY_HOLDER ? 0 : entry->holder;   /* what waits before it is delivered again holds up its key */
    return entry->holder == RELAY_HOLDER || group_index_add_held(groups->index, seq, keyed ? &hash : NULL, holder);
}

enum look { LOOK_MORE, LOOK_END, LOOK_WAIT, LOOK_FULL };

/* Notes what lies in one block, from `looked_below` on; at most `*most` messages. */
static enum look look_at_block(struct groups *groups, const struct block *block, uint64_t number, unsigned *most)
{
    for (unsigned i = groups->looked_below % BLOCK_SIZE; i < block->used; i++) {
        groups->looked_below = number * BLOCK_SIZE + i;
        if (!bit_get(block->ready, i) && !bit_get(block->unacked, i))
            continue;
        if (!*most)
            return LOOK_MORE;
        if (group_index_ready(groups->index) >= GROUPS_WINDOW && groups->looked_below >= groups->held_below)
            return LOOK_FULL;
        --*most;
        if (!take_note(groups, block, i, groups->looked_below)) {
            shard_timer(groups->shard, groups->queue, groups->shard->worker->now_us + NO_MEMORY_US);
            return LOOK_WAIT;
        }
    }
    return LOOK_END;
}

static enum look look(struct groups *groups, unsigned most)
{
    struct shard *shard = groups->shard;
    struct lane *lane = &groups->queue->lane;
    uint64_t number = groups->looked_below / BLOCK_SIZE;
    if (number < lane->first_block)
        number = lane->first_block;
    for (; number < lane->end_block; number++) {
        struct block_slot *slot = lane_slot(lane, number);
        if (number > groups->looked_below / BLOCK_SIZE)
            groups->looked_below = number * BLOCK_SIZE;
        if (is_empty(slot))
            continue;
        if (!is_in_memory(slot)) {
            load_from(groups, number);
            return LOOK_WAIT;
        }
        enum look answer = look_at_block(groups, slot->block, number, &most);
        if (answer != LOOK_END)
            return answer;
        if (shard->account.resident > shard->memory_limit / 2 && group_index_ready(groups->index) > FAR_AHEAD)
            shard_unload_block(shard, lane, slot);   /* its turn comes later */
    }
    if (groups->looked_below < lane->next_seq)
        groups->looked_below = lane->next_seq;
    return LOOK_END;
}

/* Looks further until something is free, or as far as it may. */
static enum look look_for_free(struct groups *groups)
{
    enum look answer = LOOK_MORE;
    while (answer == LOOK_MORE && groups->left && !group_index_has_free(groups->index)) {
        unsigned most = groups->left < LOOK_STEP ? groups->left : LOOK_STEP;
        groups->left -= most;
        answer = look(groups, most);
    }
    if (answer == LOOK_FULL && groups->gone > GROUPS_WINDOW / 2)
        groups_forget(groups->queue);   /* most of what it knows is gone */
    if (answer == LOOK_MORE && !groups->left)
        shard_timer(groups->shard, groups->queue, groups->shard->worker->now_us);
    return answer;
}

/* Something will be served: is everything known that must be? A fair queue looks some way ahead even if that must be read first. */
static bool prepare(struct groups *groups)
{
    groups->left = LOOKED_AT_MAX;
    while (groups->looked_below < groups->held_below || (groups->fair && groups->left)) {
        unsigned most = LOOK_STEP;
        enum look answer = look(groups, most);
        groups->left -= groups->left < most ? groups->left : most;
        if (answer == LOOK_MORE && groups->left)
            continue;
        if (answer == LOOK_MORE)
            shard_timer(groups->shard, groups->queue, groups->shard->worker->now_us);
        return groups->looked_below >= groups->held_below && !(groups->fair && answer == LOOK_WAIT && group_index_ready(groups->index) < FAR_AHEAD);
    }
    return true;
}

/* ---- whose turn it is ------------------------------------------------------------------------------------------------ */

static bool is_ready(const struct block_slot *slot, uint64_t seq)
{
    return slot && (slot->block ? bit_get(slot->block->ready, seq % BLOCK_SIZE) : slot->live > 0);
}

static void drop(struct groups *groups, const struct group_pick *pick)
{
    groups->gone -= groups->gone > 0;
    group_index_drop(groups->index, pick->group);
}

/* A message that waits, but was not in memory when that became known: from now on it holds up its key. */
static bool is_held_back(struct groups *groups, const struct group_pick *pick)
{
    struct queue *queue = groups->queue;
    if (!queue->rules || !queue->rules->loose || !group_index_will_hold(groups->index, pick->group))
        return false;
    if (retry_holds_back(groups->shard, queue, &queue->lane, pick->seq, pick->slot, pick->entry)) {
        group_index_gave(groups->index, pick->group, 0, true);
        return true;
    }
    group_index_not_held(groups->index, pick->group);
    return false;
}

/* The first message that is still there and may be had. */
static enum group_answer pick_for(struct groups *groups, const struct group_holder *holder, struct group_pick *pick)
{
    struct shard *shard = groups->shard;
    struct queue *queue = groups->queue;
    struct lane *lane = &queue->lane;
    unsigned given_up = 0;
    while ((pick->seq = group_index_first(groups->index, holder, &pick->group))) {
        bool unacked = false;
        pick->entry = lane_entry_at(lane, pick->seq, &pick->slot, &unacked);
        if (unacked || !is_ready(pick->slot, pick->seq)) {
            drop(groups, pick);
            continue;
        }
        if (!pick->entry || !pick->entry->chunk) {
            load_from(groups, pick->seq / BLOCK_SIZE);
            return GROUP_WAIT;
        }
        if (expiry_forbids(shard, queue, lane, pick->seq, pick->entry)) {
            if (given_up++ == GIVEN_UP_MAX)
                shard_timer(shard, queue, shard->worker->now_us);
            if (given_up > GIVEN_UP_MAX || !rules_may_discard(shard, queue))
                return GROUP_WAIT;
            rules_give_up(shard, queue, lane, pick->seq, pick->slot, pick->entry, DISCARD_EXPIRED);
            drop(groups, pick);
            continue;
        }
        if (is_held_back(groups, pick))
            continue;
        return redelivery_may_deliver(shard, queue, lane, pick->entry, pick->seq) ? GROUP_FOUND : GROUP_WAIT;
    }
    return GROUP_NONE;
}

/* The same, and looks further when there is none. */
static enum group_answer look_and_pick(struct groups *groups, const struct group_holder *holder, struct group_pick *pick)
{
    enum group_answer answer = pick_for(groups, holder, pick);
    while (answer == GROUP_NONE) {
        enum look looked = look_for_free(groups);
        if (!group_index_has_free(groups->index))
            return looked == LOOK_END || looked == LOOK_FULL ? GROUP_NONE : GROUP_WAIT;
        answer = pick_for(groups, holder, pick);
    }
    return answer;
}

/* ---- gets ------------------------------------------------------------------------------------------------------------ */

enum group_answer groups_get(struct shard *shard, struct queue *queue, bool no_ack, struct group_pick *pick)
{
    struct groups *groups = queue->groups;
    (void)shard;
    if (!queue->lane.ready)
        return GROUP_NONE;
    if (!prepare(groups))
        return GROUP_WAIT;
    enum group_answer answer = look_and_pick(groups, NULL, pick);
    if (answer == GROUP_FOUND && !no_ack && !group_index_will_hold(groups->index, pick->group))
        return GROUP_NONE;
    return answer;
}

void groups_gave(struct queue *queue, const struct group_pick *pick, uint32_t holder, bool no_ack)
{
    group_index_gave(queue->groups->index, pick->group, holder, !no_ack);
}

void groups_not_given(struct queue *queue, const struct group_pick *pick, bool no_ack)
{
    if (!no_ack)
        group_index_not_held(queue->groups->index, pick->group);
}

/* ---- consumers ------------------------------------------------------------------------------------------------------- */

/* Nothing is free: the next one in the ring, of the highest priority, to whom something sticks. */
static struct consumer *one_with_keys(const struct queue *queue)
{
    struct consumer *found = NULL, *consumer = queue->active;
    do {
        if (consumer->keys.root && (!found || consumer->priority > found->priority))
            found = consumer;
        consumer = consumer->next;
    } while (consumer != queue->active && (!found || queue->has_priorities));
    return found;
}

static bool give(struct groups *groups, struct consumer *consumer, const struct group_pick *pick)
{
    bool no_ack = consumer->no_ack;
    uint32_t handle = consumer->handle;
    if (!no_ack && !group_index_will_hold(groups->index, pick->group))
        return false;
    if (!consumer_give(groups->shard, groups->queue, consumer, pick->seq, pick->slot, pick->entry)) {
        groups_not_given(groups->queue, pick, no_ack);
        return false;
    }
    groups_gave(groups->queue, pick, handle, no_ack);
    return true;
}

void groups_serve(struct shard *shard, struct queue *queue)
{
    struct groups *groups = queue->groups;
    if (group_index_is_sparse(groups->index))
        groups_forget(queue);   /* what is left is soon found again */
    if (!queue->active || !queue->lane.ready || !prepare(groups))
        return;
    while (queue->active && queue->lane.ready) {
        struct group_pick pick;
        struct consumer *consumer = consumer_next(queue);
        enum group_answer answer = look_and_pick(groups, &consumer->keys, &pick);
        bool free = group_index_has_free(groups->index);
        if (answer != GROUP_FOUND && !free) {
            consumer = one_with_keys(queue);
            answer = consumer ? pick_for(groups, &consumer->keys, &pick) : answer;
            if (consumer && answer == GROUP_NONE)
                continue;
        }
        if (answer != GROUP_FOUND)
            return;
        if (!give(groups, consumer, &pick)) {
            shard_timer(shard, queue, shard->worker->now_us + NO_MEMORY_US);
            return;
        }
    }
}

/* ---- what happens to its messages ------------------------------------------------------------------------------------ */

void groups_ended(struct queue *queue, uint64_t seq)
{
    group_index_settled(queue->groups->index, seq);
}

void groups_returned(struct queue *queue, uint64_t seq, const struct entry *entry)
{
    struct groups *groups = queue->groups;
    uint64_t hash;
    if (seq >= groups->looked_below || seq_level(seq) || group_index_back(groups->index, seq))
        return;
    bool keyed = entry->chunk && hash_of(groups, entry, &hash);
    if (!entry->chunk || !group_index_add(groups->index, seq, keyed ? &hash : NULL, true))
        groups_forget(queue);   /* it will be found where it lies */
}

void groups_kept(struct queue *queue, uint64_t seq)
{
    group_index_kept(queue->groups->index, seq);
}

void groups_given_up(struct queue *queue, uint64_t seq)
{
    queue->groups->gone += seq < queue->groups->looked_below;
}

void groups_consumer_gone(struct queue *queue, struct consumer *consumer)
{
    group_index_leave(queue->groups->index, &consumer->keys);
}

uint32_t groups_keys(const struct queue *queue) { return queue->groups ? group_index_keys(queue->groups->index) : 0; }
uint32_t groups_held_keys(const struct queue *queue) { return queue->groups ? group_index_held_keys(queue->groups->index) : 0; }
