/* Who may connect, and with how many channels: the master's answers to connection.open, and its list of connections. The order of the questions and the texts are
 * RabbitMQ's. */
#include "broker/connections.h"
#include "broker/events.h"
#include "broker/worker_internal.h"

#include <stdio.h>

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data

void master_open(struct master *master, const struct command_request *request)
{
    const struct topology *topology = master_topology(master);
    struct connections *connections = master_connections(master);
    struct worker *worker = master_worker(master);
    struct bytes name = request_name(request), user_name = request_source(request);
    const struct vhost *vhost = topology_vhost(topology, name);
    const struct user *user = topology_user(topology, user_name);
    const struct access *access = vhost ? topology_access(vhost, user_name) : NULL;
    bool trusted = request->flags & REQUEST_TRUSTED;
    if (!vhost) {
        request_refuse(worker, request, 530, "NOT_ALLOWED - vhost %.*s not found", TEXT(name));
    } else if (connections_in(connections, vhost->id) >= vhost->max_connections) {
        request_refuse(worker, request, 530, "NOT_ALLOWED - access to vhost '%.*s' refused for user '%.*s': connection limit (%llu) is reached", TEXT(name),
                       TEXT(user_name), (unsigned long long)vhost->max_connections);
    } else if (!trusted && user && connections_of(connections, user_name).connections >= user->max_connections) {
        request_refuse(worker, request, 530, "NOT_ALLOWED - connection refused for user '%.*s': user connection limit (%llu) is reached", TEXT(user_name),
                       (unsigned long long)user->max_connections);
    } else if (!trusted && (!access || !access->granted)) {
        request_refuse(worker, request, 530, "NOT_ALLOWED - access to vhost '%.*s' refused for user '%.*s'", TEXT(name), TEXT(user_name));
    } else if (connections_add(connections, request->client, user_name, vhost->id, worker->wall_us / 1000, request_arguments(request))) {
        request_refuse(worker, request, 506, "RESOURCE_ERROR - no memory for the connection");
    } else {
        master_answer(master, request)->queue = vhost->id;
        event_connection(worker, true, request->client, vhost, user_name, request_arguments(request));
    }
}

void master_open_channel(struct master *master, const struct command_request *request)
{
    struct connections *connections = master_connections(master);
    const struct connection_entry *entry = connections_find(connections, request->client);
    const struct user *user = entry ? topology_user(master_topology(master), entry->user->name) : NULL;
    if (user && entry->user->channels >= user->max_channels) {
        request_refuse(master_worker(master), request, 530,
                       "NOT_ALLOWED - number of channels opened for user '%.*s' has reached the maximum allowed user limit of (%llu)", TEXT(user->name),
                       (unsigned long long)user->max_channels);
        return;
    }
    connections_channel(connections, request->client, true);
    master_answer(master, request);
}

void master_close(struct master *master, const struct command_request *request)
{
    const struct connection_entry *entry = connections_named(master_connections(master), request_name(request));
    if (!entry) {
        request_refuse(master_worker(master), request, 404, "no connection '%.*s'", TEXT(request_name(request)));
        return;
    }
    master_close_client(master, entry->client, request_source(request));
    master_answer(master, request);
}

void master_close_client(struct master *master, uint64_t client, struct bytes reason)
{
    char text[320];
    int size = snprintf(text, sizeof(text), "CONNECTION_FORCED - %.*s", reason.size > 255 ? 255 : (int)reason.size, (const char *)reason.data);
    struct command_close *close = worker_command(master_worker(master), worker_of_client(client), COMMAND_CLOSE, (uint32_t)sizeof(*close) + (uint32_t)size, NULL);
    close->client = client;
    close->code = 320;
    close->text_size = (uint32_t)size;
    memcpy(close->bytes, text, (size_t)size);
}
