/* Commands about connections, channels and consumers: what the master knows of the first, what sessions tell of the others. The one that asks is in no list, as rabbitmqctl's
 * own connection to RabbitMQ is none. */
#include "broker/connections.h"
#include "broker/control.h"

#include "protocol/amqp/table.h"

#include <stdio.h>
#include <stdlib.h>

#define ID_FORMAT "<godwit.connection.%llx>"

static void write_id(struct writer *writer, uint64_t client)
{
    char text[64];
    int size = snprintf(text, sizeof(text), ID_FORMAT, (unsigned long long)client);
    writer_string(writer, bytes_of(text, (size_t)size));
}

/* ---- connections --------------------------------------------------------------------------------------------------- */

struct connection_row {
    const struct connection_entry *entry;
    const struct vhost *vhost;
};

static void write_fact(struct writer *writer, const struct connection_row *row, const char *name)
{
    struct amqp_field field;
    if (!amqp_table_find(row->entry->facts, name, &field))
        writer_string(writer, (struct bytes){0});
    else if (field.type == 'S')
        writer_string(writer, field.bytes);
    else if (field.type == 'F')
        control_write_typed_table(writer, field.bytes);
    else
        writer_integer(writer, field.integer);
}

#define FIELD(function, statement) \
    static void function(struct writer *writer, const void *pointer) \
    { \
        const struct connection_row *row = pointer; \
        (void)row; \
        statement; \
    }
#define FACT(name) FIELD(fact_##name, write_fact(writer, row, #name))
FACT(name)
FACT(peer_host)
FACT(peer_port)
FACT(host)
FACT(port)
FACT(protocol)
FACT(auth_mechanism)
FACT(frame_max)
FACT(channel_max)
FACT(timeout)
FACT(client_properties)
FIELD(connection_pid, write_id(writer, row->entry->client))
FIELD(connection_user, writer_string(writer, row->entry->user->name))
FIELD(connection_vhost, writer_string(writer, row->vhost ? row->vhost->name : (struct bytes){0}))
FIELD(connection_channels, writer_integer(writer, row->entry->channels))
FIELD(connected_at, writer_integer(writer, (int64_t)row->entry->connected_ms))
FIELD(state, writer_string(writer, bytes_of_text("running")))
FIELD(protocol_term, writer_string(writer, connection_protocol(row->entry->facts)))
FACT(ssl_protocol)
FACT(ssl_cipher)
FACT(peer_cert_subject)
FIELD(ssl, writer_boolean(writer, connection_is_sealed(row->entry->facts)))
FIELD(nothing, writer_string(writer, (struct bytes){0}))
FIELD(zero, writer_integer(writer, 0))

static const struct control_field connection_fields[] = {
    {"pid", connection_pid}, {"name", fact_name}, {"user", connection_user}, {"vhost", connection_vhost}, {"channels", connection_channels},
    {"peer_host", fact_peer_host}, {"peer_port", fact_peer_port}, {"host", fact_host}, {"port", fact_port}, {"protocol", fact_protocol},
    {"auth_mechanism", fact_auth_mechanism}, {"frame_max", fact_frame_max}, {"channel_max", fact_channel_max}, {"timeout", fact_timeout},
    {"client_properties", fact_client_properties}, {"connected_at", connected_at}, {"state", state}, {"protocol_term", protocol_term}, {"ssl", ssl},
    {"ssl_protocol", fact_ssl_protocol}, {"ssl_cipher", fact_ssl_cipher}, {"peer_cert_subject", fact_peer_cert_subject}, {"nothing", nothing}, {"zero", zero},
};
#define CONNECTION_FIELD_COUNT (sizeof(connection_fields) / sizeof(connection_fields[0]))

void control_list_connections(struct control *control)
{
    uint64_t columns = control_columns(control, connection_fields, CONNECTION_FIELD_COUNT);
    uint32_t cursor = 0;
    writer_open(&control->answer, '[');
    for (const struct connection_entry *entry; (entry = map_next(&master_connections(control->master)->by_client, &cursor));) {
        const struct connection_row row = {entry, topology_vhost_by_id(control->topology, entry->vhost)};
        if (entry->client != control->request->client)
            control_write_row(control, connection_fields, CONNECTION_FIELD_COUNT, columns, &row);
    }
    writer_close(&control->answer, ']');
}

/* ---- closing them -------------------------------------------------------------------------------------------------- */

