#include "broker/hash_ring.h"

#include "broker/erlang_hash.h"
#include "broker/topology.h"
#include "protocol/amqp/properties.h"

#include <stdio.h>
#include <stdlib.h>

/* Heavier than this is as heavy as this: all buckets together can be counted then. */
#define WEIGHT_MAX UINT32_MAX

struct arc {
    struct binding *binding;
    uint64_t weight, end;     /* end: the number of the bucket behind its last */
};

struct hash_ring {
    struct arc *arcs;         /* in the order in which they were bound; those of weight 0 wait for another of the same destination to go */
    uint32_t count, capacity;
    uint64_t buckets;
};

struct hash_ring *hash_ring_new(void)
{
    return calloc(1, sizeof(struct hash_ring));
}

void hash_ring_free(struct hash_ring *ring)
{
    if (ring)
        free(ring->arcs);
    free(ring);
}

/* As Erlang reads an integer: an optional sign, then digits. False: it is none. */
static bool parse_weight(struct bytes key, bool *positive, uint64_t *weight)
{
    size_t i = key.size && (key.data[0] == '+' || key.data[0] == '-');
    bool negative = key.size && key.data[0] == '-';
    *weight = 0;
    if (i == key.size)
        return false;
    for (; i < key.size; i++) {
        if (key.data[i] < '0' || key.data[i] > '9')
            return false;
        if (*weight < WEIGHT_MAX)
            *weight = *weight * 10 + (uint64_t)(key.data[i] - '0');
        if (*weight > WEIGHT_MAX)
            *weight = WEIGHT_MAX;
    }
    *positive = !negative && *weight;
    return true;
}

bool hash_ring_weight_valid(struct bytes key, char *text, size_t room)
{
    uint64_t weight;
    bool positive;
    if (!parse_weight(key, &positive, &weight))
        snprintf(text, room, key.size ? "The binding key must be an integer: <<\"%.*s\">>" : "The binding key must be an integer: <<>>", (int)key.size,
                 (const char *)key.data);
    else if (!positive)
        snprintf(text, room, "The binding key must be greater than 0");
    else
        return true;
    return false;
}

/* ---- the ring ------------------------------------------------------------------------------------------------------ */

static bool same_destination(const struct binding *a, const struct binding *b)
{
    return a->queue == b->queue && a->exchange == b->exchange;
}

static void number_buckets(struct hash_ring *ring, uint32_t from)
{
    uint64_t end = from ? ring->arcs[from - 1].end : 0;
    for (uint32_t i = from; i < ring->count; i++)
        ring->arcs[i].end = end += ring->arcs[i].weight;
    ring->buckets = end;
}

static uint64_t weight_of(const struct binding *binding)
{
    uint64_t weight = 0;
    bool positive = false;
    return parse_weight(binding->routing_key, &positive, &weight) && positive ? weight : 0;
}

enum gw_err hash_ring_add(struct hash_ring *ring, struct binding *binding)
{
    if (ring->count == ring->capacity) {
        uint32_t capacity = ring->capacity ? ring->capacity * 2 : 8;
        struct arc *arcs = realloc(ring->arcs, capacity * sizeof(*arcs));
        if (!arcs)
            return GW_ERR_NOMEM;
        ring->arcs = arcs;
        ring->capacity = capacity;
    }
    uint64_t weight = weight_of(binding);
    for (uint32_t i = 0; i < ring->count && weight; i++)
        if (same_destination(ring->arcs[i].binding, binding))
            weight = 0;
    ring->arcs[ring->count++] = (struct arc){.binding = binding, .weight = weight};
    number_buckets(ring, ring->count - 1);
    return GW_OK;
}

void hash_ring_remove(struct hash_ring *ring, const struct binding *binding)
{
    uint32_t at = 0;
    while (at < ring->count && ring->arcs[at].binding != binding)
        at++;
    CHECK(at < ring->count);
    bool had_buckets = ring->arcs[at].weight;
    memmove(ring->arcs + at, ring->arcs + at + 1, (ring->count - at - 1) * sizeof(*ring->arcs));
    ring->count--;
    for (uint32_t i = at; i < ring->count && had_buckets; i++)
        if (same_destination(ring->arcs[i].binding, binding)) {
            ring->arcs[i].weight = weight_of(ring->arcs[i].binding);
            break;
        }
    number_buckets(ring, at);
}

