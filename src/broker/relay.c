#include "broker/relay.h"
#include "base/bugs.h"

#include "broker/death.h"
#include "broker/delay.h"
#include "broker/filters.h"
#include "broker/inspect.h"
#include "broker/letter.h"
#include "broker/retry.h"
#include "broker/worker_internal.h"
#include "protocol/amqp/copies.h"
#include "protocol/amqp/properties.h"

#include <stdlib.h>

#define WINDOW 1024u                  /* messages under way from a shard, … */
#define WINDOW_BYTES (8u << 20)       /* … bytes of them … */
#define QUEUE_WINDOW 1024u            /* … and messages of one queue, those that cannot go anywhere too */
#define TURN_MAX 256u                 /* messages sent on in one turn */
#define BEHIND 4096u                  /* so many wait, and publishers are slowed down */
#define READS_MAX 8u                  /* before what cannot be read is given up */
#define READ_US 10000u                /* a read that could not even be asked for is tried again */
#define RETRY_US 1000000u             /* after a refusal, or with nowhere to go; … */
#define RETRY_SOON_US 100000u         /* … sooner when exchanges, queues or bindings have changed */

/* One of the queues that a message goes to. */
struct step {
    struct relay_target target;
    bool done;
};

struct relayed {
    struct relayed *next;             /* in its list */
    uint64_t serial, queue, seq;
    uint32_t size;                    /* of its content, bytes */
    uint32_t awaited;                 /* shards that have not answered */
    uint8_t reason;
    uint8_t reads;                    /* how often its content was asked of the disk without its coming */
    bool parked;                      /* not counted as under way */
    bool arrived;                     /* where it was sent to, for good */
    uint64_t inspection;              /* who sends it, and is to be told; 0: nobody */
    uint32_t count;
    struct step *steps;               /* by shard; NULL: not decided yet */
};

struct list {
    struct relayed *first, *last;
};

struct relay {
    struct map messages;              /* serial → struct relayed */
    uint64_t next_serial;
    struct list waiting, parked, settling;   /* to be sent; tried again later; the log is to say that they are gone */
    bool is_loading;                  /* the content of the first that waits is being read; those behind it keep their place */
    uint32_t active;                  /* under way */
    uint64_t active_bytes;
    uint64_t parked_us, retry_us, version;   /* of parked ones: since when, until when, and the topology's version then */
    uint64_t *starved;                /* ids of queues that wait for room */
    uint32_t starved_count, starved_room;
    struct route route;
};

static void append(struct list *list, struct relayed *message)
{
    message->next = NULL;
    if (list->last)
        list->last->next = message;
    else
        list->first = message;
    list->last = message;
}

static struct relayed *take_first(struct list *list)
{
    struct relayed *message = list->first;
    if (message && !(list->first = message->next))
        list->last = NULL;
    return message;
}

static void put_first(struct list *list, struct relayed *message)
{
    message->next = list->first;
    list->first = message;
    if (!list->last)
        list->last = message;
}

static struct relay *relay_of(struct shard *shard)
{
    if (shard->relay)
        return shard->relay;
    struct relay *relay = calloc(1, sizeof(*relay));
    if (!relay)
        return NULL;
    relay->next_serial = 1;
    return shard->relay = relay;
}

void relay_free(struct relay *relay)
{
    if (!relay)
        return;
    uint32_t cursor = 0;
    for (struct relayed *message; (message = map_next(&relay->messages, &cursor));) {
        free(message->steps);
        free(message);
    }
    map_deinit(&relay->messages);
    route_deinit(&relay->route);
    free(relay->starved);
    free(relay);
}

/* ---- room ---------------------------------------------------------------------------------------------------------- */

static bool has_room(const struct relay *relay)
{
    return relay->active < WINDOW && relay->active_bytes < WINDOW_BYTES;
}