/* By what list_connections calls its pid, or its name. */
static const struct connection_entry *find_connection(struct control *control, struct bytes id)
{
    char text[64];
    unsigned long long client;
    const struct connections *connections = master_connections(control->master);
    snprintf(text, sizeof(text), "%.*s", id.size > sizeof(text) - 1 ? (int)sizeof(text) - 1 : (int)id.size, (const char *)id.data);
    return sscanf(text, ID_FORMAT, &client) == 1 ? connections_find(connections, client) : connections_named(connections, id);
}

void control_close_connection(struct control *control)
{
    struct bytes id, reason;
    if (!control_text(control, "id", &id) || !control_text(control, "reason", &reason))
        return;
    const struct connection_entry *entry = find_connection(control, id);
    if (entry)
        master_close_client(control->master, entry->client, reason);
    else
        control_fail(control, "refused", "Could not find a connection %.*s", id.size > 100 ? 100 : (int)id.size, (const char *)id.data);
}

/* Closes those of one vhost (0: of any) and of one user (empty: of any), `limit` at most unless it is 0. */
static void close_some(struct control *control, uint32_t vhost, struct bytes user, struct bytes reason)
{
    json_int_t limit = json_integer_value(json_object_get(control->arguments, "limit")), closed = 0;
    uint32_t cursor = 0;
    for (const struct connection_entry *entry; (entry = map_next(&master_connections(control->master)->by_client, &cursor));) {
        if (entry->client == control->request->client || (vhost && entry->vhost != vhost) || (user.size && !bytes_equal(entry->user->name, user)) ||
            (limit && closed >= limit))
            continue;
        master_close_client(control->master, entry->client, reason);
        closed++;
    }
    writer_open(&control->answer, '{');
    writer_put_integer(&control->answer, "closed", closed);
    writer_close(&control->answer, '}');
}

void control_close_all_connections(struct control *control)
{
    struct bytes reason;
    bool global = control_flag(control, "global");
    const struct vhost *vhost = global ? NULL : control_vhost(control);
    if (control_text(control, "reason", &reason) && (vhost || global))
        close_some(control, vhost ? vhost->id : 0, (struct bytes){0}, reason);
}

void control_close_all_user_connections(struct control *control)
{
    struct bytes reason, user;
    if (control_text(control, "user", &user) && control_text(control, "reason", &reason))
        close_some(control, 0, user.size ? user : bytes_of_text("\n"), reason);
}

/* ---- channels and consumers ---------------------------------------------------------------------------------------- */

/* What a session tells is written as it comes. */
struct telling {
    struct control *control;
    const struct client *client;
    const struct vhost *vhost;           /* of consumers: those whose queues are in it */
    uint64_t columns;
};

struct channel_row {
    const struct telling *telling;
    const struct client_channel *channel;
};

#define CHANNEL_FIELD(function, statement) \
    static void function(struct writer *writer, const void *pointer) \
    { \
        const struct channel_row *row = pointer; \
        statement; \
    }

static void write_channel_id(struct writer *writer, const struct client *client, unsigned number)
{
    char text[64];
    int size = snprintf(text, sizeof(text), "<godwit.channel.%llx.%u>", (unsigned long long)client->id, number);
    writer_string(writer, bytes_of(text, (size_t)size));
}

static void write_channel_name(struct writer *writer, const struct channel_row *row)
{
    char text[80];
    int size = snprintf(text, sizeof(text), ID_FORMAT " (%u)", (unsigned long long)row->telling->client->id, row->channel->number);
    writer_string(writer, bytes_of(text, (size_t)size));
}

CHANNEL_FIELD(channel_pid, write_channel_id(writer, row->telling->client, row->channel->number))
CHANNEL_FIELD(channel_connection, write_id(writer, row->telling->client->id))
CHANNEL_FIELD(channel_name, write_channel_name(writer, row))
CHANNEL_FIELD(channel_number, writer_integer(writer, row->channel->number))
CHANNEL_FIELD(channel_user, writer_string(writer, row->telling->client->user))
CHANNEL_FIELD(channel_vhost, writer_string(writer, client_vhost_name(row->telling->client)))
CHANNEL_FIELD(transactional, writer_boolean(writer, row->channel->transactional))
CHANNEL_FIELD(confirm, writer_boolean(writer, row->channel->confirm))
CHANNEL_FIELD(consumer_count, writer_integer(writer, row->channel->consumers))
CHANNEL_FIELD(unacknowledged, writer_integer(writer, (int64_t)row->channel->unacknowledged))
CHANNEL_FIELD(acks_uncommitted, writer_integer(writer, (int64_t)row->channel->acks_uncommitted))
CHANNEL_FIELD(unconfirmed, writer_integer(writer, (int64_t)row->channel->unconfirmed))
CHANNEL_FIELD(channel_prefetch, writer_integer(writer, row->channel->prefetch))
CHANNEL_FIELD(global_prefetch, writer_integer(writer, row->channel->limit))
CHANNEL_FIELD(uncommitted, (void)row; writer_integer(writer, 0))

