/* An event's life after its handler has it, and the memory of events. */
#include "lib/event.h"

#include "base/bugs.h"
#include "lib/bus.h"
#include "lib/direct.h"
#include "lib/handler.h"
#include "lib/loop.h"

#include <stdlib.h>

#define SLAB_EVENTS 64u

struct event_slab {
    struct event_slab *next;
    struct gw_event events[SLAB_EVENTS];
};

struct event_text {
    struct event_text *next;
    char bytes[] __attribute__((aligned(8)));
};

/* ---- memory ------------------------------------------------------------------------------------------------------------------ */

struct gw_event *event_new(struct event_pool *pool)
{
    struct gw_event *event = pool->free;
    if (UNLIKELY(!event)) {
        struct event_slab *slab = calloc(1, sizeof(*slab));
        if (!slab)
            return NULL;
        slab->next = pool->slabs;
        pool->slabs = slab;
        for (unsigned i = 0; i < SLAB_EVENTS; i++) {
            slab->events[i].next = pool->free;
            pool->free = &slab->events[i];
        }
        event = pool->free;
    }
    pool->free = event->next;
    return event;
}

void event_free(struct event_pool *pool, struct gw_event *event)
{
    for (struct event_text *text = event->texts, *next; text; text = next) {
        next = text->next;
        free(text);
    }
    event->texts = NULL;
    event->read = NULL;
    event->state = EVENT_FREE;
    event->next = pool->free;
    pool->free = event;
}

void event_pool_deinit(struct event_pool *pool)
{
    for (struct event_slab *slab = pool->slabs, *next; slab; slab = next) {
        next = slab->next;
        free(slab);
    }
    *pool = (struct event_pool){0};
}

void *event_room(struct gw_event *event, size_t size)
{
    struct event_text *made = malloc(sizeof(*made) + size);
    if (!made)
        return NULL;
    made->next = event->texts;
    event->texts = made;
    return made->bytes;
}

const char *event_keep_text(struct gw_event *event, struct bytes text)
{
    char *made = event_room(event, text.size + 1);
    if (!made)
        return NULL;
    if (text.size)
        memcpy(made, text.data, text.size);
    made[text.size] = 0;
    return made;
}

/* ---- answers ------------------------------------------------------------------------------------------------------------------- */

void event_let_go(struct gw_event *event)
{
    struct gw_bus *bus = event->handler->bus;
    if (!event->memory)
        return;
    if (event->is_direct)
        direct_release(bus, event);
    else
        bus->ops->release(bus, event);
    event->memory = NULL;
    event->exchange = event->routing_key = event->properties = event->body = (struct bytes){0};
}

static void forget(struct gw_event *event)
{
    struct gw_bus *bus = event->handler->bus;
    if (bus->calling == event)
        bus->calling = NULL;
    event_let_go(event);
    event_free(&bus->events, event);
}

/* Takes it out of the handler's hands. False: it was late, and there is nothing to be said of it any more. */
static bool take_back(struct gw_event *event)
{
    struct gw_handler *handler = event->handler;
    struct gw_bus *bus = handler->bus;
    if (event->state == EVENT_LATE) {
        event_list_remove(&handler->late, event);
        bus->reap |= handler->off;
        if (bug_enabled(BUG_HANDLER_LATE_COUNTS))
            handler->in_hand_count++;
        return false;
    }
    event_list_remove(&handler->in_hand, event);
    handler->in_hand_count--;
    bus->in_hand--;
    if (handler->waiting.first)
        handler_is_ready(handler);
    bus->reap |= handler->off;
    loop_again_now(bus->loop);
    return true;
}

void event_settle(struct gw_event *event, enum settlement settlement)
{
    struct gw_bus *bus = event->handler->bus;
    if (take_back(event)) {
        if (event->is_direct)
            direct_settle(bus, event, settlement, 0);
        else if (!bug_enabled(BUG_HANDLER_ACK_UNTOLD) || settlement != SETTLED_ACK || event->tag % 8)
            bus->ops->settle(bus, event, settlement);
    }
    forget(event);
}

int event_replace(struct gw_event *event, const struct engine_message *message)
{
    struct gw_bus *bus = event->handler->bus;
    if (event->state == EVENT_LATE) {
        event_settle(event, SETTLED_ACK);
        return loop_fail(bus->loop, GW_E_TIMEOUT, "the event was answered too late: it has gone back to its queue");
    }
    if (event->is_direct) {
        int result = bus->ops->publish(bus, message, 0);
        if (result == GW_DONE)
            event_settle(event, SETTLED_ACK);
        return result;
    }
    take_back(event);
    bus->ops->replace(bus, event, message);
    forget(event);
    return GW_DONE;
}

static bool may_answer(const struct gw_event *event)
{
    return event && loop_check(event->handler->bus->loop) == GW_DONE && (event->state == EVENT_IN_HAND || event->state == EVENT_LATE);
}

void gw_event_ack(gw_event *event)
{
    if (may_answer(event))
        event_settle(event, SETTLED_ACK);
}

void gw_event_retry(gw_event *event)
{
    if (may_answer(event))
        event_settle(event, SETTLED_RETRY);
}

void gw_event_reject(gw_event *event)
{
    if (may_answer(event))
        event_settle(event, SETTLED_REJECT);
}

void gw_event_retry_after(gw_event *event, uint64_t ms)
{
    if (!may_answer(event))
        return;
    struct gw_bus *bus = event->handler->bus;
    if (take_back(event)) {
        if (event->is_direct)
            direct_settle(bus, event, SETTLED_RETRY, ms ? ms : 1);
        else if (bug_enabled(BUG_HANDLER_RETRY_OWN))
            bus->ops->settle(bus, event, SETTLED_RETRY);
        else
            bus->ops->settle_after(bus, event, ms);
    }
    forget(event);
}