bool relay_has_room(struct shard *shard, struct queue *queue)
{
    struct relay *relay = shard->relay;
    if (!relay || (has_room(relay) && queue->relayed < QUEUE_WINDOW))
        return true;
    if (queue->starved)
        return false;
    if (relay->starved_count == relay->starved_room) {
        uint32_t room = relay->starved_room ? relay->starved_room * 2 : 16;
        uint64_t *grown = realloc(relay->starved, room * sizeof(*grown));
        if (!grown) {
            shard_timer(shard, queue, shard->worker->now_us + RETRY_US);
            return false;
        }
        relay->starved = grown;
        relay->starved_room = room;
    }
    relay->starved[relay->starved_count++] = queue->id;
    queue->starved = true;
    return false;
}

static void feed_starved(struct shard *shard)
{
    struct relay *relay = shard->relay;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < relay->starved_count; i++) {
        struct queue *queue = shard_queue(shard, relay->starved[i]);
        if (queue && queue->relayed >= QUEUE_WINDOW) {
            relay->starved[kept++] = queue->id;
        } else if (queue) {
            queue->starved = false;
            shard_mark_dirty(shard, queue);
        }
    }
    relay->starved_count = kept;
}

bool relay_is_due(const struct shard *shard)
{
    return shard->relay->waiting.first && !shard->relay->is_loading;
}

bool relay_is_behind(const struct shard *shard)
{
    return shard->relay->active > BEHIND;
}

uint64_t relay_deadline(const struct shard *shard)
{
    const struct relay *relay = shard->relay;
    uint64_t read_us = relay->is_loading ? shard->worker->now_us + READ_US : UINT64_MAX, retry_us = relay->parked.first ? relay->retry_us : UINT64_MAX;
    return read_us < retry_us ? read_us : retry_us;
}

/* ---- coming and going ---------------------------------------------------------------------------------------------- */

static void count_active(struct relay *relay, struct relayed *message, bool parked)
{
    if (message->parked == parked)
        return;
    message->parked = parked;
    relay->active += parked ? -1u : 1u;
    relay->active_bytes += parked ? -(uint64_t)message->size : message->size;
}

static struct relayed *message_new(struct shard *shard, struct queue *queue, uint64_t seq, uint32_t size, unsigned reason)
{
    struct relay *relay = relay_of(shard);
    struct relayed *message = relay ? calloc(1, sizeof(*message)) : NULL;
    if (!message)
        return NULL;
    *message = (struct relayed){.serial = relay->next_serial, .queue = queue->id, .seq = seq, .size = size, .reason = (uint8_t)reason, .parked = true};
    if (map_put(&relay->messages, message->serial, message)) {
        free(message);
        return NULL;
    }
    relay->next_serial++;
    queue->relayed++;
    count_active(relay, message, false);
    return message;
}

/* Nothing is left to do for it. */
static void finish(struct shard *shard, struct relayed *message)
{
    struct relay *relay = shard->relay;
    struct queue *queue = shard_queue(shard, message->queue);
    if (queue)
        queue->relayed--;
    count_active(relay, message, true);
    map_remove(&relay->messages, message->serial);
    if (message->inspection)
        inspect_sent(shard, message->inspection, message->arrived);
    free(message->steps);
    free(message);
}

static void show_again(struct shard *shard, const struct relayed *message);

static void park(struct shard *shard, struct relayed *message)
{
    struct relay *relay = shard->relay;
    bool begun = false;
    for (uint32_t i = 0; i < message->count; i++)
        begun |= message->steps[i].done;
    if (!begun && message->reason >= DISCARD_MOVED) {   /* who sends it may try again */
        show_again(shard, message);
        finish(shard, message);
        return;
    }
    if (!begun) {   /* nobody has it: it may go another way next time */
        free(message->steps);
        message->steps = NULL;
        message->count = 0;
    }
    if (!relay->parked.first) {
        relay->parked_us = shard->worker->now_us;
        relay->retry_us = relay->parked_us + RETRY_US;
        relay->version = shard->worker->topology.version;
    }
    count_active(relay, message, true);
    append(&relay->parked, message);
}

