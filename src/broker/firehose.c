#include "broker/firehose.h"

#include "broker/worker_internal.h"
#include "protocol/amqp/copies.h"
#include "protocol/amqp/properties.h"
#include "store/message.h"

#include <stdlib.h>

#define TRACE_EXCHANGE "amq.rabbitmq.trace"
#define REPLY_QUEUES "amq.rabbitmq.reply-to."
#define REQUESTS "amq.godwit.control"     /* the key of requests to the broker itself, in which there may be passwords */
#define ROOM_MIN 4096u
#define SHORT_MAX 255u

/* One copy as it is put together. */
struct trace {
    struct client *client;
    struct worker *worker;
    struct vhost *vhost;
    struct exchange *exchange;           /* amq.rabbitmq.trace */
    struct message message;
    struct amqp_properties properties;   /* the message's */
    struct amqp_table_writer headers;
    uint8_t *room;
};

/* ---- headers --------------------------------------------------------------------------------------------------------- */

/* An array is put together at the end of the table, as a field whose size is filled in when it is whole. */
static size_t array_begin(struct amqp_table_writer *headers, const char *name)
{
    size_t mark = amqp_table_nest_begin(headers, name);
    if (mark)
        headers->begin[mark - 1] = 'A';
    return mark;
}

static void array_put(struct amqp_table_writer *headers, struct bytes text)
{
    if (headers->overflow || (size_t)(headers->end - headers->at) < 5 + text.size) {
        headers->overflow = true;
        return;
    }
    *headers->at++ = 'S';
    store_be32(headers->at, (uint32_t)text.size);
    if (text.size)
        memcpy(headers->at + 4, text.data, text.size);
    headers->at += 4 + text.size;
}

static void put_routing_keys(struct trace *trace)
{
    struct bytes copies[2] = {{0}}, key;
    char text[128];
    size_t mark = array_begin(&trace->headers, "routing_keys");
    array_put(&trace->headers, trace->message.routing_key);
    if (trace->properties.flags & AMQP_HEADERS)
        copies_find(trace->properties.headers, copies, text, sizeof(text));
    while (copies_next(&copies[0], &key))
        array_put(&trace->headers, key);
    amqp_table_nest_end(&trace->headers, mark);
}

static void put_headers(struct amqp_table_writer *to, struct bytes table)
{
    uint8_t *sized = malloc(table.size + 4);
    if (!sized) {
        to->overflow = true;
        return;
    }
    store_be32(sized, (uint32_t)table.size);
    if (table.size)
        memcpy(sized + 4, table.data, table.size);
    amqp_table_put_raw(to, bytes_of_text("headers"), 'F', bytes_of(sized, table.size + 4));
    free(sized);
}

