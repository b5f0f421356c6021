/* Who gets what: consumers in a ring per queue, served in turn, each within its prefetch and its window of bytes; gets. */
#include "broker/shard.h"
#include "base/bugs.h"

#include "broker/arguments.h"
#include "broker/filters.h"
#include "broker/groups.h"
#include "broker/inspect.h"
#include "broker/lives.h"
#include "broker/retry.h"
#include "broker/rules.h"
#include "broker/schedule.h"
#include "broker/stream.h"
#include "broker/worker_internal.h"
#include "protocol/amqp/table.h"

#include <stdio.h>
#include <stdlib.h>

#define CONSUMER_WINDOW (1 << 20)    /* bytes on the way to one consumer's socket */
#define HANDLE_INDEX_BITS 20u        /* at most a million consumers a shard at a time */
#define HANDLE_INDEX_MASK ((1u << HANDLE_INDEX_BITS) - 1)

/* ---- the table of consumers ---------------------------------------------------------------------------------------- */

struct consumer *shard_consumer(struct shard *shard, uint32_t handle)
{
    uint32_t index = handle & HANDLE_INDEX_MASK;
    struct consumer *consumer = index < shard->consumer_capacity ? shard->consumers[index] : NULL;
    return consumer && consumer->handle == handle ? consumer : NULL;
}

static bool table_add(struct shard *shard, struct consumer *consumer)
{
    if (shard->consumer_count + 1 >= shard->consumer_capacity) {
        uint32_t capacity = shard->consumer_capacity ? shard->consumer_capacity * 2 : 16;
        if (capacity > HANDLE_INDEX_MASK)
            return false;
        struct consumer **grown = realloc(shard->consumers, capacity * sizeof(*grown));
        if (!grown)
            return false;
        memset(grown + shard->consumer_capacity, 0, (capacity - shard->consumer_capacity) * sizeof(*grown));
        shard->consumers = grown;
        shard->consumer_capacity = capacity;
    }
    uint32_t index = shard->consumer_free_hint;
    do {   /* handle 0 means none, so index 0 is never used */
        index = index + 1 < shard->consumer_capacity ? index + 1 : 1;
    } while (shard->consumers[index]);
    shard->consumer_free_hint = index;
    shard->consumer_generation++;
    consumer->handle = index | shard->consumer_generation << HANDLE_INDEX_BITS;
    shard->consumers[index] = consumer;
    shard->consumer_count++;
    return true;
}

/* ---- the ring of those that may get more --------------------------------------------------------------------------- */

static bool may_get_more(const struct consumer *consumer)
{
    return !consumer->stopped && consumer->window > 0 && (!consumer->prefetch || consumer->unacked < consumer->prefetch + bug_enabled(BUG_PREFETCH_ONE_MORE));
}

bool consumer_may_get_more(const struct consumer *consumer) { return may_get_more(consumer); }

static void activate(struct queue *queue, struct consumer *consumer)
{
    if (consumer->is_active)
        return;
    consumer->is_active = true;
    if (!queue->active) {
        queue->active = consumer->next = consumer->previous = consumer;
        return;
    }
    consumer->next = queue->active;   /* last in the ring */
    consumer->previous = queue->active->previous;
    consumer->previous->next = consumer;
    queue->active->previous = consumer;
}

static void deactivate(struct queue *queue, struct consumer *consumer)
{
    if (!consumer->is_active)
        return;
    consumer->is_active = false;
    if (consumer->next == consumer) {
        queue->active = NULL;
        return;
    }
    consumer->next->previous = consumer->previous;
    consumer->previous->next = consumer->next;
    if (queue->active == consumer)
        queue->active = consumer->next;
}

static void reconsider(struct shard *shard, struct consumer *consumer)
{
    if (UNLIKELY(consumer->cursor != NULL)) {   /* those of streams are in no ring */
        shard_mark_dirty(shard, consumer->queue);
        return;
    }
    if (!may_get_more(consumer)) {
        deactivate(consumer->queue, consumer);
    } else if (!consumer->is_active) {
        activate(consumer->queue, consumer);
        shard_mark_dirty(shard, consumer->queue);
    }
}

