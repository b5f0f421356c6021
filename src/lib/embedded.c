#include "lib/embedded.h"

#include "base/bugs.h"
#include "lib/direct.h"
#include "lib/loop.h"
#include "protocol/amqp/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CANCEL_TAG 0x40000000u       /* of requests for consumers that are cancelled: with their numbers */
#define LEAVING_ROUNDS 10000u        /* turns with more to do, after which it is closed all the same */
#define ROOM_US 1000000u              /* after its grace a bus on a full disk waits so long for room */
#define ROUNDS 64u                   /* turns without a look at the disk */

/* ---- turns --------------------------------------------------------------------------------------------------------------------------- */

bool embedded_turn(struct embedded *e, uint64_t now_us)
{
    e->staged = 0;
    e->house->ops->clock(e->house, now_us);
    return e->more = worker_turn(e->house->worker, now_us);
}

void embedded_advance(struct embedded *e, int timeout_ms)
{
    if (!e->more || ++e->rounds % ROUNDS == 0)
        e->house->ops->wait(e->house, timeout_ms);
    embedded_turn(e, loop_clock(e->bus->loop));
}

static bool go_on_closing(struct embedded *e, uint64_t now_us, uint64_t *due_us);

static bool turn(struct gw_bus *bus, uint64_t now_us, uint64_t *due_us)
{
    struct embedded *e = bus->engine;
    if (UNLIKELY(e->end != EMBEDDED_OPEN))
        return go_on_closing(e, now_us, due_us);
    if (UNLIKELY(e->starved))
        embedded_resume(e);
    bool more = embedded_turn(e, now_us);
    uint64_t deadline_us = worker_deadline(e->house->worker);
    if (deadline_us < *due_us)
        *due_us = deadline_us;
    return more;
}

static void wait(struct gw_bus *bus, int timeout_ms)
{
    struct house *house = embedded_of(bus)->house;
    house->ops->wait(house, timeout_ms);
}

/* ---- what the broker says ------------------------------------------------------------------------------------------------------------- */

static void set_text(char *to, size_t room, struct bytes text)
{
    snprintf(to, room, "%.*s", (int)(text.size < room ? text.size : room - 1), (const char *)text.data);
}

static void on_replied(struct client *client, const struct reply *reply)
{
    struct embedded *e = (struct embedded *)client;
    if (reply->kind == REQUEST_CANCEL)
        embedded_uncoupled(e, reply->tag - CANCEL_TAG);
    if (reply->kind == REQUEST_CANCEL || reply->kind == REQUEST_COMMIT || reply->tag != e->asked)
        return;
    e->answer.known = true;
    e->answer.code = reply->code;
    e->answer.queue = reply->queue;
    e->answer.handle = reply->handle;
    e->answer.empty = reply->empty;
    set_text(e->answer.text, sizeof(e->answer.text), reply->text);
}

static void on_blocked(struct client *client, const char *reason)
{
    struct embedded *e = (struct embedded *)client;
    if (reason && !e->blocked)
        bus_notice(e->bus, GW_NOTICE_WARNING, "nothing is published for now: the broker is %s", reason);
    else if (!reason && e->blocked)
        bus_notice(e->bus, GW_NOTICE_INFO, "publishing goes on");
    e->blocked = reason;
}

static void on_closed(struct client *client, uint16_t code, struct bytes text)
{
    struct embedded *e = (struct embedded *)client;
    (void)code;
    e->failed = true;
    set_text(e->why, sizeof(e->why), text);
    bus_notice(e->bus, GW_NOTICE_ERROR, "the broker wants no more of this program: %s", e->why);
}

static void on_resumed(struct client *client) { (void)client; }

/* ---- asking ---------------------------------------------------------------------------------------------------------------------------- */

int embedded_ask(struct embedded *e, struct request *request)
{
    struct gw_loop *loop = e->bus->loop;
    e->answer = (struct answer){0};
    request->channel = EMBEDDED_CHANNEL;
    if (request->kind != REQUEST_CONSUME)
        request->tag = CANCEL_TAG - 1;
    request->flags |= REQUEST_TRUSTED;
    e->asked = request->tag;
    client_request(&e->client, request);
    /* Most answers come within a turn; the others wait for the disk. */
    embedded_turn(e, loop_clock(e->bus->loop));
    while (!e->answer.known && !e->failed)
        embedded_advance(e, -1);
    if (e->failed)
        return loop_fail(loop, GW_E_REFUSED, "%s", e->why);
    if (!e->answer.code)
        return GW_DONE;
    return loop_fail(loop, worker_storage(e->house->worker) == GW_ERR_FAILED ? GW_E_STORAGE : worker_storage(e->house->worker) == GW_ERR_FULL ? GW_E_FULL : GW_E_REFUSED, "%s", e->answer.text);
}

/* ---- opening --------------------------------------------------------------------------------------------------------------------------- */

static int open_client(struct embedded *e, const char *vhost)
{
    static const struct client_ops ops = {embedded_deliver, on_replied, embedded_confirmed, embedded_cancelled, on_resumed, on_blocked, on_closed, NULL, NULL};
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes facts = {0};
    if (client_attach(e->house->worker, &e->client, &ops) != GW_OK)
        return loop_fail(e->bus->loop, GW_E_LIMIT, "the broker has no room for another client");
    e->client.trusted = true;
    e->client.user = bytes_of_text("libgodwit");
    e->client.name = bytes_of_text("this program");
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "name", e->client.name);
    amqp_table_put_text(&writer, "protocol", bytes_of_text("libgodwit " GODWIT_VERSION));
    CHECK(amqp_table_finish(&writer, &facts));
    return embedded_ask(e, &(struct request){.kind = REQUEST_OPEN, .name = bytes_of_text(vhost ? vhost : "/"), .source = e->client.user, .arguments = facts});
}