/* Those that the message has. */
static void put_properties(struct trace *trace)
{
    const struct amqp_properties *from = &trace->properties;
    const struct { unsigned flag; const char *name; struct bytes text; } texts[] = {
        {AMQP_CONTENT_TYPE, "content_type", from->content_type}, {AMQP_CONTENT_ENCODING, "content_encoding", from->content_encoding},
        {AMQP_CORRELATION_ID, "correlation_id", from->correlation_id}, {AMQP_REPLY_TO, "reply_to", from->reply_to},
        {AMQP_EXPIRATION, "expiration", from->expiration}, {AMQP_MESSAGE_ID, "message_id", from->message_id}, {AMQP_TYPE, "type", from->type},
        {AMQP_USER_ID, "user_id", from->user_id}, {AMQP_APP_ID, "app_id", from->app_id}, {AMQP_CLUSTER_ID, "cluster_id", from->cluster_id},
    };
    const struct { unsigned flag; const char *name; uint64_t number; } numbers[] = {
        {AMQP_DELIVERY_MODE, "delivery_mode", from->delivery_mode}, {AMQP_PRIORITY, "priority", from->priority},
        {AMQP_MESSAGE_TIMESTAMP, "timestamp", from->timestamp},
    };
    size_t mark = amqp_table_nest_begin(&trace->headers, "properties");
    for (unsigned i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (from->flags & texts[i].flag)
            amqp_table_put_text(&trace->headers, texts[i].name, texts[i].text);
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        if (from->flags & numbers[i].flag)
            amqp_table_put_int(&trace->headers, numbers[i].name, (int32_t)numbers[i].number);
    if (from->flags & AMQP_HEADERS)
        put_headers(&trace->headers, from->headers);
    amqp_table_nest_end(&trace->headers, mark);
}

/* ---- a copy ---------------------------------------------------------------------------------------------------------- */

/* False: nobody wants a copy, or there is no memory for it. `more`: bytes of what the caller is going to add. */
static bool begin(struct trace *trace, struct client *client, struct bytes content, size_t more)
{
    struct worker *worker = client->worker;
    *trace = (struct trace){.client = client, .worker = worker, .vhost = topology_vhost_by_id(&worker->topology, client->vhost)};
    trace->exchange = trace->vhost ? topology_exchange(trace->vhost, bytes_of_text(TRACE_EXCHANGE)) : NULL;
    if (!trace->exchange || !trace->exchange->outgoing || !message_read(content, &trace->message) ||
        bytes_equal(trace->message.exchange, trace->exchange->name) || !amqp_properties_decode(trace->message.properties, &trace->properties))
        return false;
    size_t room = ROOM_MIN + trace->message.properties.size * 3 + more;
    trace->room = malloc(room);
    if (!trace->room)
        return false;
    amqp_table_begin(&trace->headers, trace->room, room);
    amqp_table_put_text(&trace->headers, "exchange_name", trace->message.exchange);
    put_routing_keys(trace);
    put_properties(trace);
    amqp_table_put_text(&trace->headers, "node", worker_node(worker));
    return true;
}

static void put_client(struct trace *trace, uint16_t channel)
{
    amqp_table_put_text(&trace->headers, "vhost", trace->vhost->name);
    amqp_table_put_text(&trace->headers, "connection", trace->client->name);
    amqp_table_put_int(&trace->headers, "channel", channel);
    amqp_table_put_text(&trace->headers, "user", trace->client->user);
}

/* Publishes it with the routing key WORD.NAME, cut off where it is too long for AMQP. */
static void end(struct trace *trace, const char *word, struct bytes name)
{
    struct amqp_properties properties = {.flags = AMQP_HEADERS};
    uint8_t key[SHORT_MAX], *encoded = NULL;
    size_t size = strlen(word);
    memcpy(key, word, size);
    size_t rest = name.size < SHORT_MAX - size ? name.size : SHORT_MAX - size;
    if (rest)
        memcpy(key + size, name.data, rest);
    if (amqp_table_finish(&trace->headers, &properties.headers) && (encoded = malloc(amqp_properties_size(&properties)))) {
        const struct own_message message = {
            .routing_key = bytes_of(key, size + rest), .body = trace->message.body,
            .properties = bytes_of(encoded, amqp_properties_encode(&properties, encoded, amqp_properties_size(&properties)))};
        worker_publish(trace->worker, trace->exchange, &message);
    }
    free(encoded);
    free(trace->room);
}

/* ---- what is traced -------------------------------------------------------------------------------------------------- */

void firehose_published(struct client *client, uint16_t channel, struct bytes content, const uint8_t *targets, uint32_t count)
{
    struct trace trace;
    /* No client publishes on channel 0: that are the broker's own answers to control requests. */
    if (channel == 0 || !begin(&trace, client, content, (size_t)count * (SHORT_MAX + 5)))
        return;
    if (!trace.message.exchange.size && bytes_equal(trace.message.routing_key, bytes_of_text(REQUESTS))) {
        free(trace.room);
        return;
    }
    put_client(&trace, channel);
    size_t mark = array_begin(&trace.headers, "routed_queues");
    for (uint32_t i = 0; i < count; i++) {
        const struct queue_entry *queue = topology_queue_by_id(&trace.worker->topology, load_le64(targets + (size_t)i * PUBLISH_TARGET_SIZE));
        if (queue && !(queue->flags & TOPOLOGY_HIDDEN))
            array_put(&trace.headers, queue->name);
    }
    amqp_table_nest_end(&trace.headers, mark);
    end(&trace, "publish.", trace.message.exchange);
}

/* NULL: the client is not tapped. */
static struct tap *tap_of(const struct client *client)
{
    struct tap *taps = client->worker->taps;
    for (unsigned i = 0; i < CLIENT_KINDS_MAX; i++)
        if (client->ops == &taps[i].tapped)
            return &taps[i];
    return NULL;
}

static void delivered(struct client *client, const struct delivery *delivery)
{
    const struct queue_entry *queue = topology_queue_by_id(&client->worker->topology, delivery->queue);
    struct trace trace;
    size_t prefix = sizeof(REPLY_QUEUES) - 1;
    bool is_reply = queue && queue->name.size >= prefix && memcmp(queue->name.data, REPLY_QUEUES, prefix) == 0;
    if (queue && !is_reply && !(queue->flags & TOPOLOGY_HIDDEN) && begin(&trace, client, delivery->content, 0)) {
        amqp_table_put_int(&trace.headers, "redelivered", delivery->redelivered);
        put_client(&trace, delivery->channel);
        end(&trace, "deliver.", queue->name);
    }
    tap_of(client)->ops->deliver(client, delivery);
}

/* ---- who is tapped --------------------------------------------------------------------------------------------------- */

void firehose_opened(struct client *client)
{
    struct worker *worker = client->worker;
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, client->vhost);
    bool traced = vhost && (vhost->flags & TOPOLOGY_TRACING);
    struct tap *tap = tap_of(client);
    if (traced == (tap != NULL))
        return;
    if (tap) {
        client->ops = tap->ops;
        return;
    }
    for (tap = worker->taps; tap->ops && tap->ops != client->ops; tap++)
        CHECK(tap < worker->taps + CLIENT_KINDS_MAX - 1);   /* every protocol has tables of its own that never change */
    tap->ops = client->ops;
    tap->tapped = *client->ops;
    tap->tapped.deliver = delivered;
    client->ops = &tap->tapped;
}

void firehose_changed(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->place_count; i++)
        if (worker->places[i].client && worker->places[i].client->vhost)
            firehose_opened(worker->places[i].client);
}