void consumer_settled(struct shard *shard, struct consumer *consumer)
{
    CHECK(consumer->unacked > 0);
    consumer->unacked--;
    reconsider(shard, consumer);
}

void consumer_settled_many(struct shard *shard, struct consumer *consumer, uint32_t count)
{
    CHECK(consumer->unacked >= count);
    consumer->unacked -= count;
    reconsider(shard, consumer);
}

void shard_credit(struct shard *shard, const struct command_credit *command)
{
    struct consumer *consumer = shard_consumer(shard, command->handle);
    if (!consumer)
        return;
    consumer->window += command->bytes;
    if (UNLIKELY(consumer->cursor != NULL))
        stream_credited(consumer, command->bytes);
    consumer->queue->progress_us = shard->worker->now_us;
    reconsider(shard, consumer);
}

void shard_refuse(struct shard *shard, const struct command_refuse *command)
{
    struct consumer *consumer = shard_consumer(shard, command->handle);
    if (consumer)
        consumer->stopped |= CONSUMER_REFUSED;
    struct command_settle settle = {.command = {.flags = SETTLE_UNDELIVERED}, .queue = command->queue, .first = command->seq, .count = 1};
    shard_settle(shard, &settle);
    if (consumer)
        reconsider(shard, consumer);
}

void shard_resume(struct shard *shard, const struct command_refuse *command)
{
    struct consumer *consumer = shard_consumer(shard, command->handle);
    if (!consumer)
        return;
    consumer->stopped &= (uint8_t)~CONSUMER_REFUSED;
    if (command->command.flags & RESUME_BOUND)
        consumer->no_ack = false;
    reconsider(shard, consumer);
}

/* ---- delivering ---------------------------------------------------------------------------------------------------- */

/* False: no memory for the command; nothing happened. */
static inline __attribute__((always_inline)) bool deliver(struct shard *shard, struct queue *queue, struct lane *lane, struct consumer *consumer, uint64_t seq, const struct entry *entry)
{
    struct command_deliver *command = worker_try_command(shard->worker, worker_of_client(consumer->client), COMMAND_DELIVER,
                                                         sizeof(*command), entry->chunk);
    if (!command)
        return false;
    command->client = consumer->client;
    command->queue = queue->id;
    command->seq = seq;
    command->chunk = entry->chunk;
    command->offset = entry->offset;
    command->size = entry->size;
    command->consumer = consumer->number;
    command->handle = consumer->handle;
    command->channel = consumer->channel;
    /* One that came back unseen while later ones went ahead is flagged too: what is not flagged comes in order. */
    bool redelivered = (entry->flags & ENTRY_REDELIVERED) || seq < lane->redelivered_below ||
                       (seq < lane->delivered_below && !(entry->flags & ENTRY_LATE));
    if (seq >= lane->delivered_below)
        lane->delivered_below = seq + 1;
    command->flags = (redelivered ? DELIVER_REDELIVERED : 0) | (consumer->no_ack ? DELIVER_NO_ACK : 0);
    return true;
}

/* The next of those with the highest x-priority, among the consumers that may get more. */
static struct consumer *next_consumer(const struct queue *queue)
{
    struct consumer *next = queue->active;
    if (LIKELY(!queue->has_priorities))
        return next;
    for (struct consumer *other = queue->active->next; other != queue->active; other = other->next)
        if (other->priority > next->priority)
            next = other;
    return next;
}

