/* Which events a change of the topology is. */
#include "broker/events.h"

#include "broker/table_json.h"

#include <stdio.h>
#include <stdlib.h>

static void put_names(struct event *event, const struct vhost *vhost, struct bytes name)
{
    amqp_table_put_text(&event->headers, "name", name);
    amqp_table_put_text(&event->headers, "vhost", vhost->name);
}

/* One that says no more than a name and who did it; `vhost` may be NULL. */
static void name_event(struct worker *worker, const char *key, const struct vhost *vhost, const char *field, struct bytes name, struct bytes user)
{
    struct event event;
    if (!event_begin(&event, worker, key, name.size))
        return;
    amqp_table_put_text(&event.headers, field, name);
    if (vhost)
        amqp_table_put_text(&event.headers, "vhost", vhost->name);
    event_put_user(&event, user);
    event_end(&event);
}

/* ---- exchanges, queues, bindings --------------------------------------------------------------------------------------- */

static void exchange_created(struct worker *worker, const struct vhost *vhost, const struct topology_change *change, struct bytes user)
{
    struct event event;
    if (topology_exchange(vhost, change->name) || !event_begin(&event, worker, "exchange.created", change->arguments.size * 64))
        return;
    put_names(&event, vhost, change->name);
    amqp_table_put_text(&event.headers, "type", bytes_of_text(exchange_type_name(change->type)));
    amqp_table_put_bool(&event.headers, "durable", change->flags & TOPOLOGY_DURABLE);
    amqp_table_put_bool(&event.headers, "auto_delete", change->flags & TOPOLOGY_AUTO_DELETE);
    amqp_table_put_bool(&event.headers, "internal", change->flags & TOPOLOGY_INTERNAL);
    event_put_arguments(&event, "arguments", change->arguments);
    const struct policy *policy, *operator_policy;
    topology_policy_for(vhost, change->name, POLICY_EXCHANGES, &policy, &operator_policy);
    amqp_table_put_text(&event.headers, "policy", policy ? policy->name : (struct bytes){0});
    event_put_user(&event, user);
    event_end(&event);
}

static void queue_created(struct worker *worker, const struct vhost *vhost, const struct topology_change *change, struct bytes user)
{
    struct event event;
    if ((change->flags & TOPOLOGY_HIDDEN) || !event_begin(&event, worker, "queue.created", change->arguments.size * 64))
        return;
    char owner[32] = "";
    if (change->owner)
        snprintf(owner, sizeof(owner), "<%llu>", (unsigned long long)change->owner);
    put_names(&event, vhost, change->name);
    amqp_table_put_bool(&event.headers, "durable", change->flags & TOPOLOGY_DURABLE);
    amqp_table_put_bool(&event.headers, "auto_delete", change->flags & TOPOLOGY_AUTO_DELETE);
    amqp_table_put_bool(&event.headers, "exclusive", change->flags & TOPOLOGY_EXCLUSIVE);
    amqp_table_put_text(&event.headers, "owner_pid", bytes_of_text(owner));
    event_put_arguments(&event, "arguments", change->arguments);
    event_put_user(&event, user);
    event_end(&event);
}

static void binding_event(struct worker *worker, const char *key, const struct vhost *vhost, const struct topology_change *change, struct bytes user)
{
    struct event event;
    if (!event_begin(&event, worker, key, change->arguments.size * 64))
        return;
    amqp_table_put_text(&event.headers, "source_name", change->source);
    amqp_table_put_text(&event.headers, "source_kind", bytes_of_text("exchange"));
    amqp_table_put_text(&event.headers, "destination_name", change->name);
    amqp_table_put_text(&event.headers, "destination_kind", bytes_of_text(change->flags & TOPOLOGY_TO_EXCHANGE ? "exchange" : "queue"));
    amqp_table_put_text(&event.headers, "routing_key", change->routing_key);
    event_put_arguments(&event, "arguments", change->arguments);
    amqp_table_put_text(&event.headers, "vhost", vhost->name);
    event_put_user(&event, user);
    event_end(&event);
}

