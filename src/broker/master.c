/* The master of the topology, on worker 0: decides declares, deletes and bindings on the master copy, logs what is durable in shard 0, and once that is
 * committed sends the change to every worker. The one who asked is answered when all have applied it.
 *
 *   request → check and apply to the master copy → log → committed → broadcast → acknowledged by all → answer
 *
 * Changes have sequence numbers and keep their order through all of it; one that need not be logged waits for those before it. */
#include "broker/worker_internal.h"

#include "broker/arguments.h"
#include "broker/connections.h"
#include "broker/delayed.h"
#include "broker/control.h"
#include "broker/events.h"
#include "broker/name_list.h"
#include "protocol/amqp/table.h"

#include <stdio.h>
#include <stdlib.h>

#define HALF_NAME_SIZE 256u   /* more than a client can send */

/* A change, or just an answer, that is on its way. */
struct step {
    struct step *next;
    uint64_t sequence;
    uint8_t *change;                 /* its bytes; NULL: there is only an answer to give */
    uint32_t change_size;
    bool committed, refused, broadcast;
    struct command_answer *answer;   /* with the asker's client and serial; NULL: nobody asked */
};

struct master {
    struct worker *worker;
    struct topology topology;
    struct connections connections;
    struct step *first, *last;       /* in order */
    struct step *next;               /* the first that is not broadcast; those before it only wait to be acknowledged */
    struct step *uncommitted;        /* none before it waits for the log; NULL: none at all does */
    uint64_t next_sequence, broadcast_sequence;
    uint64_t acknowledged[WORKERS_MAX];
    uint64_t next_transient;         /* the next transient queue's number */
    bool opening;                    /* see master_set_opening */
};

struct master *master_new(struct worker *worker)
{
    struct master *master = calloc(1, sizeof(*master));
    if (!master)
        return NULL;
    master->worker = worker;
    master->next_sequence = 1;
    master->next_transient = 1;
    if (topology_init(&master->topology, worker->broker->hash_seed)) {
        free(master);
        return NULL;
    }
    connections_init(&master->connections, worker->broker->hash_seed);
    return master;
}

static void step_free(struct step *step)
{
    free(step->change);
    free(step->answer);
    free(step);
}

void master_free(struct master *master)
{
    if (!master)
        return;
    while (master->first) {
        struct step *step = master->first;
        master->first = step->next;
        step_free(step);
    }
    topology_deinit(&master->topology);
    connections_deinit(&master->connections);
    free(master);
}

struct topology *master_topology(struct master *master) { return &master->topology; }
struct worker *master_worker(struct master *master) { return master->worker; }
struct connections *master_connections(struct master *master) { return &master->connections; }

enum gw_err master_restore(struct master *master, const struct topology_change *change)
{
    enum gw_err err = topology_apply(&master->topology, change);
    return err == GW_ERR_NOMEM ? err : GW_OK;
}

/* ---- steps --------------------------------------------------------------------------------------------------------- */

static void skip_committed(struct master *master)
{
    while (master->uncommitted && master->uncommitted->committed)
        master->uncommitted = master->uncommitted->next;
}

static struct step *step_add(struct master *master)
{
    struct step *step = calloc(1, sizeof(*step));
    CHECK(step);
    step->sequence = master->next_sequence++;
    if (master->last)
        master->last->next = step;
    else
        master->first = step;
    master->last = step;
    if (!master->next)
        master->next = step;
    if (!master->uncommitted)
        master->uncommitted = step;
    return step;
}

static struct command_answer *make_answer(const struct command_request *request, struct bytes name)
{
    struct command_answer *answer = calloc(1, sizeof(*answer) + name.size);
    CHECK(answer);
    answer->client = request->client;
    answer->serial = request->serial;
    answer->kind = request->kind;
    answer->tag = request->tag;
    answer->channel = request->channel;
    answer->name_size = (uint32_t)name.size;
    if (name.size)
        memcpy(answer->bytes, name.data, name.size);
    return answer;
}

static struct command_answer *answer_only(struct master *master, const struct command_request *request, struct bytes name)
{
    struct step *step = step_add(master);
    step->committed = true;
    step->answer = make_answer(request, name);
    return step->answer;
}