/* A ruled queue gives its first message: what its rules must know of that. */
static void note_delivery(struct shard *shard, struct queue *queue, const struct lane *lane, const struct consumer *consumer, uint64_t seq, struct entry *entry)
{
    struct command_deliver *command = outbox_last(&shard->worker->outboxes[worker_of_client(consumer->client)], COMMAND_DELIVER);
    bool of_get = !consumer->handle && settings_type(queue->settings) == QUEUE_QUORUM;   /* RabbitMQ tells a get of 0 too */
    const struct returned *returned = returns_find(queue, seq);
    command->added_value = returned ? returned->count : 0;
    if (command->added_value || of_get)
        command->added = DELIVERY_ADDS_COUNT;
    if (returned && queue_retries(queue)) {
        command->added = DELIVERY_ADDS_RETRY;
        command->added_value |= (uint64_t)returned->reason << DELIVERY_REASON_SHIFT;
    }
    if (UNLIKELY(queue->lives != NULL))
        lives_note(shard, queue, seq, LIFE_DELIVERED, consumer->client, consumer->channel, consumer->number);
    rules_leaves(queue, lane, seq, entry);
    if (consumer->no_ack)
        rules_ended(queue, seq);
}

/* Where the queue chooses what comes first, not every message that later ones went ahead of came back. */
static void note_order(struct shard *shard, const struct lane *lane, uint64_t client, uint64_t seq, const struct entry *entry)
{
    struct command_deliver *command = outbox_last(&shard->worker->outboxes[worker_of_client(client)], COMMAND_DELIVER);
    if (!(entry->flags & ENTRY_REDELIVERED) && seq >= lane->redelivered_below)
        command->flags &= (uint16_t)~DELIVER_REDELIVERED;
}

/* The message is the consumer's: it holds it, and its turn is over. */
static inline __attribute__((always_inline)) void served(struct shard *shard, struct queue *queue, struct lane *lane, struct consumer *consumer, uint64_t seq,
                                                         struct block_slot *slot, struct entry *entry)
{
    consumer->window -= (int64_t)entry->size + DELIVERY_OVERHEAD;
    if (consumer->no_ack) {
        shard_take_away(shard, queue, lane, seq, slot, entry, false);
    } else {
        lane_hold(lane, seq, slot, entry, consumer->handle);
        consumer->unacked++;
    }
    if (may_get_more(consumer))
        queue->active = consumer->next;
    else
        deactivate(queue, consumer);
}

static inline __attribute__((always_inline)) void serve_as(struct shard *shard, struct queue *queue, bool ruled)
{
    while (queue->active) {
        uint64_t seq;
        struct block_slot *slot;
        struct lane *lane = queue_head_lane(queue);
        struct entry *entry = shard_first(shard, queue, lane, &seq, &slot);
        if (!entry)
            return;
        if (ruled && expiry_forbids(shard, queue, lane, seq, entry)) {
            if (!rules_may_discard(shard, queue))
                return;
            rules_give_up(shard, queue, lane, seq, slot, entry, DISCARD_EXPIRED);
            continue;
        }
        if (ruled && retry_forbids(shard, queue, lane, seq, slot, entry))
            continue;
        if (!redelivery_may_deliver(shard, queue, lane, entry, seq))
            return;
        struct consumer *consumer = next_consumer(queue);
        if (!deliver(shard, queue, lane, consumer, seq, entry))
            return;
        if (ruled)
            note_delivery(shard, queue, lane, consumer, seq, entry);
        served(shard, queue, lane, consumer, seq, slot, entry);
    }
}

struct consumer *consumer_next(const struct queue *queue) { return next_consumer(queue); }

bool consumer_give(struct shard *shard, struct queue *queue, struct consumer *consumer, uint64_t seq, struct block_slot *slot, struct entry *entry)
{
    struct lane *lane = queue_lane(queue, seq);
    if (!deliver(shard, queue, lane, consumer, seq, entry))
        return false;
    note_order(shard, lane, consumer->client, seq, entry);
    note_delivery(shard, queue, lane, consumer, seq, entry);
    served(shard, queue, lane, consumer, seq, slot, entry);
    return true;
}

/* Every consumer of a stream gets what it has not had yet. */
static void serve_stream(struct queue *queue)
{
    stream_write_due(queue->stream);
    stream_serve(queue->stream);
}