void relay_take(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked,
                enum discard_reason reason)
{
    struct relayed *message = message_new(shard, queue, seq, entry->size, reason);
    CHECK(message);   /* no memory for 100 bytes: ending here loses nothing confirmed */
    if (unacked)
        entry->holder = RELAY_HOLDER;
    else
        lane_hold(lane, seq, slot, entry, RELAY_HOLDER);
    append(&shard->relay->waiting, message);
}

void relay_send_to(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, enum discard_reason reason, uint64_t target,
                   uint64_t inspection)
{
    struct relayed *message = message_new(shard, queue, seq, entry->size, reason);
    struct step *step = calloc(1, sizeof(*step));
    CHECK(message && step);
    step->target.queue = target;
    message->steps = step;
    message->count = 1;
    message->inspection = inspection;
    lane_hold(lane, seq, slot, entry, RELAY_HOLDER);
    append(&shard->relay->waiting, message);
}

/* ---- where to ------------------------------------------------------------------------------------------------------- */

/* A place in a queue, with what lies there. */
struct place {
    struct queue *queue;
    struct lane *lane;
    struct block_slot *slot;
    struct entry *entry;
};

/* False: it is not there any more, or not the relay's. */
static bool find_place(struct shard *shard, uint64_t queue, uint64_t seq, struct place *place)
{
    bool unacked = false;
    place->queue = shard_queue(shard, queue);
    place->lane = place->queue ? queue_lane(place->queue, seq) : NULL;
    place->entry = place->lane ? lane_entry_at(place->lane, seq, &place->slot, &unacked) : NULL;
    return place->entry && unacked && place->entry->holder == RELAY_HOLDER;
}

/* It is ready again where it was. */
static void show_again(struct shard *shard, const struct relayed *message)
{
    struct place place;
    if (!find_place(shard, message->queue, message->seq, &place))
        return;
    rules_returned(place.queue, place.lane, message->seq, place.entry);
    lane_requeue(place.lane, message->seq, place.slot, place.entry, false);
    queue_occupied(place.queue, seq_level(message->seq));
    if (filters_apply(place.queue))
        filters_returned(place.queue, message->seq, place.entry);
    shard_mark_dirty(shard, place.queue);
}

/* The steps from `first` on that lie in one shard end here. */
static uint32_t group_end(const struct relayed *message, uint32_t first)
{
    uint32_t end = first + 1;
    while (end < message->count && queue_id_shard(message->steps[end].target.queue) == queue_id_shard(message->steps[first].target.queue))
        end++;
    return end;
}

static void forget_elsewhere(struct shard *shard, const struct relayed *message)
{
    for (uint32_t first = 0; first < message->count; first = group_end(message, first)) {
        unsigned to = queue_id_shard(message->steps[first].target.queue);
        if (to == shard->index)
            continue;
        struct command_forget *command = worker_command(shard->worker, worker_of_shard(shard->worker, to), COMMAND_FORGET, sizeof(*command), NULL);
        command->queue = message->queue;
        command->seq = message->seq;
        command->shard = (uint16_t)to;
    }
}

/* What was copied stays. */
static void end_copy(struct shard *shard, struct relayed *message)
{
    show_again(shard, message);
    forget_elsewhere(shard, message);
    message->arrived = true;
    finish(shard, message);
}

static bool is_done_with(const struct relayed *message, unsigned shard)
{
    for (uint32_t i = 0; i < message->count; i++)
        if (queue_id_shard(message->steps[i].target.queue) == shard && !message->steps[i].done)
            return false;
    return true;
}

static void done_with(struct relayed *message, unsigned shard)
{
    for (uint32_t i = 0; i < message->count; i++)
        if (queue_id_shard(message->steps[i].target.queue) == shard)
            message->steps[i].done = true;
}