/* Who asks; empty: nobody. */
static struct bytes user_of(struct master *master, const struct command_request *request)
{
    const struct connection_entry *entry = request ? connections_find(&master->connections, request->client) : NULL;
    return entry ? entry->user->name : (struct bytes){0};
}

static void declare_half_queue(struct master *master, const struct vhost *vhost);

/* Applies and sends on a change. The answer, if any, becomes `request`'s. NULL: the log refused; nothing happened. */
static struct step *change_topology(struct master *master, const struct topology_change *change, bool durable, const struct command_request *request)
{
    uint64_t sequence = master->next_sequence;
    enum gw_err err = durable ? shard_log_change(master->worker->shards[0], change, sequence) : GW_OK;
    if (err) {
        if (request)
            request_refuse(master->worker, request, 541, "INTERNAL_ERROR - durable storage refused the change: %s", gw_err_text(err));
        return NULL;
    }
    struct step *step = step_add(master);
    step->change_size = topology_change_size(change);
    step->change = malloc(step->change_size);
    CHECK(step->change);
    topology_change_write(change, step->change);
    step->committed = !durable;
    if (request)
        step->answer = make_answer(request, (struct bytes){0});
    /* From the copy, since what `change` points into may go with what it deletes. */
    struct topology_change copy;
    CHECK(topology_change_read(bytes_of(step->change, step->change_size), &copy));
    events_of_change(master->worker, &master->topology, &copy, user_of(master, request));
    err = topology_apply(&master->topology, &copy);
    CHECK(err != GW_ERR_NOMEM);
    if (master->opening) {
        for (unsigned i = 0; i < master->worker->broker->config.workers; i++)
            worker_change(master->worker->broker->workers[i], &copy);
        free(step->change);
        step->change = NULL;
        step->committed = step->broadcast = true;
    }
    if (change->kind == CHANGE_VHOST_PUT)
        declare_half_queue(master, topology_vhost(&master->topology, change->name));
    return step;
}

void master_set_opening(struct master *master, bool opening) { master->opening = opening; }

struct command_answer *master_answer(struct master *master, const struct command_request *request)
{
    return answer_only(master, request, (struct bytes){0});
}

void master_answer_text(struct master *master, const struct command_request *request, struct bytes text)
{
    answer_only(master, request, text);
}

bool master_apply(struct master *master, const struct topology_change *change, const struct command_request *request)
{
    return change_topology(master, change, true, request) != NULL;
}

/* The log commits in order, so that the step is found at once. */
void master_committed(struct master *master, uint64_t sequence, bool ok)
{
    struct step *step = master->uncommitted;
    while (step && step->sequence != sequence)
        step = step->next;
    if (!step)
        return;
    step->committed = true;
    step->refused = !ok;
    skip_committed(master);
}

void master_ack(struct master *master, unsigned worker, uint64_t sequence)
{
    master->acknowledged[worker] = sequence;
}

static uint64_t acknowledged_by_all(const struct master *master)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < master->worker->broker->config.workers; i++)
        if (master->acknowledged[i] < least)
            least = master->acknowledged[i];
    return least;
}

static void broadcast(struct master *master, const struct step *step)
{
    for (unsigned i = 0; i < master->worker->broker->config.workers; i++) {
        struct command_change *command = worker_command(master->worker, i, COMMAND_TOPOLOGY_CHANGE,
                                                        (uint32_t)sizeof(*command) + step->change_size, NULL);
        command->sequence = step->sequence;
        command->change_size = step->change_size;
        memcpy(command->bytes, step->change, step->change_size);
    }
    master->broadcast_sequence = step->sequence;
}

static void answer_step(struct master *master, const struct step *step)
{
    static const char refusal[] = "INTERNAL_ERROR - durable storage has failed";
    const struct command_answer *from = step->answer;
    uint32_t text = step->refused ? sizeof(refusal) - 1 : 0;
    struct command_answer *answer = worker_command(master->worker, worker_of_client(from->client), COMMAND_ANSWER,
                                                   (uint32_t)sizeof(*answer) + text + from->name_size, NULL);
    struct command command = answer->command;
    *answer = *from;
    answer->command = command;
    answer->text_size = text;
    if (text) {
        answer->code = 541;
        memcpy(answer->bytes, refusal, text);
    }
    memcpy(answer->bytes + text, from->bytes, from->name_size);
}

