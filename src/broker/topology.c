#include "broker/topology.h"

#include "broker/topic.h"

#include <stdlib.h>

/* ---- small things -------------------------------------------------------------------------------------------------- */

static const char *const type_names[] = {"direct", "fanout", "topic", "headers"};

const char *exchange_type_name(enum exchange_type type)
{
    return type_names[type];
}

bool exchange_type_parse(struct bytes name, enum exchange_type *type)
{
    for (unsigned i = 0; i < sizeof(type_names) / sizeof(*type_names); i++)
        if (bytes_equal(name, bytes_of_text(type_names[i]))) {
            *type = i;
            return true;
        }
    return false;
}

/* Copies `from` to *at and moves it on. */
static struct bytes keep(uint8_t **at, struct bytes from)
{
    struct bytes kept = {*at, from.size};
    if (from.size)
        memcpy(*at, from.data, from.size);
    *at += from.size;
    return kept;
}

static struct bytes exchange_name(const void *value) { return ((const struct exchange *)value)->name; }
static struct bytes queue_name(const void *value) { return ((const struct queue_entry *)value)->name; }
static struct bytes binding_identity(const void *value) { return ((const struct binding *)value)->identity; }
static struct bytes user_name(const void *value) { return ((const struct user *)value)->name; }

static struct bytes list_key(const void *value) { return ((const struct binding_list *)value)->key; }

struct exchange *topology_exchange(const struct topology *topology, struct bytes name)
{
    return name_map_get(&topology->exchanges, name);
}

struct queue_entry *topology_queue(const struct topology *topology, struct bytes name)
{
    return name_map_get(&topology->queues, name);
}

struct queue_entry *topology_queue_by_id(const struct topology *topology, uint64_t id)
{
    return map_get(&topology->queues_by_id, id);
}

struct user *topology_user(const struct topology *topology, struct bytes name)
{
    return name_map_get(&topology->users, name);
}

/* ---- exchanges ----------------------------------------------------------------------------------------------------- */

static enum gw_err declare_exchange(struct topology *topology, const struct topology_change *change)
{
    if (topology_exchange(topology, change->name))
        return GW_OK;
    struct exchange *exchange = calloc(1, sizeof(*exchange) + change->name.size + change->arguments.size);
    if (!exchange)
        return GW_ERR_NOMEM;
    uint8_t *at = (uint8_t *)(exchange + 1);
    exchange->name = keep(&at, change->name);
    exchange->arguments = keep(&at, change->arguments);
    exchange->type = change->type;
    exchange->flags = change->flags;
    name_map_init(&exchange->direct, list_key, topology->exchanges.seed);
    if (exchange->type == EXCHANGE_TOPIC && !(exchange->topic = topic_new(topology->exchanges.seed))) {
        free(exchange);
        return GW_ERR_NOMEM;
    }
    if (name_map_put(&topology->exchanges, exchange)) {
        topic_free(exchange->topic);
        free(exchange);
        return GW_ERR_NOMEM;
    }
    return GW_OK;
}

/* ---- bindings ------------------------------------------------------------------------------------------------------ */

/* What makes a binding the same as another: its ends, key and arguments, laid out unambiguously. */
static uint32_t identity_size(const struct topology_change *change)
{
    return (uint32_t)(1 + 4 * 3 + change->source.size + change->name.size + change->routing_key.size + change->arguments.size);
}

static void identity_write(const struct topology_change *change, uint8_t *at)
{
    const struct bytes parts[] = {change->source, change->name, change->routing_key};
    *at++ = (change->flags & TOPOLOGY_TO_EXCHANGE) != 0;
    for (unsigned i = 0; i < 3; i++) {
        store_le32(at, (uint32_t)parts[i].size);
        at += 4;
        keep(&at, parts[i]);
    }
    keep(&at, change->arguments);
}

struct binding *topology_binding(const struct topology *topology, const struct topology_change *change)
{
    uint32_t size = identity_size(change);
    uint8_t small[1024], *identity = size <= sizeof(small) ? small : malloc(size);
    if (!identity)
        return NULL;
    identity_write(change, identity);
    struct binding *binding = name_map_get(&topology->bindings, bytes_of(identity, size));
    if (identity != small)
        free(identity);
    return binding;
}