/* The queues that the letter goes to, without those in which it would run in a circle that nobody had a hand in. */
static enum gw_err decide(struct shard *shard, struct relayed *message, const struct letter *letter)
{
    struct topology *topology = &shard->worker->topology;
    struct route *route = &shard->relay->route;
    struct routed_message routed = {.routing_key = letter->routing_key, .properties = letter->properties, .random = worker_random(shard->worker)};
    struct amqp_properties properties;
    char text[128];
    if (amqp_properties_decode(letter->properties, &properties) && (properties.flags & AMQP_HEADERS) &&
        copies_find(properties.headers, routed.copies, text, sizeof(text)) != COPIES_FOUND)
        memset(routed.copies, 0, sizeof(routed.copies));
    enum gw_err err = topology_route(topology, letter->exchange, &routed, route);
    if (err)
        return err;
    uint32_t room = route->count < UINT16_MAX ? route->count : UINT16_MAX;
    message->steps = calloc(room + 1u, sizeof(*message->steps));
    if (!message->steps)
        return GW_ERR_NOMEM;
    for (uint32_t i = 0; i < room; i++) {
        const struct queue_entry *queue = topology_queue_by_id(topology, route->queues[i]);
        if (message->reason != DISCARD_REJECTED && message->reason < DISCARD_DUE && queue && death_is_cycle(letter->properties, queue->name))
            continue;
        message->steps[message->count++].target.queue = route->queues[i];
    }
    return GW_OK;
}

/* What was only waiting for its time stays in its queue. */
static enum gw_err stays(struct relayed *message)
{
    message->steps = calloc(1, sizeof(*message->steps));
    if (!message->steps)
        return GW_ERR_NOMEM;
    message->steps[message->count++].target.queue = message->queue;
    return GW_OK;
}

/* Will it be there after a restart, where it was and in one of its queues? A stream keeps whatever it gets, and has no gaps; so does one that deduplicates. */
static bool outlives(struct shard *shard, const struct relayed *message, bool persistent)
{
    for (uint32_t i = 0; i < message->count; i++) {
        uint64_t id = message->steps[i].target.queue;
        const struct queue_entry *queue = id & QUEUE_ID_TRANSIENT ? NULL : topology_queue_by_id(&shard->worker->topology, id);
        bool keeps = queue && queue->settings && (queue->settings->type == QUEUE_STREAM || (queue->settings->flags & SETTINGS_DEDUP));
        if (queue && (persistent || keeps))
            return true;
    }
    return false;
}

/* Does one of the queues want to know when messages arrive? One of a delayed exchange, when they are due. */
static uint64_t stamp_for(struct shard *shard, const struct relayed *message, const struct letter *letter)
{
    uint64_t now_ms = shard->worker->wall_us / 1000, stamp_ms = letter->expires ? now_ms : 0, due_ms;
    for (uint32_t i = 0; i < message->count; i++) {
        const struct queue_entry *queue = topology_queue_by_id(&shard->worker->topology, message->steps[i].target.queue);
        if (!queue || !queue->settings || !(queue->settings->flags & SETTINGS_STAMPED))
            continue;
        stamp_ms = stamp_ms ? stamp_ms : now_ms;
        if ((queue->settings->flags & SETTINGS_DELAYED) && !delay_due(letter->properties, shard->worker->wall_us, &due_ms) && due_ms > stamp_ms)
            stamp_ms = due_ms;
    }
    return stamp_ms;
}

/* ---- settling ------------------------------------------------------------------------------------------------------ */

/* It is safe wherever it went: it leaves its old place, and once that is on disk the others may forget where it came from. */
static void settle(struct shard *shard, struct relayed *message)
{
    struct place place;
    if (!find_place(shard, message->queue, message->seq, &place)) {   /* its queue was deleted */
        forget_elsewhere(shard, message);
        finish(shard, message);
        return;
    }
    if (message->reason == DISCARD_COPIED) {
        end_copy(shard, message);
        return;
    }
    if (!shard_log_settle(shard, message->queue, message->seq, 1)) {
        park(shard, message);
        return;
    }
    rules_ended(place.queue, message->seq);
    shard_remove(shard, place.lane, message->seq, place.slot, place.entry, true);
    append(&shard->relay->settling, message);
    shard_own_pending(shard, PENDING_SETTLED, 0, 1);
}