static int declare_events(struct embedded *e, uint64_t history_bytes)
{
    struct bytes name = bytes_of_text(EVENTS_EXCHANGE), arguments;
    uint8_t room[128];
    struct amqp_table_writer writer;
    int result = embedded_ask(e, &(struct request){.kind = REQUEST_EXCHANGE_DECLARE, .flags = REQUEST_DURABLE, .name = name, .type = bytes_of_text("topic")});
    if (result != GW_DONE || !history_bytes)
        return result;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-queue-type", bytes_of_text("stream"));
    amqp_table_put_long(&writer, "x-max-length-bytes", (int64_t)(history_bytes < INT64_MAX ? history_bytes : INT64_MAX));
    CHECK(amqp_table_finish(&writer, &arguments));
    result = embedded_ask(e, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = name, .arguments = arguments});
    if (result != GW_DONE)
        return result;
    return embedded_ask(e, &(struct request){.kind = REQUEST_QUEUE_BIND, .name = name, .source = name, .routing_key = bytes_of_text("#")});
}

/* ---- closing --------------------------------------------------------------------------------------------------------------------------- */

static void free_engine(struct embedded *e)
{
    free(e->ring);
    free(e->consumers);
    free(e);
}

/* The house is gone. */
static void on_house_closed(void *owner, int result)
{
    struct embedded *e = owner;
    struct gw_bus *bus = e->bus;
    if (result != GW_DONE)
        loop_fail(bus->loop, result, "the data directory could not be closed cleanly: %s; it is recovered when it is opened the next time", gw_result_text(result));
    free_engine(e);
    bus_closed(bus, result);
}

/* Becomes of everything that was published something that is known? */
static bool is_all_told(const struct embedded *e)
{
    return bug_enabled(BUG_HANDLER_CLOSE_HURRIED) || !tickets_are_unknown(&e->bus->tickets) || e->failed || worker_storage(e->house->worker) == GW_ERR_FAILED;
}

/* Each turn does what can be done without waiting for the disk: other things on the loop go on. True: there is more to do at once. */
static bool go_on_closing(struct embedded *e, uint64_t now_us, uint64_t *due_us)
{
    const struct house_ops *ops = e->house->ops;
    if (e->end == EMBEDDED_AWAY)
        return false;
    bool more = embedded_turn(e, now_us);
    uint64_t deadline_us = worker_deadline(e->house->worker);
    *due_us = deadline_us < *due_us ? deadline_us : *due_us;
    if (e->end == EMBEDDED_TELLING) {
        /* When its time is over, and it was looked for room some more times, and the disk has nothing to do, nothing will ever be known of the rest: there is no room for it. */
        uint64_t end_us = e->bus->grace_us + ROOM_US;
        if (!is_all_told(e) && (more || now_us < end_us || !ops->is_idle(e->house))) {
            *due_us = now_us < end_us && end_us < *due_us ? end_us : *due_us;
            return more;
        }
        client_detach(&e->client);
        e->end = EMBEDDED_LEAVING;
        e->rounds = 0;
        return true;
    }
    /* Messages that go round from queue to queue may do so for ever. */
    e->rounds += more;
    if (e->rounds < LEAVING_ROUNDS && (more || !ops->is_idle(e->house)))
        return more;
    e->end = EMBEDDED_AWAY;
    if (ops->is_idle(e->house))
        ops->close_aside(e->house, now_us, on_house_closed, e);
    else
        on_house_closed(e, ops->close(e->house, now_us));
    return false;
}

static void close_engine(struct gw_bus *bus)
{
    embedded_of(bus)->end = EMBEDDED_TELLING;
    loop_again_now(bus->loop);
}

static void forked(struct gw_bus *bus)
{
    struct house *house = embedded_of(bus)->house;
    house->ops->forked(house);
}

static bool routes(struct gw_bus *bus, struct bytes type, const uint64_t **queues, uint32_t *count)
{
    return embedded_of(bus)->end == EMBEDDED_OPEN && client_route(&embedded_of(bus)->client, bytes_of_text(EVENTS_EXCHANGE), type, queues, count);
}

static uint64_t routes_version(struct gw_bus *bus) { return client_routes_version(&embedded_of(bus)->client); }

static const struct engine_ops embedded_ops = {
    .publish = embedded_publish, .subscribe = embedded_subscribe, .unsubscribe = embedded_unsubscribe, .settle = embedded_settle, .settle_after = embedded_settle_after,
    .release = embedded_release, .replace = embedded_replace,
    .forget = embedded_forget, .recall = embedded_recall, .turn = turn, .wait = wait, .close = close_engine, .forked = forked, .routes = routes, .routes_version = routes_version,
};

int embedded_open(struct gw_bus *bus, struct house *house, const gw_open_options *options)
{
    struct embedded *e = calloc(1, sizeof(*e));
    if (!e || !(bus->direct = direct_new(options->memory_bytes ? options->memory_bytes : EMBEDDED_MEMORY))) {
        free(e);
        house->ops->close(house, loop_clock(bus->loop));
        return loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    }
    e->bus = bus;
    e->house = house;
    e->first = e->next = 1;
    bus->ops = &embedded_ops;
    bus->engine = e;
    int result = open_client(e, options->vhost);
    if (result == GW_DONE)
        result = declare_events(e, options->history_bytes);
    if (result == GW_DONE)
        return GW_DONE;
    if (e->client.worker)
        client_detach(&e->client);
    house->ops->close(house, loop_clock(bus->loop));
    bus->engine = NULL;
    free_engine(e);
    return result;
}