void master_turn_end(struct master *master)
{
    for (; master->next && master->next->committed; master->next = master->next->next) {
        struct step *step = master->next;
        step->broadcast = true;
        /* One that the log lost after all is still applied everywhere: the copies must not differ; the asker learns that it will not last. */
        if (step->change)
            broadcast(master, step);
    }
    uint64_t acknowledged = acknowledged_by_all(master);
    while (master->first && master->first->broadcast && (!master->first->change || master->first->sequence <= acknowledged)) {
        struct step *step = master->first;
        master->first = step->next;
        if (!master->first)
            master->last = NULL;
        if (step == master->uncommitted)
            master->uncommitted = step->next;
        if (step->answer && step->answer->client)
            answer_step(master, step);
        step_free(step);
    }
}

bool master_is_due(const struct master *master)
{
    return master->next && master->next->committed;
}

/* ---- exchanges ----------------------------------------------------------------------------------------------------- */

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data

static bool has_reserved_prefix(struct bytes name)
{
    return name.size >= 4 && memcmp(name.data, "amq.", 4) == 0;
}

static void declare_found_exchange(struct master *master, const struct command_request *request, const struct exchange *exchange)
{
    struct bytes name = request_name(request), type = request_type(request);
    char what[600];
    snprintf(what, sizeof(what), "exchange '%.*s' in vhost '%.*s'", TEXT(name), TEXT(exchange->vhost->name));
    const char *current = exchange_type_name(exchange->type);
    if (!bytes_equal(type, bytes_of_text(current))) {
        request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - inequivalent arg 'type' for %s: received '%.*s' but current is '%s'",
                       what, TEXT(type), current);
        return;
    }
    const struct { const char *name; unsigned asked, flag; } fields[] = {
        {"durable", request->flags & REQUEST_DURABLE, TOPOLOGY_DURABLE},
        {"auto_delete", request->flags & REQUEST_AUTO_DELETE, TOPOLOGY_AUTO_DELETE},
        {"internal", request->flags & REQUEST_INTERNAL, TOPOLOGY_INTERNAL},
    };
    for (unsigned i = 0; i < 3; i++)
        if (!fields[i].asked != !(exchange->flags & fields[i].flag)) {
            request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - inequivalent arg '%s' for %s: received '%s' but current is '%s'",
                           fields[i].name, what, fields[i].asked ? "true" : "false", fields[i].asked ? "false" : "true");
            return;
        }
    char difference[1000];
    if (!arguments_equivalent(exchange->arguments, request_arguments(request), ARGUMENTS_OF_EXCHANGE, what, difference, sizeof(difference))) {
        request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - inequivalent arg %s", difference);
        return;
    }
    answer_only(master, request, (struct bytes){0});
}

/* May an exchange be made with these arguments? False: the request was refused. */
static bool exchange_is_valid(struct master *master, const struct vhost *vhost, enum exchange_type type, const struct command_request *request)
{
    struct bytes name = request_name(request), arguments = request_arguments(request);
    struct amqp_field alternate;
    uint16_t code;
    char text[400];
    if (amqp_table_find(arguments, "alternate-exchange", &alternate) && alternate.type != 'S')
        request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - invalid type '%s' for arg 'alternate-exchange' in exchange '%.*s' in vhost '%.*s'",
                       amqp_field_type_name(alternate.type), TEXT(name), TEXT(vhost->name));
    else if (!exchange_arguments_valid(type, arguments, &code, text, sizeof(text)))
        request_refuse(master->worker, request, code, "%s - %s", code == 503 ? "COMMAND_INVALID" : "PRECONDITION_FAILED", text);
    else
        return true;
    return false;
}

static void remove_queue(struct master *master, const struct queue_entry *queue, const struct command_request *request);
static uint64_t new_queue_id(struct master *master, struct bytes name, bool durable);