void relay_settled(struct shard *shard, uint64_t count, bool ok)
{
    /* Not on disk: after a restart the message is here again, and the others must still know that they have it. */
    while (count--) {
        struct relayed *message = take_first(&shard->relay->settling);
        if (ok)
            forget_elsewhere(shard, message);
        message->arrived = ok;
        finish(shard, message);
    }
}

/* Nobody wants it. */
static void drop(struct shard *shard, struct relayed *message, const struct place *place)
{
    if (place->entry)
        rules_ended(place->queue, message->seq);
    if (place->entry)
        shard_take_away(shard, place->queue, place->lane, message->seq, place->slot, place->entry, true);
    finish(shard, message);
}

/* ---- sending ------------------------------------------------------------------------------------------------------- */

/* What its record says for queues that let in the same message once, see dedup.h. */
static uint8_t flags_of(const struct relayed *message, const struct letter *letter)
{
    if (letter->stays || letter->sent)
        return RECORD_FLAG_MOVED;
    return message->reason <= DISCARD_DUE ? RECORD_FLAG_LETTER : 0;   /* what is due may have died before */
}

/* Lays out and sends one record for the steps [first, end), which lie in one shard. False: out of memory. */
static bool send(struct shard *shard, const struct relayed *message, const struct letter *letter, uint32_t first, uint32_t end, bool durable, bool insists,
                 uint64_t arrived_ms)
{
    struct worker *worker = shard->worker;
    unsigned to = queue_id_shard(message->steps[first].target.queue);
    struct stage *stage = publishing_stage(worker, to);
    const struct step *steps = durable ? message->steps : message->steps + first;
    uint32_t count = durable ? message->count : end - first;
    uint8_t type = durable ? RECORD_RELAYED : RECORD_PUBLISH;
    uint64_t content = letter_size(letter, arrived_ms), size = RECORD_HEADER_SIZE + record_head_size(type, (uint16_t)count) + content;
    if (size > UINT32_MAX - LOG_ALIGN)
        return false;
    if (!stage_room(stage, size) && !stage_renew(stage, worker->chunks, size))
        return false;
    uint8_t *record = stage_room(stage, size), *at = record + RECORD_HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++, at += PUBLISH_TARGET_SIZE) {
        store_le64(at, steps[i].target.queue);
        store_le64(at + 8, 0);
    }
    if (durable) {
        memset(at, 0, ORIGIN_SIZE);
        store_le64(at, message->queue);
        store_le64(at + 8, message->seq);
        at[16] = message->reason;
        at += ORIGIN_SIZE;
    }
    letter_write(letter, at, arrived_ms);
    record_begin(record, (uint32_t)size, type, (uint16_t)count, durable ? crc32c(0, at, content) : 0);
    record[9] = flags_of(message, letter);
    struct command_relay *command = worker_command(worker, worker_of_shard(worker, to), COMMAND_RELAY, sizeof(*command), stage->chunk);
    command->serial = message->serial;
    command->chunk = stage->chunk;
    command->begin = (uint64_t)(record - stage->chunk->data);
    command->shard = (uint16_t)to;
    command->keep = insists;
    stage_advance(stage, size);
    return true;
}

/* Nothing of it is there after a restart, here or there: it goes at once. */
static void hand_over(struct shard *shard, struct relayed *message, const struct letter *letter, const struct place *place)
{
    uint64_t arrived_ms = stamp_for(shard, message, letter);
    for (uint32_t first = 0, end; first < message->count; first = end) {
        end = group_end(message, first);
        if (message->steps[first].done)
            continue;
        if (!send(shard, message, letter, first, end, false, false, arrived_ms)) {
            park(shard, message);
            return;
        }
        done_with(message, queue_id_shard(message->steps[first].target.queue));
    }
    drop(shard, message, place);
}

