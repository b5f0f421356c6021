/* Commands that look at queues, exchanges and bindings. */
#include "broker/control.h"

#include "broker/dedup.h"
#include "broker/groups.h"
#include "broker/retry.h"
#include "broker/schedule.h"
#include "broker/table_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- queues -------------------------------------------------------------------------------------------------------- */

struct queue_row {
    const struct queue_entry *entry;
    const struct queue *queue;
    struct queue_totals totals;
    struct outlook_numbers numbers;
};

#define QUEUE_FIELD(field, statement) \
    static void queue_##field(struct writer *writer, const void *pointer) \
    { \
        const struct queue_row *row = pointer; \
        (void)row; \
        statement; \
    }
QUEUE_FIELD(name, writer_string(writer, row->entry->name))
QUEUE_FIELD(vhost, writer_string(writer, row->entry->vhost->name))
QUEUE_FIELD(durable, writer_boolean(writer, row->entry->flags & TOPOLOGY_DURABLE))
QUEUE_FIELD(auto_delete, writer_boolean(writer, row->entry->flags & TOPOLOGY_AUTO_DELETE))
QUEUE_FIELD(exclusive, writer_boolean(writer, row->entry->flags & TOPOLOGY_EXCLUSIVE))
QUEUE_FIELD(arguments, table_write_json(row->entry->arguments, writer))
QUEUE_FIELD(typed_arguments, control_write_typed_table(writer, row->entry->arguments))
QUEUE_FIELD(messages, writer_integer(writer, (int64_t)(row->totals.ready + row->totals.unacked)))
QUEUE_FIELD(messages_ready, writer_integer(writer, (int64_t)(row->totals.ready - retry_loose(row->queue))))
QUEUE_FIELD(messages_unacknowledged, writer_integer(writer, (int64_t)(row->totals.unacked - retry_held(row->queue))))
QUEUE_FIELD(messages_scheduled, writer_integer(writer, (int64_t)schedule_count(row->queue)))
QUEUE_FIELD(messages_retrying, writer_integer(writer, (int64_t)(retry_loose(row->queue) + retry_held(row->queue))))
QUEUE_FIELD(message_bytes, writer_integer(writer, (int64_t)row->totals.ready_bytes))
QUEUE_FIELD(consumers, writer_integer(writer, row->queue->consumer_count))
QUEUE_FIELD(consumer_capacity, writer_real(writer, row->queue->active ? 1 : 0))
QUEUE_FIELD(state, writer_string(writer, bytes_of_text("running")))
QUEUE_FIELD(type, writer_string(writer, bytes_of_text(queue_type_name(settings_queue_type(row->entry->arguments)))))
QUEUE_FIELD(messages_deduplicated, writer_integer(writer, row->queue->dedup ? (int64_t)row->queue->dedup->dropped : 0))
QUEUE_FIELD(dedup_ids, writer_integer(writer, row->queue->dedup ? (int64_t)id_window_count(&row->queue->dedup->ids) : 0))
QUEUE_FIELD(dedup_forgotten, writer_integer(writer, row->queue->dedup ? (int64_t)row->queue->dedup->forgotten : 0))
QUEUE_FIELD(group_keys, writer_integer(writer, groups_keys(row->queue)))
QUEUE_FIELD(group_keys_held, writer_integer(writer, groups_held_keys(row->queue)))
QUEUE_FIELD(arrival_rate, writer_real(writer, row->numbers.arrival_rate))
QUEUE_FIELD(settle_rate, writer_real(writer, row->numbers.settle_rate))
QUEUE_FIELD(service_seconds, writer_real(writer, row->numbers.service_seconds))
QUEUE_FIELD(utilisation, writer_real(writer, row->numbers.utilisation))
QUEUE_FIELD(backlog_end_seconds, writer_real(writer, row->numbers.backlog_end_seconds))
QUEUE_FIELD(consumers_needed, writer_real(writer, row->numbers.consumers_needed))
QUEUE_FIELD(none, writer_string(writer, bytes_of_text("")))
QUEUE_FIELD(zero, writer_integer(writer, 0))

static void write_id(struct writer *writer, const char *kind, uint64_t id)
{
    char text[64];
    int size = snprintf(text, sizeof(text), "<godwit.%s.%llx>", kind, (unsigned long long)id);
    writer_string(writer, bytes_of(text, (size_t)size));
}

QUEUE_FIELD(pid, write_id(writer, "queue", row->entry->id))

static void queue_owner(struct writer *writer, const void *pointer)
{
    const struct queue_row *row = pointer;
    if (row->entry->owner)
        write_id(writer, "connection", row->entry->owner);
    else
        writer_string(writer, bytes_of_text(""));
}