/* Apart, so that what plain queues pay does not depend on it. */
static __attribute__((noinline)) void serve_ruled(struct shard *shard, struct queue *queue)
{
    if (queue->groups)
        groups_serve(shard, queue);
    else if (queue->ruled & RULED_BY_FILTERS)
        filters_serve(shard, queue);
    else
        serve_as(shard, queue, true);
}

static inline void serve(struct shard *shard, struct queue *queue)
{
    if (UNLIKELY(queue->ruled))
        serve_ruled(shard, queue);
    else
        serve_as(shard, queue, false);
}

void shard_serve(struct shard *shard, struct queue *queue)
{
    if (queue->gets)
        shard_answer_gets(shard, queue);
    serve(shard, queue);
}

void shard_dispatch(struct shard *shard)
{
    while (shard->dirty) {
        struct queue *queue = shard->dirty;
        shard->dirty = queue->dirty_next;
        queue->dirty = false;
        if (UNLIKELY(queue->stream != NULL)) {
            serve_stream(queue);
            continue;
        }
        if (UNLIKELY(queue->schedule != NULL))
            schedule_look(shard, queue);
        if (UNLIKELY(queue->ruled))
            rules_serve(shard, queue);
        else
            shard_serve(shard, queue);
    }
}

/* ---- gets ---------------------------------------------------------------------------------------------------------- */

static struct command_answer *answer_client(struct shard *shard, uint64_t client, uint64_t serial, enum request_kind kind, uint16_t channel, uint32_t tag)
{
    struct command_answer *answer = worker_command(shard->worker, worker_of_client(client), COMMAND_ANSWER, sizeof(*answer), NULL);
    answer->client = client;
    answer->serial = serial;
    answer->kind = kind;
    answer->channel = channel;
    answer->tag = tag;
    return answer;
}

/* A get's message was delivered: it is held, or gone. */
static void got(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t client, bool no_ack, uint64_t seq, struct block_slot *slot, struct entry *entry)
{
    struct command_deliver *command = outbox_last(&shard->worker->outboxes[worker_of_client(client)], COMMAND_DELIVER);
    command->flags |= DELIVER_GET;
    if (no_ack)
        shard_take_away(shard, queue, lane, seq, slot, entry, false);
    else
        lane_hold(lane, seq, slot, entry, 0);
    command->messages_left = (uint32_t)queue_totals(queue).ready;
}

/* The same as try_get where the queue's groups choose. */
static bool try_get_group(struct shard *shard, struct queue *queue, struct consumer *holder, uint64_t serial)
{
    struct group_pick pick;
    enum group_answer answer = groups_get(shard, queue, holder->no_ack, &pick);
    if (answer == GROUP_WAIT)
        return false;
    if (answer == GROUP_FOUND && !deliver(shard, queue, &queue->lane, holder, pick.seq, pick.entry)) {
        groups_not_given(queue, &pick, holder->no_ack);
        answer = GROUP_NONE;
    }
    if (answer == GROUP_FOUND) {
        note_order(shard, &queue->lane, holder->client, pick.seq, pick.entry);
        note_delivery(shard, queue, &queue->lane, holder, pick.seq, pick.entry);
        got(shard, queue, &queue->lane, holder->client, holder->no_ack, pick.seq, pick.slot, pick.entry);
        groups_gave(queue, &pick, 0, holder->no_ack);
    }
    answer_client(shard, holder->client, serial, REQUEST_GET, holder->channel, holder->number)->empty = answer != GROUP_FOUND;
    return true;
}

