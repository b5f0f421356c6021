#include "protocol/amqp/fake_broker.h"

#include "protocol/amqp/copies.h"
#include "store/message.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((format(printf, 2, 3)))
static void say(struct worker *fake, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(fake->said + fake->said_size, sizeof(fake->said) - fake->said_size, format, arguments);
    va_end(arguments);
    CHECK(size >= 0);
    fake->said_size += (size_t)size;
    if (fake->said_size >= sizeof(fake->said))
        fake->said_size = 0; /* Nobody reads it: a fuzzer. */
}

void fake_open(struct worker *fake)
{
    memset(fake, 0, offsetof(struct worker, said));
    fake->chunks = chunk_pool_new(4);
    fake->now_us = 1000000;
    CHECK(fake->chunks);
}

void fake_close(struct worker *fake)
{
    CHECK(!fake->attached && !fake->transactions);
    chunk_pool_free(fake->chunks);
}

const char *fake_said(struct worker *fake)
{
    fake->said[fake->said_size] = 0;
    fake->said_size = 0;
    return fake->said;
}

struct chunk_pool *worker_chunks(struct worker *worker) { return worker->chunks; }
uint64_t worker_now(const struct worker *worker) { return worker->now_us; }
bool worker_queue_arguments(const struct worker *worker, struct bytes vhost, struct bytes queue, struct bytes *arguments)
{
    (void)worker, (void)vhost, (void)queue, (void)arguments;
    return false;
}

unsigned worker_index(const struct worker *worker) { (void)worker; return 0; }
void worker_send(struct worker *worker, unsigned to, struct bytes letter) { (void)worker, (void)to, (void)letter; }
uint64_t client_routes_version(const struct client *client)
{
    (void)client;
    return 0;
}

bool client_lacks_binding(const struct client *client, struct bytes exchange, struct bytes queue, struct bytes routing_key)
{
    (void)client, (void)exchange, (void)queue, (void)routing_key;
    return false;
}

uint64_t worker_parameters_version(const struct worker *worker)
{
    (void)worker;
    return 0;
}

void worker_parameters(const struct worker *worker, struct bytes component, void (*each)(void *owner, struct bytes vhost, struct bytes name, struct bytes value), void *owner)
{
    (void)worker, (void)component, (void)each, (void)owner;
}

bool worker_parameter(const struct worker *worker, struct bytes vhost, struct bytes component, struct bytes name, struct bytes *value)
{
    (void)worker, (void)vhost, (void)component, (void)name, (void)value;
    return false;
}

uint64_t worker_wall_us(const struct worker *worker) { return worker->now_us; }

uint64_t worker_wall_at(const struct worker *worker, uint64_t now_us)
{
    (void)worker;
    return now_us;
}

void client_time(struct client *client, uint64_t now_us)
{
    (void)client, (void)now_us;
}

enum gw_err client_attach(struct worker *worker, struct client *client, const struct client_ops *client_ops)
{
    client->worker = worker;
    client->ops = worker->ops = client_ops;
    client->id = 7;
    worker->client = client;
    worker->attached++;
    return GW_OK;
}

void client_detach(struct client *client)
{
    say(client->worker, "detach\n");
    client->worker->attached--;
    client->worker = NULL;
}

bool client_authenticate(struct client *client, struct bytes user, struct bytes password, bool from_loopback)
{
    (void)client;
    return from_loopback && bytes_equal(user, bytes_of_text("guest")) && bytes_equal(password, bytes_of_text("guest"));
}

bool client_identify(struct client *client, struct bytes user, bool from_loopback)
{
    (void)client;
    return from_loopback && bytes_equal(user, bytes_of_text("guest"));
}

bool client_limits_allow(const struct client *client, bool configure, struct bytes queue)
{
    (void)client, (void)configure, (void)queue;
    return true;
}

enum gw_err client_restrict(struct client *client, struct bytes configure, struct bytes write, struct bytes read)
{
    (void)client, (void)configure, (void)write, (void)read;
    return GW_OK;
}

bool client_is_tagged(const struct client *client, const char *tag)
{
    (void)client, (void)tag;
    return false;
}

bool client_channel_opened(struct client *client)
{
    return client->worker->limits_channels;
}

void client_channel_closed(struct client *client) { (void)client; }
void client_tell(const struct client *client, const struct client_news *news) { (void)client, (void)news; }

struct bytes client_vhost_name(const struct client *client)
{
    (void)client;
    return bytes_of_text("/");
}

/* ---- publishing -------------------------------------------------------------------------------------------------------------------- */

bool client_may_publish(struct client *client) { return !client->worker->may_not_publish; }

static bool leads_nowhere(struct bytes routing_key)
{
    return bytes_equal(routing_key, bytes_of_text("nowhere")) || bytes_equal(routing_key, bytes_of_text("amq.godwit.control"));
}