static void queue_policies(const struct queue_entry *queue, const struct policy **user, const struct policy **operator)
{
    static const enum policy_target targets[] = {
        [QUEUE_CLASSIC] = POLICY_CLASSIC_QUEUES, [QUEUE_QUORUM] = POLICY_QUORUM_QUEUES, [QUEUE_STREAM] = POLICY_STREAMS};
    topology_policy_for(queue->vhost, queue->name, targets[settings_queue_type(queue->arguments)], user, operator);
}

static void write_policy_name(struct writer *writer, const struct policy *policy) { writer_string(writer, policy ? policy->name : (struct bytes){0}); }

static void queue_policy(struct writer *writer, const void *pointer)
{
    const struct policy *user, *operator;
    queue_policies(((const struct queue_row *)pointer)->entry, &user, &operator);
    write_policy_name(writer, user);
}

static void queue_operator_policy(struct writer *writer, const void *pointer)
{
    const struct policy *user, *operator;
    queue_policies(((const struct queue_row *)pointer)->entry, &user, &operator);
    write_policy_name(writer, operator);
}

/* What both say together: of numbers the lower, of everything else the operator's. */
static void queue_effective_policy(struct writer *writer, const void *pointer)
{
    const struct policy *user, *operator;
    const char *key;
    json_t *value;
    queue_policies(((const struct queue_row *)pointer)->entry, &user, &operator);
    json_t *merged = user ? json_loadb((const char *)user->definition.data, user->definition.size, 0, NULL) : json_object();
    json_t *limits = operator ? json_loadb((const char *)operator->definition.data, operator->definition.size, 0, NULL) : NULL;
    json_object_foreach(limits, key, value) {
        const json_t *other = json_object_get(merged, key);
        if (!json_is_integer(other) || !json_is_integer(value) || json_integer_value(value) < json_integer_value(other))
            json_object_set(merged, key, value);
    }
    char *text = json_dumps(merged, JSON_COMPACT | JSON_SORT_KEYS);
    writer_json(writer, bytes_of_text(text ? text : "{}"));
    free(text);
    json_decref(limits);
    json_decref(merged);
}

static const struct control_field queue_fields[] = {
    {"name", queue_name}, {"vhost", queue_vhost}, {"durable", queue_durable}, {"auto_delete", queue_auto_delete}, {"exclusive", queue_exclusive},
    {"arguments", queue_arguments}, {"typed_arguments", queue_typed_arguments}, {"type", queue_type}, {"state", queue_state}, {"messages", queue_messages},
    {"messages_ready", queue_messages_ready}, {"messages_unacknowledged", queue_messages_unacknowledged},
    {"messages_scheduled", queue_messages_scheduled}, {"messages_retrying", queue_messages_retrying}, {"message_bytes", queue_message_bytes},
    {"message_bytes_ready", queue_message_bytes}, {"consumers", queue_consumers}, {"consumer_capacity", queue_consumer_capacity},
    {"consumer_utilisation", queue_consumer_capacity}, {"pid", queue_pid}, {"owner_pid", queue_owner}, {"policy", queue_policy},
    {"operator_policy", queue_operator_policy}, {"effective_policy_definition", queue_effective_policy}, {"messages_deduplicated", queue_messages_deduplicated},
    {"dedup_ids", queue_dedup_ids}, {"dedup_forgotten", queue_dedup_forgotten}, {"group_keys", queue_group_keys}, {"group_keys_held", queue_group_keys_held},
    {"arrival_rate", queue_arrival_rate}, {"settle_rate", queue_settle_rate}, {"service_seconds", queue_service_seconds}, {"utilisation", queue_utilisation},
    {"backlog_end_seconds", queue_backlog_end_seconds}, {"consumers_needed", queue_consumers_needed}, {"nothing", queue_none}, {"zero", queue_zero},
};
#define QUEUE_FIELD_COUNT (sizeof(queue_fields) / sizeof(queue_fields[0]))