/* Sends it to the other shards that do not have it yet. False: all have. */
static bool send_elsewhere(struct shard *shard, struct relayed *message, const struct letter *letter, bool insists)
{
    bool missing = false;
    uint64_t arrived_ms = stamp_for(shard, message, letter);
    for (uint32_t first = 0, end; first < message->count; first = end) {
        end = group_end(message, first);
        if (message->steps[first].done || queue_id_shard(message->steps[first].target.queue) == shard->index)
            continue;
        missing = true;
        message->awaited += send(shard, message, letter, first, end, true, insists, arrived_ms);
    }
    if (missing && !message->awaited)
        park(shard, message);
    return missing;
}

/* The message as a publish to the queues in this shard, laid out and enqueued, but for consumers to see. NULL: out of memory. */
static uint8_t *enqueue_here(struct shard *shard, struct relayed *message, const struct letter *letter)
{
    struct stage *stage = publishing_stage(shard->worker, shard->index);
    uint32_t first = 0, end;
    while (queue_id_shard(message->steps[first].target.queue) != shard->index)
        first++;
    end = group_end(message, first);
    uint64_t arrived_ms = stamp_for(shard, message, letter), content = letter_size(letter, arrived_ms);
    uint64_t size = RECORD_HEADER_SIZE + (end - first) * PUBLISH_TARGET_SIZE + content;
    if (size > UINT32_MAX - 2 * LOG_ALIGN || (!stage_room(stage, size) && !stage_renew(stage, shard->worker->chunks, size)))
        return NULL;
    uint8_t *record = stage_room(stage, size), *at = record + RECORD_HEADER_SIZE;
    for (uint32_t i = first; i < end; i++, at += PUBLISH_TARGET_SIZE)
        store_le64(at, message->steps[i].target.queue);
    letter_write(letter, at, arrived_ms);
    record_begin(record, (uint32_t)size, RECORD_PUBLISH, (uint16_t)(end - first), crc32c(0, at, content));
    record[9] = flags_of(message, letter);
    relay_enqueue(shard, record, stage->chunk, true);
    stage_advance(stage, size);
    for (uint32_t i = first; i < end; i++) {
        message->steps[i].target.seq = load_le64(record + RECORD_HEADER_SIZE + (i - first) * PUBLISH_TARGET_SIZE + 8);
        relay_hide(shard, &message->steps[i].target, 1);
    }
    record_seal(record);
    return record;
}

static void show_here(struct shard *shard, const struct relayed *message, bool ok)
{
    for (uint32_t i = 0; i < message->count; i++)
        if (queue_id_shard(message->steps[i].target.queue) == shard->index)
            relay_show(shard, &message->steps[i].target, 1, ok);
}

static bool is_placed_here(struct shard *shard, const struct relayed *message)
{
    bool placed = false;
    for (uint32_t i = 0; i < message->count; i++)
        if (queue_id_shard(message->steps[i].target.queue) == shard->index)
            placed |= relay_is_placed(shard, &message->steps[i].target, 1);
    return placed;
}

static void write_settle(uint8_t *settle, const struct relayed *message)
{
    store_le64(settle + RECORD_HEADER_SIZE, message->queue);
    store_le64(settle + RECORD_HEADER_SIZE + 8, message->seq);
    store_le64(settle + RECORD_HEADER_SIZE + 16, 1);
    record_begin(settle, RECORD_HEADER_SIZE + SETTLE_TARGET_SIZE, RECORD_SETTLE, 1, 0);
    record_seal(settle);
}