void client_publish_fault(const struct publish *publish, char *why, size_t room)
{
    (void)publish;
    snprintf(why, room, "bad transaction");
}

enum publish_result client_publish_judge(struct client *client, const struct publish *publish)
{
    (void)client;
    return bytes_equal(publish->exchange, bytes_of_text("missing")) ? PUBLISH_NO_EXCHANGE :
           bytes_equal(publish->exchange, bytes_of_text("internal")) ? PUBLISH_INTERNAL_EXCHANGE : PUBLISH_ROUTED;
}

enum publish_result client_publish_begin(struct client *client, struct publish *publish)
{
    struct worker *fake = client->worker;
    publish->body = NULL;
    publish->chunk = NULL;
    if (client_publish_judge(client, publish) != PUBLISH_ROUTED)
        return client_publish_judge(client, publish);
    if (fake->refuses)
        return PUBLISH_REFUSED;
    bool nowhere = leads_nowhere(publish->routing_key);
    if (nowhere && !publish->mandatory)
        return PUBLISH_UNROUTABLE;
    uint64_t size = message_size(publish->exchange.size, publish->routing_key.size, publish->properties.size, publish->body_size);
    publish->chunk = chunk_new(fake->chunks, size);
    if (!publish->chunk)
        return PUBLISH_NO_MEMORY;
    publish->content = bytes_of(publish->chunk->data, size);
    publish->body = message_begin(publish->chunk->data, publish->exchange, publish->routing_key, publish->properties, 0);
    return nowhere ? PUBLISH_UNROUTABLE : PUBLISH_ROUTED;
}

enum publish_result client_publish_begin_copied(struct client *client, struct publish *publish, const struct bytes copies[2])
{
    struct bytes key;
    for (unsigned i = 0; i < 2; i++)
        for (struct bytes rest = copies[i]; copies_next(&rest, &key);)
            say(client->worker, "%s %.*s\n", i ? "bcc" : "cc", (int)key.size, (const char *)key.data);
    return client_publish_begin(client, publish);
}

void client_publish_end(struct client *client, struct publish *publish)
{
    struct worker *fake = client->worker;
    struct message message;
    CHECK(message_read(publish->content, &message));
    fake->publishes++;
    fake->last_confirm_tag = publish->confirm_tag;
    if (message.body.size <= 64)
        say(fake, "publish %.*s %.*s%s \"%.*s\"%s\n", (int)message.exchange.size, (const char *)message.exchange.data, (int)message.routing_key.size,
            (const char *)message.routing_key.data, publish->persistent ? " persistent" : "", (int)message.body.size, (const char *)message.body.data,
            publish->transaction ? " in transaction" : "");
    else
        say(fake, "publish of %zu bytes\n", message.body.size);
    if (leads_nowhere(message.routing_key))
        return; /* The caller releases the chunk. */
    if (message.body.size <= sizeof(fake->body))
        memcpy(fake->body, message.body.data, message.body.size);
    chunk_release(publish->chunk, fake->chunks);
}

void client_publish_abort(struct client *client, struct publish *publish)
{
    say(client->worker, "abort\n");
    chunk_release(publish->chunk, client->worker->chunks);
}

void client_release(struct client *client, struct chunk *chunk)
{
    client->worker->releases++;
    chunk_release(chunk, client->worker->chunks);
}

/* ---- consuming ---------------------------------------------------------------------------------------------------------------------- */

void client_settle(struct client *client, uint64_t queue, enum settle_kind kind, uint64_t first_seq, uint64_t count, struct transaction *transaction)
{
    static const char *const names[] = {"ack", "requeue", "discard", "undelivered", "timed-out", "lost", "closed", "forced"};
    say(client->worker, "%s %llu %llu+%llu%s\n", names[kind], (unsigned long long)queue, (unsigned long long)first_seq, (unsigned long long)count,
        transaction ? " in transaction" : "");
}

void client_settle_after(struct client *client, uint64_t queue, uint64_t first_seq, uint64_t count, uint64_t delay_ms)
{
    say(client->worker, "requeue %llu %llu+%llu after %llu ms\n", (unsigned long long)queue, (unsigned long long)first_seq, (unsigned long long)count, (unsigned long long)delay_ms);
}

void client_credit(struct client *client, uint64_t queue, uint32_t handle, uint32_t bytes)
{
    say(client->worker, "credit %llu/%u %u\n", (unsigned long long)queue, handle, bytes);
}

void client_refuse(struct client *client, const struct delivery *delivery)
{
    say(client->worker, "refuse %llu %llu\n", (unsigned long long)delivery->queue, (unsigned long long)delivery->seq);
}

uint64_t client_consumer_timeout(struct client *client, uint64_t queue, uint64_t otherwise_ms)
{
    (void)client;
    (void)queue;
    return otherwise_ms;
}