/* True: answered. False: its block must be loaded first. */
static bool try_get(struct shard *shard, struct queue *queue, uint64_t client, uint64_t serial, uint16_t channel, uint32_t tag, bool no_ack)
{
    uint64_t seq;
    struct block_slot *slot;
    if (UNLIKELY(queue->groups != NULL))
        return try_get_group(shard, queue, &(struct consumer){.client = client, .number = tag, .channel = channel, .no_ack = no_ack}, serial);
    struct lane *lane;
    struct entry *entry;
    do {
        lane = queue_head_lane(queue);
        entry = shard_first(shard, queue, lane, &seq, &slot);
    } while (entry && UNLIKELY(queue->ruled) && retry_forbids(shard, queue, lane, seq, slot, entry));
    if (!entry && slot)
        return false;
    if (entry && UNLIKELY(queue->ruled) && expiry_forbids(shard, queue, lane, seq, entry))
        return false;   /* it goes to the dead-letter exchange as soon as there is room for it on the way */
    if (entry && !redelivery_may_deliver(shard, queue, lane, entry, seq))
        return false;
    if (entry) {
        struct consumer holder = {.client = client, .number = tag, .channel = channel, .no_ack = no_ack};
        if (!deliver(shard, queue, lane, &holder, seq, entry))
            entry = NULL;
    }
    if (entry) {
        if (UNLIKELY(queue->ruled))
            note_delivery(shard, queue, lane, &(struct consumer){.client = client, .channel = channel, .no_ack = no_ack}, seq, entry);
        got(shard, queue, lane, client, no_ack, seq, slot, entry);
    }
    /* The answer closes the request; with a message it only says so. */
    answer_client(shard, client, serial, REQUEST_GET, channel, tag)->empty = !entry;
    return true;
}

void shard_answer_gets(struct shard *shard, struct queue *queue)
{
    while (queue->gets) {
        struct pending_get *get = queue->gets;
        if (!try_get(shard, queue, get->client, get->serial, get->channel, get->tag, get->no_ack))
            return;
        queue->gets = get->next;
        free(get);
    }
}

#define NAME(request) (int)request_name(request).size, (const char *)request_name(request).data
#define VHOST(shard, request) (int)request_vhost_name((shard)->worker, request).size, (const char *)request_vhost_name((shard)->worker, request).data

static void request_get(struct shard *shard, struct queue *queue, const struct command_request *request)
{
    bool no_ack = request->flags & REQUEST_NO_ACK;
    if (UNLIKELY(queue_is_single(queue) && queue->settings->type == QUEUE_QUORUM)) {
        request_refuse(shard->worker, request, 405, "RESOURCE_LOCKED - cannot obtain access to locked queue '%.*s' in vhost '%.*s'. basic.get operations "
                       "are not supported by quorum queues with single active consumer", NAME(request), VHOST(shard, request));
        return;
    }
    if (LIKELY(!queue->ruled))
        serve(shard, queue);   /* what came in this turn is for the consumers that wait, as far as it goes */
    if (!queue->gets && try_get(shard, queue, request->client, request->serial, request->channel, request->tag, no_ack))
        return;
    struct pending_get *get = calloc(1, sizeof(*get));
    if (!get) {
        answer_client(shard, request->client, request->serial, REQUEST_GET, request->channel, request->tag)->empty = true;
        return;
    }
    *get = (struct pending_get){.client = request->client, .serial = request->serial, .tag = request->tag, .channel = request->channel, .no_ack = no_ack};
    if (queue->gets)
        queue->gets_last->next = get;
    else
        queue->gets = get;
    queue->gets_last = get;
}

/* ---- consume, cancel, purge, status -------------------------------------------------------------------------------- */

/* A consumer has come: deliveries will begin where they stopped. */
static void ask_marks(struct shard *shard, struct queue *queue)
{
    unsigned at = 0;
    for (struct lane *lane; (lane = queue_next_ready_lane(queue, &at));)
        redelivery_ask(shard, queue, lane, lane->delivered_below > lane->head ? lane->delivered_below : lane->head);
}

