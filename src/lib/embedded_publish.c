/* Publishing into the broker of this process. What is not confirmed is bounded: past that a publish does the broker's turns and waits for the disk itself. */
#include "base/bugs.h"
#include "lib/embedded.h"
#include "lib/handler.h"
#include "lib/loop.h"
#include "protocol/amqp/properties.h"

#include <inttypes.h>
#include <stdlib.h>

#define UNCONFIRMED_MAX (16u << 20)  /* bytes */
#define STAGED_MAX (256u << 10)      /* bytes that the broker has not looked at, while they are in the processor's cache */
#define SHORT_OF_MEMORY_US 1000000u  /* how long a publish waits for the broker to find some … */
#define PATIENCE_US 5000000u         /* … and for the disk to take any of what is out */

/* ---- what is out ----------------------------------------------------------------------------------------------------------------------- */

static struct outstanding *at(struct embedded *e, uint64_t tag) { return &e->ring[tag & (e->room - 1)]; }

static bool make_place(struct embedded *e)
{
    if (LIKELY(e->next - e->first < e->room))
        return true;
    uint64_t room = e->room ? 2 * e->room : 1024;
    struct outstanding *ring = malloc(room * sizeof(*ring));
    if (!ring)
        return false;
    for (uint64_t tag = e->first; tag != e->next; tag++)
        ring[tag & (room - 1)] = *at(e, tag);
    free(e->ring);
    e->ring = ring;
    e->room = room;
    return true;
}

/* What a refusal means. */
static int refusal(const struct embedded *e)
{
    enum gw_err storage = worker_storage(e->house->worker);
    return storage == GW_ERR_FAILED ? GW_E_STORAGE : storage == GW_ERR_FULL ? GW_E_FULL : GW_E_REFUSED;
}

void embedded_confirmed(struct client *client, uint16_t channel, uint64_t first, uint64_t count, bool accepted)
{
    struct embedded *e = (struct embedded *)client;
    int result = accepted ? GW_DONE : refusal(e);
    (void)channel;
    for (uint64_t tag = first; tag < first + count; tag++) {
        struct outstanding *out = at(e, tag);
        if (out->ticket)
            tickets_told(&e->bus->tickets, out->ticket, 1, result);
        e->unconfirmed -= out->size;
        out->known = true;
    }
    while (e->first != e->next && at(e, e->first)->known)
        e->first++;
}

/* ---- room ------------------------------------------------------------------------------------------------------------------------------ */

/* The broker holds publishers back, too, as long as consumers are behind. But the consumers here are in this thread, and get on when the program goes back to its loop; meanwhile queues page out. */
static bool has_room(const struct embedded *e) { return !e->blocked && !e->failed && e->unconfirmed < UNCONFIRMED_MAX; }

static int fail(struct embedded *e, int result)
{
    static const char full[] = "the disk is full, or almost: free some space, then publishing goes on";
    static const char failed[] = "the disk failed: nothing durable is taken any more until the directory is opened again";
    return loop_fail(e->bus->loop, result, "%s", result == GW_E_FULL ? full : result == GW_E_STORAGE ? failed : "the broker refused the event");
}

static __attribute__((noinline)) int wait_for_room(struct embedded *e)
{
    uint64_t begin_us = loop_clock(e->bus->loop);
    embedded_turn(e, begin_us);
    for (;;) {
        uint64_t now_us = loop_clock(e->bus->loop);
        if (has_room(e))
            return GW_DONE;
        if (e->failed)
            return loop_fail(e->bus->loop, GW_E_REFUSED, "%s", e->why);
        if (e->blocked && strstr(e->blocked, "disk"))
            return fail(e, GW_E_FULL);
        if (worker_storage(e->house->worker) == GW_ERR_FAILED)
            return fail(e, GW_E_STORAGE);
        if (e->blocked && now_us - begin_us > SHORT_OF_MEMORY_US)
            return loop_fail(e->bus->loop, GW_E_AGAIN, "the broker is %s; go on when handlers have caught up", e->blocked);
        uint64_t until_us = e->bus->until_us && e->bus->until_us < begin_us + PATIENCE_US ? e->bus->until_us : begin_us + PATIENCE_US;
        if (now_us >= until_us)
            return loop_fail(e->bus->loop, GW_E_AGAIN, "%" PRIu64 " bytes wait for the disk, as they did %" PRIu64 " ms ago: publish again when it has taken some", e->unconfirmed,
                             (now_us - begin_us) / 1000);
        embedded_advance(e, (int)((until_us - now_us) / 1000) + 1);
    }
}

/* ---- publishing ------------------------------------------------------------------------------------------------------------------------- */

/* The default exchange's name is empty, and not nowhere. */
static struct bytes exchange_of(const struct engine_message *message) { return message->exchange.size ? message->exchange : bytes_of("", 0); }