/* The queue in which a delayed exchange keeps what is not due yet. One that a crash has left behind goes. */
static void declare_delayed_queue(struct master *master, const struct vhost *vhost, struct bytes exchange, bool durable)
{
    uint8_t room[DELAYED_NAME_MAX];
    struct bytes name = delayed_queue_name(exchange, room);
    struct queue_entry *old = topology_queue(vhost, name);
    if (old)
        remove_queue(master, old, NULL);
    struct topology_change change = {.kind = CHANGE_QUEUE_DECLARE, .vhost = vhost->id, .id = new_queue_id(master, name, durable), .name = name,
                                     .flags = (durable ? TOPOLOGY_DURABLE : 0) | TOPOLOGY_HIDDEN | TOPOLOGY_DELAYED};
    change_topology(master, &change, durable, NULL);
}

/* Every vhost has a queue for half messages, see half.h: from its beginning, or from when the broker learned about them. */
static void declare_half_queue(struct master *master, const struct vhost *vhost)
{
    uint8_t room[HALF_NAME_SIZE];
    struct bytes name = bytes_of(room, sizeof(room));
    if (!vhost || vhost->half_queue)
        return;
    memset(room, '.', sizeof(room));
    memcpy(room, "transactions", 12);
    struct topology_change change = {.kind = CHANGE_QUEUE_DECLARE, .vhost = vhost->id, .id = new_queue_id(master, name, true), .name = name,
                                     .flags = TOPOLOGY_DURABLE | TOPOLOGY_HIDDEN | TOPOLOGY_HALF};
    change_topology(master, &change, true, NULL);
}

void master_open_vhosts(struct master *master)
{
    uint32_t cursor = 0;
    for (const struct vhost *vhost; (vhost = map_next(&master->topology.vhosts.map, &cursor));)
        declare_half_queue(master, vhost);
}

static void declare_exchange(struct master *master, struct vhost *vhost, const struct command_request *request)
{
    struct bytes name = request_name(request), type = request_type(request);
    struct exchange *exchange = topology_exchange(vhost, name);
    enum exchange_type parsed;
    if (!name.size) {
        request_refuse(master->worker, request, 403, "ACCESS_REFUSED - operation not permitted on the default exchange");
    } else if (request->flags & REQUEST_PASSIVE) {
        if (exchange)
            answer_only(master, request, (struct bytes){0});
        else
            request_refuse(master->worker, request, 404, "NOT_FOUND - no exchange '%.*s' in vhost '%.*s'", TEXT(name), TEXT(vhost->name));
    } else if (!exchange_type_parse(type, &parsed)) {
        request_refuse(master->worker, request, 503, "COMMAND_INVALID - %s exchange type '%.*s'", type.size ? "unknown" : "invalid", TEXT(type));
    } else if (exchange) {
        declare_found_exchange(master, request, exchange);
    } else if (has_reserved_prefix(name)) {
        request_refuse(master->worker, request, 403, "ACCESS_REFUSED - exchange name '%.*s' contains reserved prefix 'amq.*'", TEXT(name));
    } else if (exchange_is_valid(master, vhost, parsed, request)) {
        struct topology_change change = {
            .kind = CHANGE_EXCHANGE_DECLARE, .vhost = vhost->id, .type = parsed, .name = name, .arguments = request_arguments(request),
            .flags = (request->flags & REQUEST_DURABLE ? TOPOLOGY_DURABLE : 0) | (request->flags & REQUEST_AUTO_DELETE ? TOPOLOGY_AUTO_DELETE : 0) |
                     (request->flags & REQUEST_INTERNAL ? TOPOLOGY_INTERNAL : 0)};
        if (parsed == EXCHANGE_DELAYED)
            declare_delayed_queue(master, vhost, name, request->flags & REQUEST_DURABLE);
        change_topology(master, &change, request->flags & REQUEST_DURABLE, request);
    }
}

/* The auto-delete exchanges among the sources of bindings that are about to go with their destination. */
static void gather_sources(struct name_list *sources, const struct binding *incoming)
{
    for (const struct binding *binding = incoming; binding; binding = binding->destination_next)
        if (binding->source->flags & TOPOLOGY_AUTO_DELETE)
            name_list_add(sources, binding->source->name);
}

