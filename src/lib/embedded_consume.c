/* Handlers as consumers of the broker of this process. */
#include "base/bugs.h"
#include "lib/embedded.h"
#include "lib/handler.h"
#include "lib/loop.h"
#include "protocol/amqp/table.h"
#include "store/message.h"

#include <stdlib.h>

#define PREFETCH 4096u               /* events that wait in this process, where the program says nothing */
#define HELD_MAX (8u << 20)          /* bytes of a consumer's events in this process before it gets no more */
#define CREDIT_AT (128u << 10)       /* bytes for which credit is given back in one go */
#define CANCEL_TAG 0x40000000u

/* ---- consumers -------------------------------------------------------------------------------------------------------------------------- */

/* A free one's number; 0: out of memory. Number 0 is nobody's. */
static uint32_t consumer_new(struct embedded *e, struct gw_handler *handler)
{
    if (!e->consumer_free) {
        uint32_t count = e->consumer_count ? 2 * e->consumer_count : 16;
        struct consumer *grown = realloc(e->consumers, count * sizeof(*grown));
        if (!grown)
            return 0;
        e->consumers = grown;
        for (uint32_t i = count - 1; i >= e->consumer_count && i > 0; i--) {
            grown[i] = (struct consumer){.next = e->consumer_free};
            e->consumer_free = i;
        }
        e->consumer_count = count;
    }
    uint32_t number = e->consumer_free;
    e->consumer_free = e->consumers[number].next;
    e->consumers[number] = (struct consumer){.handler = handler, .next = (uint32_t)(uintptr_t)handler->link};
    handler->link = (void *)(uintptr_t)number;
    return number;
}

static void consumer_free(struct embedded *e, uint32_t number)
{
    e->consumers[number] = (struct consumer){.next = e->consumer_free};
    e->consumer_free = number;
}

void embedded_uncoupled(struct embedded *e, uint32_t number)
{
    if (number < e->consumer_count && !e->consumers[number].handler)
        consumer_free(e, number);
}

/* Gives the broker credit for what it has sent, as long as not too much of it lies here. */
static void give_credit(struct embedded *e, struct consumer *consumer, bool all)
{
    if (!consumer->owed || consumer->held > HELD_MAX || (!all && consumer->owed < CREDIT_AT))
        return;
    client_credit(&e->client, consumer->queue, consumer->handle, consumer->owed);
    consumer->owed = 0;
}

/* ---- what comes ------------------------------------------------------------------------------------------------------------------------- */

/* Nobody can have it now: back to its place, and nothing more comes to this consumer. Given back and nothing else, it would come again at once, over and over. */
static void refuse(struct embedded *e, const struct delivery *delivery)
{
    e->consumers[delivery->consumer].queue = delivery->queue;
    e->consumers[delivery->consumer].handle = delivery->handle;
    client_refuse(&e->client, delivery);
}

void embedded_resume(struct embedded *e)
{
    e->starved = false;
    for (uint32_t i = 1; i < e->consumer_count; i++) {
        struct consumer *consumer = &e->consumers[i];
        if (!consumer->starved)
            continue;
        consumer->starved = false;
        if (consumer->handler)
            client_resume(&e->client, consumer->queue, consumer->handle);
    }
}

static uint32_t returns_of(const struct delivery *delivery)
{
    if (delivery->added != DELIVERY_ADDS_RETRY && delivery->added != DELIVERY_ADDS_COUNT)
        return 0;
    return (uint32_t)(delivery->added_value & ((1ull << DELIVERY_REASON_SHIFT) - 1));
}

void embedded_deliver(struct client *client, const struct delivery *delivery)
{
    struct embedded *e = (struct embedded *)client;
    if (delivery->is_get) {
        e->answer.known = e->answer.has_message = true;
        e->answer.found = *delivery;
        chunk_retain(delivery->chunk);
        return;
    }
    struct consumer *consumer = &e->consumers[delivery->consumer];
    struct message message;
    uint32_t size = (uint32_t)delivery->content.size + DELIVERY_OVERHEAD;
    if (!consumer->handler) {
        refuse(e, delivery);
        return;
    }
    consumer->queue = delivery->queue;
    consumer->handle = delivery->handle;
    if (!message_read(delivery->content, &message)) {
        client_settle(client, delivery->queue, SETTLE_DISCARD, delivery->seq, 1, NULL);
        client_credit(client, delivery->queue, delivery->handle, size);
        return;
    }
    const struct incoming incoming = {.exchange = message.exchange, .routing_key = message.routing_key, .properties = message.properties, .body = message.body, .memory = delivery->chunk,
                                      .queue = delivery->queue, .tag = delivery->seq, .consumer = delivery->consumer, .attempt = bug_enabled(BUG_HANDLER_ATTEMPT_ONE) ? 1 : returns_of(delivery) + 1,
                                      .redelivered = delivery->redelivered, .size = size};
    if (!handler_deliver(consumer->handler, &incoming)) {
        consumer->starved = e->starved = true;
        refuse(e, delivery);
        return;
    }
    chunk_retain(delivery->chunk);
    consumer->held += size;
    consumer->owed += size;
    give_credit(e, consumer, false);
}

void embedded_cancelled(struct client *client, uint16_t channel, uint32_t number)
{
    struct embedded *e = (struct embedded *)client;
    struct consumer *consumer = &e->consumers[number];
    (void)channel;
    consumer->consuming = false;
    if (consumer->handler)
        bus_notice(e->bus, GW_NOTICE_ERROR, "the queue '%s' was deleted: its handler gets nothing more", consumer->handler->plan.queue);
}

/* ---- handlers --------------------------------------------------------------------------------------------------------------------------- */