/* What goes with its queue or exchange. */
static void binding_gone(struct worker *worker, const struct binding *binding, struct bytes user)
{
    const struct topology_change change = {
        .flags = binding->queue ? 0 : TOPOLOGY_TO_EXCHANGE, .name = binding->queue ? binding->queue->name : binding->exchange->name,
        .source = binding->source->name, .routing_key = binding->routing_key, .arguments = binding->arguments};
    binding_event(worker, "binding.deleted", binding->source->vhost, &change, user);
}

static void exchange_deleted(struct worker *worker, const struct vhost *vhost, const struct topology_change *change, struct bytes user)
{
    const struct exchange *exchange = topology_exchange(vhost, change->name);
    if (!exchange)
        return;
    name_event(worker, "exchange.deleted", vhost, "name", exchange->name, user);
    for (const struct binding *binding = exchange->outgoing; binding; binding = binding->source_next)
        binding_gone(worker, binding, user);
    for (const struct binding *binding = exchange->incoming; binding; binding = binding->destination_next)
        if (binding->source != exchange)
            binding_gone(worker, binding, user);
}

static void queue_deleted(struct worker *worker, const struct topology *topology, const struct topology_change *change, struct bytes user)
{
    const struct queue_entry *queue = topology_queue_by_id(topology, change->id);
    if (!queue || (queue->flags & TOPOLOGY_HIDDEN))
        return;
    for (const struct binding *binding = queue->incoming; binding; binding = binding->destination_next)
        binding_gone(worker, binding, (struct bytes){0});
    name_event(worker, "queue.deleted", queue->vhost, "name", queue->name, user);
}

/* ---- what administrators do ------------------------------------------------------------------------------------------- */

static void put_tags(struct event *event, struct bytes tags)
{
    uint8_t array[1024];
    uint32_t used = 4;
    while (tags.size) {
        const uint8_t *comma = memchr(tags.data, ',', tags.size);
        uint32_t size = (uint32_t)(comma ? (size_t)(comma - tags.data) : tags.size);
        if (used + 5 + size > sizeof(array))
            break;
        array[used] = 'S';
        store_be32(array + used + 1, size);
        memcpy(array + used + 5, tags.data, size);
        used += 5 + size;
        size_t past = size + (comma != NULL);
        tags = bytes_of(tags.data + past, tags.size - past);
    }
    store_be32(array, used - 4);
    amqp_table_put_raw(&event->headers, bytes_of_text("tags"), 'A', bytes_of(array, used));
}

static void user_put(struct worker *worker, const struct topology *topology, const struct topology_change *change, struct bytes user)
{
    const struct user *before = topology_user(topology, change->name);
    struct event event;
    if (!before)
        name_event(worker, "user.created", NULL, "name", change->name, user);
    else if (!bytes_equal(before->secret, change->secret))
        name_event(worker, change->secret.size ? "user.password.changed" : "user.password.cleared", NULL, "name", change->name, user);
    bool tagged = before ? !bytes_equal(before->tags, change->arguments) : change->arguments.size > 0;
    if (!tagged || !event_begin(&event, worker, "user.tags.set", 0))
        return;
    amqp_table_put_text(&event.headers, "name", change->name);
    put_tags(&event, change->arguments);
    event_put_user(&event, user);
    event_end(&event);
}

static void vhost_put(struct worker *worker, const struct topology *topology, const struct topology_change *change, struct bytes user)
{
    struct event event;
    if (topology_vhost(topology, change->name) || !event_begin(&event, worker, "vhost.created", change->source.size + change->arguments.size))
        return;
    amqp_table_put_text(&event.headers, "name", change->name);
    amqp_table_put_text(&event.headers, "description", change->source);
    amqp_table_put_text(&event.headers, "tags", change->arguments);
    amqp_table_put_text(&event.headers, "default_queue_type", change->routing_key.size ? change->routing_key : bytes_of_text("undefined"));
    amqp_table_put_bool(&event.headers, "tracing", change->flags & TOPOLOGY_TRACING);
    event_put_user(&event, user);
    event_end(&event);
}

