#include "lib/handler.h"

#include "lib/bus.h"
#include "lib/direct.h"
#include "lib/loop.h"

#include <stdlib.h>

#define SLICE 256u   /* events of one handler before others have a turn */

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */

static struct gw_handler *make(struct gw_bus *bus, gw_event_fn handle, void *context)
{
    struct gw_handler *handler = calloc(1, sizeof(*handler));
    if (!handler) {
        loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
        return NULL;
    }
    handler->bus = bus;
    handler->handle = handle;
    handler->context = context;
    handler->next = bus->handlers;
    if (bus->handlers)
        bus->handlers->previous = handler;
    bus->handlers = handler;
    return handler;
}

static struct gw_handler *subscribe(struct gw_handler *handler)
{
    if (handler->bus->ops->subscribe(handler->bus, handler) != GW_DONE) {
        handler_free(handler);
        return NULL;
    }
    direct_handlers_changed(handler->bus);
    return handler;
}

struct gw_handler *handler_new(struct gw_bus *bus, const struct plan *plan, gw_event_fn handle, void *context)
{
    struct gw_handler *handler = make(bus, handle, context);
    if (!handler)
        return NULL;
    handler->plan = *plan;
    handler->concurrency = UINT32_MAX;
    handler->timeout_us = LOOP_NEVER;
    handler->retries = GW_RETRY_FOREVER;
    handler->transient = !plan->durable;
    return subscribe(handler);
}

gw_handler *gw_on(gw_bus *bus, const char *pattern, gw_event_fn handle, void *context, const gw_handler_options *options)
{
    static const gw_handler_options none;
    if (bus_check(bus) != GW_DONE)
        return NULL;
    if (!handle) {
        loop_fail(bus->loop, GW_E_INVALID, "a handler needs a function");
        return NULL;
    }
    struct gw_handler *handler = make(bus, handle, context);
    if (!handler)
        return NULL;
    if (handler_plan(handler, pattern, options ? options : &none) != GW_DONE) {
        handler_free(handler);
        return NULL;
    }
    return subscribe(handler);
}

static void drop_list(struct gw_handler *handler, struct event_list *list)
{
    for (struct gw_event *event; (event = list->first);) {
        event_list_remove(list, event);
        event_let_go(event);
        event_free(&handler->bus->events, event);
    }
}

void handler_free(struct gw_handler *handler)
{
    struct gw_bus *bus = handler->bus;
    if (handler->over)
        handler->over(handler);
    bus->in_hand -= handler->in_hand_count;
    drop_list(handler, &handler->waiting);
    drop_list(handler, &handler->resting);
    drop_list(handler, &handler->in_hand);
    drop_list(handler, &handler->late);
    if (handler->next)
        handler->next->previous = handler->previous;
    if (handler->previous)
        handler->previous->next = handler->next;
    else
        bus->handlers = handler->next;
    free(handler);
}

void handler_cut(struct gw_handler *handler)
{
    if (handler->is_cut)
        return;
    handler->is_cut = true;
    handler->bus->ops->unsubscribe(handler->bus, handler);
    handler_give_back(handler, false);
}

void handler_stop(struct gw_handler *handler)
{
    struct gw_bus *bus = handler->bus;
    if (handler->off)
        return;
    handler->off = true;
    handler_cut(handler);
    direct_handlers_changed(bus);
    bus->reap = true;
    loop_again_now(bus->loop);
}

void gw_off(gw_handler *handler)
{
    if (handler && loop_check(handler->bus->loop) == GW_DONE)
        handler_stop(handler);
}

bool handler_is_over(const struct gw_handler *handler)
{
    return handler->off && !handler->in_hand.first && !handler->late.first && !handler->is_ready && !handler->direct_routes;
}

/* ---- what comes ------------------------------------------------------------------------------------------------------------------- */

void handler_is_ready(struct gw_handler *handler)
{
    struct gw_bus *bus = handler->bus;
    if (handler->is_ready)
        return;
    handler->is_ready = true;
    handler->ready_next = NULL;
    *bus->ready_last = handler;
    bus->ready_last = &handler->ready_next;
    loop_again_now(bus->loop);
}

bool handler_deliver(struct gw_handler *handler, const struct incoming *incoming)
{
    struct gw_event *event = event_new(&handler->bus->events);
    if (UNLIKELY(!event))
        return false;
    event->handler = handler;
    event->exchange = incoming->exchange;
    event->routing_key = incoming->routing_key;
    event->properties = incoming->properties;
    event->body = incoming->body;
    event->memory = incoming->memory;
    event->queue = incoming->queue;
    event->tag = incoming->tag;
    event->consumer = incoming->consumer;
    event->size = incoming->size;
    event->attempt = incoming->attempt;
    /* What was published to the queue itself may be a copy that comes again (remote_rest.c). */
    if (UNLIKELY(!incoming->exchange.size))
        event->attempt += event_attempts_said(incoming->properties);
    event->redelivered = (incoming->redelivered || event->attempt > 1) && !bug_enabled(BUG_HANDLER_UNFLAGGED);
    event->is_direct = false;
    event->state = EVENT_WAITING;
    event_list_append(&handler->waiting, event);
    if (!handler->is_ready)
        handler_is_ready(handler);
    return true;
}