static void remove_exchange(struct master *master, const struct exchange *exchange, const struct command_request *request, struct name_list *sources)
{
    gather_sources(sources, exchange->incoming);
    const struct queue_entry *waiting = exchange->type == EXCHANGE_DELAYED ? delayed_queue(exchange) : NULL;
    if (waiting)
        remove_queue(master, waiting, NULL);
    struct topology_change change = {.kind = CHANGE_EXCHANGE_DELETE, .vhost = exchange->vhost->id, .name = exchange->name};
    change_topology(master, &change, exchange->flags & TOPOLOGY_DURABLE, request);
}

/* An auto-delete exchange goes with the last binding of which it was the source, and others may with it. */
static void auto_delete(struct master *master, const struct vhost *vhost, struct name_list *sources)
{
    uint8_t room[UINT8_MAX];
    struct bytes name;
    while (name_list_next(sources, room, &name)) {
        const struct exchange *exchange = topology_exchange(vhost, name);
        if (exchange && (exchange->flags & TOPOLOGY_AUTO_DELETE) && !exchange->outgoing_count)
            remove_exchange(master, exchange, NULL, sources);
    }
    name_list_deinit(sources);
}

static void delete_exchange(struct master *master, struct vhost *vhost, const struct command_request *request)
{
    struct bytes name = request_name(request);
    struct exchange *exchange = topology_exchange(vhost, name);
    if (!name.size)
        request_refuse(master->worker, request, 403, "ACCESS_REFUSED - operation not permitted on the default exchange");
    else if (has_reserved_prefix(name))
        request_refuse(master->worker, request, 403, "ACCESS_REFUSED - deletion of system exchange '%.*s' in vhost '%.*s' not allowed", TEXT(name), TEXT(vhost->name));
    else if (!exchange)
        answer_only(master, request, (struct bytes){0});
    else if ((request->flags & REQUEST_IF_UNUSED) && exchange->outgoing_count)
        request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - exchange '%.*s' in vhost '%.*s' in use", TEXT(name), TEXT(vhost->name));
    else {
        struct name_list sources = {0};
        remove_exchange(master, exchange, request, &sources);
        auto_delete(master, vhost, &sources);
    }
}

/* ---- queues -------------------------------------------------------------------------------------------------------- */

static void answer_declared(struct command_answer *answer, const struct queue_entry *queue)
{
    answer->queue = queue->id;
    answer->step = DECLARE_FOUND;
}

/* RabbitMQ's order of checks: exclusive access, durable, auto_delete, arguments. */
static void declare_found_queue(struct master *master, const struct command_request *request, const struct queue_entry *queue, struct bytes arguments)
{
    struct bytes name = queue->name;
    /* Whoever answers a question may ask whether the queue behind reply-to is still there, with arguments that mean nothing. */
    bool passive = (request->flags & REQUEST_PASSIVE) || (queue->flags & TOPOLOGY_HIDDEN), exclusive = request->flags & REQUEST_EXCLUSIVE;
    bool locked = passive ? queue->owner && queue->owner != request->client : queue->owner != (exclusive ? request->client : 0);
    if (locked) {
        request_refuse(master->worker, request, 405, RESOURCE_LOCKED_FORMAT, TEXT(name), TEXT(queue->vhost->name));
        return;
    }
    char what[600], difference[1000];
    snprintf(what, sizeof(what), "queue '%.*s' in vhost '%.*s'", TEXT(name), TEXT(queue->vhost->name));
    const struct { const char *name; unsigned asked, flag; } fields[] = {
        {"durable", !exclusive && (request->flags & REQUEST_DURABLE), TOPOLOGY_DURABLE},
        {"auto_delete", request->flags & REQUEST_AUTO_DELETE, TOPOLOGY_AUTO_DELETE},
    };
    for (unsigned i = 0; !passive && i < 2; i++)
        if (!fields[i].asked != !(queue->flags & fields[i].flag)) {
            request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - inequivalent arg '%s' for %s: received '%s' but current is '%s'",
                           fields[i].name, what, fields[i].asked ? "true" : "false", fields[i].asked ? "false" : "true");
            return;
        }
    if (!passive && !arguments_equivalent(queue->arguments, arguments, ARGUMENTS_OF_QUEUE, what, difference, sizeof(difference))) {
        request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - inequivalent arg %s", difference);
        return;
    }
    answer_declared(answer_only(master, request, name), queue);
}