static void told(struct embedded *e, uint64_t ticket, int result)
{
    if (ticket)
        tickets_told(&e->bus->tickets, ticket, 1, result);
}

/* It is for no queue: gone, unless somebody has to know of it. */
static int unroutable(struct embedded *e, struct publish *publish, const struct engine_message *message, uint64_t ticket)
{
    if (publish->chunk) {
        if (message->body.size)
            memcpy(publish->body, message->body.data, message->body.size);
        client_publish_end(&e->client, publish);
        if (publish->mandatory)
            client_release(&e->client, publish->chunk);
    }
    if (message->mandatory)
        return loop_fail(e->bus->loop, GW_E_REFUSED, "there is no handler for it");
    told(e, ticket, GW_DONE);
    return GW_DONE;
}

static int refused(struct embedded *e, enum publish_result result)
{
    switch (result) {
    case PUBLISH_NO_EXCHANGE: return loop_fail(e->bus->loop, GW_E_REFUSED, "the exchange is gone that it is published to");
    case PUBLISH_REFUSED: return fail(e, refusal(e));
    case PUBLISH_NO_MEMORY: return loop_fail(e->bus->loop, GW_E_MEMORY, "out of memory, or the event is too large");
    case PUBLISH_BAD_DELAY: return loop_fail(e->bus->loop, GW_E_LIMIT, "an event waits for at most a hundred years");
    default: return fail(e, GW_E_REFUSED);
    }
}

int embedded_publish(struct gw_bus *bus, const struct engine_message *message, uint64_t ticket)
{
    struct embedded *e = bus->engine;
    if (UNLIKELY(e->end != EMBEDDED_OPEN))
        return loop_fail(bus->loop, GW_E_CLOSED, "the bus is being closed");
    if (UNLIKELY(!has_room(e))) {
        int result = wait_for_room(e);
        if (result != GW_DONE)
            return result;
    }
    if (UNLIKELY(!make_place(e)))
        return loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    /* After a sleep the broker's time is that of before; and what waits for its time, which a header says, counts from now. */
    if (!bus->loop->again_is_on || UNLIKELY(message->properties.size > 2 && (message->properties.data[0] & AMQP_HEADERS >> 8)))
        client_time(&e->client, loop_clock(bus->loop));
    struct publish publish = {.channel = EMBEDDED_CHANNEL, .persistent = message->persistent, .mandatory = message->mandatory, .whole = true, .confirm_tag = e->next,
                              .exchange = exchange_of(message), .routing_key = message->routing_key, .properties = message->properties, .body_size = message->body.size};
    enum publish_result result = client_publish_begin(&e->client, &publish);
    if (UNLIKELY(result == PUBLISH_UNROUTABLE))
        return unroutable(e, &publish, message, ticket);
    if (UNLIKELY(result != PUBLISH_ROUTED))
        return refused(e, result);
    if (message->body.size)
        memcpy(publish.body, message->body.data, message->body.size);
    uint64_t size = message->body.size + message->properties.size;
    e->staged += size;
    *at(e, e->next) = (struct outstanding){.ticket = ticket, .size = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX};
    e->unconfirmed += at(e, e->next)->size;
    e->next++;
    client_publish_end(&e->client, &publish);
    if (bug_enabled(BUG_HANDLER_TOLD_EARLY))
        told(e, ticket, GW_DONE);
    if (UNLIKELY(e->staged > STAGED_MAX))
        embedded_turn(e, loop_clock(bus->loop));
    return GW_DONE;
}

void embedded_replace(struct gw_bus *bus, struct gw_event *event, const struct engine_message *message)
{
    struct embedded *e = bus->engine;
    struct transaction *transaction = client_transaction_new(&e->client);
    client_time(&e->client, loop_clock(bus->loop));
    struct publish publish = {.channel = EMBEDDED_CHANNEL, .persistent = message->persistent, .exchange = exchange_of(message), .routing_key = message->routing_key,
                              .properties = message->properties, .body_size = message->body.size, .transaction = transaction};
    enum publish_result result = transaction ? client_publish_begin(&e->client, &publish) : PUBLISH_NO_MEMORY;
    if (result != PUBLISH_ROUTED) {
        if (transaction)
            client_transaction_rollback(&e->client, transaction);
        /* Whoever asked is gone, and a reply that comes too late is nobody's: that is no reason to handle the event once more. */
        embedded_settle(bus, event, result == PUBLISH_UNROUTABLE ? SETTLED_ACK : SETTLED_RETRY);
        return;
    }
    if (message->body.size)
        memcpy(publish.body, message->body.data, message->body.size);
    client_publish_end(&e->client, &publish);
    if (!bug_enabled(BUG_HANDLER_REPLY_ALONE))
        client_settle(&e->client, event->queue, SETTLE_ACK, event->tag, 1, transaction);
    client_transaction_commit(&e->client, transaction, EMBEDDED_CHANNEL);
}
