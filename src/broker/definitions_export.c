/* export_definitions: everything that was declared, in RabbitMQ's format, in an order that is always the same so that two exports can be compared.
 *
 * Left out are what cannot be declared again by somebody else (exclusive queues and their bindings) and what is there by itself (the default exchange, amq.*). */
#include "broker/control.h"

#include "broker/table_json.h"

#include <openssl/evp.h>
#include <stdlib.h>

/* Of RabbitMQ, whose readers look at it: the format is that of this one. */
#define FORMAT_VERSION "3.13.0"

typedef int compare_function(const void *, const void *);

/* The values of a map in order. */
struct sorted {
    const void **items;
    size_t count;
};

static bool sort_map(struct control *control, const struct name_map *map, compare_function *compare, struct sorted *sorted)
{
    uint32_t cursor = 0;
    *sorted = (struct sorted){.items = malloc((map->map.count + 1) * sizeof(void *))};
    if (!sorted->items) {
        control_fail(control, "internal_error", "out of memory");
        return false;
    }
    for (const void *item; (item = map_next(&map->map, &cursor));)
        sorted->items[sorted->count++] = item;
    qsort(sorted->items, sorted->count, sizeof(void *), compare);
    return true;
}

static int compare_bytes(struct bytes a, struct bytes b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

#define COMPARE_BY(function, type, field) \
    static int function(const void *a, const void *b) \
    { \
        return compare_bytes((*(const type *const *)a)->field, (*(const type *const *)b)->field); \
    }
COMPARE_BY(by_user, struct user, name)
COMPARE_BY(by_vhost, struct vhost, name)
COMPARE_BY(by_queue, struct queue_entry, name)
COMPARE_BY(by_exchange, struct exchange, name)
COMPARE_BY(by_access, struct access, user)

static struct bytes destination_of(const struct binding *binding) { return binding->queue ? binding->queue->name : binding->exchange->name; }

static int by_binding(const void *a, const void *b)
{
    const struct binding *x = *(const struct binding *const *)a, *y = *(const struct binding *const *)b;
    int order = compare_bytes(x->source->name, y->source->name);
    if (!order)
        order = compare_bytes(destination_of(x), destination_of(y));
    if (!order)
        order = compare_bytes(x->routing_key, y->routing_key);
    return order ? order : compare_bytes(x->arguments, y->arguments);
}

/* ---- one thing ----------------------------------------------------------------------------------------------------- */

static const char *hash_name(enum password_hash hash)
{
    return hash == HASH_SHA512 ? "rabbit_password_hashing_sha512" : hash == HASH_MD5 ? "rabbit_password_hashing_md5" : "rabbit_password_hashing_sha256";
}

static void write_user(struct writer *writer, const struct user *user)
{
    uint8_t text[512];
    struct bytes secret = user->secret.size <= 256 ? user->secret : (struct bytes){0};
    int size = EVP_EncodeBlock(text, secret.data, (int)secret.size);
    writer_open(writer, '{');
    writer_put_text(writer, "hashing_algorithm", hash_name(user->hash));
    writer_key(writer, bytes_of_text("limits"));
    control_write_limits(writer, user);
    writer_put_string(writer, "name", user->name);
    writer_put_string(writer, "password_hash", bytes_of(text, (size_t)size));
    writer_key(writer, bytes_of_text("tags"));
    control_write_words(writer, user->tags);
    writer_close(writer, '}');
}

static void write_limit(struct writer *writer, const char *key, uint64_t limit)
{
    if (limit == TOPOLOGY_UNLIMITED)
        return;
    writer_open(writer, '[');
    writer_string(writer, bytes_of_text(key));
    writer_integer(writer, (int64_t)limit);
    writer_close(writer, ']');
}

static void write_vhost(struct writer *writer, const struct vhost *vhost)
{
    writer_open(writer, '{');
    writer_put_open(writer, "limits", '[');   /* for who reads it; what counts when they are put is the parameter vhost-limits */
    write_limit(writer, "max-connections", vhost->max_connections);
    write_limit(writer, "max-queues", vhost->max_queues);
    writer_close(writer, ']');
    writer_put_open(writer, "metadata", '{');
    if (vhost->default_queue_type.size)
        writer_put_string(writer, "default_queue_type", vhost->default_queue_type);
    writer_put_string(writer, "description", vhost->description);
    writer_key(writer, bytes_of_text("tags"));
    control_write_words(writer, vhost->tags);
    writer_close(writer, '}');
    writer_put_string(writer, "name", vhost->name);
    if (vhost->flags & TOPOLOGY_TRACING)
        writer_put_boolean(writer, "tracing", true);
    writer_close(writer, '}');
}

static void write_permission(struct writer *writer, const struct vhost *vhost, const struct access *access)
{
    writer_open(writer, '{');
    writer_put_string(writer, "configure", access->texts[ACCESS_CONFIGURE]);
    writer_put_string(writer, "read", access->texts[ACCESS_READ]);
    writer_put_string(writer, "user", access->user);
    writer_put_string(writer, "vhost", vhost->name);
    writer_put_string(writer, "write", access->texts[ACCESS_WRITE]);
    writer_close(writer, '}');
}

static void write_topic_permission(struct writer *writer, const struct vhost *vhost, const struct access *access, const struct topic_access *topic)
{
    writer_open(writer, '{');
    writer_put_string(writer, "exchange", topic->exchange);
    writer_put_string(writer, "read", topic->read);
    writer_put_string(writer, "user", access->user);
    writer_put_string(writer, "vhost", vhost->name);
    writer_put_string(writer, "write", topic->write);
    writer_close(writer, '}');
}

static void write_queue(struct writer *writer, const struct queue_entry *queue)
{
    if ((queue->flags & (TOPOLOGY_EXCLUSIVE | TOPOLOGY_HIDDEN)) || queue->owner)
        return;
    writer_open(writer, '{');
    writer_key(writer, bytes_of_text("arguments"));
    table_write_json(queue->arguments, writer);
    writer_put_boolean(writer, "auto_delete", queue->flags & TOPOLOGY_AUTO_DELETE);
    writer_put_boolean(writer, "durable", queue->flags & TOPOLOGY_DURABLE);
    writer_put_string(writer, "name", queue->name);
    writer_put_text(writer, "type", queue_type_name(settings_queue_type(queue->arguments)));
    writer_put_string(writer, "vhost", queue->vhost->name);
    writer_close(writer, '}');
}

static void write_exchange(struct writer *writer, const struct exchange *exchange)
{
    if (!exchange->name.size || (exchange->name.size >= 4 && memcmp(exchange->name.data, "amq.", 4) == 0))
        return;
    writer_open(writer, '{');
    writer_key(writer, bytes_of_text("arguments"));
    table_write_json(exchange->arguments, writer);
    writer_put_boolean(writer, "auto_delete", exchange->flags & TOPOLOGY_AUTO_DELETE);
    writer_put_boolean(writer, "durable", exchange->flags & TOPOLOGY_DURABLE);
    writer_put_boolean(writer, "internal", exchange->flags & TOPOLOGY_INTERNAL);
    writer_put_string(writer, "name", exchange->name);
    writer_put_text(writer, "type", exchange_type_name(exchange->type));
    writer_put_string(writer, "vhost", exchange->vhost->name);
    writer_close(writer, '}');
}

static void write_binding(struct writer *writer, const struct binding *binding)
{
    if (binding->queue && (binding->queue->owner || (binding->queue->flags & (TOPOLOGY_EXCLUSIVE | TOPOLOGY_HIDDEN))))
        return;
    writer_open(writer, '{');
    writer_key(writer, bytes_of_text("arguments"));
    table_write_json(binding->arguments, writer);
    writer_put_string(writer, "destination", destination_of(binding));
    writer_put_text(writer, "destination_type", binding->queue ? "queue" : "exchange");
    writer_put_string(writer, "routing_key", binding->routing_key);
    writer_put_string(writer, "source", binding->source->name);
    writer_put_string(writer, "vhost", binding->source->vhost->name);
    writer_close(writer, '}');
}

/* ---- all of a kind ------------------------------------------------------------------------------------------------- */

static void write_bindings(struct control *control, const struct vhost *vhost)
{
    struct sorted bindings;
    if (sort_map(control, &vhost->bindings, by_binding, &bindings))
        for (size_t i = 0; i < bindings.count; i++)
            write_binding(&control->answer, bindings.items[i]);
    free(bindings.items);
}

static void write_exchanges(struct control *control, const struct vhost *vhost)
{
    struct sorted exchanges;
    if (sort_map(control, &vhost->exchanges, by_exchange, &exchanges))
        for (size_t i = 0; i < exchanges.count; i++)
            write_exchange(&control->answer, exchanges.items[i]);
    free(exchanges.items);
}

static void write_queues(struct control *control, const struct vhost *vhost)
{
    struct sorted queues;
    if (sort_map(control, &vhost->queues, by_queue, &queues))
        for (size_t i = 0; i < queues.count; i++)
            write_queue(&control->answer, queues.items[i]);
    free(queues.items);
}

static void write_accesses(struct control *control, const struct vhost *vhost, bool topics)
{
    struct sorted accesses;
    if (sort_map(control, &vhost->accesses, by_access, &accesses))
        for (size_t i = 0; i < accesses.count; i++) {
            const struct access *access = accesses.items[i];
            if (!topics && access->granted)
                write_permission(&control->answer, vhost, access);
            for (const struct topic_access *topic = access->topics; topics && topic; topic = topic->next)
                write_topic_permission(&control->answer, vhost, access, topic);
        }
    free(accesses.items);
}

static void write_permissions(struct control *control, const struct vhost *vhost) { write_accesses(control, vhost, false); }
static void write_topic_permissions(struct control *control, const struct vhost *vhost) { write_accesses(control, vhost, true); }
static void write_parameters(struct control *control, const struct vhost *vhost) { control_write_parameters(&control->answer, vhost); }
static void write_vhosts(struct control *control, const struct vhost *vhost) { write_vhost(&control->answer, vhost); }

static void write_policies(struct control *control, const struct vhost *vhost)
{
    for (const struct policy *policy = vhost->policies.first; policy; policy = policy->next)
        control_write_policy(control, vhost, policy, UINT64_MAX);
}

static void write_users(struct control *control)
{
    struct sorted users;
    if (sort_map(control, &control->topology->users, by_user, &users))
        for (size_t i = 0; i < users.count; i++)
            write_user(&control->answer, users.items[i]);
    free(users.items);
}

static void write_of_vhosts(struct control *control, const struct sorted *vhosts, const char *key, void (*write)(struct control *, const struct vhost *))
{
    writer_put_open(&control->answer, key, '[');
    for (size_t i = 0; i < vhosts->count; i++)
        write(control, vhosts->items[i]);
    writer_close(&control->answer, ']');
}

void control_export_definitions(struct control *control)
{
    struct sorted vhosts;
    struct writer *writer = &control->answer;
    if (!sort_map(control, &control->topology->vhosts, by_vhost, &vhosts))
        return;
    writer_open(writer, '{');
    writer_put_text(writer, "rabbit_version", FORMAT_VERSION);
    writer_put_text(writer, "rabbitmq_version", FORMAT_VERSION);
    writer_put_text(writer, "product_name", "Godwit");
    writer_put_text(writer, "product_version", GODWIT_VERSION);
    writer_put_open(writer, "users", '[');
    write_users(control);
    writer_close(writer, ']');
    write_of_vhosts(control, &vhosts, "vhosts", write_vhosts);
    write_of_vhosts(control, &vhosts, "permissions", write_permissions);
    write_of_vhosts(control, &vhosts, "topic_permissions", write_topic_permissions);
    write_of_vhosts(control, &vhosts, "parameters", write_parameters);
    writer_put_open(writer, "global_parameters", '[');
    control_write_global_parameters(writer, control->topology);
    writer_close(writer, ']');
    write_of_vhosts(control, &vhosts, "policies", write_policies);
    write_of_vhosts(control, &vhosts, "queues", write_queues);
    write_of_vhosts(control, &vhosts, "exchanges", write_exchanges);
    write_of_vhosts(control, &vhosts, "bindings", write_bindings);
    writer_close(writer, '}');
    free(vhosts.items);
}
