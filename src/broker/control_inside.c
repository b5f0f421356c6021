/* Commands about single messages of a queue: what its shard does of them is in inspect.c; here is who may, and who holds what. */
#include "broker/control.h"

#include "broker/access.h"
#include "broker/delayed.h"
#include "broker/position.h"
#include "broker/relay.h"
#include "broker/retry.h"

#include <stdio.h>
#include <stdlib.h>

#define ROWS_MAX 10000u          /* that a worker tells of a queue's holders */

/* ---- who may -------------------------------------------------------------------------------------------------------- */

/* The queue that the command names; or the hidden one of the delayed exchange that it names. NULL: the command has failed. */
static const struct queue_entry *queue_of(struct control *control, const struct vhost *vhost)
{
    struct bytes name, exchange = control_optional(control, "exchange");
    if (exchange.size) {
        const struct exchange *delayed = topology_exchange(vhost, exchange);
        const struct queue_entry *queue = delayed ? delayed_queue(delayed) : NULL;
        if (!queue)
            control_fail(control, "not_found", "there is no exchange '%.*s' of type x-delayed-message", (int)exchange.size, (const char *)exchange.data);
        return queue;
    }
    if (!control_text(control, "name", &name))
        return NULL;
    const struct queue_entry *queue = topology_queue(vhost, name);
    if (queue && !(queue->flags & TOPOLOGY_HIDDEN))
        return queue;
    control_fail(control, "not_found", "NOT_FOUND - no queue '%.*s' in vhost '%.*s'", (int)(name.size < 256 ? name.size : 256), (const char *)name.data, (int)vhost->name.size,
                 (const char *)vhost->name.data);
    return NULL;
}

/* Administrators may everything, as when they purge; of others this is asked. */
static void demand(struct control *control, const struct vhost *vhost, enum access_kind kind, const char *what, struct bytes name)
{
    struct bytes user = request_source(control->request);
    if (control->right == CONTROL_ADMINISTRATOR || access_allows(topology_access(vhost, user), kind, name))
        return;
    control_fail(control, "access_refused", "ACCESS_REFUSED - access to %s '%.*s' in vhost '%.*s' refused for user '%.*s'", what, (int)name.size, (const char *)name.data,
                 (int)vhost->name.size, (const char *)vhost->name.data, (int)user.size, (const char *)user.data);
}

static const struct queue_entry *readable_queue(struct control *control)
{
    const struct vhost *vhost = control_vhost(control);
    const struct queue_entry *queue = vhost ? queue_of(control, vhost) : NULL;
    struct bytes exchange = control_optional(control, "exchange");
    if (queue)
        demand(control, vhost, ACCESS_READ, exchange.size ? "exchange" : "queue", exchange.size ? exchange : queue->name);
    return control->error ? NULL : queue;
}

void control_inside_reads(struct control *control) { readable_queue(control); }

/* To the queue "target". */
void control_inside_sends(struct control *control)
{
    const struct queue_entry *queue = readable_queue(control);
    struct bytes target;
    if (queue && control_text(control, "target", &target))
        demand(control, queue->vhost, ACCESS_WRITE, "queue", target);
}

/* Tracing costs memory: whoever may declare and delete the queue may have it traced. */
void control_inside_traces(struct control *control)
{
    const struct queue_entry *queue = readable_queue(control);
    if (queue)
        demand(control, queue->vhost, ACCESS_CONFIGURE, "queue", queue->name);
}

struct command_request *control_inspection(struct control *control, const struct vhost *vhost)
{
    const struct queue_entry *queue = queue_of(control, vhost);
    if (!queue)
        return NULL;
    struct request request = {.kind = REQUEST_INSPECT, .name = queue->name, .tag = control->request->tag, .source = request_source(control->request),
                              .arguments = request_arguments(control->request)};
    struct command_request *made = request_of_nobody(&request, vhost->id);
    if (!made) {
        control_fail(control, "internal_error", "out of memory");
        return NULL;
    }
    made->client = control->request->client;
    made->serial = control->request->serial;
    return made;
}

/* ---- who holds what ------------------------------------------------------------------------------------------------- */

/* Every worker writes what it knows: the queue's shard which consumer has which message, the sessions what each has been delivered, and their consumers' tags.
 *
 *   ["m", position, client, channel, consumer]     ["d", position, client, channel, delivery tag, held for at least ms, user]     ["c", client, consumer, tag]
 */
struct telling {
    struct writer *writer;
    const struct client *client;
    uint64_t queue;
    unsigned rows;
};

static void write_number(struct writer *writer, uint64_t number)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%llx", (unsigned long long)number);
    writer_string(writer, bytes_of(text, (size_t)size));
}

static void begin_row(struct writer *writer, const char *kind, uint64_t seq)
{
    char position[POSITION_SIZE];
    writer_open(writer, '[');
    writer_string(writer, bytes_of_text(kind));
    if (seq)
        writer_string(writer, position_write(seq, position));
}

static void on_held(void *owner, const struct client_held *held)
{
    struct telling *telling = owner;
    if (held->queue != telling->queue || telling->rows++ >= ROWS_MAX)
        return;
    begin_row(telling->writer, "d", held->seq);
    write_number(telling->writer, telling->client->id);
    writer_integer(telling->writer, held->channel);
    writer_integer(telling->writer, (int64_t)held->delivery_tag);
    writer_integer(telling->writer, (int64_t)held->held_ms);
    writer_string(telling->writer, telling->client->user);
    writer_close(telling->writer, ']');
}

static void on_consumer(void *owner, const struct client_consumer *consumer)
{
    struct telling *telling = owner;
    if (consumer->queue != telling->queue)
        return;
    begin_row(telling->writer, "c", 0);
    write_number(telling->writer, telling->client->id);
    writer_integer(telling->writer, consumer->number);
    writer_string(telling->writer, consumer->tag);
    writer_close(telling->writer, ']');
}

