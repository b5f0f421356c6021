#include "broker/connections.h"

#include "protocol/amqp/table.h"

#include <stdlib.h>

static struct bytes user_name(const void *value) { return ((const struct connection_user *)value)->name; }

void connections_init(struct connections *connections, uint64_t seed)
{
    *connections = (struct connections){0};
    name_map_init(&connections->users, user_name, seed);
}

void connections_deinit(struct connections *connections)
{
    uint32_t cursor = 0;
    for (void *entry; (entry = map_next(&connections->by_client, &cursor));)
        free(entry);
    cursor = 0;
    for (void *user; (user = map_next(&connections->users.map, &cursor));)
        free(user);
    map_deinit(&connections->by_client);
    name_map_deinit(&connections->users);
    map_deinit(&connections->vhosts);
}

uint32_t connections_in(const struct connections *connections, uint32_t vhost)
{
    return (uint32_t)(uintptr_t)map_get(&connections->vhosts, vhost);
}

/* A fall never needs memory. */
static enum gw_err set_count(struct connections *connections, uint32_t vhost, uint32_t count)
{
    if (count)
        return map_put(&connections->vhosts, vhost, (void *)(uintptr_t)count);
    map_remove(&connections->vhosts, vhost);
    return GW_OK;
}

struct connection_user connections_of(const struct connections *connections, struct bytes user)
{
    const struct connection_user *found = name_map_get(&connections->users, user);
    return found ? *found : (struct connection_user){.name = user};
}

static struct connection_user *user_of(struct connections *connections, struct bytes name)
{
    struct connection_user *user = name_map_get(&connections->users, name);
    if (user)
        return user;
    user = calloc(1, sizeof(*user) + name.size);
    if (!user)
        return NULL;
    if (name.size)
        memcpy(user + 1, name.data, name.size);
    user->name = bytes_of(user + 1, name.size);
    if (name_map_put(&connections->users, user)) {
        free(user);
        return NULL;
    }
    return user;
}

static void forget_if_gone(struct connections *connections, struct connection_user *user)
{
    if (user->connections)
        return;
    name_map_remove(&connections->users, user->name);
    free(user);
}

enum gw_err connections_add(struct connections *connections, uint64_t client, struct bytes name, uint32_t vhost, uint64_t connected_ms, struct bytes facts)
{
    connections_remove(connections, client);
    struct connection_user *user = user_of(connections, name);
    struct connection_entry *entry = user ? calloc(1, sizeof(*entry) + facts.size) : NULL;
    uint32_t count = connections_in(connections, vhost);
    if (!entry || set_count(connections, vhost, count + 1)) {
        if (user)
            forget_if_gone(connections, user);
        free(entry);
        return GW_ERR_NOMEM;
    }
    if (facts.size)
        memcpy(entry + 1, facts.data, facts.size);
    *entry = (struct connection_entry){.client = client, .user = user, .vhost = vhost, .connected_ms = connected_ms, .facts = bytes_of(entry + 1, facts.size)};
    if (map_put(&connections->by_client, client, entry)) {
        set_count(connections, vhost, count);
        forget_if_gone(connections, user);
        free(entry);
        return GW_ERR_NOMEM;
    }
    user->connections++;
    return GW_OK;
}

void connections_remove(struct connections *connections, uint64_t client)
{
    struct connection_entry *entry = map_remove(&connections->by_client, client);
    if (!entry)
        return;
    set_count(connections, entry->vhost, connections_in(connections, entry->vhost) - 1);
    entry->user->channels -= entry->channels;
    entry->user->connections--;
    forget_if_gone(connections, entry->user);
    free(entry);
}

struct connection_entry *connections_find(const struct connections *connections, uint64_t client)
{
    return map_get(&connections->by_client, client);
}

struct connection_entry *connections_named(const struct connections *connections, struct bytes name)
{
    uint32_t cursor = 0;
    for (struct connection_entry *entry; (entry = map_next(&connections->by_client, &cursor));) {
        struct amqp_field field;
        if (amqp_table_find(entry->facts, "name", &field) && field.type == 'S' && bytes_equal(field.bytes, name))
            return entry;
    }
    return NULL;
}

void connections_channel(struct connections *connections, uint64_t client, bool opened)
{
    struct connection_entry *entry = connections_find(connections, client);
    if (!entry || (!opened && !entry->channels))
        return;
    entry->channels += opened ? 1 : -1;
    entry->user->channels += opened ? 1 : -1;
}

bool connection_is_sealed(struct bytes facts)
{
    struct amqp_field field;
    return amqp_table_find(facts, "ssl", &field) && field.type == 't' && field.integer;
}

struct bytes connection_protocol(struct bytes facts)
{
    struct amqp_field field;
    bool other = amqp_table_find(facts, "protocol", &field) && field.type == 'S' && (field.bytes.size < 4 || memcmp(field.bytes.data, "AMQP", 4) != 0);
    return other ? field.bytes : bytes_of_text("{0,9,1}");
}
