/* Lists for the command line and, later, HTTP: the topology as JSON with RabbitMQ's management names, queues with the counts that all workers' shards told. */
#include "broker/worker_internal.h"

#include "protocol/amqp/table.h"

#include <jansson.h>
#include <stdlib.h>

enum what { LIST_QUEUES, LIST_EXCHANGES, LIST_BINDINGS, LIST_OVERVIEW };

struct listing {
    enum what what;
    uint32_t vhost;
    struct queue_statistics *queues;
    uint32_t count, capacity;
};

struct listing *listing_new(struct bytes what, uint32_t vhost)
{
    static const char *const names[] = {"queues", "exchanges", "bindings", "overview"};
    for (unsigned i = 0; i < 4; i++)
        if (bytes_equal(what, bytes_of_text(names[i]))) {
            struct listing *listing = calloc(1, sizeof(*listing));
            if (listing) {
                listing->what = i;
                listing->vhost = vhost;
            }
            return listing;
        }
    return NULL;
}

void listing_free(struct listing *listing)
{
    if (listing)
        free(listing->queues);
    free(listing);
}

enum gw_err listing_add(struct listing *listing, const struct command_statistics *statistics)
{
    if (!statistics->count)
        return GW_OK;
    if (listing->count + statistics->count > listing->capacity) {
        uint32_t capacity = (listing->count + statistics->count) * 2;
        struct queue_statistics *grown = realloc(listing->queues, capacity * sizeof(*grown));
        if (!grown)
            return GW_ERR_NOMEM;
        listing->queues = grown;
        listing->capacity = capacity;
    }
    memcpy(listing->queues + listing->count, statistics->queues, statistics->count * sizeof(*statistics->queues));
    listing->count += statistics->count;
    return GW_OK;
}

/* Names are bytes that need not be UTF-8: those that are not are shown with each byte as its Latin-1 character. */
static json_t *text_of(struct bytes bytes)
{
    json_t *text = json_stringn(bytes.size ? (const char *)bytes.data : "", bytes.size);
    if (text)
        return text;
    char *latin = malloc(bytes.size * 2 + 1), *at = latin;
    for (size_t i = 0; latin && i < bytes.size; i++) {
        uint8_t c = bytes.data[i];
        if (c < 0x80) {
            *at++ = (char)c;
        } else {
            *at++ = (char)(0xC0 | c >> 6);
            *at++ = (char)(0x80 | (c & 0x3F));
        }
    }
    text = latin ? json_stringn(latin, (size_t)(at - latin)) : NULL;
    free(latin);
    return text;
}

static json_t *value_of(const struct amqp_field *field);

static json_t *table_of(struct bytes table)
{
    json_t *object = json_object();
    struct amqp_field field;
    while (object && amqp_table_next(&table, &field) == WIRE_OK) {
        char name[256];
        memcpy(name, field.name.data, field.name.size);
        name[field.name.size] = 0;
        json_object_set_new(object, name, value_of(&field));
    }
    return object;
}

static json_t *value_of(const struct amqp_field *field)
{
    if (field->type == 't')
        return json_boolean(field->integer != 0);
    if (field->type == 'f' || field->type == 'd')
        return json_real(field->real);
    if (field->type == 'S' || field->type == 'x')
        return text_of(field->bytes);
    if (field->type == 'F')
        return table_of(field->bytes);
    if (field->type == 'A') {
        json_t *array = json_array();
        struct bytes rest = field->bytes;
        struct amqp_field item;
        while (array && amqp_array_next(&rest, &item) == WIRE_OK)
            json_array_append_new(array, value_of(&item));
        return array;
    }
    return field->type == 'V' ? json_null() : json_integer(field->integer);
}