/* Patterns of permissions; of a deletion there are none. */
static void permission_event(struct worker *worker, const char *key, const struct vhost *vhost, const struct topology_change *change, struct bytes user)
{
    struct event event;
    if (!vhost || !event_begin(&event, worker, key, change->source.size + change->routing_key.size + change->arguments.size))
        return;
    bool topic = change->kind == CHANGE_TOPIC_PERMISSION_PUT, put = topic || change->kind == CHANGE_PERMISSION_PUT;
    amqp_table_put_text(&event.headers, "user", change->name);
    amqp_table_put_text(&event.headers, "vhost", vhost->name);
    if (put) {
        amqp_table_put_text(&event.headers, topic ? "exchange" : "configure", change->source);
        amqp_table_put_text(&event.headers, "write", change->routing_key);
        amqp_table_put_text(&event.headers, "read", change->arguments);
    }
    event_put_user(&event, user);
    event_end(&event);
}

/* A value that is JSON, in the types that a definition's would have as arguments. */
static void put_json(struct event *event, const char *name, struct bytes text)
{
    json_error_t error;
    json_t *value = json_loadb((const char *)text.data, text.size, JSON_DECODE_ANY, &error);
    char why[128];
    struct bytes table;
    if (json_is_object(value) && table_from_json(value, &table, why, sizeof(why))) {
        uint8_t *sized = malloc(table.size + 4);
        if (sized) {
            store_be32(sized, (uint32_t)table.size);
            if (table.size)
                memcpy(sized + 4, table.data, table.size);
            amqp_table_put_raw(&event->headers, bytes_of_text(name), 'F', bytes_of(sized, table.size + 4));
        }
        free(sized);
        free((void *)(uintptr_t)table.data);
    } else if (json_is_integer(value)) {
        amqp_table_put_long(&event->headers, name, json_integer_value(value));
    } else if (json_is_boolean(value)) {
        amqp_table_put_bool(&event->headers, name, json_is_true(value));
    } else if (json_is_string(value)) {
        amqp_table_put_text(&event->headers, name, bytes_of(json_string_value(value), json_string_length(value)));
    } else {
        amqp_table_put_text(&event->headers, name, text);
    }
    json_decref(value);
}

static void policy_set(struct worker *worker, const struct vhost *vhost, const struct topology_change *change, struct bytes user)
{
    struct event event;
    if (!vhost || !event_begin(&event, worker, "policy.set", change->source.size + change->arguments.size * 8))
        return;
    put_names(&event, vhost, change->name);
    amqp_table_put_text(&event.headers, "pattern", change->source);
    put_json(&event, "definition", change->arguments);
    amqp_table_put_text(&event.headers, "apply-to", bytes_of_text(policy_target_name((unsigned)change->id)));
    amqp_table_put_long(&event.headers, "priority", (int64_t)change->owner);
    event_put_user(&event, user);
    event_end(&event);
}

static void parameter_event(struct worker *worker, const char *key, const struct vhost *vhost, const struct topology_change *change, struct bytes user)
{
    struct event event;
    if (!event_begin(&event, worker, key, change->arguments.size * 8))
        return;
    amqp_table_put_text(&event.headers, "name", change->name);
    amqp_table_put_text(&event.headers, "component", change->vhost ? change->source : bytes_of_text("global"));
    if (vhost)
        amqp_table_put_text(&event.headers, "vhost", vhost->name);
    if (change->kind == CHANGE_PARAMETER_PUT)
        put_json(&event, "value", change->arguments);
    event_put_user(&event, user);
    event_end(&event);
}