static enum gw_err index_direct(struct exchange *exchange, struct binding *binding)
{
    struct binding_list *list = name_map_get(&exchange->direct, binding->routing_key);
    if (!list) {
        list = calloc(1, sizeof(*list) + binding->routing_key.size);
        if (!list)
            return GW_ERR_NOMEM;
        uint8_t *at = (uint8_t *)(list + 1);
        list->key = keep(&at, binding->routing_key);
        if (name_map_put(&exchange->direct, list)) {
            free(list);
            return GW_ERR_NOMEM;
        }
    }
    binding->route_next = list->first;
    list->first = binding;
    return GW_OK;
}

static void unindex_direct(struct exchange *exchange, struct binding *binding)
{
    struct binding_list *list = name_map_get(&exchange->direct, binding->routing_key);
    CHECK(list);
    struct binding **at = &list->first;
    while (*at != binding) {
        CHECK(*at);
        at = &(*at)->route_next;
    }
    *at = binding->route_next;
    if (!list->first) {
        name_map_remove(&exchange->direct, list->key);
        free(list);
    }
}

static enum gw_err index_binding(struct binding *binding)
{
    switch (binding->source->type) {
    case EXCHANGE_DIRECT: return index_direct(binding->source, binding);
    case EXCHANGE_TOPIC: return topic_add(binding->source->topic, binding);
    case EXCHANGE_FANOUT:
    case EXCHANGE_HEADERS: return GW_OK;   /* they go through all outgoing ones */
    }
    return GW_ERR_INVALID;
}

static void unindex_binding(struct binding *binding)
{
    if (binding->source->type == EXCHANGE_DIRECT)
        unindex_direct(binding->source, binding);
    else if (binding->source->type == EXCHANGE_TOPIC)
        topic_remove(binding->source->topic, binding);
}

static struct binding **destination_list(struct binding *binding)
{
    return binding->queue ? &binding->queue->incoming : &binding->exchange->incoming;
}

static void link_binding(struct binding *binding)
{
    binding->source_next = binding->source->outgoing;
    if (binding->source_next)
        binding->source_next->source_previous = binding;
    binding->source->outgoing = binding;
    binding->source->outgoing_count++;
    struct binding **list = destination_list(binding);
    binding->destination_next = *list;
    if (*list)
        (*list)->destination_previous = binding;
    *list = binding;
}

static void remove_binding(struct topology *topology, struct binding *binding)
{
    unindex_binding(binding);
    if (binding->source_next)
        binding->source_next->source_previous = binding->source_previous;
    if (binding->source_previous)
        binding->source_previous->source_next = binding->source_next;
    else
        binding->source->outgoing = binding->source_next;
    binding->source->outgoing_count--;
    if (binding->destination_next)
        binding->destination_next->destination_previous = binding->destination_previous;
    if (binding->destination_previous)
        binding->destination_previous->destination_next = binding->destination_next;
    else
        *destination_list(binding) = binding->destination_next;
    CHECK(name_map_remove(&topology->bindings, binding->identity) == binding);
    free(binding);
}

static enum gw_err bind(struct topology *topology, const struct topology_change *change)
{
    struct exchange *source = topology_exchange(topology, change->source);
    bool to_exchange = change->flags & TOPOLOGY_TO_EXCHANGE;
    struct queue_entry *queue = to_exchange ? NULL : topology_queue(topology, change->name);
    struct exchange *exchange = to_exchange ? topology_exchange(topology, change->name) : NULL;
    if (!source || (!queue && !exchange))
        return GW_ERR_INVALID;
    if (topology_binding(topology, change))
        return GW_OK;
    uint32_t size = identity_size(change);
    struct binding *binding = calloc(1, sizeof(*binding) + size);
    if (!binding)
        return GW_ERR_NOMEM;
    uint8_t *identity = (uint8_t *)(binding + 1);
    identity_write(change, identity);
    binding->identity = bytes_of(identity, size);
    binding->arguments = bytes_of(identity + size - change->arguments.size, change->arguments.size);
    binding->routing_key = bytes_of(binding->arguments.data - change->routing_key.size, change->routing_key.size);
    binding->source = source;
    binding->queue = queue;
    binding->exchange = exchange;
    if (index_binding(binding)) {
        free(binding);
        return GW_ERR_NOMEM;
    }
    if (name_map_put(&topology->bindings, binding)) {
        unindex_binding(binding);
        free(binding);
        return GW_ERR_NOMEM;
    }
    link_binding(binding);
    return GW_OK;
}