static uint64_t new_queue_id(struct master *master, struct bytes name, bool durable)
{
    /* Spread by name, so that a queue declared again after a deletion comes to the same shard. */
    uint64_t shard = bytes_hash(name, 0) % master->worker->broker->shards;
    return durable ? master->topology.next_queue << 8 | shard : QUEUE_ID_TRANSIENT | master->next_transient++ << 8 | shard;
}

static struct queue_declaration declaration_of(const struct command_request *request, struct bytes arguments)
{
    return (struct queue_declaration){.arguments = arguments, .durable = request->flags & REQUEST_DURABLE, .exclusive = request->flags & REQUEST_EXCLUSIVE,
                                      .auto_delete = request->flags & REQUEST_AUTO_DELETE};
}

/* False: a queue that is not there yet may not be declared like that, and the client was told. */
static bool may_declare(struct master *master, const struct command_request *request, struct bytes name, struct bytes arguments, struct bytes vhost)
{
    char what[600], why[1000];
    const struct queue_declaration declaration = declaration_of(request, arguments);
    snprintf(what, sizeof(what), "queue '%.*s' in vhost '%.*s'", TEXT(name), TEXT(vhost));
    bool valid = name.size ? arguments_valid(&declaration, what, why, sizeof(why)) : arguments_allow_generated_name(arguments, why, sizeof(why));
    if (!valid)
        request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - %s", why);
    return valid;
}

static void declare_queue_with(struct master *master, struct vhost *vhost, const struct command_request *request, struct bytes arguments)
{
    char generated[GENERATED_NAME_SIZE];
    struct bytes name = request_name(request);
    struct queue_entry *queue = name.size ? topology_queue(vhost, name) : NULL;
    bool exclusive = request->flags & REQUEST_EXCLUSIVE;
    if (has_reserved_prefix(name) && !(request->flags & REQUEST_PASSIVE) && !(queue && queue->flags & TOPOLOGY_HIDDEN)) {
        /* Even when such a queue is there and the same: its name was the broker's to give. */
        request_refuse(master->worker, request, 403, "ACCESS_REFUSED - queue name '%.*s' contains reserved prefix 'amq.*'", TEXT(name));
        return;
    }
    if (queue) {
        declare_found_queue(master, request, queue, arguments);
        return;
    }
    if (request->flags & REQUEST_PASSIVE) {
        request_refuse(master->worker, request, 404, "NOT_FOUND - no queue '%.*s' in vhost '%.*s'", TEXT(name), TEXT(vhost->name));
        return;
    }
    if (!name.size && !may_declare(master, request, name, arguments, vhost->name))
        return;
    if (!name.size)
        do {
            name = worker_generate_name(master->worker, request->flags & REQUEST_REPLY_QUEUE ? "amq.rabbitmq.reply-to." : "amq.gen-", generated);
        } while (topology_queue(vhost, name));
    if (vhost->queues.map.count - vhost->hidden_count >= vhost->max_queues && !(request->flags & REQUEST_HIDDEN)) {
        request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - cannot declare queue '%.*s': queue limit in vhost '%.*s' (%llu) is reached", TEXT(name),
                       TEXT(vhost->name), (unsigned long long)vhost->max_queues);
        return;
    }
    if (!may_declare(master, request, name, arguments, vhost->name))
        return;
    /* An exclusive queue goes with its connection, so there is nothing to keep of it over a restart. */
    bool durable = (request->flags & REQUEST_DURABLE) && !exclusive;
    struct topology_change change = {
        .kind = CHANGE_QUEUE_DECLARE, .vhost = vhost->id, .id = new_queue_id(master, name, durable), .owner = exclusive ? request->client : 0,
        .name = name, .arguments = arguments,
        .flags = (durable ? TOPOLOGY_DURABLE : 0) | (request->flags & REQUEST_AUTO_DELETE ? TOPOLOGY_AUTO_DELETE : 0) |
                 (exclusive ? TOPOLOGY_EXCLUSIVE : 0) | (request->flags & REQUEST_HIDDEN ? TOPOLOGY_HIDDEN : 0)};
    struct step *step = change_topology(master, &change, durable, request);
    if (step) {
        free(step->answer);
        step->answer = make_answer(request, name);
        step->answer->queue = change.id;
    }
}

