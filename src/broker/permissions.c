#include "broker/permissions.h"

#include "protocol/amqp/table.h"

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data

/* ---- what a client may do ------------------------------------------------------------------------------------------ */

void permissions_of(struct worker *worker, struct client *client)
{
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, client->vhost);
    const struct access *access = vhost ? topology_access(vhost, client->user) : NULL;
    client->may_everything = (client->trusted || (access && access->everything)) && !client->limits;
    client->scope = client->vhost;
    if (!client->trusted && (!access || !access->writes_everything))
        client->scope = SCOPE_RESTRICTED | (uint64_t)client->vhost << 23 | (access ? access->number : 0);
}

static bool is_about_access(enum change_kind kind)
{
    switch (kind) {
    case CHANGE_PERMISSION_PUT: case CHANGE_PERMISSION_DELETE: case CHANGE_TOPIC_PERMISSION_PUT: case CHANGE_TOPIC_PERMISSION_DELETE: case CHANGE_USER_DELETE:
        return true;
    default:
        return false;
    }
}

void permissions_changed(struct worker *worker, const struct topology_change *change)
{
    if (!is_about_access(change->kind))
        return;
    for (uint32_t i = 0; i < worker->place_count; i++) {
        struct client *client = worker->places[i].client;
        if (client && client->vhost && bytes_equal(client->user, change->name))
            permissions_of(worker, client);
    }
}

/* ---- requests ------------------------------------------------------------------------------------------------------ */

/* One request as it is being looked at. */
struct question {
    struct worker *worker;
    const struct command_request *request;
    struct bytes user;
    const struct vhost *vhost;
    const struct access *access, *limits;   /* NULL: nothing is allowed; no limits */
};

static bool allows(const struct question *question, enum access_kind kind, struct bytes name)
{
    return access_allows(question->access, kind, name) && (!question->limits || access_allows(question->limits, kind, name));
}

static bool refuse(const struct question *question, const char *what, struct bytes name)
{
    request_refuse(question->worker, question->request, 403, "ACCESS_REFUSED - access to %s '%.*s' in vhost '%.*s' refused for user '%.*s'", what,
                   TEXT(name), TEXT(question->vhost->name), TEXT(question->user));
    return true;
}

static bool refuses_queue(const struct question *question, enum access_kind kind, struct bytes name)
{
    return !allows(question, kind, name) && refuse(question, "queue", name);
}

static bool refuses_exchange(const struct question *question, enum access_kind kind, struct bytes name)
{
    return !allows(question, kind, name) && refuse(question, "exchange", name.size ? name : bytes_of_text("amq.default"));
}

static bool is_reserved(struct bytes name)
{
    return name.size >= 4 && memcmp(name.data, "amq.", 4) == 0;
}

/* A name of an exchange among the arguments of something new: it is read from, the exchange written to. */
static bool names_exchange(const struct question *question, const char *argument, struct bytes *name)
{
    struct amqp_field field;
    if (!amqp_table_find(request_arguments(question->request), argument, &field) || field.type != 'S')
        return false;
    *name = field.bytes;
    return true;
}

static bool refuses_queue_declare(const struct question *question, struct bytes name)
{
    struct bytes exchange;
    char generated[GENERATED_NAME_SIZE];
    if ((question->request->flags & REQUEST_PASSIVE) || is_reserved(name))
        return false;   /* the master refuses reserved names */
    if (!name.size)
        name = worker_generate_name(question->worker, "amq.gen-", generated);
    if (refuses_queue(question, ACCESS_CONFIGURE, name))
        return true;
    if (topology_queue(question->vhost, name) || !names_exchange(question, "x-dead-letter-exchange", &exchange))
        return false;
    return refuses_queue(question, ACCESS_READ, name) || refuses_exchange(question, ACCESS_WRITE, exchange);
}

