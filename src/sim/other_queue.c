#include "sim/other_queue.h"

#include "base/err.h"
#include "protocol/amqp/properties.h"
#include "sources/source.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void other_queue_init(struct other_queue *queue, uint64_t room)
{
    *queue = (struct other_queue){.room = room, .low = 1, .is_gone = calloc(room + 1, sizeof(bool))};
    CHECK(queue->is_gone);
}

void other_queue_deinit(struct other_queue *queue)
{
    map_deinit(&queue->names);
    free(queue->is_gone);
}

void other_queue_begin(struct other_queue *queue, unsigned prefetch)
{
    CHECK(prefetch > 0 && prefetch <= OTHER_PREFETCH_MAX && !queue->count);
    queue->prefetch = prefetch;
    queue->number = 0;
}

/* It has arrived. */
static void acknowledge(struct other_queue *queue, unsigned which)
{
    queue->is_gone[queue->out[which].message] = true;
    queue->gone++;
    memmove(&queue->out[which], &queue->out[which + 1], (--queue->count - which) * sizeof(queue->out[0]));
    while (queue->low <= queue->room && queue->is_gone[queue->low])
        queue->low++;
}

static bool find_settled(const struct other_queue *queue, unsigned *which)
{
    for (*which = 0; *which < queue->count; ++*which)
        if (queue->out[*which].is_settled)
            return true;
    return false;
}

void other_queue_end(struct other_queue *queue, struct random *random)
{
    for (unsigned which; find_settled(queue, &which) && random_chance(random, 1, 2);)
        acknowledge(queue, which);
    queue->count = 0;
}

void other_queue_settle(struct other_queue *queue, uint64_t number)
{
    for (unsigned i = 0; i < queue->count; i++)
        if (queue->out[i].number == number)
            queue->out[i].is_settled = true;
}

static bool is_out(const struct other_queue *queue, uint64_t message)
{
    for (unsigned i = 0; i < queue->count; i++)
        if (queue->out[i].message == message)
            return true;
    return false;
}

/* The next one to be delivered; 0: none can be. */
static uint64_t next_message(const struct other_queue *queue, uint64_t made)
{
    for (uint64_t message = queue->low; message <= made && queue->count < queue->prefetch; message++)
        if (!queue->is_gone[message] && !is_out(queue, message))
            return message;
    return 0;
}

static void deliver(struct other_queue *queue, uint64_t message, const char *id, struct feed *feed)
{
    struct amqp_properties properties = {.flags = AMQP_TYPE, .type = bytes_of_text("job.new")};
    char name[48], body[32];
    uint8_t room[128];
    if (message % 3) {
        properties.flags |= AMQP_MESSAGE_ID;
        properties.message_id = bytes_of(name, (size_t)snprintf(name, sizeof(name), "%s/m%" PRIu64, id, message));
    }
    struct bytes encoded = bytes_of(room, amqp_properties_encode(&properties, room, sizeof(room)));
    snprintf(body, sizeof(body), "%" PRIu64, message);
    queue->out[queue->count++] = (struct other_delivery){.number = ++queue->number, .message = message};
    feed->events->delivered(feed, &(struct feed_message){.number = queue->number, .routing_key = bytes_of_text("jobs"), .properties = encoded, .body = bytes_of_text(body)});
}

bool other_queue_step(struct other_queue *queue, uint64_t made, const char *id, struct feed *feed, struct random *random, bool may_lose)
{
    uint64_t message = next_message(queue, made);
    unsigned which;
    bool is_settled = find_settled(queue, &which);
    if (may_lose && queue->count && random_chance(random, 1, 100))
        other_queue_end(queue, random);
    else if (message && (!is_settled || random_chance(random, 1, 2)))
        for (uint64_t burst = random_size(random, queue->prefetch); message; message = burst-- ? next_message(queue, made) : 0)
            deliver(queue, message, id, feed);
    else if (is_settled)
        acknowledge(queue, which);
    else
        return false;
    return true;
}

bool other_queue_is_idle(const struct other_queue *queue, uint64_t made)
{
    unsigned which;
    return !find_settled(queue, &which) && !next_message(queue, made);
}

void other_queue_handled(struct other_queue *queue, const char *source, uint64_t message, struct bytes id, struct trace *trace)
{
    uint64_t hash = source_hash(id);
    char name[48];
    struct bytes own = bytes_of(name, (size_t)snprintf(name, sizeof(name), "%s/m%" PRIu64, source, message));
    uint64_t other = (uint64_t)(uintptr_t)map_get(&queue->names, hash);
    if (message % 3 && !bytes_equal(id, own))
        trace_fail(trace, "ids", "source %s: the message %s has become the event %.*s", source, name, (int)id.size, (const char *)id.data);
    else if (other && other != message)
        trace_fail(trace, "ids", "source %s: the messages %" PRIu64 " and %" PRIu64 " have the same id, %.*s", source, other, message, (int)id.size, (const char *)id.data);
    CHECK(map_put(&queue->names, hash, (void *)(uintptr_t)message) == GW_OK);
}
