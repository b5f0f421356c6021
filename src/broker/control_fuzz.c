/* What administrators send may be anything: a request, or else definitions to import. Afterwards the broker exports its definitions, and importing them changes nothing more. */
#include "broker/test_broker.h"
#include "broker/writer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A client that keeps its last answer. */
struct asker {
    struct client client;    /* first */
    char *answer;
    size_t answer_size;
};

static void on_deliver(struct client *client, const struct delivery *delivery) { (void)client, (void)delivery; }
static void on_confirmed(struct client *client, uint16_t channel, uint64_t first, uint64_t count, bool accepted)
{
    (void)client, (void)channel, (void)first, (void)count, (void)accepted;
}
static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer) { (void)client, (void)channel, (void)consumer; }
static void on_resumed(struct client *client) { (void)client; }
static void on_blocked(struct client *client, const char *reason) { (void)client, (void)reason; }
static void on_closed(struct client *client, uint16_t code, struct bytes text) { (void)client, (void)code, (void)text; }
static void on_turned(struct client *client) { (void)client; }

static void on_replied(struct client *client, const struct reply *reply)
{
    struct asker *asker = (struct asker *)client;
    free(asker->answer);
    asker->answer = malloc(reply->text.size + 1);
    CHECK(asker->answer);
    memcpy(asker->answer, reply->text.data, reply->text.size);
    asker->answer[reply->text.size] = 0;
    asker->answer_size = reply->text.size;
}

static const struct client_ops ops = {
    .deliver = on_deliver, .replied = on_replied, .confirmed = on_confirmed, .cancelled = on_cancelled, .resumed = on_resumed, .blocked = on_blocked,
    .closed = on_closed, .turned = on_turned};

static bool ask(struct test_broker *test, struct asker *asker, struct bytes json)
{
    struct request request = {.kind = REQUEST_CONTROL, .source = bytes_of_text("guest"), .arguments = json};
    client_request(&asker->client, &request);
    test_settle_down(test);
    bool ok = strncmp(asker->answer, "{\"ok\":", 6) == 0;
    CHECK(ok || strncmp(asker->answer, "{\"error\":", 9) == 0);
    return ok;
}

static void open_vhost(struct test_broker *test, struct asker *asker)
{
    asker->client.user = bytes_of_text("guest");
    struct request request = {.kind = REQUEST_OPEN, .name = bytes_of_text("/"), .source = asker->client.user};
    client_request(&asker->client, &request);
    test_settle_down(test);
    CHECK(asker->client.vhost);
}

/* The bytes as definitions to import. */
static bool import(struct test_broker *test, struct asker *asker, const void *definitions, size_t size)
{
    static const char begin[] = "{\"command\":\"import_definitions\",\"definitions\":";
    char *request = malloc(sizeof(begin) + size + 1);
    CHECK(request);
    memcpy(request, begin, sizeof(begin) - 1);
    memcpy(request + sizeof(begin) - 1, definitions, size);
    request[sizeof(begin) - 1 + size] = '}';
    bool ok = ask(test, asker, bytes_of(request, sizeof(begin) + size));
    free(request);
    return ok;
}

/* The text of an export; free() it. NULL: the user guest may not any more. */
static char *export(struct test_broker *test, struct asker *asker)
{
    if (!ask(test, asker, bytes_of_text("{\"command\":\"export_definitions\"}")))
        return NULL;
    char *text = bytes_to_text(bytes_of(asker->answer + 6, asker->answer_size - 7));
    CHECK(text);
    return text;
}

/* Two queues with something in them. */
static void fill(struct test_broker *test, struct asker *asker)
{
    static const uint8_t properties[] = {0x20, 0x80, 0, 0, 0, 7, 1, 'n', 'I', 0, 0, 0, 7, 2, 'i', 'd'};
    for (unsigned i = 0; i < 2; i++) {
        struct request request = {.kind = REQUEST_QUEUE_DECLARE, .name = bytes_of_text(i ? "q" : "r"), .flags = REQUEST_DURABLE};
        client_request(&asker->client, &request);
    }
    test_settle_down(test);
    for (unsigned i = 0; i < 4; i++) {
        struct publish publish = {.channel = 1, .persistent = true, .whole = true, .exchange = bytes_of_text(""), .routing_key = bytes_of_text("q"), .body_size = 1,
                                  .properties = i % 2 ? bytes_of(properties, sizeof(properties)) : bytes_of("\0\0", 2)};
        CHECK(client_publish_begin(&asker->client, &publish) == PUBLISH_ROUTED);
        *publish.body = (uint8_t)i;
        client_publish_end(&asker->client, &publish);
    }
    test_settle_down(test);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct test_broker test;
    struct asker asker = {.answer = NULL};
    test_broker_open(&test, 2, 3, NULL, 0);
    CHECK(!client_attach(test.workers[1], &asker.client, &ops));
    open_vhost(&test, &asker);
    if (size > 18 && memcmp(data, "{\"command\":\"queue_", 18) == 0)
        fill(&test, &asker);
    if (size > 10 && memcmp(data, "{\"command\"", 10) == 0)
        ask(&test, &asker, bytes_of(data, size));
    else
        import(&test, &asker, data, size);
    /* Numbers of the definitions become 64-bit ones, so that the first import of what clients declared may add a binding; the second may not. */
    char *first = export(&test, &asker);
    bool imported = first && import(&test, &asker, first, strlen(first));
    char *second = imported ? export(&test, &asker) : NULL;
    if (second) {
        CHECK(import(&test, &asker, second, strlen(second)));
        char *third = export(&test, &asker);
        CHECK(third && strcmp(second, third) == 0);
        free(third);
    }
    free(second);
    free(first);
    free(asker.answer);
    client_detach(&asker.client);
    test_broker_close(&test);
    return 0;
}