void client_resume(struct client *client, uint64_t queue, uint32_t handle)
{
    say(client->worker, "resume %llu/%u\n", (unsigned long long)queue, handle);
}

void client_bind_to_limit(struct client *client, uint64_t queue, uint32_t handle)
{
    say(client->worker, "bind-to-limit %llu/%u\n", (unsigned long long)queue, handle);
}

/* ---- requests ------------------------------------------------------------------------------------------------------------------------ */

static void say_request(struct worker *fake, const struct request *request)
{
    static const char *const names[] = {"declare", "delete", "purge", "bind", "unbind", "exchange-declare", "exchange-delete", "exchange-bind",
                                        "exchange-unbind", "consume", "cancel", "get", "commit", "open", "channel", "close", "change", "control"};
    static const char *const flags[] = {"passive", "durable", "exclusive", "auto-delete", "internal", "if-unused", "if-empty", "no-ack", "no-local", "limited", "hidden"};
    if (request->kind == REQUEST_CANCEL) {
        say(fake, "cancel %llu/%u\n", (unsigned long long)request->queue, request->handle);
        return;
    }
    say(fake, "%s %.*s", names[request->kind], (int)request->name.size, (const char *)request->name.data);
    if (request->source.size)
        say(fake, " <- %.*s %.*s", (int)request->source.size, (const char *)request->source.data, (int)request->routing_key.size,
            (const char *)request->routing_key.data);
    if (request->type.size)
        say(fake, " %.*s", (int)request->type.size, (const char *)request->type.data);
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (request->flags >> i & 1)
            say(fake, " %s", flags[i]);
    }
    if (request->prefetch)
        say(fake, " prefetch %u", request->prefetch);
    say(fake, "\n");
}

static void remember(struct worker *fake, enum request_kind kind, uint16_t channel, uint32_t tag)
{
    CHECK(fake->request_count < FAKE_REQUESTS_MAX);
    fake->requests[(fake->first_request + fake->request_count++) % FAKE_REQUESTS_MAX] = (struct fake_request){kind, channel, tag};
}

void client_request(struct client *client, const struct request *request)
{
    say_request(client->worker, request);
    remember(client->worker, request->kind, request->channel, request->tag);
    client->worker->no_such_vhost = request->kind == REQUEST_OPEN && !bytes_equal(request->name, bytes_of_text("/"));
}

bool fake_lets_in(struct worker *fake)
{
    if (!fake->request_count || fake->requests[fake->first_request].kind != REQUEST_OPEN)
        return false;
    struct reply reply = {.code = fake->no_such_vhost ? 530 : 0, .text = bytes_of_text("NOT_ALLOWED - vhost elsewhere not found")};
    fake_answer(fake, reply);
    return true;
}

void fake_answer(struct worker *fake, struct reply reply)
{
    CHECK(fake->request_count > 0);
    struct fake_request request = fake->requests[fake->first_request];
    fake->first_request = (fake->first_request + 1) % FAKE_REQUESTS_MAX;
    fake->request_count--;
    reply.kind = request.kind;
    reply.channel = request.channel;
    reply.tag = request.tag;
    fake->ops->replied(fake->client, &reply);
}

void fake_turn(struct worker *fake)
{
    if (fake->ops->turned)
        fake->ops->turned(fake->client);
}

/* ---- transactions ---------------------------------------------------------------------------------------------------------------------- */

struct transaction {
    int unused;
};

struct transaction *client_transaction_new(struct client *client)
{
    struct transaction *transaction = calloc(1, sizeof(*transaction));
    client->worker->transactions += transaction != NULL;
    return transaction;
}

void client_transaction_commit(struct client *client, struct transaction *transaction, uint16_t channel)
{
    say(client->worker, "commit\n");
    client->worker->transactions--;
    free(transaction);
    remember(client->worker, REQUEST_COMMIT, channel, 0);
}

void client_transaction_rollback(struct client *client, struct transaction *transaction)
{
    say(client->worker, "rollback\n");
    client->worker->transactions--;
    free(transaction);
}

/* ---- deliveries -------------------------------------------------------------------------------------------------------------------------- */

struct delivery fake_delivery(struct worker *fake, const char *exchange, const char *key, struct bytes body, struct chunk **chunk)
{
    static const uint8_t properties[2] = {0, 0};
    struct bytes x = bytes_of_text(exchange), k = bytes_of_text(key), p = bytes_of(properties, 2);
    uint64_t size = message_size(x.size, k.size, p.size, body.size);
    *chunk = chunk_new(fake->chunks, size);
    CHECK(*chunk);
    uint8_t *at = message_begin((*chunk)->data, x, k, p, 0);
    if (body.size)
        memcpy(at, body.data, body.size);
    return (struct delivery){.chunk = *chunk, .content = bytes_of((*chunk)->data, size), .queue = 7, .seq = 1, .handle = 9, .channel = 1};
}
