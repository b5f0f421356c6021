#include "broker/topology.h"

#include "broker/alternate.h"
#include "broker/exchange_kind.h"
#include "broker/half_message.h"
#include "broker/settings.h"
#include "protocol/token/token.h"

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

static struct bytes access_user(const void *value) { return ((const struct access *)value)->user; }

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

const struct access *topology_access(const struct vhost *vhost, struct bytes user)
{
    return name_map_get(&vhost->accesses, user);
}

/* ---- exchanges ----------------------------------------------------------------------------------------------------- */

static void free_index(struct exchange *exchange)
{
    if (exchange->index)
        exchange_kind(exchange->routes_as)->index_free(exchange->index);
}

/* Finds its alternate exchange, when it is new and when policies have changed. */
static enum gw_err find_alternate(struct exchange *exchange)
{
    const struct policy *policy, *operator;
    uint8_t *name;
    size_t size;
    topology_policy_for(exchange->vhost, exchange->name, POLICY_EXCHANGES, &policy, &operator);
    if (alternate_of(exchange->arguments, policy ? policy->definition : (struct bytes){0}, &name, &size))
        return GW_ERR_NOMEM;
    free(exchange->alternate_memory);
    exchange->alternate_memory = name;
    exchange->alternate = bytes_of(name, size);
    return GW_OK;
}

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
    exchange->routes_as = exchange_type_routes_as(exchange->type, exchange->arguments);
    exchange->by_key = exchange_is_by_key(exchange->routes_as, exchange->arguments);
    const struct exchange_kind *kind = exchange_kind(exchange->routes_as);
    if (kind->index_new)
        exchange->index = kind->index_new(vhost->exchanges.seed);
    if ((kind->index_new && !exchange->index) || find_alternate(exchange) || name_map_put(&vhost->exchanges, exchange)) {
        free_index(exchange);
        free(exchange->alternate_memory);
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

static enum gw_err index_binding(struct binding *binding)
{
    const struct exchange_kind *kind = exchange_kind(binding->source->routes_as);
    return kind->add ? kind->add(binding->source->index, binding) : GW_OK;
}

static void unindex_binding(struct binding *binding)
{
    const struct exchange_kind *kind = exchange_kind(binding->source->routes_as);
    if (kind->remove)
        kind->remove(binding->source->index, binding);
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
    free_index(exchange);
    free(exchange->alternate_memory);
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

static enum gw_err make_settings(const struct queue_entry *queue, struct queue_settings **settings)
{
    static const enum policy_target targets[] = {
        [QUEUE_CLASSIC] = POLICY_CLASSIC_QUEUES, [QUEUE_QUORUM] = POLICY_QUORUM_QUEUES, [QUEUE_STREAM] = POLICY_STREAMS};
    const struct policy *user, *operator;
    if (queue->flags & (TOPOLOGY_DELAYED | TOPOLOGY_HALF))
        return settings_make_own(queue->flags & TOPOLOGY_DELAYED ? SETTINGS_DELAYED : SETTINGS_HALF, settings);
    topology_policy_for(queue->vhost, queue->name, targets[settings_queue_type(queue->arguments)], &user, &operator);
    return settings_make(queue->arguments, user ? user->definition : (struct bytes){0}, operator ? operator->definition : (struct bytes){0}, settings);
}

/* What can be changed while it is there is what policies may change, too; what kind of queue it is cannot. */
static enum gw_err change_arguments(struct vhost *vhost, const struct topology_change *change)
{
    struct queue_entry *queue = topology_queue(vhost, change->name);
    if (!queue || settings_queue_type(queue->arguments) != settings_queue_type(change->arguments))
        return queue ? GW_ERR_INVALID : GW_OK;
    struct queue_settings *settings;
    struct bytes before = queue->arguments;
    uint8_t *copy = malloc(change->arguments.size + 1);
    if (!copy)
        return GW_ERR_NOMEM;
    if (change->arguments.size)
        memcpy(copy, change->arguments.data, change->arguments.size);
    queue->arguments = bytes_of(copy, change->arguments.size);
    if (make_settings(queue, &settings)) {
        queue->arguments = before;
        free(copy);
        return GW_ERR_NOMEM;
    }
    free(queue->changed_arguments);
    queue->changed_arguments = copy;
    settings_free(queue->settings);
    queue->settings = settings;
    return GW_OK;
}

/* It is there already: the log is read again from before the snapshot that knows it. What the log has said of its name so far was said of another queue, which was deleted since; all that was
 * ever said of this one follows. */
static enum gw_err begin_anew(struct vhost *vhost, struct queue_entry *queue, const struct topology_change *change)
{
    while (queue->incoming)
        remove_binding(queue->incoming);
    return bytes_equal(queue->arguments, change->arguments) ? GW_OK : change_arguments(vhost, change);
}

static enum gw_err declare_queue(struct topology *topology, struct vhost *vhost, const struct topology_change *change)
{
    struct queue_entry *queue = topology_queue(vhost, change->name);
    if (queue)
        return queue->id == change->id ? begin_anew(vhost, queue, change) : GW_ERR_INVALID;
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
    if (make_settings(queue, &queue->settings)) {
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
    vhost->hidden_count += (queue->flags & TOPOLOGY_HIDDEN) != 0;
    if (queue->flags & TOPOLOGY_HALF)
        vhost->half_queue = queue->id;
    uint64_t number = (queue->id & ~QUEUE_ID_TRANSIENT) >> 8;
    if (!(queue->id & QUEUE_ID_TRANSIENT) && number >= topology->next_queue)
        topology->next_queue = number + 1;
    return GW_OK;
}

static void free_queue(struct topology *topology, struct queue_entry *queue)
{
    topology->exclusive_count -= queue->owner != 0;
    queue->vhost->hidden_count -= (queue->flags & TOPOLOGY_HIDDEN) != 0;
    if (queue->vhost->half_queue == queue->id)
        queue->vhost->half_queue = 0;
    map_remove(&topology->queues_by_id, queue->id);
    settings_free(queue->settings);
    free(queue->changed_arguments);
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

bool user_is_tagged(const struct user *user, const char *tag)
{
    const char *at = (const char *)user->tags.data, *end = at + user->tags.size;
    size_t size = strlen(tag);
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        size_t length = (size_t)((comma ? comma : end) - at);
        if (length == size && memcmp(at, tag, size) == 0)
            return true;
        at += length + 1;
    }
    return false;
}

static void free_user(struct user *user)
{
    if (user)
        free(user->memory);
    free(user);
}

static enum gw_err put_user(struct topology *topology, const struct topology_change *change)
{
    struct user *user = topology_user(topology, change->name);
    uint8_t *memory = malloc(change->arguments.size + change->secret.size + 1), *at = memory;
    if (!memory)
        return GW_ERR_NOMEM;
    if (!user) {
        user = calloc(1, sizeof(*user) + change->name.size);
        uint8_t *name = (uint8_t *)(user + 1);
        if (user) {
            user->name = keep(&name, change->name);
            user->max_connections = user->max_channels = TOPOLOGY_UNLIMITED;
        }
        if (!user || name_map_put(&topology->users, user)) {
            free(user);
            free(memory);
            return GW_ERR_NOMEM;
        }
    }
    user->tags = keep(&at, change->arguments);
    user->secret = keep(&at, change->secret);
    user->hash = (enum password_hash)change->id;
    free(user->memory);
    user->memory = memory;
    return GW_OK;
}

static enum gw_err limit_user(struct topology *topology, const struct topology_change *change)
{
    struct user *user = topology_user(topology, change->name);
    if (!user)
        return GW_ERR_INVALID;
    user->max_connections = change->id;
    user->max_channels = change->owner;
    return GW_OK;
}

static void drop_access(struct vhost *vhost, struct bytes user)
{
    access_free(name_map_remove(&vhost->accesses, user));
}

/* His access tokens: whoever gets his name later is somebody else. */
static void drop_tokens(struct vhost *vhost, struct bytes user)
{
    for (struct parameter *parameter = vhost->parameters, *next; parameter; parameter = next) {
        struct token_grant grant;
        next = parameter->next;
        if (!bytes_equal(parameter->component, bytes_of_text(TOKEN_COMPONENT)) || !token_grant_read(parameter->value, &grant))
            continue;
        if (bytes_equal(grant.user, user))
            parameter_delete(&vhost->parameters, parameter->component, parameter->name);
        token_grant_deinit(&grant);
    }
}

static enum gw_err delete_user(struct topology *topology, const struct topology_change *change)
{
    uint32_t cursor = 0;
    for (struct vhost *vhost; (vhost = map_next(&topology->vhosts.map, &cursor));) {
        drop_access(vhost, change->name);
        drop_tokens(vhost, change->name);
    }
    topology->parameters_version++;
    free_user(name_map_remove(&topology->users, change->name));
    return GW_OK;
}

/* ---- permissions --------------------------------------------------------------------------------------------------- */

static enum gw_err put_permission(struct vhost *vhost, const struct topology_change *change)
{
    struct access *access = name_map_get(&vhost->accesses, change->name);
    bool is_new = !access;
    if (is_new) {
        access = access_new(change->name);
        if (!access || name_map_put(&vhost->accesses, access)) {
            access_free(access);
            return GW_ERR_NOMEM;
        }
        access->number = ++vhost->next_access & ACCESS_NUMBER_MASK;
    }
    enum gw_err err = change->kind == CHANGE_PERMISSION_PUT ? access_grant(access, change) : access_grant_topic(access, vhost->name, change);
    if (err && is_new)
        drop_access(vhost, change->name);
    return err;
}

static enum gw_err delete_permission(struct vhost *vhost, const struct topology_change *change)
{
    struct access *access = name_map_get(&vhost->accesses, change->name);
    if (!access)
        return GW_OK;
    if (change->kind == CHANGE_PERMISSION_DELETE)
        access_revoke(access);
    else
        access_revoke_topic(access, change->source);
    if (access_is_empty(access))
        drop_access(vhost, change->name);
    return GW_OK;
}

/* ---- policies ------------------------------------------------------------------------------------------------------ */

void topology_policy_for(const struct vhost *vhost, struct bytes name, enum policy_target target, const struct policy **user, const struct policy **operator)
{
    *user = policies_match(vhost->policies.first, name, target);
    *operator = policies_match(vhost->operator_policies.first, name, target);
}

/* Policies have changed: what its queues' settings are now, and its exchanges' alternates. A queue whose settings are as before keeps them. */
static enum gw_err remake_settings(struct vhost *vhost)
{
    uint32_t cursor = 0;
    for (struct exchange *exchange; (exchange = map_next(&vhost->exchanges.map, &cursor));)
        if (find_alternate(exchange))
            return GW_ERR_NOMEM;
    cursor = 0;
    for (struct queue_entry *queue; (queue = map_next(&vhost->queues.map, &cursor));) {
        struct queue_settings *settings;
        if (make_settings(queue, &settings))
            return GW_ERR_NOMEM;
        if (settings_equal(settings, queue->settings)) {
            settings_free(settings);
            continue;
        }
        settings_free(queue->settings);
        queue->settings = settings;
    }
    return GW_OK;
}

static enum gw_err change_policies(struct vhost *vhost, const struct topology_change *change)
{
    struct policies *policies = change->flags & TOPOLOGY_OPERATOR ? &vhost->operator_policies : &vhost->policies;
    enum gw_err err = GW_OK;
    if (change->kind == CHANGE_POLICY_PUT)
        err = policies_put(policies, change);
    else
        policies_delete(policies, change->name);
    return err ? err : remake_settings(vhost);
}

static enum gw_err change_parameters(struct topology *topology, const struct topology_change *change)
{
    struct vhost *vhost = topology_vhost_by_id(topology, change->vhost);
    if (change->vhost && !vhost)
        return GW_ERR_INVALID;
    struct parameter **first = vhost ? &vhost->parameters : &topology->parameters;
    if (change->kind == CHANGE_PARAMETER_PUT)
        return parameter_put(first, change);
    parameter_delete(first, change->source, change->name);
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
    cursor = 0;
    for (struct access *access; (access = map_next(&vhost->accesses.map, &cursor));)
        access_free(access);
    name_map_deinit(&vhost->accesses);
    policies_deinit(&vhost->policies);
    policies_deinit(&vhost->operator_policies);
    parameters_free(vhost->parameters);
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
        {"amq.rabbitmq.trace", EXCHANGE_TOPIC, TOPOLOGY_INTERNAL}, {HALF_EXCHANGE, EXCHANGE_DIRECT, 0},
        {"amq.rabbitmq.event", EXCHANGE_TOPIC, TOPOLOGY_INTERNAL},   /* of the default vhost alone */
    };
    unsigned count = sizeof(predeclared) / sizeof(*predeclared) - (vhost->id != VHOST_DEFAULT);
    enum gw_err err = GW_OK;
    for (unsigned i = 0; !err && i < count; i++) {
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
    if (change->vhost == UINT32_MAX || topology_vhost_by_id(topology, change->vhost))
        return GW_ERR_INVALID;   /* no id comes after the last one */
    vhost = calloc(1, sizeof(*vhost));
    if (!vhost)
        return GW_ERR_NOMEM;
    vhost->id = change->vhost;
    uint64_t seed = topology->vhosts.seed;
    name_map_init(&vhost->exchanges, exchange_name, seed);
    name_map_init(&vhost->queues, queue_name, seed);
    name_map_init(&vhost->bindings, binding_identity, seed);
    name_map_init(&vhost->accesses, access_user, seed);
    vhost->max_connections = vhost->max_queues = TOPOLOGY_UNLIMITED;
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
    if (change->vhost == UINT32_MAX)
        return GW_ERR_INVALID;
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
    case CHANGE_QUEUE_ARGUMENTS: return change_arguments(vhost, change);
    case CHANGE_BIND: return bind(vhost, change);
    case CHANGE_UNBIND: return unbind(vhost, change);
    case CHANGE_VHOST_LIMITS:
        vhost->max_connections = change->id;
        vhost->max_queues = change->owner;
        return GW_OK;
    case CHANGE_PERMISSION_PUT:
    case CHANGE_TOPIC_PERMISSION_PUT: return put_permission(vhost, change);
    case CHANGE_PERMISSION_DELETE:
    case CHANGE_TOPIC_PERMISSION_DELETE: return delete_permission(vhost, change);
    case CHANGE_POLICY_PUT:
    case CHANGE_POLICY_DELETE: return change_policies(vhost, change);
    default: return GW_ERR_INVALID;
    }
}

enum gw_err topology_apply(struct topology *topology, const struct topology_change *change)
{
    topology->version++;
    switch (change->kind) {
    case CHANGE_QUEUE_DELETE: return delete_queue(topology, change);
    case CHANGE_USER_PUT: return put_user(topology, change);
    case CHANGE_USER_DELETE: return delete_user(topology, change);
    case CHANGE_USER_LIMITS: return limit_user(topology, change);
    case CHANGE_PARAMETER_PUT:
    case CHANGE_PARAMETER_DELETE: topology->parameters_version++; return change_parameters(topology, change);
    case CHANGE_VHOST_PUT: return put_vhost(topology, change);
    case CHANGE_VHOST_DELETE: topology->parameters_version++; return delete_vhost(topology, change);
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
    for (struct user *user; (user = map_next(&topology->users.map, &cursor));)
        free_user(user);
    parameters_free(topology->parameters);
    name_map_deinit(&topology->vhosts);
    name_map_deinit(&topology->users);
    map_deinit(&topology->vhosts_by_id);
    map_deinit(&topology->queues_by_id);
}