static uint64_t jump(uint32_t hash, uint64_t buckets)
{
    if (buckets == 1)
        return 0;
    struct exs1024 random;
    exs1024_seed(&random, hash);
    uint64_t bucket = 0;
    for (double next = 0; next < (double)buckets; next = ((double)bucket + 1) / exs1024_uniform(&random))
        bucket = (uint64_t)next;
    return bucket;
}

struct binding *hash_ring_find(struct hash_ring *ring, uint32_t hash)
{
    if (!ring->buckets)
        return NULL;
    uint64_t bucket = jump(hash, ring->buckets);
    uint32_t low = 0, high = ring->count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ring->arcs[middle].end > bucket)
            high = middle;
        else
            low = middle + 1;
    }
    return ring->arcs[low].binding;
}

/* ---- what is hashed ------------------------------------------------------------------------------------------------ */

bool hash_ring_arguments_valid(struct bytes arguments, char *text, size_t room)
{
    static const char *const properties[] = {"correlation_id", "message_id", "timestamp"};
    struct amqp_field header, property;
    bool by_header = amqp_table_find(arguments, "hash-header", &header), by_property = amqp_table_find(arguments, "hash-property", &property);
    if ((by_header && header.type != 'S') || (by_property && property.type != 'S')) {
        snprintf(text, room, "hash-header and hash-property must be strings");
        return false;
    }
    if (by_header && by_property) {
        snprintf(text, room, "hash-header and hash-property are mutually exclusive");
        return false;
    }
    for (unsigned i = 0; by_property && i < sizeof(properties) / sizeof(*properties); i++)
        if (bytes_equal(property.bytes, bytes_of_text(properties[i])))
            return true;
    if (by_property)
        snprintf(text, room, "Unsupported property: %.*s", (int)property.bytes.size, (const char *)property.bytes.data);
    return !by_property;
}

bool hash_ring_is_by_key(struct bytes arguments)
{
    struct amqp_field field;
    return !amqp_table_find(arguments, "hash-header", &field) && !amqp_table_find(arguments, "hash-property", &field);
}

static uint32_t hash_header(struct bytes name, const struct amqp_properties *properties)
{
    struct amqp_field field;
    for (struct bytes rest = properties->headers; amqp_table_next(&rest, &field) == WIRE_OK;)
        if (bytes_equal(field.name, name))
            return erlang_hash_field(&field);
    return erlang_hash_atom(0, "undefined");
}

static uint32_t hash_property(struct bytes name, const struct amqp_properties *properties)
{
    char digits[24];
    if (bytes_equal(name, bytes_of_text("timestamp")) && (properties->flags & AMQP_MESSAGE_TIMESTAMP)) {
        snprintf(digits, sizeof(digits), "%llu", (unsigned long long)properties->timestamp);
        return erlang_hash_binary(0, bytes_of_text(digits));
    }
    if (bytes_equal(name, bytes_of_text("message_id")) && (properties->flags & AMQP_MESSAGE_ID))
        return erlang_hash_binary(0, properties->message_id);
    if (bytes_equal(name, bytes_of_text("correlation_id")) && (properties->flags & AMQP_CORRELATION_ID))
        return erlang_hash_binary(0, properties->correlation_id);
    return erlang_hash_atom(0, "undefined");
}

uint32_t hash_ring_hash(struct bytes arguments, struct bytes routing_key, struct bytes properties)
{
    struct amqp_field name;
    struct amqp_properties decoded = {0};
    bool by_header = amqp_table_find(arguments, "hash-header", &name);
    uint32_t hash;
    if (!by_header && !amqp_table_find(arguments, "hash-property", &name))
        hash = erlang_hash_binary(0, routing_key);
    else if (!amqp_properties_decode(properties, &decoded))
        hash = erlang_hash_atom(0, "undefined");
    else
        hash = by_header ? hash_header(name.bytes, &decoded) : hash_property(name.bytes, &decoded);
    return hash & (ERLANG_HASH_RANGE - 1);
}