static const struct control_field channel_fields[] = {
    {"pid", channel_pid}, {"connection", channel_connection}, {"name", channel_name}, {"number", channel_number}, {"user", channel_user}, {"vhost", channel_vhost},
    {"transactional", transactional}, {"confirm", confirm}, {"consumer_count", consumer_count}, {"messages_unacknowledged", unacknowledged},
    {"messages_uncommitted", uncommitted}, {"acks_uncommitted", acks_uncommitted}, {"messages_unconfirmed", unconfirmed}, {"prefetch_count", channel_prefetch},
    {"global_prefetch_count", global_prefetch},
};
#define CHANNEL_FIELD_COUNT (sizeof(channel_fields) / sizeof(channel_fields[0]))

static void on_channel(void *owner, const struct client_channel *channel)
{
    const struct telling *telling = owner;
    const struct channel_row row = {telling, channel};
    control_write_row(telling->control, channel_fields, CHANNEL_FIELD_COUNT, telling->columns, &row);
}

struct consumer_row {
    const struct telling *telling;
    const struct client_consumer *consumer;
    const struct queue_entry *queue;
};

#define CONSUMER_FIELD(function, statement) \
    static void function(struct writer *writer, const void *pointer) \
    { \
        const struct consumer_row *row = pointer; \
        (void)row; \
        statement; \
    }
CONSUMER_FIELD(consumer_queue, writer_string(writer, row->queue->name))
CONSUMER_FIELD(consumer_channel, write_channel_id(writer, row->telling->client, row->consumer->channel))
CONSUMER_FIELD(consumer_tag, writer_string(writer, row->consumer->tag))
CONSUMER_FIELD(ack_required, writer_boolean(writer, row->consumer->ack_required))
CONSUMER_FIELD(consumer_prefetch, writer_integer(writer, row->consumer->prefetch))
CONSUMER_FIELD(consumer_arguments, control_write_typed_table(writer, row->consumer->arguments))
CONSUMER_FIELD(active, writer_boolean(writer, true))
CONSUMER_FIELD(activity_status, writer_string(writer, bytes_of_text("up")))

static const struct control_field consumer_fields[] = {
    {"queue_name", consumer_queue}, {"channel_pid", consumer_channel}, {"consumer_tag", consumer_tag}, {"ack_required", ack_required},
    {"prefetch_count", consumer_prefetch}, {"active", active}, {"activity_status", activity_status}, {"arguments", consumer_arguments},
};
#define CONSUMER_FIELD_COUNT (sizeof(consumer_fields) / sizeof(consumer_fields[0]))

static void on_consumer(void *owner, const struct client_consumer *consumer)
{
    const struct telling *telling = owner;
    const struct consumer_row row = {telling, consumer, topology_queue_by_id(telling->control->topology, consumer->queue)};
    if (row.queue && row.queue->vhost == telling->vhost)
        control_write_row(telling->control, consumer_fields, CONSUMER_FIELD_COUNT, telling->columns, &row);
}

/* Every worker's part: what its clients tell. */
static void ask_clients(struct telling *telling, void (*channel)(void *, const struct client_channel *), void (*consumer)(void *, const struct client_consumer *))
{
    struct worker *worker = telling->control->worker;
    for (uint32_t i = 0; i < worker->place_count; i++) {
        struct client *client = worker->places[i].client;
        if (!client || !client->ops->describe || client->id == telling->control->request->client)
            continue;
        telling->client = client;
        client->ops->describe(client, &(struct client_listener){.owner = telling, .channel = channel, .consumer = consumer});
    }
}

void control_list_channels(struct control *control)
{
    struct telling telling = {.control = control, .columns = control_columns(control, channel_fields, CHANNEL_FIELD_COUNT)};
    ask_clients(&telling, on_channel, NULL);
}

void control_list_consumers(struct control *control)
{
    struct telling telling = {.control = control, .vhost = control_vhost(control), .columns = control_columns(control, consumer_fields, CONSUMER_FIELD_COUNT)};
    if (telling.vhost)
        ask_clients(&telling, NULL, on_consumer);
}
