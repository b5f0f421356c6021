/* A topology as the changes that make it: for snapshots and for copies. */
#include "broker/topology.h"

typedef enum gw_err change_visitor(void *owner, const struct topology_change *change);

static enum gw_err dump_users(const struct topology *topology, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct user *user; !err && (user = map_next(&topology->users.map, &cursor));) {
        struct topology_change change = {.kind = CHANGE_USER_PUT, .name = user->name, .arguments = user->tags, .secret = user->secret, .id = user->hash};
        err = each(owner, &change);
    }
    return err;
}

static enum gw_err dump_limits(const struct topology *topology, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (struct user *user; !err && (user = map_next(&topology->users.map, &cursor));) {
        struct topology_change change = {.kind = CHANGE_USER_LIMITS, .name = user->name, .id = user->max_connections, .owner = user->max_channels};
        if (change.id != TOPOLOGY_UNLIMITED || change.owner != TOPOLOGY_UNLIMITED)
            err = each(owner, &change);
    }
    cursor = 0;
    for (struct vhost *vhost; !err && (vhost = map_next(&topology->vhosts.map, &cursor));) {
        struct topology_change change = {.kind = CHANGE_VHOST_LIMITS, .vhost = vhost->id, .id = vhost->max_connections, .owner = vhost->max_queues};
        if (change.id != TOPOLOGY_UNLIMITED || change.owner != TOPOLOGY_UNLIMITED)
            err = each(owner, &change);
    }
    return err;
}

static enum gw_err dump_access(const struct vhost *vhost, const struct access *access, change_visitor *each, void *owner)
{
    struct topology_change change = {.kind = CHANGE_PERMISSION_PUT, .vhost = vhost->id, .name = access->user, .source = access->texts[ACCESS_CONFIGURE],
                                     .routing_key = access->texts[ACCESS_WRITE], .arguments = access->texts[ACCESS_READ]};
    enum gw_err err = access->granted ? each(owner, &change) : GW_OK;
    for (const struct topic_access *topic = access->topics; !err && topic; topic = topic->next) {
        change = (struct topology_change){.kind = CHANGE_TOPIC_PERMISSION_PUT, .vhost = vhost->id, .name = access->user, .source = topic->exchange,
                                          .routing_key = topic->write, .arguments = topic->read};
        err = each(owner, &change);
    }
    return err;
}

static enum gw_err dump_accesses(const struct vhost *vhost, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (const struct access *access; !err && (access = map_next(&vhost->accesses.map, &cursor));)
        err = dump_access(vhost, access, each, owner);
    return err;
}

static enum gw_err dump_policies(const struct vhost *vhost, const struct policies *policies, unsigned flags, change_visitor *each, void *owner)
{
    enum gw_err err = GW_OK;
    for (const struct policy *policy = policies->first; !err && policy; policy = policy->next) {
        struct topology_change change = {.kind = CHANGE_POLICY_PUT, .flags = flags, .vhost = vhost->id, .name = policy->name, .source = policy->pattern,
                                         .arguments = policy->definition, .id = policy->apply_to, .owner = (uint64_t)policy->priority};
        err = each(owner, &change);
    }
    return err;
}

/* `vhost` 0: the global ones. */
static enum gw_err dump_parameters(uint32_t vhost, const struct parameter *parameter, change_visitor *each, void *owner)
{
    enum gw_err err = GW_OK;
    for (; !err && parameter; parameter = parameter->next) {
        struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .vhost = vhost, .name = parameter->name, .source = parameter->component,
                                         .arguments = parameter->value};
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

/* In the order in which they were bound, which a hash ring keeps. */
static enum gw_err dump_outgoing(const struct exchange *exchange, change_visitor *each, void *owner)
{
    const struct binding *binding = exchange->outgoing;
    enum gw_err err = GW_OK;
    while (binding && binding->source_next)
        binding = binding->source_next;
    for (; !err && binding; binding = binding->source_previous) {
        if (!binding_is_durable(binding))
            continue;
        struct topology_change change = {.kind = CHANGE_BIND, .vhost = exchange->vhost->id, .flags = binding->queue ? 0 : TOPOLOGY_TO_EXCHANGE,
                                         .name = binding->queue ? binding->queue->name : binding->exchange->name,
                                         .source = exchange->name, .routing_key = binding->routing_key, .arguments = binding->arguments};
        err = each(owner, &change);
    }
    return err;
}

static enum gw_err dump_bindings(const struct vhost *vhost, change_visitor *each, void *owner)
{
    uint32_t cursor = 0;
    enum gw_err err = GW_OK;
    for (const struct exchange *exchange; !err && (exchange = map_next(&vhost->exchanges.map, &cursor));)
        err = dump_outgoing(exchange, each, owner);
    return err;
}

static enum gw_err dump_vhost(const struct vhost *vhost, change_visitor *each, void *owner)
{
    struct topology_change change = {.kind = CHANGE_VHOST_PUT, .flags = vhost->flags, .vhost = vhost->id, .name = vhost->name, .source = vhost->description,
                                     .routing_key = vhost->default_queue_type, .arguments = vhost->tags};
    enum gw_err err = each(owner, &change);
    if (!err)
        err = dump_accesses(vhost, each, owner);
    if (!err)
        err = dump_policies(vhost, &vhost->policies, 0, each, owner);
    if (!err)
        err = dump_policies(vhost, &vhost->operator_policies, TOPOLOGY_OPERATOR, each, owner);
    if (!err)
        err = dump_parameters(vhost->id, vhost->parameters, each, owner);
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
    if (!err)
        err = dump_parameters(0, topology->parameters, each, owner);
    if (!err)
        err = dump_limits(topology, each, owner);
    return err;
}