static json_t *list_queues(const struct listing *listing, const struct topology *topology)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < listing->count; i++) {
        const struct queue_statistics *counts = &listing->queues[i];
        const struct queue_entry *queue = topology_queue_by_id(topology, counts->queue);
        if (!queue || queue->vhost->id != listing->vhost)
            continue;
        json_t *row = json_object();
        json_object_set_new(row, "name", text_of(queue->name));
        json_object_set_new(row, "vhost", text_of(queue->vhost->name));
        json_object_set_new(row, "durable", json_boolean(queue->flags & TOPOLOGY_DURABLE));
        json_object_set_new(row, "auto_delete", json_boolean(queue->flags & TOPOLOGY_AUTO_DELETE));
        json_object_set_new(row, "exclusive", json_boolean(queue->flags & TOPOLOGY_EXCLUSIVE));
        json_object_set_new(row, "arguments", table_of(queue->arguments));
        json_object_set_new(row, "messages", json_integer((json_int_t)(counts->ready + counts->unacked)));
        json_object_set_new(row, "messages_ready", json_integer((json_int_t)counts->ready));
        json_object_set_new(row, "messages_unacknowledged", json_integer((json_int_t)counts->unacked));
        json_object_set_new(row, "consumers", json_integer(counts->consumers));
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *list_exchanges(const struct vhost *vhost)
{
    json_t *list = json_array();
    uint32_t cursor = 0;
    for (const struct exchange *exchange; (exchange = map_next(&vhost->exchanges.map, &cursor));) {
        json_t *row = json_object();
        json_object_set_new(row, "name", text_of(exchange->name));
        json_object_set_new(row, "vhost", text_of(vhost->name));
        json_object_set_new(row, "type", json_string(exchange_type_name(exchange->type)));
        json_object_set_new(row, "durable", json_boolean(exchange->flags & TOPOLOGY_DURABLE));
        json_object_set_new(row, "auto_delete", json_boolean(exchange->flags & TOPOLOGY_AUTO_DELETE));
        json_object_set_new(row, "internal", json_boolean(exchange->flags & TOPOLOGY_INTERNAL));
        json_object_set_new(row, "arguments", table_of(exchange->arguments));
        json_array_append_new(list, row);
    }
    return list;
}

static void add_binding(json_t *list, const struct vhost *vhost, struct bytes source, struct bytes destination, bool to_queue, struct bytes routing_key,
                        struct bytes arguments)
{
    json_t *row = json_object();
    json_object_set_new(row, "source", text_of(source));
    json_object_set_new(row, "vhost", text_of(vhost->name));
    json_object_set_new(row, "destination", text_of(destination));
    json_object_set_new(row, "destination_type", json_string(to_queue ? "queue" : "exchange"));
    json_object_set_new(row, "routing_key", text_of(routing_key));
    json_object_set_new(row, "arguments", table_of(arguments));
    json_array_append_new(list, row);
}

static json_t *list_bindings(const struct vhost *vhost)
{
    json_t *list = json_array();
    uint32_t cursor = 0;
    for (const struct queue_entry *queue; (queue = map_next(&vhost->queues.map, &cursor));)
        add_binding(list, vhost, (struct bytes){0}, queue->name, true, queue->name, (struct bytes){0});
    cursor = 0;
    for (const struct binding *binding; (binding = map_next(&vhost->bindings.map, &cursor));)
        add_binding(list, vhost, binding->source->name, binding->queue ? binding->queue->name : binding->exchange->name, binding->queue != NULL,
                    binding->routing_key, binding->arguments);
    return list;
}

static uint32_t count_exchanges(const struct topology *topology)
{
    uint32_t count = 0, cursor = 0;
    for (const struct vhost *vhost; (vhost = map_next(&topology->vhosts.map, &cursor));)
        count += vhost->exchanges.map.count;
    return count;
}

static json_t *overview(const struct listing *listing, const struct worker *worker)
{
    uint64_t ready = 0, unacked = 0, consumers = 0;
    for (uint32_t i = 0; i < listing->count; i++) {
        ready += listing->queues[i].ready;
        unacked += listing->queues[i].unacked;
        consumers += listing->queues[i].consumers;
    }
    json_t *object = json_object();
    json_object_set_new(object, "product_name", json_string("Godwit"));
    json_object_set_new(object, "product_version", json_string(GODWIT_VERSION));
    json_object_set_new(object, "reactors", json_integer(worker->broker->config.workers));
    json_object_set_new(object, "shards", json_integer(worker->broker->shards));
    json_object_set_new(object, "queues", json_integer(worker->topology.queues_by_id.count));
    json_object_set_new(object, "exchanges", json_integer(count_exchanges(&worker->topology)));
    json_object_set_new(object, "consumers", json_integer((json_int_t)consumers));
    json_object_set_new(object, "messages", json_integer((json_int_t)(ready + unacked)));
    json_object_set_new(object, "messages_ready", json_integer((json_int_t)ready));
    json_object_set_new(object, "messages_unacknowledged", json_integer((json_int_t)unacked));
    return object;
}

char *listing_text(struct listing *listing, struct worker *worker)
{
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, listing->vhost);
    json_t *json = NULL;
    if (!vhost)
        return NULL;
    switch (listing->what) {
    case LIST_QUEUES: json = list_queues(listing, &worker->topology); break;
    case LIST_EXCHANGES: json = list_exchanges(vhost); break;
    case LIST_BINDINGS: json = list_bindings(vhost); break;
    case LIST_OVERVIEW: json = overview(listing, worker); break;
    }
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