/* False: the consumer was refused. */
static bool may_consume(struct shard *shard, const struct queue *queue, const struct command_request *request)
{
    bool exclusive = request->flags & REQUEST_EXCLUSIVE;
    struct bytes arguments = request_arguments(request);
    char what[600], why[1000];
    if (arguments.size) {
        snprintf(what, sizeof(what), "queue '%.*s' in vhost '%.*s'", NAME(request), VHOST(shard, request));
        if (!arguments_valid_for_consumer(arguments, settings_type(queue->settings), what, why, sizeof(why))) {
            request_refuse(shard->worker, request, 406, "PRECONDITION_FAILED - %s", why);
            return false;
        }
    }
    if (queue->stream)
        return stream_may_consume(shard, request);
    struct amqp_field filter;
    if (queue->groups && amqp_table_find(arguments, "x-filter", &filter)) {   /* whoever is not given a message would hold up its key */
        request_refuse(shard->worker, request, 406, "PRECONDITION_FAILED - invalid arg 'x-filter' for queue '%.*s' in vhost '%.*s': filter_but_group_key_defined",
                       NAME(request), VHOST(shard, request));
        return false;
    }
    if ((request->flags & REQUEST_CHANNEL_LIMITED) && settings_type(queue->settings) == QUEUE_QUORUM) {
        request_refuse(shard->worker, request, 540, "NOT_IMPLEMENTED - queue '%.*s' in vhost '%.*s' does not support global qos", NAME(request), VHOST(shard, request));
        return false;
    }
    /* Where one consumer at a time is the queue's own rule, none can be so by itself. */
    bool single = queue->settings && (queue->settings->flags & SETTINGS_SINGLE_ACTIVE);
    if (queue->has_exclusive || (exclusive && (queue->consumer_count || single))) {
        request_refuse(shard->worker, request, 403, "ACCESS_REFUSED - queue '%.*s' in vhost '%.*s' in exclusive use", NAME(request), VHOST(shard, request));
        return false;
    }
    return true;
}

static void request_consume(struct shard *shard, struct queue *queue, const struct command_request *request)
{
    bool exclusive = request->flags & REQUEST_EXCLUSIVE;
    struct amqp_field filter;
    if (!may_consume(shard, queue, request))
        return;
    bool filtered = !queue->stream && amqp_table_find(request_arguments(request), "x-filter", &filter);
    struct consumer *consumer = calloc(1, sizeof(*consumer));
    if (consumer && queue->stream)
        consumer->cursor = stream_cursor_new(queue->stream, request_arguments(request));
    if (!consumer || (queue->stream && !consumer->cursor) || (filtered && !filters_join(queue, consumer, &filter)) || !table_add(shard, consumer)) {
        if (consumer) {
            filters_leave(queue, consumer);
            stream_cursor_free(consumer->cursor);
        }
        free(consumer);
        request_refuse(shard->worker, request, 506, "RESOURCE_ERROR - no memory for a consumer of queue '%.*s' in vhost '%.*s'", NAME(request), VHOST(shard, request));
        return;
    }
    consumer->queue = queue;
    consumer->client = request->client;
    consumer->number = request->tag;
    consumer->channel = request->channel;
    consumer->prefetch = request->flags & REQUEST_NO_ACK ? 0 : request->prefetch;
    consumer->window = queue->stream ? STREAM_WINDOW : CONSUMER_WINDOW;
    consumer->no_ack = request->flags & REQUEST_NO_ACK;
    consumer->exclusive = exclusive;
    struct amqp_field priority;
    if (amqp_table_find(request_arguments(request), "x-priority", &priority) && amqp_field_is_integer(&priority))
        consumer->priority = priority.integer;
    queue->has_priorities |= consumer->priority != 0;
    consumer->all_next = queue->consumers;
    if (queue->consumers)
        queue->consumers->all_previous = consumer;
    queue->consumers = consumer;
    queue->consumer_count++;
    queue->has_exclusive |= exclusive && !queue->stream;
    queue->progress_us = shard->worker->now_us;
    struct command_answer *answer = answer_client(shard, request->client, request->serial, REQUEST_CONSUME, request->channel, request->tag);
    answer->queue = queue->id;
    answer->handle = consumer->handle;
    if (queue->durable && !queue->stream)
        ask_marks(shard, queue);
    if (queue_is_single(queue))
        single_active_come(queue, consumer);
    if (!queue->stream)
        reconsider(shard, consumer);
    shard_mark_dirty(shard, queue);
}