static struct outlook_numbers outlook_or_nothing(const struct queue *queue, const struct queue_totals *totals)
{
    if (!queue->outlook || queue->stream)
        return (struct outlook_numbers){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    return outlook_numbers(queue->outlook, totals->ready + totals->unacked, OUTLOOK_TARGET_SECONDS, OUTLOOK_UTILISATION);
}

/* Every worker's part: the queues of its shards. */
void control_list_queues(struct control *control)
{
    const struct vhost *vhost = control_vhost(control);
    uint64_t columns = control_columns(control, queue_fields, QUEUE_FIELD_COUNT);
    for (unsigned i = 0; vhost && i < control->worker->broker->shards; i++) {
        const struct shard *shard = control->worker->shards[i];
        uint32_t cursor = 0;
        for (const struct queue *queue; shard && (queue = map_next(&shard->queues, &cursor));) {
            const struct queue_entry *entry = topology_queue_by_id(control->topology, queue->id);
            if (!entry || entry->vhost != vhost || (entry->flags & TOPOLOGY_HIDDEN))
                continue;
            const struct queue_totals totals = queue_totals(queue);
            const struct queue_row row = {entry, queue, totals, outlook_or_nothing(queue, &totals)};
            control_write_row(control, queue_fields, QUEUE_FIELD_COUNT, columns, &row);
        }
    }
}

/* ---- exchanges ----------------------------------------------------------------------------------------------------- */

#define EXCHANGE_FIELD(field, statement) \
    static void exchange_##field(struct writer *writer, const void *pointer) \
    { \
        const struct exchange *exchange = pointer; \
        (void)exchange; \
        statement; \
    }
EXCHANGE_FIELD(name, writer_string(writer, exchange->name))
EXCHANGE_FIELD(vhost, writer_string(writer, exchange->vhost->name))
EXCHANGE_FIELD(type, writer_string(writer, bytes_of_text(exchange_type_name(exchange->type))))
EXCHANGE_FIELD(durable, writer_boolean(writer, exchange->flags & TOPOLOGY_DURABLE))
EXCHANGE_FIELD(auto_delete, writer_boolean(writer, exchange->flags & TOPOLOGY_AUTO_DELETE))
EXCHANGE_FIELD(internal, writer_boolean(writer, exchange->flags & TOPOLOGY_INTERNAL))
EXCHANGE_FIELD(arguments, table_write_json(exchange->arguments, writer))
EXCHANGE_FIELD(typed_arguments, control_write_typed_table(writer, exchange->arguments))

static void exchange_policy(struct writer *writer, const void *pointer)
{
    const struct exchange *exchange = pointer;
    const struct policy *user, *operator;
    topology_policy_for(exchange->vhost, exchange->name, POLICY_EXCHANGES, &user, &operator);
    write_policy_name(writer, user);
}

static const struct control_field exchange_fields[] = {
    {"name", exchange_name}, {"vhost", exchange_vhost}, {"type", exchange_type}, {"durable", exchange_durable}, {"auto_delete", exchange_auto_delete},
    {"internal", exchange_internal}, {"arguments", exchange_arguments}, {"typed_arguments", exchange_typed_arguments},
    {"policy", exchange_policy},
};
#define EXCHANGE_FIELD_COUNT (sizeof(exchange_fields) / sizeof(exchange_fields[0]))

void control_list_exchanges(struct control *control)
{
    const struct vhost *vhost = control_vhost(control);
    uint64_t columns = control_columns(control, exchange_fields, EXCHANGE_FIELD_COUNT);
    uint32_t cursor = 0;
    writer_open(&control->answer, '[');
    for (const struct exchange *exchange; vhost && (exchange = map_next(&vhost->exchanges.map, &cursor));)
        control_write_row(control, exchange_fields, EXCHANGE_FIELD_COUNT, columns, exchange);
    writer_close(&control->answer, ']');
}

/* ---- bindings ------------------------------------------------------------------------------------------------------ */

struct binding_row {
    struct bytes vhost, source, destination, routing_key, arguments;
    bool to_queue;
};

#define BINDING_FIELD(field, statement) \
    static void binding_##field(struct writer *writer, const void *pointer) \
    { \
        const struct binding_row *row = pointer; \
        (void)row; \
        statement; \
    }
BINDING_FIELD(vhost, writer_string(writer, row->vhost))
BINDING_FIELD(source, writer_string(writer, row->source))
BINDING_FIELD(source_kind, writer_string(writer, bytes_of_text("exchange")))
BINDING_FIELD(destination, writer_string(writer, row->destination))
BINDING_FIELD(destination_type, writer_string(writer, bytes_of_text(row->to_queue ? "queue" : "exchange")))
BINDING_FIELD(routing_key, writer_string(writer, row->routing_key))
BINDING_FIELD(arguments, table_write_json(row->arguments, writer))
BINDING_FIELD(typed_arguments, control_write_typed_table(writer, row->arguments))

static const struct control_field binding_fields[] = {
    {"source", binding_source}, {"vhost", binding_vhost}, {"destination", binding_destination}, {"destination_type", binding_destination_type},
    {"routing_key", binding_routing_key}, {"arguments", binding_arguments}, {"source_kind", binding_source_kind}, {"typed_arguments", binding_typed_arguments},
};
#define BINDING_FIELD_COUNT (sizeof(binding_fields) / sizeof(binding_fields[0]))

void control_list_bindings(struct control *control)
{
    const struct vhost *vhost = control_vhost(control);
    uint64_t columns = control_columns(control, binding_fields, BINDING_FIELD_COUNT);
    uint32_t cursor = 0;
    writer_open(&control->answer, '[');
    for (const struct queue_entry *queue; vhost && (queue = map_next(&vhost->queues.map, &cursor));) {
        if (queue->flags & TOPOLOGY_HIDDEN)
            continue;
        const struct binding_row row = {.vhost = vhost->name, .destination = queue->name, .routing_key = queue->name, .to_queue = true};
        control_write_row(control, binding_fields, BINDING_FIELD_COUNT, columns, &row);
    }
    cursor = 0;
    for (const struct binding *binding; vhost && (binding = map_next(&vhost->bindings.map, &cursor));) {
        const struct binding_row row = {.vhost = vhost->name, .source = binding->source->name, .routing_key = binding->routing_key, .arguments = binding->arguments,
                                        .destination = binding->queue ? binding->queue->name : binding->exchange->name, .to_queue = binding->queue != NULL};
        control_write_row(control, binding_fields, BINDING_FIELD_COUNT, columns, &row);
    }
    writer_close(&control->answer, ']');
}

/* ---- status -------------------------------------------------------------------------------------------------------- */

struct totals {
    uint64_t ready, unacked, consumers, connections, queues;
};

/* Every worker's part: what it has, in numbers; but for the one that asks, and its queue of answers. */
void control_status(struct control *control)
{
    bool asker_is_here = worker_of_client(control->request->client) == control->worker->index;
    struct totals sum = {.connections = control->worker->client_count - asker_is_here};
    for (unsigned i = 0; i < control->worker->broker->shards; i++) {
        const struct shard *shard = control->worker->shards[i];
        uint32_t cursor = 0;
        for (const struct queue *queue; shard && (queue = map_next(&shard->queues, &cursor));) {
            const struct queue_entry *entry = topology_queue_by_id(control->topology, queue->id);
            struct queue_totals totals = queue_totals(queue);
            if (!entry || (entry->flags & TOPOLOGY_HIDDEN))
                continue;
            sum.queues++;
            sum.ready += totals.ready;
            sum.unacked += totals.unacked;
            sum.consumers += queue->consumer_count;
        }
    }
    writer_open(&control->answer, '[');
    writer_integer(&control->answer, (int64_t)sum.ready);
    writer_integer(&control->answer, (int64_t)sum.unacked);
    writer_integer(&control->answer, (int64_t)sum.consumers);
    writer_integer(&control->answer, (int64_t)sum.connections);
    writer_integer(&control->answer, (int64_t)sum.queues);
    writer_close(&control->answer, ']');
}

static uint32_t count_exchanges(const struct topology *topology)
{
    uint32_t count = 0, cursor = 0;
    for (const struct vhost *vhost; (vhost = map_next(&topology->vhosts.map, &cursor));)
        count += vhost->exchanges.map.count;
    return count;
}

static void write_alarms(struct control *control)
{
    writer_put_open(&control->answer, "alarms", '[');
    unsigned reasons = watch_reasons(control->worker->broker);
    if (reasons & BLOCK_MEMORY)
        writer_string(&control->answer, bytes_of_text("memory"));
    if (reasons & BLOCK_DISK)
        writer_string(&control->answer, bytes_of_text("disk"));
    writer_close(&control->answer, ']');
}

void control_status_join(struct control *control, struct bytes rows)
{
    struct totals sum = {0};
    struct writer *writer = &control->answer, list;
    struct bytes text;
    writer_init(&list);
    writer_open(&list, '[');
    writer_json(&list, rows);
    writer_close(&list, ']');
    json_t *workers = writer_text(&list, &text) ? json_loadb((const char *)text.data, text.size, 0, NULL) : NULL;
    uint64_t *const places[] = {&sum.ready, &sum.unacked, &sum.consumers, &sum.connections, &sum.queues};
    for (size_t i = 0; i < json_array_size(workers); i++)
        for (size_t k = 0; k < sizeof(places) / sizeof(places[0]); k++)
            *places[k] += (uint64_t)json_integer_value(json_array_get(json_array_get(workers, i), k));
    json_decref(workers);
    writer_deinit(&list);
    writer_open(writer, '{');
    writer_put_text(writer, "product_name", "Godwit");
    writer_put_text(writer, "product_version", GODWIT_VERSION);
    writer_put_integer(writer, "reactors", control->worker->broker->config.workers);
    writer_put_integer(writer, "shards", control->worker->broker->shards);
    writer_put_integer(writer, "vhosts", control->topology->vhosts.map.count);
    writer_put_integer(writer, "queues", (int64_t)sum.queues);
    writer_put_integer(writer, "exchanges", count_exchanges(control->topology));
    writer_put_integer(writer, "connections", (int64_t)sum.connections);
    writer_put_integer(writer, "consumers", (int64_t)sum.consumers);
    writer_put_integer(writer, "messages", (int64_t)(sum.ready + sum.unacked));
    writer_put_integer(writer, "messages_ready", (int64_t)sum.ready);
    writer_put_integer(writer, "messages_unacknowledged", (int64_t)sum.unacked);
    write_alarms(control);
    writer_close(writer, '}');
}
