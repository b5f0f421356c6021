#include "broker/exchange_kind.h"

#include "broker/binding_array.h"
#include "protocol/amqp/copies.h"
#include "broker/erlang_hash.h"
#include "broker/hash_ring.h"
#include "broker/headers_index.h"
#include "broker/headers_match.h"
#include "broker/key_index.h"
#include "broker/topic.h"
#include "broker/topology.h"
#include "protocol/amqp/table.h"

#include <stdio.h>

/* ---- the keys of a message ------------------------------------------------------------------------------------------ */

struct keys {
    struct bytes next, rest[2];
    bool begun;
};

static struct keys keys_of(const struct routed_message *message)
{
    return (struct keys){.next = message->routing_key, .rest = {message->copies[0], message->copies[1]}};
}

/* The routing key, then those of CC, then those of BCC. */
static bool next_key(struct keys *keys, struct bytes *key)
{
    if (!keys->begun) {
        keys->begun = true;
        *key = keys->next;
        return true;
    }
    return copies_next(&keys->rest[0], key) || copies_next(&keys->rest[1], key);
}

/* ---- matching ------------------------------------------------------------------------------------------------------ */

static void match_direct(struct exchange *exchange, const struct routed_message *message, binding_found *found, void *owner)
{
    struct bytes key;
    for (struct keys keys = keys_of(message); next_key(&keys, &key);)
        for (struct binding *binding = key_index_find(exchange->index, key); binding; binding = binding->route_next)
            found(owner, binding);
}

static void match_fanout(struct exchange *exchange, const struct routed_message *message, binding_found *found, void *owner)
{
    (void)message;
    for (struct binding *binding = exchange->outgoing; binding; binding = binding->source_next)
        found(owner, binding);
}

static void match_topic(struct exchange *exchange, const struct routed_message *message, binding_found *found, void *owner)
{
    struct bytes key;
    for (struct keys keys = keys_of(message); next_key(&keys, &key);)
        topic_match(exchange->index, key, found, owner);
}

static void match_headers(struct exchange *exchange, const struct routed_message *message, binding_found *found, void *owner)
{
    headers_index_match(exchange->index, headers_of(message->properties), found, owner);
}

static void match_consistent_hash(struct exchange *exchange, const struct routed_message *message, binding_found *found, void *owner)
{
    struct binding *binding = hash_ring_find(exchange->index, hash_ring_hash(exchange->arguments, message->routing_key, message->properties));
    if (binding)
        found(owner, binding);
}

static void match_random(struct exchange *exchange, const struct routed_message *message, binding_found *found, void *owner)
{
    const struct binding_array *array = exchange->index;
    if (array->count)
        found(owner, array->bindings[(uint64_t)(((__uint128_t)message->random * array->count) >> 64)]);
}