static enum gw_err unbind(struct topology *topology, const struct topology_change *change)
{
    struct binding *binding = topology_binding(topology, change);
    if (binding)
        remove_binding(topology, binding);
    return GW_OK;
}

static void free_exchange(struct topology *topology, struct exchange *exchange)
{
    while (exchange->outgoing)
        remove_binding(topology, exchange->outgoing);
    while (exchange->incoming)
        remove_binding(topology, exchange->incoming);
    topic_free(exchange->topic);
    name_map_deinit(&exchange->direct);
    free(exchange);
}

static enum gw_err delete_exchange(struct topology *topology, const struct topology_change *change)
{
    struct exchange *exchange = name_map_remove(&topology->exchanges, change->name);
    if (exchange)
        free_exchange(topology, exchange);
    return GW_OK;
}

/* ---- queues -------------------------------------------------------------------------------------------------------- */

static void free_queue(struct queue_entry *queue)
{
    settings_free(queue->settings);
    free(queue);
}

static enum gw_err declare_queue(struct topology *topology, const struct topology_change *change)
{
    struct queue_entry *queue = topology_queue(topology, change->name);
    if (queue)
        return queue->id == change->id ? GW_OK : GW_ERR_INVALID;
    queue = calloc(1, sizeof(*queue) + change->name.size + change->arguments.size);
    if (!queue)
        return GW_ERR_NOMEM;
    uint8_t *at = (uint8_t *)(queue + 1);
    queue->name = keep(&at, change->name);
    queue->arguments = keep(&at, change->arguments);
    queue->id = change->id;
    queue->owner = change->owner;
    queue->flags = change->flags;
    if (settings_make(queue->arguments, (struct bytes){0}, (struct bytes){0}, &queue->settings)) {
        free(queue);
        return GW_ERR_NOMEM;
    }
    if (map_put(&topology->queues_by_id, queue->id, queue)) {
        free_queue(queue);
        return GW_ERR_NOMEM;
    }
    if (name_map_put(&topology->queues, queue)) {
        map_remove(&topology->queues_by_id, queue->id);
        free_queue(queue);
        return GW_ERR_NOMEM;
    }
    topology->exclusive_count += queue->owner != 0;
    uint64_t number = (queue->id & ~QUEUE_ID_TRANSIENT) >> 8;
    if (!(queue->id & QUEUE_ID_TRANSIENT) && number >= topology->next_queue)
        topology->next_queue = number + 1;
    return GW_OK;
}

static enum gw_err delete_queue(struct topology *topology, const struct topology_change *change)
{
    struct queue_entry *queue = topology_queue_by_id(topology, change->id);
    if (!queue)
        return GW_OK;
    while (queue->incoming)
        remove_binding(topology, queue->incoming);
    topology->exclusive_count -= queue->owner != 0;
    name_map_remove(&topology->queues, queue->name);
    map_remove(&topology->queues_by_id, queue->id);
    free_queue(queue);
    return GW_OK;
}

/* ---- users --------------------------------------------------------------------------------------------------------- */

