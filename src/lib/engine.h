/* What a bus stands on: the broker in this process (embedded.c), or one elsewhere (remote.c).
 *
 *   bus.c, publish.c, handler.c, event.c      what the program asks, checked: threads, options, limits, retries, timeouts; who is called, and when
 *        │ struct engine_ops                        ▲ tickets_told, handler_deliver, handler_lost, bus_closed, bus_notice
 *        ▼                                          │
 *   an engine                                 messages and acknowledgements. Its functions call nothing of the program's, and block for nothing but what is said here
 *
 * An engine calls the functions on the right from its `turn`, or from what libuv calls: they only write down what is then told in the loop's turn.
 *
 * gw_open and gw_connect are the engines' own (open.c for the embedded one, remote.c): bus_begin, what they need, bus->ops and bus->engine; bus_abandon when that fails.
 *
 * An event is a message to the topic exchange `events`, whose routing key is its type (docs/events.md). A handler is a queue that is bound to it: handler->plan says of it all that an
 * engine has to declare. */
#ifndef LIB_ENGINE_H
#define LIB_ENGINE_H

#include "base/bytes.h"

#include <godwit.h>
#include <stdbool.h>

#define EVENTS_EXCHANGE "events"

struct gw_bus;
struct gw_event;
struct gw_handler;

/* A message that is to be published; everything is borrowed until `publish` returns. */
struct engine_message {
    struct bytes exchange, routing_key;
    struct bytes properties;         /* encoded, flags and list (protocol/amqp/properties.h) */
    struct bytes body;
    bool persistent;                 /* the properties say the same */
    bool mandatory;                  /* without a queue it is refused: GW_E_REFUSED */
};

enum settlement {
    SETTLED_ACK,
    SETTLED_RETRY,                   /* it failed: back to the queue, which counts that and has it wait */
    SETTLED_TIMEOUT,                 /* the same, as nobody answered */
    SETTLED_REJECT,                  /* given up */
    SETTLED_BACK,                    /* back to the queue, at once and uncounted as far as the engine can: no handler had it, or the bus is closed */
};

struct engine_ops {
    bool comes_back;                 /* its connection may be lost, and come back */

    /* Puts a message on its way. `ticket` 0: nobody asks what becomes of it; otherwise tickets_told(&bus->tickets, ticket, …) is called once, later or from inside. < 0: it was not
     * published, and is not told; a sentence was left. */
    int (*publish)(struct gw_bus *bus, const struct engine_message *message, uint64_t ticket);

    /* Makes what handler->plan says and begins to deliver, with handler_deliver. The embedded engine returns when it is done; the remote one at once, and restores it after each
     * connection. < 0: a sentence was left, and the handler is forgotten. */
    int (*subscribe)(struct gw_bus *bus, struct gw_handler *handler);

    /* No handler_deliver for it any more after this has returned. Events of it may still be settled. handler->link is freed. */
    void (*unsubscribe)(struct gw_bus *bus, struct gw_handler *handler);

    /* Says what becomes of an event that came by handler_deliver; once for each, unless handler_lost was told of it. What it consists of stays. */
    void (*settle)(struct gw_bus *bus, struct gw_event *event, enum settlement settlement);

    /* The same as SETTLED_RETRY, and it waits for so long. */
    void (*settle_after)(struct gw_bus *bus, struct gw_event *event, uint64_t delay_ms);

    /* Gives event->memory back. */
    void (*release)(struct gw_bus *bus, struct gw_event *event);

    /* Instead of settle: publishes the message and acknowledges the event when that is durable: as one where the engine can, otherwise in this order. */
    void (*replace)(struct gw_bus *bus, struct gw_event *event, const struct engine_message *message);

    /* Deletes an unused queue. Blocks for the answer. */
    int (*forget)(struct gw_bus *bus, const char *queue);

    /* For what is kept as the one message of a durable queue of its own (x-max-length 1, the newest stays), such as a source's position: makes the queue unless it is there, looks at what is in
     * it and leaves it there. `recalled` is called once, later or from inside, with the body, borrowed; empty: there is none. It is written with `publish`, exchange "". < 0: a sentence was
     * left, and `recalled` is not called. */
    int (*recall)(struct gw_bus *bus, const char *queue, void (*recalled)(void *owner, int result, struct bytes body), void *owner);

    /* May be NULL: recalls that are not answered will not be, and are told so. */
    void (*abandon)(struct gw_bus *bus);

    /* Once a turn of the loop: does what there is to do. True: there is more, at once. `due_us` is lowered to when it wants another turn though nothing comes. */
    bool (*turn)(struct gw_bus *bus, uint64_t now_us, uint64_t *due_us);

    /* For gw_publish_wait: waits until something has come (or that much time is over; a little more or less does not matter) and takes it in, without libuv. Then `turn` is called. */
    void (*wait)(struct gw_bus *bus, int timeout_ms);

    /* Closes, now that everything has been settled and told; calls bus_closed once, later or from inside. */
    void (*close)(struct gw_bus *bus);

    /* In a child of fork: closes descriptors, and touches nothing that the parent uses. */
    void (*forked)(struct gw_bus *bus);

    /* May be NULL: which queues a message to `events` would go to. False: not known now. `version` is another one whenever that may have changed. */
    bool (*routes)(struct gw_bus *bus, struct bytes type, const uint64_t **queues, uint32_t *count);
    uint64_t (*routes_version)(struct gw_bus *bus);
};

#endif