static int declare(struct embedded *e, const struct plan *plan)
{
    int result = GW_DONE;
    if (plan->dead_queue[0])
        result = embedded_ask(e, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = bytes_of_text(plan->dead_queue)});
    if (result == GW_DONE)
        result = embedded_ask(e, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = plan->durable ? REQUEST_DURABLE : REQUEST_EXCLUSIVE | REQUEST_AUTO_DELETE,
                                                   .name = bytes_of_text(plan->queue), .arguments = bytes_of(plan->arguments, plan->arguments_size)});
    if (result == GW_DONE && plan->pattern[0])
        result = embedded_ask(e, &(struct request){.kind = REQUEST_QUEUE_BIND, .name = bytes_of_text(plan->queue), .source = bytes_of_text(EVENTS_EXCHANGE),
                                                   .routing_key = bytes_of_text(plan->pattern)});
    return result;
}

static int consume(struct embedded *e, struct gw_handler *handler)
{
    const struct plan *plan = &handler->plan;
    uint32_t number = consumer_new(e, handler);
    if (!number)
        return loop_fail(e->bus->loop, GW_E_MEMORY, "out of memory");
    e->consumers[number].consuming = true;
    int result = embedded_ask(e, &(struct request){.kind = REQUEST_CONSUME, .tag = number, .name = bytes_of_text(plan->queue), .prefetch = plan->prefetch ? plan->prefetch : PREFETCH});
    struct consumer *consumer = &e->consumers[number];
    if (result != GW_DONE) {
        handler->link = (void *)(uintptr_t)consumer->next;
        consumer_free(e, number);
        return result;
    }
    consumer->queue = handler->queue = e->answer.queue;
    consumer->handle = e->answer.handle;
    return GW_DONE;
}

int embedded_subscribe(struct gw_bus *bus, struct gw_handler *handler)
{
    struct embedded *e = bus->engine;
    int result = declare(e, &handler->plan);
    for (uint32_t i = 0; i < handler->plan.consumers && result == GW_DONE; i++)
        result = consume(e, handler);
    if (result != GW_DONE)
        embedded_unsubscribe(bus, handler);
    return result;
}

void embedded_unsubscribe(struct gw_bus *bus, struct gw_handler *handler)
{
    struct embedded *e = bus->engine;
    for (uint32_t number = (uint32_t)(uintptr_t)handler->link, next; number; number = next) {
        struct consumer *consumer = &e->consumers[number];
        next = consumer->next;
        consumer->handler = NULL;
        if (!consumer->consuming) {
            consumer_free(e, number);
            continue;
        }
        consumer->consuming = false;
        client_request(&e->client, &(struct request){.kind = REQUEST_CANCEL, .channel = EMBEDDED_CHANNEL, .tag = CANCEL_TAG + number, .queue = consumer->queue, .handle = consumer->handle});
    }
    handler->link = NULL;
}

/* ---- answers ---------------------------------------------------------------------------------------------------------------------------- */

void embedded_settle(struct gw_bus *bus, struct gw_event *event, enum settlement settlement)
{
    static const enum settle_kind kinds[] = {[SETTLED_ACK] = SETTLE_ACK, [SETTLED_RETRY] = SETTLE_REQUEUE, [SETTLED_TIMEOUT] = SETTLE_TIMED_OUT, [SETTLED_REJECT] = SETTLE_DISCARD};
    /* One that a handler has seen is told to be redelivered; without having failed. */
    enum settle_kind kind = settlement != SETTLED_BACK ? kinds[settlement] : event->state == EVENT_WAITING ? SETTLE_UNDELIVERED : SETTLE_FORCED;
    client_settle(&embedded_of(bus)->client, event->queue, kind, event->tag, 1, NULL);
}

void embedded_settle_after(struct gw_bus *bus, struct gw_event *event, uint64_t delay_ms)
{
    client_settle_after(&embedded_of(bus)->client, event->queue, event->tag, 1, delay_ms);
}

void embedded_release(struct gw_bus *bus, struct gw_event *event)
{
    struct embedded *e = bus->engine;
    struct consumer *consumer = &e->consumers[event->consumer];
    client_release(&e->client, event->memory);
    /* The number may be another's by now. */
    if (!consumer->handler || consumer->handler != event->handler || consumer->queue != event->queue)
        return;
    consumer->held -= event->size;
    give_credit(e, consumer, consumer->held == 0);
}

/* ---- queues that are no handler's -------------------------------------------------------------------------------------------------------- */

int embedded_forget(struct gw_bus *bus, const char *queue)
{
    return embedded_ask(bus->engine, &(struct request){.kind = REQUEST_QUEUE_DELETE, .flags = REQUEST_IF_UNUSED, .name = bytes_of_text(queue)});
}

int embedded_recall(struct gw_bus *bus, const char *queue, void (*recalled)(void *owner, int result, struct bytes body), void *owner)
{
    struct embedded *e = bus->engine;
    uint8_t room[64];
    struct amqp_table_writer writer;
    struct bytes arguments;
    struct message message;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_long(&writer, "x-max-length", 1);
    CHECK(amqp_table_finish(&writer, &arguments));
    int result = embedded_ask(e, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = bytes_of_text(queue), .arguments = arguments});
    if (result == GW_DONE)
        result = embedded_ask(e, &(struct request){.kind = REQUEST_GET, .name = bytes_of_text(queue)});
    if (result != GW_DONE)
        return result;
    if (!e->answer.has_message || !message_read(e->answer.found.content, &message)) {
        recalled(owner, GW_DONE, (struct bytes){0});
        return GW_DONE;
    }
    struct delivery found = e->answer.found;
    client_settle(&e->client, found.queue, SETTLE_UNDELIVERED, found.seq, 1, NULL);
    recalled(owner, GW_DONE, message.body);
    client_release(&e->client, found.chunk);
    return GW_DONE;
}
