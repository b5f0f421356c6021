#include "broker/test_broker.h"

#include "store/stream_message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool post(struct worker_port *port, unsigned to, struct batch *batch)
{
    struct test_port *from = (struct test_port *)port;
    CHECK(worker_is_sealed(from->test->workers[from->from]));
    worker_receive(from->test->workers[to], batch);
    from->test->posted = true;
    return true;
}

void test_broker_open(struct test_broker *test, unsigned workers, unsigned shards, struct disk *disk, uint64_t memory)
{
    static const uint8_t random[32] = {1, 2, 3};
    const struct broker_config config = {.workers = workers, .shards = shards, .log_body = disk ? LOG_FILE : LOG_MEMORY, .random = random,
                                         .memory_per_worker = memory, .log_file_size = 1 << 20, .log_file_count = 4};
    memset(test, 0, sizeof(*test));
    test->worker_count = workers;
    test->broker = broker_new(&config);
    CHECK(test->broker);
    for (unsigned i = 0; i < workers; i++) {
        test->ports[i] = (struct test_port){{post}, test, i};
        test->workers[i] = worker_new(test->broker, i, disk, &test->ports[i].port);
        CHECK(test->workers[i]);
    }
    char why[256];
    enum gw_err err = broker_open(test->broker, why, sizeof(why));
    if (err)
        fprintf(stderr, "%s\n", why);
    CHECK(!err);
    test->now_us = 1000000;
}

void test_broker_close(struct test_broker *test)
{
    test_settle_down(test);
    CHECK(!broker_close(test->broker));
    broker_free(test->broker);
}

void test_settle_down(struct test_broker *test)
{
    for (unsigned quiet = 0; quiet < 3;) {
        bool more = false;
        test->posted = false;
        test->now_us += 10000;
        for (unsigned i = 0; i < test->worker_count; i++)
                more |= worker_turn(test->workers[i], test->now_us);
        quiet = more || test->posted ? 0 : quiet + 1;
    }
}

static struct test_event *event_add(struct client *client, int kind)
{
    struct test_client *test = (struct test_client *)client;
    CHECK(test->count < TEST_EVENTS);
    struct test_event *event = &test->events[test->count++];
    memset(event, 0, sizeof(*event));
    event->kind = kind;
    return event;
}

static void keep_text(char *to, size_t room, struct bytes from)
{
    size_t size = from.size < room - 1 ? from.size : room - 1;
    if (size)
        memcpy(to, from.data, size);
    to[size] = 0;
}

static void on_deliver(struct client *client, const struct delivery *delivery)
{
    struct test_event *event = event_add(client, EVENT_DELIVERY);
    struct message message;
    CHECK(delivery->is_record ? stream_message_read(delivery->content, &message) : message_read(delivery->content, &message));
    event->delivery = *delivery;
    keep_text(event->body, sizeof(event->body), message.body);
    if (!delivery->is_get)
        client_credit(client, delivery->queue, delivery->handle, (uint32_t)delivery->content.size + DELIVERY_OVERHEAD);
}

static void on_replied(struct client *client, const struct reply *reply)
{
    struct test_event *event = event_add(client, EVENT_REPLY);
    event->reply = *reply;
    keep_text(event->text, sizeof(event->text), reply->text);
    keep_text(event->name, sizeof(event->name), reply->name);
}

static void on_confirmed(struct client *client, uint16_t channel, uint64_t first, uint64_t count, bool accepted)
{
    struct test_event *event = event_add(client, EVENT_CONFIRM);
    (void)channel;
    event->first = first;
    event->count = count;
    event->accepted = accepted;
}

static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer)
{
    (void)channel;
    event_add(client, EVENT_CANCELLED)->first = consumer;
}

static void on_resumed(struct client *client) { event_add(client, EVENT_RESUMED); }
static void on_blocked(struct client *client, const char *reason) { (void)client, (void)reason; }
static void on_closed(struct client *client, uint16_t code, struct bytes text)
{
    struct test_event *event = event_add(client, EVENT_CLOSED);
    event->reply.code = code;
    keep_text(event->text, sizeof(event->text), text);
}

static void on_turned(struct client *client) { (void)client; }

static const struct client_ops ops = {on_deliver, on_replied, on_confirmed, on_cancelled, on_resumed, on_blocked, on_closed, on_turned, NULL};

uint16_t test_client_open(struct test_broker *test, struct test_client *client, const char *user, const char *vhost)
{
    client->client.user = bytes_of_text(user);
    struct request request = {.kind = REQUEST_OPEN, .name = bytes_of_text(vhost), .source = client->client.user};
    return test_request(test, client, request)->reply.code;
}

struct test_client *test_client_bare(struct test_broker *test, unsigned worker)
{
    struct test_client *client = calloc(1, sizeof(*client));
    CHECK(client);
    CHECK(!client_attach(test->workers[worker], &client->client, &ops));
    return client;
}

struct test_client *test_client_new(struct test_broker *test, unsigned worker)
{
    struct test_client *client = test_client_bare(test, worker);
    CHECK(!test_client_open(test, client, "guest", "/"));
    client->count = 0;
    return client;
}

void test_client_free(struct test_client *client)
{
    if (client->client.worker)
        client_detach(&client->client);
    free(client);
}

struct test_event *test_next(struct test_client *client)
{
    return client->seen < client->count ? &client->events[client->seen++] : NULL;
}

struct test_event *test_request(struct test_broker *test, struct test_client *client, struct request request)
{
    unsigned before = client->count;
    client_request(&client->client, &request);
    test_settle_down(test);
    for (unsigned i = before; i < client->count; i++)
        if (client->events[i].kind == EVENT_REPLY)
            return &client->events[i];
    return NULL;
}

void test_declare(struct test_broker *test, struct test_client *client, const char *queue, unsigned flags)
{
    struct test_event *event = test_request(test, client, (struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = flags, .name = bytes_of_text(queue)});
    CHECK(event && event->reply.code == 0);
    client->seen = client->count;
}

enum publish_result test_publish(struct test_client *client, const char *exchange, const char *key, const char *body, uint64_t tag, bool persistent,
                                 struct transaction *transaction)
{
    static const uint8_t none[2];
    struct publish publish = {.channel = 1, .persistent = persistent, .whole = true, .confirm_tag = tag, .exchange = bytes_of_text(exchange),
                              .routing_key = bytes_of_text(key), .properties = bytes_of(none, 2), .body_size = strlen(body), .transaction = transaction};
    enum publish_result result = client_publish_begin(&client->client, &publish);
    if (result != PUBLISH_ROUTED)
        return result;
    memcpy(publish.body, body, strlen(body));
    client_publish_end(&client->client, &publish);
    return result;
}
