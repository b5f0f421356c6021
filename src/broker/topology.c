#include "broker/topology.h"

#include "broker/topic.h"

#include <stdlib.h>

/* ---- small things -------------------------------------------------------------------------------------------------- */

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
static struct bytes vhost_name(const void *value) { return ((const struct vhost *)value)->name; }
static struct bytes user_name(const void *value) { return ((const struct user *)value)->name; }

static struct bytes list_key(const void *value) { return ((const struct binding_list *)value)->key; }

struct vhost *topology_vhost(const struct topology *topology, struct bytes name)
{
    return name_map_get(&topology->vhosts, name);
}

struct vhost *topology_vhost_by_id(const struct topology *topology, uint32_t id)
{
    return map_get(&topology->vhosts_by_id, id);
}

struct exchange *topology_exchange(const struct vhost *vhost, struct bytes name)
{
    return name_map_get(&vhost->exchanges, name);
}

struct queue_entry *topology_queue(const struct vhost *vhost, struct bytes name)
{
    return name_map_get(&vhost->queues, name);
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

static enum gw_err declare_exchange(struct vhost *vhost, const struct topology_change *change)
{
    if (topology_exchange(vhost, change->name))
        return GW_OK;
    struct exchange *exchange = calloc(1, sizeof(*exchange) + change->name.size + change->arguments.size);
    if (!exchange)
        return GW_ERR_NOMEM;
    uint8_t *at = (uint8_t *)(exchange + 1);
    exchange->vhost = vhost;
    exchange->name = keep(&at, change->name);
    exchange->arguments = keep(&at, change->arguments);
    exchange->type = change->type;
    exchange->flags = change->flags;
    name_map_init(&exchange->direct, list_key, vhost->exchanges.seed);
    if (exchange->type == EXCHANGE_TOPIC && !(exchange->topic = topic_new(vhost->exchanges.seed))) {
        free(exchange);
        return GW_ERR_NOMEM;
    }
    if (name_map_put(&vhost->exchanges, exchange)) {
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

struct binding *topology_binding(const struct vhost *vhost, const struct topology_change *change)
{
    uint32_t size = identity_size(change);
    uint8_t small[1024], *identity = size <= sizeof(small) ? small : malloc(size);
    if (!identity)
        return NULL;
    identity_write(change, identity);
    struct binding *binding = name_map_get(&vhost->bindings, bytes_of(identity, size));
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

static void remove_binding(struct binding *binding)
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
    CHECK(name_map_remove(&binding->source->vhost->bindings, binding->identity) == binding);
    free(binding);
}

static enum gw_err bind(struct vhost *vhost, const struct topology_change *change)
{
    struct exchange *source = topology_exchange(vhost, change->source);
    bool to_exchange = change->flags & TOPOLOGY_TO_EXCHANGE;
    struct queue_entry *queue = to_exchange ? NULL : topology_queue(vhost, change->name);
    struct exchange *exchange = to_exchange ? topology_exchange(vhost, change->name) : NULL;
    if (!source || (!queue && !exchange))
        return GW_ERR_INVALID;
    if (topology_binding(vhost, change))
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
    if (name_map_put(&vhost->bindings, binding)) {
        unindex_binding(binding);
        free(binding);
        return GW_ERR_NOMEM;
    }
    link_binding(binding);
    return GW_OK;
}

static enum gw_err unbind(struct vhost *vhost, const struct topology_change *change)
{
    struct binding *binding = topology_binding(vhost, change);
    if (binding)
        remove_binding(binding);
    return GW_OK;
}

static void free_exchange(struct exchange *exchange)
{
    while (exchange->outgoing)
        remove_binding(exchange->outgoing);
    while (exchange->incoming)
        remove_binding(exchange->incoming);
    topic_free(exchange->topic);
    name_map_deinit(&exchange->direct);
    free(exchange);
}

static enum gw_err delete_exchange(struct vhost *vhost, const struct topology_change *change)
{
    struct exchange *exchange = name_map_remove(&vhost->exchanges, change->name);
    if (exchange)
        free_exchange(exchange);
    return GW_OK;
}

/* ---- queues -------------------------------------------------------------------------------------------------------- */

static enum gw_err declare_queue(struct topology *topology, struct vhost *vhost, const struct topology_change *change)
{
    struct queue_entry *queue = topology_queue(vhost, change->name);
    if (queue)
        return queue->id == change->id ? GW_OK : GW_ERR_INVALID;
    queue = calloc(1, sizeof(*queue) + change->name.size + change->arguments.size);
    if (!queue)
        return GW_ERR_NOMEM;
    uint8_t *at = (uint8_t *)(queue + 1);
    queue->vhost = vhost;
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
        settings_free(queue->settings);
        free(queue);
        return GW_ERR_NOMEM;
    }
    if (name_map_put(&vhost->queues, queue)) {
        map_remove(&topology->queues_by_id, queue->id);
        settings_free(queue->settings);
        free(queue);
        return GW_ERR_NOMEM;
    }
    topology->exclusive_count += queue->owner != 0;
    uint64_t number = (queue->id & ~QUEUE_ID_TRANSIENT) >> 8;
    if (!(queue->id & QUEUE_ID_TRANSIENT) && number >= topology->next_queue)
        topology->next_queue = number + 1;
    return GW_OK;
}

static void free_queue(struct topology *topology, struct queue_entry *queue)
{
    topology->exclusive_count -= queue->owner != 0;
    map_remove(&topology->queues_by_id, queue->id);
    settings_free(queue->settings);
    free(queue);
}

static enum gw_err delete_queue(struct topology *topology, const struct topology_change *change)
{
    struct queue_entry *queue = topology_queue_by_id(topology, change->id);
    if (!queue)
        return GW_OK;
    while (queue->incoming)
        remove_binding(queue->incoming);
    name_map_remove(&queue->vhost->queues, queue->name);
    free_queue(topology, queue);
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

/* ---- vhosts -------------------------------------------------------------------------------------------------------- */

static void free_vhost(struct topology *topology, struct vhost *vhost)
{
    uint32_t cursor = 0;
    for (struct exchange *exchange; (exchange = map_next(&vhost->exchanges.map, &cursor));)
        free_exchange(exchange);
    cursor = 0;
    for (struct queue_entry *queue; (queue = map_next(&vhost->queues.map, &cursor));)
        free_queue(topology, queue);
    name_map_deinit(&vhost->exchanges);
    name_map_deinit(&vhost->queues);
    name_map_deinit(&vhost->bindings);
    free(vhost->texts);
    free(vhost);
}

/* What is told of a vhost besides its name and id, which stay. */
static enum gw_err describe_vhost(struct vhost *vhost, const struct topology_change *change)
{
    uint8_t *texts = malloc(change->name.size + change->source.size + change->routing_key.size + change->arguments.size + 1), *at = texts;
    if (!texts)
        return GW_ERR_NOMEM;
    vhost->name = keep(&at, change->name);
    vhost->description = keep(&at, change->source);
    vhost->default_queue_type = keep(&at, change->routing_key);
    vhost->tags = keep(&at, change->arguments);
    vhost->flags = change->flags;
    free(vhost->texts);
    vhost->texts = texts;
    return GW_OK;
}

static enum gw_err predeclare(struct vhost *vhost)
{
    static const struct { const char *name; enum exchange_type type; unsigned flags; } predeclared[] = {
        {"", EXCHANGE_DIRECT, 0}, {"amq.direct", EXCHANGE_DIRECT, 0}, {"amq.fanout", EXCHANGE_FANOUT, 0},
        {"amq.topic", EXCHANGE_TOPIC, 0}, {"amq.headers", EXCHANGE_HEADERS, 0}, {"amq.match", EXCHANGE_HEADERS, 0},
        {"amq.rabbitmq.trace", EXCHANGE_TOPIC, TOPOLOGY_INTERNAL},
    };
    enum gw_err err = GW_OK;
    for (unsigned i = 0; !err && i < sizeof(predeclared) / sizeof(*predeclared); i++) {
        const struct topology_change change = {.kind = CHANGE_EXCHANGE_DECLARE, .flags = TOPOLOGY_DURABLE | predeclared[i].flags,
                                               .type = predeclared[i].type, .name = bytes_of_text(predeclared[i].name)};
        err = declare_exchange(vhost, &change);
    }
    return err;
}

static enum gw_err put_vhost(struct topology *topology, const struct topology_change *change)
{
    struct vhost *vhost = topology_vhost(topology, change->name);
    if (vhost)
        return vhost->id == change->vhost ? describe_vhost(vhost, change) : GW_ERR_INVALID;
    if (topology_vhost_by_id(topology, change->vhost))
        return GW_ERR_INVALID;
    vhost = calloc(1, sizeof(*vhost));
    if (!vhost)
        return GW_ERR_NOMEM;
    vhost->id = change->vhost;
    uint64_t seed = topology->vhosts.seed;
    name_map_init(&vhost->exchanges, exchange_name, seed);
    name_map_init(&vhost->queues, queue_name, seed);
    name_map_init(&vhost->bindings, binding_identity, seed);
    enum gw_err err = describe_vhost(vhost, change);
    if (!err)
        err = predeclare(vhost);
    if (!err)
        err = map_put(&topology->vhosts_by_id, vhost->id, vhost);
    if (!err)
        err = name_map_put(&topology->vhosts, vhost);
    if (err) {
        map_remove(&topology->vhosts_by_id, vhost->id);
        free_vhost(topology, vhost);
        return err;
    }
    if (vhost->id >= topology->next_vhost)
        topology->next_vhost = vhost->id + 1;
    return GW_OK;
}

/* With all that is in it. Says of an id that it was used, even when there is no such vhost any more. */
static enum gw_err delete_vhost(struct topology *topology, const struct topology_change *change)
{
    struct vhost *vhost = map_remove(&topology->vhosts_by_id, change->vhost);
    if (change->vhost >= topology->next_vhost)
        topology->next_vhost = change->vhost + 1;
    if (!vhost)
        return GW_OK;
    name_map_remove(&topology->vhosts, vhost->name);
    free_vhost(topology, vhost);
    return GW_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

/* What happens inside a vhost. */
static enum gw_err apply_in_vhost(struct topology *topology, struct vhost *vhost, const struct topology_change *change)
{
    if (!vhost)
        return GW_ERR_INVALID;
    switch (change->kind) {
    case CHANGE_EXCHANGE_DECLARE: return declare_exchange(vhost, change);
    case CHANGE_EXCHANGE_DELETE: return delete_exchange(vhost, change);
    case CHANGE_QUEUE_DECLARE: return declare_queue(topology, vhost, change);
    case CHANGE_BIND: return bind(vhost, change);
    case CHANGE_UNBIND: return unbind(vhost, change);
    default: return GW_ERR_INVALID;
    }
}

enum gw_err topology_apply(struct topology *topology, const struct topology_change *change)
{
    topology->version++;
    switch (change->kind) {
    case CHANGE_QUEUE_DELETE: return delete_queue(topology, change);
    case CHANGE_USER_PUT: return put_user(topology, change);
    case CHANGE_USER_DELETE: free(name_map_remove(&topology->users, change->name)); return GW_OK;
    case CHANGE_VHOST_PUT: return put_vhost(topology, change);
    case CHANGE_VHOST_DELETE: return delete_vhost(topology, change);
    default: return apply_in_vhost(topology, topology_vhost_by_id(topology, change->vhost), change);
    }
}

enum gw_err topology_init(struct topology *topology, uint64_t seed)
{
    *topology = (struct topology){.version = 1, .next_queue = 1, .next_vhost = 1};
    name_map_init(&topology->vhosts, vhost_name, seed);
    name_map_init(&topology->users, user_name, seed);
    const struct topology_change change = {.kind = CHANGE_VHOST_PUT, .vhost = VHOST_DEFAULT, .name = bytes_of_text("/"),
                                           .source = bytes_of_text("Default virtual host")};
    if (topology_apply(topology, &change)) {
        topology_deinit(topology);
        return GW_ERR_NOMEM;
    }
    return GW_OK;
}

void topology_deinit(struct topology *topology)
{
    uint32_t cursor = 0;
    for (struct vhost *vhost; (vhost = map_next(&topology->vhosts.map, &cursor));)
        free_vhost(topology, vhost);
    cursor = 0;
    for (void *user; (user = map_next(&topology->users.map, &cursor));)
        free(user);
    name_map_deinit(&topology->vhosts);
    name_map_deinit(&topology->users);
    map_deinit(&topology->vhosts_by_id);
    map_deinit(&topology->queues_by_id);
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

static enum gw_err dump_exchanges(const struct vhost *vhost, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct exchange *exchange; !err && (exchange = map_next(&vhost->exchanges.map, &cursor));) {
        if (!(exchange->flags & TOPOLOGY_DURABLE))
            continue;
        struct topology_change change = {.kind = CHANGE_EXCHANGE_DECLARE, .vhost = vhost->id, .flags = exchange->flags, .type = exchange->type,
                                         .name = exchange->name, .arguments = exchange->arguments};
        err = each(owner, &change);
    }
    return err;
}

static enum gw_err dump_queues(const struct vhost *vhost, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct queue_entry *queue; !err && (queue = map_next(&vhost->queues.map, &cursor));) {
        if (queue->id & QUEUE_ID_TRANSIENT)
            continue;
        struct topology_change change = {.kind = CHANGE_QUEUE_DECLARE, .vhost = vhost->id, .flags = queue->flags, .id = queue->id, .name = queue->name,
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

static enum gw_err dump_bindings(const struct vhost *vhost, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct binding *binding; !err && (binding = map_next(&vhost->bindings.map, &cursor));) {
        if (!binding_is_durable(binding))
            continue;
        struct topology_change change = {.kind = CHANGE_BIND, .vhost = vhost->id, .flags = binding->queue ? 0 : TOPOLOGY_TO_EXCHANGE,
                                         .name = binding->queue ? binding->queue->name : binding->exchange->name,
                                         .source = binding->source->name, .routing_key = binding->routing_key,
                                         .arguments = binding->arguments};
        err = each(owner, &change);
    }
    return err;
}

static enum gw_err dump_vhost(const struct vhost *vhost, change_visitor *each, void *owner)
{
    struct topology_change change = {.kind = CHANGE_VHOST_PUT, .flags = vhost->flags, .vhost = vhost->id, .name = vhost->name, .source = vhost->description,
                                     .routing_key = vhost->default_queue_type, .arguments = vhost->tags};
    enum gw_err err = each(owner, &change);
    if (!err)
        err = dump_exchanges(vhost, each, owner);
    if (!err)
        err = dump_queues(vhost, each, owner);
    if (!err)
        err = dump_bindings(vhost, each, owner);
    return err;
}

/* Of ids that are not to be used again: the highest, and that of the vhost that every topology starts with. */
static enum gw_err dump_deleted(const struct topology *topology, change_visitor *each, void *owner)
{
    const uint32_t ids[] = {VHOST_DEFAULT, topology->next_vhost - 1};
    enum gw_err err = GW_OK;
    for (unsigned i = 0; !err && i < 2; i++) {
        struct topology_change change = {.kind = CHANGE_VHOST_DELETE, .vhost = ids[i]};
        if (!topology_vhost_by_id(topology, ids[i]))
            err = each(owner, &change);
    }
    return err;
}

enum gw_err topology_dump(const struct topology *topology, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = dump_users(topology, each, owner);
    if (!err)
        err = dump_deleted(topology, each, owner);
    for (struct vhost *vhost; !err && (vhost = map_next(&topology->vhosts.map, &cursor));)
        err = dump_vhost(vhost, each, owner);
    return err;
}