static void limits_event(struct worker *worker, const struct vhost *vhost, const struct topology_change *change, struct bytes user)
{
    bool of_vhost = change->kind == CHANGE_VHOST_LIMITS, any = change->id != TOPOLOGY_UNLIMITED || change->owner != TOPOLOGY_UNLIMITED;
    struct event event;
    if (!event_begin(&event, worker, of_vhost ? any ? "vhost.limits.set" : "vhost.limits.cleared" : any ? "user.limits.set" : "user.limits.cleared", 0))
        return;
    amqp_table_put_text(&event.headers, "name", bytes_of_text("limits"));
    if (of_vhost && vhost)
        amqp_table_put_text(&event.headers, "vhost", vhost->name);
    else if (!of_vhost)
        amqp_table_put_text(&event.headers, "username", change->name);
    if (change->id != TOPOLOGY_UNLIMITED)
        amqp_table_put_long(&event.headers, "max-connections", (int64_t)change->id);
    if (change->owner != TOPOLOGY_UNLIMITED)
        amqp_table_put_long(&event.headers, of_vhost ? "max-queues" : "max-channels", (int64_t)change->owner);
    event_put_user(&event, user);
    event_end(&event);
}

/* ---- all of them ------------------------------------------------------------------------------------------------------ */

static void of_administration(struct worker *worker, const struct topology *topology, const struct vhost *vhost, const struct topology_change *change,
                              struct bytes user)
{
    switch (change->kind) {
    case CHANGE_USER_PUT: user_put(worker, topology, change, user); break;
    case CHANGE_USER_DELETE: name_event(worker, "user.deleted", NULL, "name", change->name, user); break;
    case CHANGE_VHOST_PUT: vhost_put(worker, topology, change, user); break;
    case CHANGE_VHOST_DELETE: name_event(worker, "vhost.deleted", NULL, "name", vhost ? vhost->name : change->name, user); break;
    case CHANGE_USER_LIMITS:
    case CHANGE_VHOST_LIMITS: limits_event(worker, vhost, change, user); break;
    case CHANGE_PERMISSION_PUT: permission_event(worker, "permission.created", vhost, change, user); break;
    case CHANGE_TOPIC_PERMISSION_PUT: permission_event(worker, "topic.permission.created", vhost, change, user); break;
    case CHANGE_PERMISSION_DELETE:   /* RabbitMQ says the same of both */
    case CHANGE_TOPIC_PERMISSION_DELETE: permission_event(worker, "permission.deleted", vhost, change, user); break;
    case CHANGE_POLICY_PUT: policy_set(worker, vhost, change, user); break;
    case CHANGE_POLICY_DELETE:
        name_event(worker, change->flags & TOPOLOGY_OPERATOR ? "operator.policy.cleared" : "policy.cleared", vhost, "name", change->name, user);
        break;
    case CHANGE_PARAMETER_PUT: parameter_event(worker, "parameter.set", vhost, change, user); break;
    case CHANGE_PARAMETER_DELETE: parameter_event(worker, "parameter.cleared", vhost, change, user); break;
    default: break;
    }
}

void events_of_change(struct worker *worker, const struct topology *topology, const struct topology_change *change, struct bytes user)
{
    const struct vhost *vhost = topology_vhost_by_id(topology, change->vhost);
    if (change->kind > CHANGE_UNBIND) {
        of_administration(worker, topology, vhost, change, user);
        return;
    }
    if (change->kind == CHANGE_QUEUE_DELETE) {
        queue_deleted(worker, topology, change, user);
        return;
    }
    if (!vhost)
        return;
    switch (change->kind) {
    case CHANGE_EXCHANGE_DECLARE: exchange_created(worker, vhost, change, user); break;
    case CHANGE_EXCHANGE_DELETE: exchange_deleted(worker, vhost, change, user); break;
    case CHANGE_QUEUE_DECLARE: queue_created(worker, vhost, change, user); break;
    case CHANGE_BIND: binding_event(worker, "binding.created", vhost, change, user); break;
    case CHANGE_UNBIND: binding_event(worker, "binding.deleted", vhost, change, user); break;
    default: break;
    }
}