/* The queues in this shard get it in the same record that settles it, unless it is copied. False: the log takes nothing now. */
static bool move(struct shard *shard, struct relayed *message, const struct letter *letter, bool insists)
{
    uint64_t dropped = shard->dedup.dropped;
    uint8_t *publish = log_state(shard->log) ? NULL : enqueue_here(shard, message, letter);
    if (!publish || (insists && !is_placed_here(shard, message) && shard->dedup.dropped == dropped))
        return false;   /* or they are full */
    bool stays = message->reason == DISCARD_COPIED || (letter->sent && bug_enabled(BUG_SENT_UNSETTLED));
    uint32_t publish_size = load_le32(publish), settle_size = stays ? 0 : RECORD_HEADER_SIZE + SETTLE_TARGET_SIZE;
    uint32_t size = RECORD_HEADER_SIZE + publish_size + settle_size;
    uint8_t *record = shard_own_room(shard, size);
    if (!record) {
        show_here(shard, message, false);
        return false;
    }
    memcpy(record + RECORD_HEADER_SIZE, publish, publish_size);
    if (!stays)
        write_settle(record + RECORD_HEADER_SIZE + publish_size, message);
    record_begin(record, size, RECORD_TRANSACTION, 0, crc32c(0, record + RECORD_HEADER_SIZE, publish_size + settle_size));
    record_seal(record);
    shard_own_made(shard, size);
    shard_own_pending(shard, PENDING_MOVED, message->serial, 0);
    return true;
}

void relay_moved(struct shard *shard, uint64_t serial, bool ok)
{
    struct relayed *message = map_get(&shard->relay->messages, serial);
    struct place place;
    CHECK(message);
    show_here(shard, message, ok);
    if (!ok) {
        park(shard, message);
        return;
    }
    if (message->reason == DISCARD_COPIED) {
        end_copy(shard, message);
        return;
    }
    message->arrived = true;
    if (find_place(shard, message->queue, message->seq, &place)) {
        rules_ended(place.queue, message->seq);
        shard_remove(shard, place.lane, message->seq, place.slot, place.entry, true);
    }
    forget_elsewhere(shard, message);
    finish(shard, message);
}

/* ---- going on ------------------------------------------------------------------------------------------------------ */

/* The content is on disk alone: it is read, and the message waits. False: nothing of it can be read any more. */
static bool fetch(struct shard *shard, struct relayed *message, const struct place *place)
{
    if (place->slot->loading)
        return true;
    if (place->slot->block->bodies || message->reads++ == READS_MAX)
        return false;
    shard_load_block(shard, place->queue, place->slot, message->seq / BLOCK_SIZE);
    return true;
}

static void go_on_with_letter(struct shard *shard, struct relayed *message, const struct letter *letter, const struct place *place)
{
    bool insists = letter->stays || letter->sent || (place->queue->settings && (place->queue->settings->flags & SETTINGS_AT_LEAST_ONCE));
    if (!message->steps && (letter->stays ? stays(message) : letter->exchange ? decide(shard, message, letter) : GW_OK)) {
        free(message->steps);
        message->steps = NULL;
        park(shard, message);
    } else if (!message->count) {
        free(message->steps);   /* decided anew, should it stay */
        message->steps = NULL;
        if (insists)
            park(shard, message);
        else
            drop(shard, message, place);
    } else if (!letter->sent && !outlives(shard, message, place->queue->durable && (place->entry->flags & ENTRY_PERSISTENT) && letter->persistent)) {
        hand_over(shard, message, letter, place);
    } else if (!send_elsewhere(shard, message, letter, insists || letter->waits) || bug_enabled(BUG_DEATH_UNCONFIRMED) ||
               (letter->sent && bug_enabled(BUG_SENT_UNCONFIRMED))) {
        if (is_done_with(message, shard->index))
            settle(shard, message);
        else if (!move(shard, message, letter, insists || letter->waits))
            park(shard, message);
    }
}