void handler_lost(struct gw_handler *handler)
{
    struct gw_bus *bus = handler->bus;
    for (struct gw_event *event = handler->waiting.first, *next; event; event = next) {
        next = event->next;
        if (event->is_direct)
            continue;
        event_list_remove(&handler->waiting, event);
        event_let_go(event);
        event_free(&bus->events, event);
    }
    for (struct gw_event *event = handler->in_hand.first, *next; event; event = next) {
        next = event->next;
        if (event->is_direct)
            continue;
        event_list_remove(&handler->in_hand, event);
        event->state = EVENT_LATE;
        event_list_append(&handler->late, event);
        handler->in_hand_count--;
        bus->in_hand--;
    }
}

/* ---- calling it --------------------------------------------------------------------------------------------------------------------- */

/* A C++ exception goes through the call: what was in hand failed. A longjmp does not come by here. */
struct call {
    struct gw_event *event;
    bool returned;
};

static void call_left(struct call *call)
{
    struct gw_event *event = call->event;
    if (!call->returned && event->handler->bus->calling == event)
        event_settle(event, SETTLED_RETRY);
}

static void call_handler(struct gw_handler *handler, struct gw_event *event)
{
    __attribute__((cleanup(call_left))) struct call call = {.event = event};
    handler->bus->calling = event;
    handler->handle(event, handler->context);
    call.returned = true;
}

void handler_call(struct gw_handler *handler, struct gw_event *event)
{
    struct gw_bus *bus = handler->bus;
    uint64_t now_us = bus->loop->called_us = loop_clock_roughly(bus->loop);
    event->state = EVENT_IN_HAND;
    if (handler->timeout_us != LOOP_NEVER) {
        event->due_us = now_us + handler->timeout_us;
        if (event->due_us < bus->due_us)
            bus->due_us = event->due_us;
    } else {
        event->due_us = LOOP_NEVER;
    }
    event_list_append(&handler->in_hand, event);
    handler->in_hand_count++;
    bus->in_hand++;
    call_handler(handler, event);
}

void handler_turn(struct gw_handler *handler, unsigned *budget)
{
    struct gw_loop *loop = handler->bus->loop;
    uint64_t turn = loop->turns;
    for (unsigned i = 0; i < SLICE && *budget && handler_has_work(handler); i++) {
        struct gw_event *event = handler->waiting.first;
        event_list_remove(&handler->waiting, event);
        (*budget)--;
        handler_call(handler, event);
        if (UNLIKELY(loop->turns != turn))
            return;   /* it ran the loop itself, and may be gone */
        if (UNLIKELY(loop_turn_is_over(loop)))
            *budget = 0;
    }
}

/* ---- what does not come ---------------------------------------------------------------------------------------------------------------- */

uint64_t handler_late(struct gw_handler *handler, uint64_t now_us)
{
    struct gw_bus *bus = handler->bus;
    if (bug_enabled(BUG_HANDLER_LATE_NEVER) && handler->in_hand_count > 1)
        return LOOP_NEVER;
    for (struct gw_event *event; (event = handler->in_hand.first) && event->due_us <= now_us;) {
        event_list_remove(&handler->in_hand, event);
        event->state = EVENT_LATE;
        event_list_append(&handler->late, event);
        handler->in_hand_count--;
        bus->in_hand--;
        if (event->is_direct)
            direct_settle(bus, event, SETTLED_TIMEOUT, 0);
        else
            bus->ops->settle(bus, event, bug_enabled(BUG_HANDLER_LATE_UNCOUNTED) ? SETTLED_BACK : SETTLED_TIMEOUT);
        if (handler->waiting.first)
            handler_is_ready(handler);
    }
    uint64_t due_us = handler->in_hand.first ? handler->in_hand.first->due_us : LOOP_NEVER;
    uint64_t rested_us = direct_rested(handler, now_us);
    return rested_us < due_us ? rested_us : due_us;
}

static void settle_back(struct gw_handler *handler, struct gw_event *event)
{
    bool waits = event->state == EVENT_WAITING;
    bool acks = bug_enabled(BUG_HANDLER_OFF_ACKS) ? waits : !waits && bug_enabled(BUG_HANDLER_CLOSE_ACKS);
    if (!event->is_direct && !(waits && bug_enabled(BUG_HANDLER_OFF_KEEPS)))
        handler->bus->ops->settle(handler->bus, event, acks ? SETTLED_ACK : SETTLED_BACK);
}

static void give_back_unseen(struct gw_handler *handler, struct event_list *list)
{
    for (struct gw_event *event; (event = list->first);) {
        event_list_remove(list, event);
        settle_back(handler, event);
        event_let_go(event);
        event_free(&handler->bus->events, event);
    }
}

void handler_give_back(struct gw_handler *handler, bool all)
{
    give_back_unseen(handler, &handler->waiting);
    give_back_unseen(handler, &handler->resting);
    for (struct gw_event *event; all && (event = handler->in_hand.first);) {
        event_list_remove(&handler->in_hand, event);
        settle_back(handler, event);
        event->state = EVENT_LATE;
        event_list_append(&handler->late, event);
        handler->in_hand_count--;
        handler->bus->in_hand--;
    }
    /* Somebody may still know these and answer; there is nothing in them any more. */
    for (struct gw_event *event = handler->late.first; all && event; event = event->next)
        event_let_go(event);
}
