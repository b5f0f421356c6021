#include "broker/lives.h"

#include "broker/position.h"
#include "broker/rules.h"
#include "broker/worker_internal.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <stdio.h>
#include <stdlib.h>

#define SAME_ID_MAX 64u          /* messages with one id that are told of */

struct event {
    uint64_t seq, at_ms, client;
    uint64_t id;                 /* hash of the message's id where it was accepted; 0: it has none, or it is another event */
    uint32_t consumer;
    uint16_t channel;
    uint8_t kind;
};

struct lives {
    struct event *events;        /* ring */
    uint64_t count;              /* that there ever were */
    uint64_t seen[QUEUE_LEVELS]; /* by level: what lies below it was noted */
};

static const char *const names[] = {
    [LIFE_ACCEPTED] = "accepted", [LIFE_DELIVERED] = "delivered", [LIFE_ACKED] = "acknowledged", [LIFE_RETURNED] = "returned", [LIFE_REJECTED] = "rejected",
    [LIFE_EXPIRED] = "expired",   [LIFE_DROPPED] = "dropped",     [LIFE_DELIVERY_LIMIT] = "returned too often", [LIFE_SENT] = "sent on",  [LIFE_DELETED] = "deleted"};

bool lives_begin(struct shard *shard, struct queue *queue)
{
    unsigned at = 0;
    if (queue->lives)
        return true;
    struct lives *lives = calloc(1, sizeof(*lives));
    if (!lives || !(lives->events = calloc(LIVES_EVENTS, sizeof(*lives->events)))) {
        free(lives);
        return false;
    }
    for (const struct lane *lane; (lane = queue_next_lane(queue, &at));)
        lives->seen[seq_level(lane->next_seq)] = lane->next_seq;
    queue->lives = lives;
    queue->ruled |= RULED_BY_LIVES;
    shard_mark_dirty(shard, queue);
    return true;
}

void lives_end(struct queue *queue)
{
    if (!queue->lives)
        return;
    free(queue->lives->events);
    free(queue->lives);
    queue->lives = NULL;
    queue->ruled &= (uint8_t)~RULED_BY_LIVES;
}

static struct event *add(struct shard *shard, struct queue *queue, uint64_t seq, enum life_event kind)
{
    struct event *event = &queue->lives->events[queue->lives->count++ % LIVES_EVENTS];
    *event = (struct event){.seq = seq, .at_ms = shard->worker->wall_us / 1000, .kind = (uint8_t)kind};
    return event;
}

static uint64_t id_of(const struct lane *lane, uint64_t seq)
{
    struct block_slot *slot;
    struct message message;
    struct bytes id;
    bool unacked;
    const struct entry *entry = lane_entry_at(lane, seq, &slot, &unacked);
    if (!entry || !entry->chunk || !message_read(bytes_of(entry->chunk->data + entry->offset, entry->size), &message) ||
        !amqp_properties_get(message.properties, AMQP_MESSAGE_ID, &id))
        return 0;
    return bytes_hash(id, 1);
}

void lives_look(struct shard *shard, struct queue *queue)
{
    unsigned at = 0;
    for (const struct lane *lane; (lane = queue_next_lane(queue, &at));) {
        uint64_t *seen = &queue->lives->seen[seq_level(lane->next_seq)], first = seq_base(seq_level(lane->next_seq)) + BLOCK_SIZE;
        if (*seen < first)
            *seen = first;
        if (*seen + LIVES_EVENTS < lane->next_seq)
            *seen = lane->next_seq - LIVES_EVENTS;
        for (; *seen < lane->next_seq; ++*seen)
            add(shard, queue, *seen, LIFE_ACCEPTED)->id = id_of(lane, *seen);
    }
}

void lives_note(struct shard *shard, struct queue *queue, uint64_t seq, enum life_event kind, uint64_t client, uint16_t channel, uint32_t consumer)
{
    struct event *event = add(shard, queue, seq, kind);
    event->client = client;
    event->channel = channel;
    event->consumer = consumer;
}

void lives_discarded(struct shard *shard, struct queue *queue, uint64_t seq, enum discard_reason reason)
{
    static const enum life_event kinds[] = {[DISCARD_REJECTED] = LIFE_REJECTED, [DISCARD_EXPIRED] = LIFE_EXPIRED, [DISCARD_MAXLEN] = LIFE_DROPPED,
                                            [DISCARD_DELIVERY_LIMIT] = LIFE_DELIVERY_LIMIT};
    if (reason < DISCARD_DUE)
        lives_note(shard, queue, seq, kinds[reason], 0, 0, 0);
}

/* ---- telling -------------------------------------------------------------------------------------------------------- */

static void write_event(const struct event *event, struct writer *writer)
{
    char text[POSITION_SIZE], channel[64];
    writer_open(writer, '{');
    writer_put_integer(writer, "time", (int64_t)event->at_ms);
    writer_put_text(writer, "event", names[event->kind]);
    writer_put_string(writer, "position", position_write(event->seq, text));
    if (event->client) {
        int size = snprintf(channel, sizeof(channel), "<godwit.channel.%llx.%u>", (unsigned long long)event->client, event->channel);
        writer_put_string(writer, "channel", bytes_of(channel, (size_t)size));
        writer_put_integer(writer, "consumer", event->consumer);
    }
    writer_close(writer, '}');
}

void lives_write(const struct queue *queue, struct bytes id, uint64_t seq, struct writer *writer)
{
    const struct lives *lives = queue->lives;
    uint64_t hash = bytes_hash(id, 1), seqs[SAME_ID_MAX] = {seq}, first = lives->count > LIVES_EVENTS ? lives->count - LIVES_EVENTS : 0;
    unsigned count = !id.size;
    for (uint64_t i = first; i < lives->count && id.size && count < SAME_ID_MAX; i++)
        if (lives->events[i % LIVES_EVENTS].id == hash)
            seqs[count++] = lives->events[i % LIVES_EVENTS].seq;
    writer_open(writer, '[');
    for (uint64_t i = first; i < lives->count; i++) {
        const struct event *event = &lives->events[i % LIVES_EVENTS];
        bool meant = false;
        for (unsigned k = 0; k < count; k++)
            meant |= seqs[k] == event->seq;
        if (meant)
            write_event(event, writer);
    }
    writer_close(writer, ']');
}