static enum gw_err put_user(struct topology *topology, const struct topology_change *change)
{
    struct user *user = calloc(1, sizeof(*user) + change->name.size + change->arguments.size);
    if (!user)
        return GW_ERR_NOMEM;
    if (change->secret.size != sizeof(user->secret)) {
        free(user);
        return GW_ERR_INVALID;
    }
    uint8_t *at = (uint8_t *)(user + 1);
    user->name = keep(&at, change->name);
    user->tags = keep(&at, change->arguments);
    memcpy(user->secret, change->secret.data, sizeof(user->secret));
    struct user *before = name_map_remove(&topology->users, change->name);
    if (name_map_put(&topology->users, user)) {
        /* The place that the one before had is free again. */
        if (before)
            name_map_put(&topology->users, before);
        free(user);
        return GW_ERR_NOMEM;
    }
    free(before);
    return GW_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

enum gw_err topology_apply(struct topology *topology, const struct topology_change *change)
{
    topology->version++;
    switch (change->kind) {
    case CHANGE_EXCHANGE_DECLARE: return declare_exchange(topology, change);
    case CHANGE_EXCHANGE_DELETE: return delete_exchange(topology, change);
    case CHANGE_QUEUE_DECLARE: return declare_queue(topology, change);
    case CHANGE_QUEUE_DELETE: return delete_queue(topology, change);
    case CHANGE_BIND: return bind(topology, change);
    case CHANGE_UNBIND: return unbind(topology, change);
    case CHANGE_USER_PUT: return put_user(topology, change);
    case CHANGE_USER_DELETE: free(name_map_remove(&topology->users, change->name)); return GW_OK;
    }
    return GW_ERR_INVALID;
}

enum gw_err topology_init(struct topology *topology, uint64_t seed)
{
    static const struct { const char *name; enum exchange_type type; unsigned flags; } predeclared[] = {
        {"", EXCHANGE_DIRECT, 0}, {"amq.direct", EXCHANGE_DIRECT, 0}, {"amq.fanout", EXCHANGE_FANOUT, 0},
        {"amq.topic", EXCHANGE_TOPIC, 0}, {"amq.headers", EXCHANGE_HEADERS, 0}, {"amq.match", EXCHANGE_HEADERS, 0},
        {"amq.rabbitmq.trace", EXCHANGE_TOPIC, TOPOLOGY_INTERNAL},
    };
    *topology = (struct topology){.version = 1, .next_queue = 1};
    name_map_init(&topology->exchanges, exchange_name, seed);
    name_map_init(&topology->queues, queue_name, seed);
    name_map_init(&topology->bindings, binding_identity, seed);
    name_map_init(&topology->users, user_name, seed);
    for (unsigned i = 0; i < sizeof(predeclared) / sizeof(*predeclared); i++) {
        struct topology_change change = {.kind = CHANGE_EXCHANGE_DECLARE, .flags = TOPOLOGY_DURABLE | predeclared[i].flags,
                                         .type = predeclared[i].type, .name = bytes_of_text(predeclared[i].name)};
        if (topology_apply(topology, &change)) {
            topology_deinit(topology);
            return GW_ERR_NOMEM;
        }
    }
    return GW_OK;
}

void topology_deinit(struct topology *topology)
{
    uint32_t cursor = 0;
    for (struct exchange *exchange; (exchange = map_next(&topology->exchanges.map, &cursor));)
        free_exchange(topology, exchange);
    cursor = 0;
    for (void *queue; (queue = map_next(&topology->queues.map, &cursor));)
        free_queue(queue);
    cursor = 0;
    for (void *user; (user = map_next(&topology->users.map, &cursor));)
        free(user);
    name_map_deinit(&topology->exchanges);
    name_map_deinit(&topology->queues);
    name_map_deinit(&topology->bindings);
    name_map_deinit(&topology->users);
    map_deinit(&topology->queues_by_id);
}

/* ---- the bytes of a change ----------------------------------------------------------------------------------------- */

#define CHANGE_FIXED_SIZE 20u

uint32_t topology_change_size(const struct topology_change *change)
{
    return (uint32_t)(CHANGE_FIXED_SIZE + 5 * 4 + change->name.size + change->source.size + change->routing_key.size +
                      change->arguments.size + change->secret.size);
}

void topology_change_write(const struct topology_change *change, uint8_t *at)
{
    const struct bytes runs[] = {change->name, change->source, change->routing_key, change->arguments, change->secret};
    at[0] = (uint8_t)change->kind;
    at[1] = (uint8_t)change->flags;
    at[2] = (uint8_t)change->type;
    at[3] = 0;
    store_le64(at + 4, change->id);
    store_le64(at + 12, change->owner);
    at += CHANGE_FIXED_SIZE;
    for (unsigned i = 0; i < 5; i++) {
        store_le32(at, (uint32_t)runs[i].size);
        at += 4;
        keep(&at, runs[i]);
    }
}

bool topology_change_read(struct bytes bytes, struct topology_change *change)
{
    struct bytes *runs[] = {&change->name, &change->source, &change->routing_key, &change->arguments, &change->secret};
    if (bytes.size < CHANGE_FIXED_SIZE)
        return false;
    change->kind = bytes.data[0];
    change->flags = bytes.data[1];
    change->type = bytes.data[2];
    change->id = load_le64(bytes.data + 4);
    change->owner = load_le64(bytes.data + 12);
    if (change->kind < CHANGE_EXCHANGE_DECLARE || change->kind > CHANGE_USER_DELETE || bytes.data[2] > EXCHANGE_HEADERS)
        return false;
    size_t at = CHANGE_FIXED_SIZE;
    for (unsigned i = 0; i < 5; i++) {
        if (bytes.size - at < 4)
            return false;
        uint32_t size = load_le32(bytes.data + at);
        at += 4;
        if (bytes.size - at < size)
            return false;
        *runs[i] = bytes_of(bytes.data + at, size);
        at += size;
    }
    return true;
}

/* ---- dumping ------------------------------------------------------------------------------------------------------- */

typedef enum gw_err change_visitor(void *owner, const struct topology_change *change);

static enum gw_err dump_users(const struct topology *topology, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct user *user; !err && (user = map_next(&topology->users.map, &cursor));) {
        struct topology_change change = {.kind = CHANGE_USER_PUT, .name = user->name, .arguments = user->tags,
                                         .secret = bytes_of(user->secret, sizeof(user->secret))};
        err = each(owner, &change);
    }
    return err;
}