/* A vhost may say of which type queues are when their declarations do not. */
static void declare_queue(struct master *master, struct vhost *vhost, const struct command_request *request)
{
    struct bytes arguments = request_arguments(request);
    if (!vhost->default_queue_type.size || (request->flags & REQUEST_PASSIVE)) {
        declare_queue_with(master, vhost, request, arguments);
        return;
    }
    uint8_t *room = malloc(arguments.size + ARGUMENTS_ADDED);
    CHECK(room);
    const struct queue_declaration declaration = declaration_of(request, arguments);
    declare_queue_with(master, vhost, request, arguments_with_default_type(&declaration, vhost->default_queue_type, room));
    free(room);
}

static void remove_queue(struct master *master, const struct queue_entry *queue, const struct command_request *request)
{
    struct name_list sources = {0};
    const struct vhost *vhost = queue->vhost;
    gather_sources(&sources, queue->incoming);
    struct topology_change change = {.kind = CHANGE_QUEUE_DELETE, .vhost = vhost->id, .id = queue->id};
    change_topology(master, &change, !(queue->id & QUEUE_ID_TRANSIENT), request);
    auto_delete(master, vhost, &sources);
}

static void delete_queue(struct master *master, const struct command_request *request)
{
    struct queue_entry *queue = topology_queue_by_id(&master->topology, request->queue);
    if (queue)
        remove_queue(master, queue, request);
    else
        answer_only(master, request, (struct bytes){0});
}

void master_queue_unused(struct master *master, uint64_t id)
{
    struct queue_entry *queue = topology_queue_by_id(&master->topology, id);
    if (queue)
        remove_queue(master, queue, NULL);
}

void master_client_gone(struct master *master, uint64_t client)
{
    struct queue_entry *owned = NULL;
    uint32_t cursor = 0;
    const struct connection_entry *gone = connections_find(&master->connections, client);
    if (gone)
        event_connection(master->worker, false, client, topology_vhost_by_id(&master->topology, gone->vhost), gone->user->name, gone->facts);
    connections_remove(&master->connections, client);
    if (!master->topology.exclusive_count)
        return;
    for (struct queue_entry *queue; (queue = map_next(&master->topology.queues_by_id, &cursor));)
        if (queue->owner == client) {
            queue->owned_next = owned;
            owned = queue;
        }
    while (owned) {
        struct queue_entry *queue = owned;
        owned = queue->owned_next;
        remove_queue(master, queue, NULL);
    }
}

void master_channel(struct master *master, uint64_t client, bool opened)
{
    connections_channel(&master->connections, client, opened);
}

/* ---- bindings ------------------------------------------------------------------------------------------------------ */

static bool is_to_exchange(const struct command_request *request)
{
    return request->kind == REQUEST_EXCHANGE_BIND || request->kind == REQUEST_EXCHANGE_UNBIND;
}

/* The binding that the request names, if it may touch both ends; false when it was refused. `durable`: both ends are. */
static bool binding_of(struct master *master, const struct vhost *vhost, const struct command_request *request, struct topology_change *change, bool *missing,
                       bool *durable)
{
    struct bytes name = request_name(request), source_name = request_source(request);
    bool to_exchange = is_to_exchange(request), unbind = request->kind == REQUEST_QUEUE_UNBIND || request->kind == REQUEST_EXCHANGE_UNBIND;
    if (!source_name.size || (to_exchange && !name.size)) {
        request_refuse(master->worker, request, 403, "ACCESS_REFUSED - operation not permitted on the default exchange");
        return false;
    }
    struct exchange *source = topology_exchange(vhost, source_name);
    struct exchange *exchange = to_exchange ? topology_exchange(vhost, name) : NULL;
    struct queue_entry *queue = to_exchange ? NULL : topology_queue(vhost, name);
    *missing = !source || (to_exchange ? !exchange : !queue);
    if (*missing && !unbind) {
        struct bytes which = source ? name : source_name;
        request_refuse(master->worker, request, 404, "NOT_FOUND - no %s '%.*s' in vhost '%.*s'", !source || to_exchange ? "exchange" : "queue",
                       TEXT(which), TEXT(vhost->name));
        return false;
    }
    char text[400];
    if (!unbind && !exchange_binding_valid(source->routes_as, queue, request_routing_key(request), request_arguments(request), text, sizeof(text))) {
        request_refuse(master->worker, request, 406, "PRECONDITION_FAILED - %s", text);
        return false;
    }
    if (queue && queue->owner && queue->owner != request->client && !unbind) {
        request_refuse(master->worker, request, 405, RESOURCE_LOCKED_FORMAT, TEXT(name), TEXT(queue->vhost->name));
        return false;
    }
    *change = (struct topology_change){.kind = unbind ? CHANGE_UNBIND : CHANGE_BIND, .vhost = vhost->id, .flags = to_exchange ? TOPOLOGY_TO_EXCHANGE : 0, .name = name,
                                       .source = source_name, .routing_key = request_routing_key(request), .arguments = request_arguments(request)};
    *durable = !*missing && (source->flags & TOPOLOGY_DURABLE) && (queue ? !(queue->id & QUEUE_ID_TRANSIENT) : exchange->flags & TOPOLOGY_DURABLE);
    return true;
}