/* False: its content is being read. */
static bool go_on(struct shard *shard, struct relayed *message)
{
    struct place place;
    struct message content;
    if (!find_place(shard, message->queue, message->seq, &place)) {
        forget_elsewhere(shard, message);
        finish(shard, message);
        return true;
    }
    if (!place.entry->chunk) {
        if (fetch(shard, message, &place))
            return false;
        alarm_raise(shard->alarms, ALARM_ERROR, "shard %u: a message that was to be routed on is unreadable on disk", shard->index);
        drop(shard, message, &place);
        return true;
    }
    message->reads = 0;   /* it was read: while it waits for room in the log it may leave the memory again, as often as it likes */
    const struct queue_entry *queue = topology_queue_by_id(&shard->worker->topology, message->queue);
    const struct returned *returned = queue_retries(place.queue) ? returns_find(place.queue, message->seq) : NULL;
    struct letter letter;
    if (!queue || !message_read(bytes_of(place.entry->chunk->data + place.entry->offset, place.entry->size), &content)) {
        drop(shard, message, &place);
        return true;
    }
    if (letter_make(&letter, &content, queue, (enum discard_reason)message->reason, returned, shard->worker->wall_us))
        park(shard, message);
    else
        go_on_with_letter(shard, message, &letter, &place);
    letter_end(&letter);
    return true;
}

void relay_answered(struct shard *shard, const struct command_relayed *command)
{
    struct relayed *message = shard->relay ? map_get(&shard->relay->messages, command->serial) : NULL;
    if (!message)
        return;
    CHECK(message->awaited);
    message->awaited--;
    if (command->ok)
        done_with(message, command->from);
    if (message->awaited)
        return;
    for (uint32_t i = 0; i < message->count; i++)
        if (!message->steps[i].done && queue_id_shard(message->steps[i].target.queue) != shard->index) {
            park(shard, message);
            return;
        }
    append(&shard->relay->waiting, message);
}

void relay_turn(struct shard *shard)
{
    struct relay *relay = shard->relay;
    if (relay->parked.first && relay->version != shard->worker->topology.version && relay->retry_us > relay->parked_us + RETRY_SOON_US)
        relay->retry_us = relay->parked_us + RETRY_SOON_US;
    if (relay->parked.first && shard->worker->now_us >= relay->retry_us) {
        struct list parked = relay->parked;
        relay->parked = (struct list){0};
        for (struct relayed *message; (message = take_first(&parked));) {
            count_active(relay, message, false);
            append(&relay->waiting, message);
        }
    }
    relay->is_loading = false;
    for (unsigned i = 0; i < TURN_MAX && relay->waiting.first && !relay->is_loading; i++) {
        struct relayed *message = take_first(&relay->waiting);
        if (go_on(shard, message))
            continue;
        put_first(&relay->waiting, message);   /* a queue's messages go on in their order */
        relay->is_loading = true;
    }
    if (relay->starved_count && has_room(relay))
        feed_starved(shard);
}

/* ---- after a restart ----------------------------------------------------------------------------------------------- */

static struct relayed *resumed(struct shard *shard, uint64_t queue, uint64_t seq)
{
    uint32_t cursor = 0;
    for (struct relayed *message; shard->relay && (message = map_next(&shard->relay->messages, &cursor));)
        if (message->queue == queue && message->seq == seq)
            return message;
    return NULL;
}

enum gw_err relay_resume(struct shard *shard, const struct origin *origin, unsigned known_by)
{
    struct relayed *message = resumed(shard, origin->queue, origin->seq);
    struct queue *queue = shard_queue(shard, origin->queue);
    struct lane *lane = queue ? queue_lane(queue, origin->seq) : NULL;
    struct block_slot *slot;
    bool unacked;
    struct entry *entry = lane ? lane_entry_at(lane, origin->seq, &slot, &unacked) : NULL;
    if (!message) {
        CHECK(entry && !unacked);
        message = message_new(shard, queue, origin->seq, entry->size, origin->reason);
        if (!message)
            return GW_ERR_NOMEM;
        lane_hold(lane, origin->seq, slot, entry, RELAY_HOLDER);
        message->steps = calloc(origin->count + 1u, sizeof(*message->steps));
        if (!message->steps)
            return GW_ERR_NOMEM;
        for (; message->count < origin->count; message->count++)
            message->steps[message->count].target.queue = origin->targets[message->count].queue;
        append(&shard->relay->waiting, message);
    }
    done_with(message, known_by);
    return GW_OK;
}