void shard_cancel_consumer(struct shard *shard, struct consumer *consumer)
{
    struct queue *queue = consumer->queue;
    deactivate(queue, consumer);
    if (UNLIKELY(queue->groups != NULL))
        groups_consumer_gone(queue, consumer);
    if (consumer->all_next)
        consumer->all_next->all_previous = consumer->all_previous;
    if (consumer->all_previous)
        consumer->all_previous->all_next = consumer->all_next;
    else
        queue->consumers = consumer->all_next;
    queue->consumer_count--;
    queue->has_exclusive &= !consumer->exclusive;
    if (UNLIKELY(queue->ruled)) {
        struct consumer *next = single_active_gone(queue, consumer);
        if (next)
            reconsider(shard, next);
        expiry_used(shard, queue);
        filters_leave(queue, consumer);
    }
    shard->consumers[consumer->handle & HANDLE_INDEX_MASK] = NULL;
    shard->consumer_count--;
    if (consumer->cursor)
        stream_left(consumer);
    free(consumer);
    if (queue->stream && !queue->consumers)
        stream_forget_extents(queue->stream);
    if (queue->auto_delete && !queue->consumer_count && !queue->unused_told) {
        queue->unused_told = true;
        struct command_client *command = worker_command(shard->worker, 0, COMMAND_QUEUE_UNUSED, sizeof(*command), NULL);
        command->id = queue->id;
    }
}

static void purge_lane(struct shard *shard, struct queue *queue, struct lane *lane)
{
    for (uint64_t number = lane->first_block; number < lane->end_block; number++) {
        struct block_slot *slot = lane_slot(lane, number);
        if (!slot)
            continue;   /* emptied blocks at the front went with the last message before them */
        struct block *block = slot->block;
        if (!block && !slot->live)
            continue;
        if (!block || !block->entries) {
            shard_drop_paged(shard, queue, lane, number);
            continue;
        }
        unsigned i = bits_next(block->ready, 0);
        while (i < BLOCK_SIZE) {
            shard_take_away(shard, queue, lane, number * BLOCK_SIZE + i, slot, &block->entries[i], false);
            if (slot->block != block)
                break;   /* the last message took the block with it */
            i = i + 1 < BLOCK_SIZE ? bits_next(block->ready, i + 1) : BLOCK_SIZE;
        }
    }
}

static void request_purge(struct shard *shard, struct queue *queue, const struct command_request *request)
{
    retry_release_all(shard, queue);   /* what waits goes too */
    uint64_t before = queue_totals(queue).ready;
    unsigned at = 0;
    for (struct lane *lane; (lane = queue_next_lane(queue, &at));)
        purge_lane(shard, queue, lane);
    queue->lost += before - queue_totals(queue).ready;
    if (UNLIKELY(queue->ruled))
        rules_purged(shard, queue);
    answer_client(shard, request->client, request->serial, REQUEST_QUEUE_PURGE, request->channel, request->tag)->messages =
        (uint32_t)(before - queue_totals(queue).ready) + bug_enabled(BUG_PURGE_COUNT_WRONG);
}