static void bind(struct master *master, struct vhost *vhost, const struct command_request *request)
{
    struct topology_change change;
    bool missing, durable;
    uint8_t *sorted;
    if (!binding_of(master, vhost, request, &change, &missing, &durable))
        return;
    change.arguments = arguments_in_order(change.arguments, &sorted);
    if (topology_binding(vhost, &change))
        answer_only(master, request, (struct bytes){0});
    else
        change_topology(master, &change, durable, request);
    free(sorted);
}

static void unbind(struct master *master, struct vhost *vhost, const struct command_request *request)
{
    struct topology_change change;
    bool missing, durable;
    uint8_t *sorted;
    if (!binding_of(master, vhost, request, &change, &missing, &durable))
        return;
    change.arguments = arguments_in_order(change.arguments, &sorted);
    if (missing || !topology_binding(vhost, &change)) {
        answer_only(master, request, (struct bytes){0});
        free(sorted);
        return;
    }
    /* Only a binding that is there is somebody's. */
    const struct queue_entry *queue = is_to_exchange(request) ? NULL : topology_queue(vhost, change.name);
    if (queue && queue->owner && queue->owner != request->client) {
        request_refuse(master->worker, request, 405, RESOURCE_LOCKED_FORMAT, TEXT(change.name), TEXT(vhost->name));
        free(sorted);
        return;
    }
    change_topology(master, &change, durable, request);
    free(sorted);
    struct name_list sources = {0};
    name_list_add(&sources, change.source);
    auto_delete(master, vhost, &sources);
}

void master_request(struct master *master, const struct command_request *request)
{
    struct vhost *vhost = request_vhost(&master->topology, request);
    switch ((enum request_kind)request->kind) {   /* those that are about no vhost, or say themselves about which */
    case REQUEST_QUEUE_DELETE: delete_queue(master, request); return;
    case REQUEST_OPEN: master_open(master, request); return;
    case REQUEST_CHANNEL: master_open_channel(master, request); return;
    case REQUEST_CLOSE: master_close(master, request); return;
    case REQUEST_CHANGE: master_change(master, request); return;
    case REQUEST_CONTROL: control_at_master(master, request); return;
    default: break;
    }
    if (!vhost) {   /* it was deleted while the request was on its way */
        request_refuse(master->worker, request, 530, "NOT_ALLOWED - no such vhost");
        return;
    }
    switch ((enum request_kind)request->kind) {
    case REQUEST_QUEUE_DECLARE: declare_queue(master, vhost, request); break;
    case REQUEST_QUEUE_BIND:
    case REQUEST_EXCHANGE_BIND: bind(master, vhost, request); break;
    case REQUEST_QUEUE_UNBIND:
    case REQUEST_EXCHANGE_UNBIND: unbind(master, vhost, request); break;
    case REQUEST_EXCHANGE_DECLARE: declare_exchange(master, vhost, request); break;
    case REQUEST_EXCHANGE_DELETE: delete_exchange(master, vhost, request); break;
    default: CHECK(!"a request for the master");
    }
}