static bool refuses_exchange_declare(const struct question *question, struct bytes name)
{
    struct bytes exchange;
    enum exchange_type type;
    if ((question->request->flags & REQUEST_PASSIVE) || !exchange_type_parse(request_type(question->request), &type))
        return false;
    if (refuses_exchange(question, ACCESS_CONFIGURE, name))
        return true;
    if (topology_exchange(question->vhost, name) || is_reserved(name) || !names_exchange(question, "alternate-exchange", &exchange))
        return false;
    return refuses_exchange(question, ACCESS_READ, name) || refuses_exchange(question, ACCESS_WRITE, exchange);
}

static bool refuses_binding(const struct question *question, struct bytes destination, bool to_exchange)
{
    struct bytes source_name = request_source(question->request), key = request_routing_key(question->request);
    if (to_exchange ? refuses_exchange(question, ACCESS_WRITE, destination) : refuses_queue(question, ACCESS_WRITE, destination))
        return true;
    if (refuses_exchange(question, ACCESS_READ, source_name))
        return true;
    const struct exchange *source = topology_exchange(question->vhost, source_name);
    if (!source || source->type != EXCHANGE_TOPIC || access_allows_key(question->access, ACCESS_READ, source_name, key))
        return false;
    request_refuse(question->worker, question->request, 403,
                   "ACCESS_REFUSED - access to topic '%.*s' in exchange '%.*s' in vhost '%.*s' refused for user '%.*s'", TEXT(key), TEXT(source_name),
                   TEXT(question->vhost->name), TEXT(question->user));
    return true;
}

bool permission_refuses(struct worker *worker, const struct client *client, const struct command_request *request)
{
    if (LIKELY(client->may_everything) || (request->flags & REQUEST_TRUSTED))
        return false;
    struct question question = {.worker = worker, .request = request, .user = client->user, .vhost = request_vhost(&worker->topology, request), .limits = client->limits};
    if (!question.vhost)
        return false;   /* there is nothing to be had there, as whoever looks will find */
    question.access = topology_access(question.vhost, client->user);
    struct bytes name = request_name(request);
    switch ((enum request_kind)request->kind) {
    case REQUEST_QUEUE_DECLARE: return refuses_queue_declare(&question, name);
    case REQUEST_QUEUE_DELETE: return refuses_queue(&question, ACCESS_CONFIGURE, name);
    case REQUEST_QUEUE_BIND:
    case REQUEST_QUEUE_UNBIND: return refuses_binding(&question, name, false);
    case REQUEST_EXCHANGE_BIND:
    case REQUEST_EXCHANGE_UNBIND: return refuses_binding(&question, name, true);
    case REQUEST_EXCHANGE_DECLARE: return refuses_exchange_declare(&question, name);
    case REQUEST_EXCHANGE_DELETE: return !is_reserved(name) && refuses_exchange(&question, ACCESS_CONFIGURE, name);
    case REQUEST_QUEUE_PURGE:
    case REQUEST_CONSUME:
    case REQUEST_GET: return refuses_queue(&question, ACCESS_READ, name);
    case REQUEST_CONTROL: return client->limits && refuse(&question, "exchange", bytes_of_text("amq.godwit.control"));
    default: return false;
    }
}

/* ---- publishes ----------------------------------------------------------------------------------------------------- */

enum publish_result permission_to_publish(const struct client *client, const struct vhost *vhost, const struct publish *publish)
{
    return access_allows(topology_access(vhost, client->user), ACCESS_WRITE, publish->exchange) ? PUBLISH_ROUTED : PUBLISH_ACCESS_REFUSED;
}

enum publish_result permission_to_publish_key(const struct client *client, const struct exchange *exchange, const struct publish *publish)
{
    if (exchange->type != EXCHANGE_TOPIC || access_allows_key(topology_access(exchange->vhost, client->user), ACCESS_WRITE, publish->exchange, publish->routing_key))
        return PUBLISH_ROUTED;
    return PUBLISH_TOPIC_REFUSED;
}
