/* Events of connections, channels and consumers, as whoever meets them first tells them. */
#include "broker/connections.h"
#include "broker/events.h"
#include "broker/worker_internal.h"

#include <stdio.h>

/* RabbitMQ says who is who by process ids; here it is the connection's number, and the channel's behind it. */
static void put_id(struct event *event, const char *name, uint64_t client, uint16_t channel)
{
    char text[48];
    snprintf(text, sizeof(text), channel ? "<%llx.%u>" : "<%llx>", (unsigned long long)client, channel);
    amqp_table_put_text(&event->headers, name, bytes_of_text(text));
}

static void put_texts(struct event *event, struct bytes facts, const char *const *names)
{
    struct amqp_field field;
    for (; *names; names++)
        if (amqp_table_find(facts, *names, &field) && field.type == 'S')
            amqp_table_put_text(&event->headers, *names, field.bytes);
}

/* Tables and numbers of the facts. */
static void put_others(struct event *event, struct bytes facts)
{
    static const char *const numbers[] = {"peer_port", "port", "frame_max", "channel_max", "timeout"};
    struct amqp_field field;
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
        if (amqp_table_find(facts, numbers[i], &field) && amqp_field_is_integer(&field))
            amqp_table_put_long(&event->headers, numbers[i], field.integer);
}

static void put_client_properties(struct event *event, struct bytes facts)
{
    struct amqp_field properties, name;
    if (!amqp_table_find(facts, "client_properties", &properties) || properties.type != 'F')
        return;
    event_put_arguments(event, "client_properties", properties.bytes);
    if (amqp_table_find(properties.bytes, "connection_name", &name) && name.type == 'S')
        amqp_table_put_text(&event->headers, "user_provided_name", name.bytes);
}

void event_connection(struct worker *worker, bool created, uint64_t client, const struct vhost *vhost, struct bytes user, struct bytes facts)
{
    struct event event;
    if (!event_begin(&event, worker, created ? "connection.created" : "connection.closed", facts.size * 64))
        return;
    put_id(&event, "pid", client, 0);
    put_texts(&event, facts, (const char *const[]){"name", NULL});
    amqp_table_put_text(&event.headers, "node", worker_node(worker));
    put_client_properties(&event, facts);
    if (created) {
        put_texts(&event, facts, (const char *const[]){"peer_host", "host", "auth_mechanism", NULL});
        put_others(&event, facts);
        amqp_table_put_text(&event.headers, "type", bytes_of_text("network"));
        amqp_table_put_text(&event.headers, "protocol", connection_protocol(facts));
        amqp_table_put_bool(&event.headers, "ssl", connection_is_sealed(facts));
        amqp_table_put_text(&event.headers, "user", user);
        amqp_table_put_text(&event.headers, "vhost", vhost ? vhost->name : (struct bytes){0});
        amqp_table_put_long(&event.headers, "connected_at", (int64_t)(worker->wall_us / 1000));
        event_put_user(&event, user);
    }
    event_end(&event);
}

void event_authentication(struct worker *worker, bool success, struct bytes user, struct bytes connection)
{
    struct event event;
    if (!event_begin(&event, worker, success ? "user.authentication.success" : "user.authentication.failure", 0))
        return;
    amqp_table_put_text(&event.headers, "name", user);
    amqp_table_put_text(&event.headers, "connection_name", connection);
    amqp_table_put_text(&event.headers, "connection_type", bytes_of_text("network"));
    amqp_table_put_text(&event.headers, "protocol", bytes_of_text("{0,9,1}"));
    amqp_table_put_bool(&event.headers, "ssl", false);
    if (!success) {
        char text[320];
        int size = snprintf(text, sizeof(text), "user '%.*s' - invalid credentials", (int)user.size, (const char *)user.data);
        amqp_table_put_text(&event.headers, "error", bytes_of(text, (size_t)size));
    }
    event_end(&event);
}

void event_alarm(struct worker *worker, bool set, const char *source)
{
    struct event event;
    if (!event_begin(&event, worker, set ? "alarm.set" : "alarm.cleared", 0))
        return;
    amqp_table_put_text(&event.headers, "source", bytes_of_text(source));
    amqp_table_put_text(&event.headers, "node", worker_node(worker));
    event_end(&event);
}

/* ---- what sessions tell ----------------------------------------------------------------------------------------------- */

static void channel_event(struct event *event, const struct client *client, const struct client_news *news)
{
    put_id(event, "pid", client->id, news->channel);
    if (news->event == CLIENT_CHANNEL_CLOSED)
        return;
    char name[320];
    int size = snprintf(name, sizeof(name), "%.*s (%u)", (int)client->name.size, (const char *)client->name.data, news->channel);
    amqp_table_put_text(&event->headers, "name", bytes_of(name, (size_t)size));
    put_id(event, "connection", client->id, 0);
    amqp_table_put_long(&event->headers, "number", news->channel);
    amqp_table_put_text(&event->headers, "user", client->user);
    amqp_table_put_text(&event->headers, "vhost", client_vhost_name(client));
}

static void consumer_event(struct event *event, const struct client *client, const struct client_news *news)
{
    const struct queue_entry *queue = topology_queue_by_id(&client->worker->topology, news->queue);
    put_id(event, "channel", client->id, news->channel);
    amqp_table_put_text(&event->headers, "consumer_tag", news->tag);
    amqp_table_put_text(&event->headers, "queue", queue ? queue->name : (struct bytes){0});
    amqp_table_put_text(&event->headers, "vhost", client_vhost_name(client));
    if (news->event == CLIENT_CONSUMER_DELETED)
        return;
    amqp_table_put_bool(&event->headers, "ack_required", !news->no_ack);
    amqp_table_put_bool(&event->headers, "exclusive", news->exclusive);
    amqp_table_put_long(&event->headers, "prefetch_count", news->prefetch);
}

void client_tell(const struct client *client, const struct client_news *news)
{
    static const char *const keys[] = {[CLIENT_CHANNEL_CREATED] = "channel.created", [CLIENT_CHANNEL_CLOSED] = "channel.closed",
                                       [CLIENT_CONSUMER_CREATED] = "consumer.created", [CLIENT_CONSUMER_DELETED] = "consumer.deleted"};
    struct event event;
    if (!event_begin(&event, client->worker, keys[news->event], 0))
        return;
    if (news->event == CLIENT_CHANNEL_CREATED || news->event == CLIENT_CHANNEL_CLOSED)
        channel_event(&event, client, news);
    else
        consumer_event(&event, client, news);
    event_put_user(&event, client->user);
    event_end(&event);
}