/* The shard's part of a deletion: its conditions. */
static void request_delete(struct shard *shard, struct queue *queue, const struct command_request *request)
{
    if (UNLIKELY((request->flags & (REQUEST_IF_UNUSED | REQUEST_IF_EMPTY)) && settings_type(queue->settings) == QUEUE_QUORUM)) {
        request_refuse(shard->worker, request, 540, "NOT_IMPLEMENTED - cannot delete queue '%.*s' in vhost '%.*s'. queue.delete operations with %s flag set are not "
                       "supported by quorum queues", NAME(request), VHOST(shard, request), request->flags & REQUEST_IF_UNUSED ? "if-unused" : "if-empty");
        return;
    }
    unsigned conditions = queue->stream ? 0 : request->flags;   /* RabbitMQ looks at none for a stream */
    if ((conditions & REQUEST_IF_UNUSED) && queue->consumer_count) {
        request_refuse(shard->worker, request, 406, "PRECONDITION_FAILED - queue '%.*s' in vhost '%.*s' in use", NAME(request), VHOST(shard, request));
        return;
    }
    const struct queue_totals totals = queue_totals(queue);
    if ((conditions & REQUEST_IF_EMPTY) && totals.ready + retry_held(queue)) {   /* what is held unacknowledged does not count, as in RabbitMQ */
        request_refuse(shard->worker, request, 406, "PRECONDITION_FAILED - queue '%.*s' in vhost '%.*s' not empty", NAME(request), VHOST(shard, request));
        return;
    }
    struct command_answer *answer = answer_client(shard, request->client, request->serial, REQUEST_QUEUE_DELETE, request->channel, request->tag);
    answer->messages = queue->stream ? 0 : (uint32_t)totals.ready;
    answer->step = DELETE_ALLOWED;
    answer->queue = queue->id;
}

void shard_request(struct shard *shard, const struct command_request *request)
{
    struct queue *queue = shard_queue(shard, request->queue);
    if (request->kind == REQUEST_CANCEL) {
        struct consumer *consumer = shard_consumer(shard, request->handle);
        if (consumer && consumer->client == request->client)
            shard_cancel_consumer(shard, consumer);
        if (!request->serial)
            return;   /* nobody waits for it */
        struct command_answer *answer = answer_client(shard, request->client, request->serial, REQUEST_CANCEL, request->channel, request->tag);
        answer->queue = request->queue;
        answer->handle = request->handle;
        return;
    }
    if (!queue) {
        if (request->kind == REQUEST_QUEUE_DELETE)
            answer_client(shard, request->client, request->serial, REQUEST_QUEUE_DELETE, request->channel, request->tag);
        else
            request_refuse(shard->worker, request, 404, "NOT_FOUND - no queue '%.*s' in vhost '%.*s'", NAME(request), VHOST(shard, request));
        return;
    }
    if (queue->stream && (request->kind == REQUEST_GET || request->kind == REQUEST_QUEUE_PURGE)) {
        request_refuse(shard->worker, request, 540, "NOT_IMPLEMENTED - %s not supported by stream queues queue '%.*s' in vhost '%.*s'",
                       request->kind == REQUEST_GET ? "basic.get" : "queue.purge", NAME(request), VHOST(shard, request));
        return;
    }
    if (UNLIKELY(queue->ruled) && request->kind != REQUEST_CONSUME) {
        if (request->kind == REQUEST_GET || request->kind == REQUEST_QUEUE_DECLARE)
            expiry_used(shard, queue);
        rules_serve(shard, queue);
        if (request->kind == REQUEST_GET)
            shard_mark_dirty(shard, queue);   /* it may take the head, and the next one has a time of its own */
    }
    switch ((enum request_kind)request->kind) {
    case REQUEST_CONSUME: request_consume(shard, queue, request); break;
    case REQUEST_GET: request_get(shard, queue, request); break;
    case REQUEST_QUEUE_PURGE: request_purge(shard, queue, request); break;
    case REQUEST_QUEUE_DELETE: request_delete(shard, queue, request); break;
    case REQUEST_INSPECT: inspect_request(shard, queue, request); break;
    case REQUEST_QUEUE_DECLARE: {
        struct command_answer *answer = answer_client(shard, request->client, request->serial, REQUEST_QUEUE_DECLARE, request->channel, request->tag);
        answer->messages = (uint32_t)queue_totals(queue).ready;
        answer->consumers = queue->stream ? 0 : queue->consumer_count;   /* as RabbitMQ counts them */
        break;
    }
    default: CHECK(!"a request for a shard");
    }
}