static enum gw_err dump_exchanges(const struct topology *topology, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct exchange *exchange; !err && (exchange = map_next(&topology->exchanges.map, &cursor));) {
        if (!(exchange->flags & TOPOLOGY_DURABLE))
            continue;
        struct topology_change change = {.kind = CHANGE_EXCHANGE_DECLARE, .flags = exchange->flags, .type = exchange->type,
                                         .name = exchange->name, .arguments = exchange->arguments};
        err = each(owner, &change);
    }
    return err;
}

static enum gw_err dump_queues(const struct topology *topology, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct queue_entry *queue; !err && (queue = map_next(&topology->queues.map, &cursor));) {
        if (queue->id & QUEUE_ID_TRANSIENT)
            continue;
        struct topology_change change = {.kind = CHANGE_QUEUE_DECLARE, .flags = queue->flags, .id = queue->id, .name = queue->name,
                                         .arguments = queue->arguments};
        err = each(owner, &change);
    }
    return err;
}

static bool binding_is_durable(const struct binding *binding)
{
    bool destination = binding->queue ? !(binding->queue->id & QUEUE_ID_TRANSIENT) : (binding->exchange->flags & TOPOLOGY_DURABLE) != 0;
    return destination && (binding->source->flags & TOPOLOGY_DURABLE);
}

static enum gw_err dump_bindings(const struct topology *topology, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct binding *binding; !err && (binding = map_next(&topology->bindings.map, &cursor));) {
        if (!binding_is_durable(binding))
            continue;
        struct topology_change change = {.kind = CHANGE_BIND, .flags = binding->queue ? 0 : TOPOLOGY_TO_EXCHANGE,
                                         .name = binding->queue ? binding->queue->name : binding->exchange->name,
                                         .source = binding->source->name, .routing_key = binding->routing_key,
                                         .arguments = binding->arguments};
        err = each(owner, &change);
    }
    return err;
}

enum gw_err topology_dump(const struct topology *topology, change_visitor *each, void *owner)
{
    enum gw_err err = dump_users(topology, each, owner);
    if (!err)
        err = dump_exchanges(topology, each, owner);
    if (!err)
        err = dump_queues(topology, each, owner);
    if (!err)
        err = dump_bindings(topology, each, owner);
    return err;
}