static void match_modulus_hash(struct exchange *exchange, const struct routed_message *message, binding_found *found, void *owner)
{
    const struct binding_array *array = exchange->index;
    uint32_t hash = 0;
    struct bytes key;
    for (struct keys keys = keys_of(message); next_key(&keys, &key);)
        hash = erlang_hash_binary(hash, key);
    hash = erlang_hash_nil(hash) & (ERLANG_HASH_RANGE - 1);
    if (array->count)
        found(owner, array->bindings[hash % array->count]);
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

static void *new_keys(uint64_t seed) { return key_index_new(seed); }
static void free_keys(void *index) { key_index_free(index); }
static enum gw_err add_key(void *index, struct binding *binding) { return key_index_add(index, binding); }
static void remove_key(void *index, struct binding *binding) { key_index_remove(index, binding); }

static void *new_topic(uint64_t seed) { return topic_new(seed); }
static void free_topic(void *index) { topic_free(index); }
static enum gw_err add_topic(void *index, struct binding *binding) { return topic_add(index, binding); }
static void remove_topic(void *index, struct binding *binding) { topic_remove(index, binding); }

static void *new_headers(uint64_t seed) { return headers_index_new(seed); }
static void free_headers(void *index) { headers_index_free(index); }
static enum gw_err add_headers(void *index, struct binding *binding) { return headers_index_add(index, binding); }
static void remove_headers(void *index, struct binding *binding) { headers_index_remove(index, binding); }

static void *new_ring(uint64_t seed) { (void)seed; return hash_ring_new(); }
static void free_ring(void *index) { hash_ring_free(index); }
static enum gw_err add_arc(void *index, struct binding *binding) { return hash_ring_add(index, binding); }
static void remove_arc(void *index, struct binding *binding) { hash_ring_remove(index, binding); }

static void *new_array(uint64_t seed) { (void)seed; return binding_array_new(); }
static void free_array(void *index) { binding_array_free(index); }
static enum gw_err add_element(void *index, struct binding *binding) { return binding_array_add(index, binding); }
static void remove_element(void *index, struct binding *binding) { binding_array_remove(index, binding); }

static const struct exchange_kind rows[EXCHANGE_TYPE_COUNT] = {
    [EXCHANGE_DIRECT] = {.name = "direct", .by_key = true, .index_new = new_keys, .index_free = free_keys, .add = add_key, .remove = remove_key,
                         .match = match_direct},
    [EXCHANGE_FANOUT] = {.name = "fanout", .by_key = true, .match = match_fanout},
    [EXCHANGE_TOPIC] = {.name = "topic", .by_key = true, .index_new = new_topic, .index_free = free_topic, .add = add_topic, .remove = remove_topic,
                        .match = match_topic},
    [EXCHANGE_HEADERS] = {.name = "headers", .index_new = new_headers, .index_free = free_headers, .add = add_headers, .remove = remove_headers,
                          .match = match_headers},
    [EXCHANGE_CONSISTENT_HASH] = {.name = "x-consistent-hash", .by_key = true, .index_new = new_ring, .index_free = free_ring, .add = add_arc,
                                  .remove = remove_arc, .match = match_consistent_hash},
    [EXCHANGE_RANDOM] = {.name = "x-random", .index_new = new_array, .index_free = free_array, .add = add_element, .remove = remove_element,
                         .match = match_random},
    [EXCHANGE_MODULUS_HASH] = {.name = "x-modulus-hash", .by_key = true, .index_new = new_array, .index_free = free_array, .add = add_element,
                               .remove = remove_element, .match = match_modulus_hash},
    [EXCHANGE_LOCAL_RANDOM] = {.name = "x-local-random", .index_new = new_array, .index_free = free_array, .add = add_element, .remove = remove_element,
                               .match = match_random},
    [EXCHANGE_DELAYED] = {.name = "x-delayed-message"},
};

const struct exchange_kind *exchange_kind(enum exchange_type type)
{
    return &rows[type];
}

const char *exchange_type_name(enum exchange_type type)
{
    return rows[type].name;
}

bool exchange_type_parse(struct bytes name, enum exchange_type *type)
{
    for (unsigned i = 0; i < EXCHANGE_TYPE_COUNT; i++)
        if (bytes_equal(name, bytes_of_text(rows[i].name))) {
            *type = i;
            return true;
        }
    return false;
}

/* ---- arguments ----------------------------------------------------------------------------------------------------- */

static bool delayed_type(struct bytes arguments, struct bytes *name)
{
    struct amqp_field field;
    if (!amqp_table_find(arguments, "x-delayed-type", &field) || (field.type != 'S' && field.type != 'x'))
        return false;
    *name = field.bytes;
    return true;
}

enum exchange_type exchange_type_routes_as(enum exchange_type type, struct bytes arguments)
{
    enum exchange_type as;
    struct bytes name;
    if (type != EXCHANGE_DELAYED)
        return type;
    return delayed_type(arguments, &name) && exchange_type_parse(name, &as) && as != EXCHANGE_DELAYED ? as : EXCHANGE_DIRECT;
}

static bool delayed_valid(struct bytes arguments, enum exchange_type *as, uint16_t *code, char *text, size_t room)
{
    struct bytes name;
    if (!delayed_type(arguments, &name)) {
        snprintf(text, room, "Invalid argument, 'x-delayed-type' must be an existing exchange type");
        return false;
    }
    if (!exchange_type_parse(name, as)) {
        *code = 503;
        snprintf(text, room, "unknown exchange type '%.*s'", (int)name.size, (const char *)name.data);
        return false;
    }
    if (*as == EXCHANGE_DELAYED)
        snprintf(text, room, "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'");
    return *as != EXCHANGE_DELAYED;
}

bool exchange_arguments_valid(enum exchange_type type, struct bytes arguments, uint16_t *code, char *text, size_t room)
{
    *code = 406;
    if (type == EXCHANGE_DELAYED && !delayed_valid(arguments, &type, code, text, room))
        return false;
    return type != EXCHANGE_CONSISTENT_HASH || hash_ring_arguments_valid(arguments, text, room);
}

static bool local_random_valid(const struct queue_entry *queue, struct bytes routing_key, char *text, size_t room)
{
    static const char *const types[] = {[QUEUE_CLASSIC] = "rabbit_classic_queue", [QUEUE_QUORUM] = "rabbit_quorum_queue", [QUEUE_STREAM] = "rabbit_stream_queue"};
    enum queue_type type = queue ? settings_queue_type(queue->arguments) : QUEUE_CLASSIC;
    if (routing_key.size)
        snprintf(text, room, "Non empty binding '%.*s' key not permitted", (int)routing_key.size, (const char *)routing_key.data);
    else if (!queue)
        snprintf(text, room, "Destination not found");
    else if (type != QUEUE_CLASSIC)
        snprintf(text, room, "Queue type %s not valid for this exchange type", types[type]);
    else
        return true;
    return false;
}

bool exchange_binding_valid(enum exchange_type type, const struct queue_entry *queue, struct bytes routing_key, struct bytes arguments, char *text, size_t room)
{
    if (type == EXCHANGE_LOCAL_RANDOM)
        return local_random_valid(queue, routing_key, text, room);
    if (type == EXCHANGE_HEADERS)
        return headers_mode_valid(arguments, text, room);
    return type != EXCHANGE_CONSISTENT_HASH || hash_ring_weight_valid(routing_key, text, room);
}

bool exchange_is_by_key(enum exchange_type routes_as, struct bytes arguments)
{
    return rows[routes_as].by_key && (routes_as != EXCHANGE_CONSISTENT_HASH || hash_ring_is_by_key(arguments));
}