static void tell_lane(struct telling *telling, struct shard *shard, const struct lane *lane)
{
    for (uint64_t number = lane->first_block; number < lane->end_block && lane->unacked; number++) {
        const struct block_slot *slot = lane_slot(lane, number);
        const struct block *block = slot ? slot->block : NULL;
        if (!block || !block->unacked_count || !block->entries)
            continue;
        for (unsigned i = bits_next(block->unacked, 0); i < BLOCK_SIZE && telling->rows < ROWS_MAX; i = i + 1 < BLOCK_SIZE ? bits_next(block->unacked, i + 1) : BLOCK_SIZE) {
            uint32_t holder = block->entries[i].holder;
            const struct consumer *consumer = holder ? shard_consumer(shard, holder) : NULL;
            if (holder == RELAY_HOLDER || holder == RETRY_HOLDER)
                continue;   /* the broker itself */
            telling->rows++;
            begin_row(telling->writer, "m", number * BLOCK_SIZE + i);
            write_number(telling->writer, consumer ? consumer->client : 0);
            writer_integer(telling->writer, consumer ? consumer->channel : 0);
            writer_integer(telling->writer, consumer ? consumer->number : 0);
            writer_close(telling->writer, ']');
        }
    }
}

void control_list_holders(struct control *control)
{
    const struct queue_entry *entry = readable_queue(control);
    struct worker *worker = control->worker;
    if (!entry)
        return;
    struct telling telling = {.writer = &control->answer, .queue = entry->id};
    struct shard *shard = worker->shards[queue_id_shard(entry->id)];
    struct queue *queue = shard ? shard_queue(shard, entry->id) : NULL;
    unsigned at = 0;
    for (struct lane *lane; queue && !queue->stream && (lane = queue_next_ready_lane(queue, &at));)
        tell_lane(&telling, shard, lane);
    telling.rows = 0;
    for (uint32_t i = 0; i < worker->place_count; i++) {
        struct client *client = worker->places[i].client;
        if (!client || !client->ops->describe)
            continue;
        telling.client = client;
        client->ops->describe(client, &(struct client_listener){.owner = &telling, .consumer = on_consumer, .held = on_held});
    }
}

static const char *text_at(const json_t *row, size_t i)
{
    const char *text = json_string_value(json_array_get(row, i));
    return text ? text : "";
}

static void put_id(struct writer *writer, const char *key, const char *kind, const char *client, int64_t channel)
{
    char text[80];
    int size = channel ? snprintf(text, sizeof(text), "<godwit.%s.%.20s.%lld>", kind, client, (long long)channel) : snprintf(text, sizeof(text), "<godwit.%s.%.20s>", kind, client);
    writer_put_string(writer, key, bytes_of(text, (size_t)size));
}

/* One message: what the shard says of it, and what its session does; either may have changed since the other spoke. */
static void write_holder(struct writer *writer, const json_t *message, const json_t *delivery, const json_t *tags)
{
    const json_t *known = delivery ? delivery : message;
    char key[64];
    writer_open(writer, '{');
    writer_put_text(writer, "position", text_at(message, 1));
    if (strcmp(text_at(known, 2), "0") != 0) {
        put_id(writer, "connection", "connection", text_at(known, 2), 0);
        put_id(writer, "channel", "channel", text_at(known, 2), json_integer_value(json_array_get(known, 3)));
    }
    snprintf(key, sizeof(key), "%.20s %lld", text_at(message, 2), (long long)json_integer_value(json_array_get(message, 4)));
    const json_t *tag = json_object_get(tags, key);
    writer_key(writer, bytes_of_text("consumer_tag"));
    if (json_is_string(tag))
        writer_string(writer, bytes_of(json_string_value(tag), json_string_length(tag)));
    else
        writer_null(writer);   /* it was got, or its consumer has been cancelled since */
    if (delivery) {
        writer_put_text(writer, "user", text_at(delivery, 6));
        writer_put_integer(writer, "delivery_tag", json_integer_value(json_array_get(delivery, 4)));
        writer_put_integer(writer, "held_ms", json_integer_value(json_array_get(delivery, 5)));
    }
    writer_close(writer, '}');
}

void control_list_holders_join(struct control *control, struct bytes rows)
{
    struct writer list;
    struct bytes text;
    json_t *deliveries = json_object(), *tags = json_object();
    writer_init(&list);
    writer_open(&list, '[');
    writer_json(&list, rows);
    writer_close(&list, ']');
    json_t *all = writer_text(&list, &text) ? json_loadb((const char *)text.data, text.size, JSON_ALLOW_NUL, NULL) : NULL;
    writer_deinit(&list);
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *row = json_array_get(all, i);
        char key[64];
        if (strcmp(text_at(row, 0), "d") == 0) {
            json_object_set(deliveries, text_at(row, 1), row);
        } else if (strcmp(text_at(row, 0), "c") == 0) {
            snprintf(key, sizeof(key), "%.20s %lld", text_at(row, 1), (long long)json_integer_value(json_array_get(row, 2)));
            json_object_set(tags, key, json_array_get(row, 3));
        }
    }
    writer_open(&control->answer, '[');
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *row = json_array_get(all, i);
        if (strcmp(text_at(row, 0), "m") == 0)
            write_holder(&control->answer, row, json_object_get(deliveries, text_at(row, 1)), tags);
    }
    writer_close(&control->answer, ']');
    if (!all)
        control_fail(control, "internal_error", "out of memory");
    json_decref(all);
    json_decref(deliveries);
    json_decref(tags);
}
