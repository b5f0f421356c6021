#include "lib/direct.h"

#include "base/bugs.h"
#include "base/map.h"
#include "broker/delay.h"
#include "lib/loop.h"
#include "lib/outgoing.h"
#include "protocol/amqp/wire.h"

#include <stdlib.h>

#define BLOCK_SIZE (64u * 1024u)
#define BLOCKS_KEPT 8u
#define ROUTES_MAX 4096u

/* Events lie in blocks one after the other. A block is there until the ring is past it and no event points into it. */
struct block {
    struct block *next;
    uint64_t size;
    uint32_t used, read;             /* bytes of data; a block with one large event has no second one */
    uint32_t live;                   /* events that point into it, and one for the ring */
    uint8_t data[] __attribute__((aligned(8)));
};

/* Where events of a type go. */
struct route {
    struct bytes type;               /* lies behind the handlers */
    struct route *next_stale;
    uint64_t version;
    uint64_t pending;                /* events in the ring that go by it */
    bool is_direct, is_stale;
    uint32_t count;
    struct gw_handler *handlers[];
};

struct entry {
    struct route *route;
    uint64_t serial;
    uint32_t size;                   /* of all of it */
    uint32_t body_size, properties_size;
    uint32_t type_size;
    uint8_t bytes[];                 /* body, properties, type */
};

struct direct {
    struct block *first, *last, *kept;
    unsigned kept_count;
    uint64_t bytes, limit;           /* of blocks in use */
    uint32_t at;                     /* how many handlers have had the first event */
    struct route *last_route, *stale;
    struct name_map routes;
};

/* ---- blocks ------------------------------------------------------------------------------------------------------------------------ */

static struct block *block_new(struct direct *d, uint64_t size)
{
    struct block *block = size == BLOCK_SIZE ? d->kept : NULL;
    if (block) {
        d->kept = block->next;
        d->kept_count--;
    } else if (!(block = malloc(sizeof(*block) + size))) {
        return NULL;
    }
    block->next = NULL;
    block->size = size;
    block->used = block->read = 0;
    block->live = 1;
    d->bytes += size;
    return block;
}

static void block_release(struct direct *d, struct block *block)
{
    if (--block->live)
        return;
    d->bytes -= block->size;
    if (block->size != BLOCK_SIZE || d->kept_count == BLOCKS_KEPT) {
        free(block);
        return;
    }
    block->next = d->kept;
    d->kept = block;
    d->kept_count++;
}

/* Room for an entry; NULL: out of memory, or over the limit. */
static void *room_for(struct direct *d, uint64_t size)
{
    struct block *last = d->last;
    if (LIKELY(last && last->size - last->used >= size))
        return last->data + last->used;
    if (d->bytes >= d->limit)
        return NULL;
    struct block *block = block_new(d, size > BLOCK_SIZE ? size : BLOCK_SIZE);
    if (!block)
        return NULL;
    if (last)
        last->next = block;
    else
        d->first = block;
    d->last = block;
    return block->data;
}

/* ---- routes ------------------------------------------------------------------------------------------------------------------------ */

static struct bytes type_of(const void *value) { return ((const struct route *)value)->type; }

static void route_free(struct gw_bus *bus, struct route *route)
{
    for (uint32_t i = 0; i < route->count; i++)
        route->handlers[i]->direct_routes--;
    bus->reap = true;
    free(route);
}

/* Whether it is found again or not, what is in the ring goes by it. */
static void route_forget(struct gw_bus *bus, struct route *route)
{
    struct direct *d = bus->direct;
    name_map_remove(&d->routes, route->type);
    if (d->last_route == route)
        d->last_route = NULL;
    if (!route->pending) {
        route_free(bus, route);
        return;
    }
    route->is_stale = true;
    route->next_stale = d->stale;
    d->stale = route;
}

static void forget_all(struct gw_bus *bus)
{
    struct direct *d = bus->direct;
    uint32_t cursor = 0;
    for (struct route *route; (route = map_next(&d->routes.map, &cursor)); cursor = 0)
        route_forget(bus, route);
}

static struct gw_handler *handler_of(const struct gw_bus *bus, uint64_t queue)
{
    for (struct gw_handler *handler = bus->handlers; handler; handler = handler->next)
        if (handler->takes_direct && !handler->off && handler->queue == queue)
            return handler;
    return NULL;
}

static struct route *route_make(struct gw_bus *bus, struct bytes type)
{
    const uint64_t *queues;
    uint32_t count;
    struct direct *d = bus->direct;
    if (!amqp_utf8_valid(type) || !bus->ops->routes(bus, type, &queues, &count))
        return NULL;
    struct route *route = malloc(sizeof(*route) + count * sizeof(struct gw_handler *) + type.size);
    if (!route)
        return NULL;
    *route = (struct route){.version = bus->ops->routes_version(bus), .is_direct = true};
    for (uint32_t i = 0; i < count && route->is_direct; i++) {
        struct gw_handler *handler = handler_of(bus, queues[i]);
        if (handler)
            route->handlers[route->count++] = handler;
        else
            route->is_direct = false;
    }
    if (!route->is_direct)
        route->count = 0;
    uint8_t *copy = (uint8_t *)&route->handlers[count];
    memcpy(copy, type.data, type.size);
    route->type = bytes_of(copy, type.size);
    for (uint32_t i = 0; i < route->count; i++)
        route->handlers[i]->direct_routes++;
    if (d->routes.map.count >= ROUTES_MAX)
        forget_all(bus);
    if (name_map_put(&d->routes, route) != GW_OK) {
        route_free(bus, route);
        return NULL;
    }
    return route;
}

/* NULL: it is not known now. */
static struct route *route_find(struct gw_bus *bus, struct bytes type)
{
    struct direct *d = bus->direct;
    struct route *route = d->last_route;
    if (UNLIKELY(!route || !bytes_equal(route->type, type)))
        route = name_map_get(&d->routes, type);
    if (UNLIKELY(route && route->version != bus->ops->routes_version(bus))) {
        route_forget(bus, route);
        route = NULL;
    }
    if (UNLIKELY(!route))
        route = route_make(bus, type);
    return d->last_route = route;
}

void direct_handlers_changed(struct gw_bus *bus)
{
    if (bus->direct)
        forget_all(bus);
}

/* ---- publishing -------------------------------------------------------------------------------------------------------------------- */

static bool is_plain(const gw_publish_options *options)
{
    return !options->id && !options->source && !options->subject && !options->content_type && !options->key && !options->header_count && !options->time_ms && !options->priority;
}

static int append(struct gw_bus *bus, struct route *route, const struct outgoing *outgoing, struct bytes properties)
{
    struct direct *d = bus->direct;
    uint64_t size = (sizeof(struct entry) + outgoing->body.size + properties.size + outgoing->type.size + 7) & ~(uint64_t)7;
    if (UNLIKELY(size > UINT32_MAX))
        return loop_fail(bus->loop, GW_E_LIMIT, "an event of %zu bytes is too large", outgoing->body.size);
    struct entry *entry = room_for(d, size);
    if (UNLIKELY(!entry))
        return loop_fail(bus->loop, GW_E_AGAIN, "handlers are %llu bytes of events behind, which is the most; go on when the loop has run", (unsigned long long)d->bytes);
    *entry = (struct entry){.route = route, .serial = ++bus->next_id, .size = (uint32_t)size, .body_size = (uint32_t)outgoing->body.size,
                            .properties_size = (uint32_t)properties.size, .type_size = (uint32_t)outgoing->type.size};
    uint8_t *at = entry->bytes;
    if (outgoing->body.size)
        memcpy(at, outgoing->body.data, outgoing->body.size);
    at += outgoing->body.size;
    if (properties.size)
        memcpy(at, properties.data, properties.size);
    memcpy(at + properties.size, outgoing->type.data, outgoing->type.size);
    route->pending++;
    d->last->used += (uint32_t)size;
    loop_again_now(bus->loop);
    return GW_DONE;
}

/* With attributes: written as if it went to the engine. */
static int append_whole(struct gw_bus *bus, struct route *route, struct outgoing *outgoing)
{
    char made[BUS_ID_MAX];
    struct bytes id = outgoing->options->id ? bytes_of_text(outgoing->options->id) : bytes_of(made, bus_new_id(bus, made));
    int result = outgoing_make(bus, outgoing, id);
    if (result != GW_DONE)
        return result;
    result = append(bus, route, outgoing, outgoing->message.properties);
    outgoing_deinit(outgoing);
    return result;
}

bool direct_publish(struct gw_bus *bus, struct outgoing *outgoing, gw_published_fn told, void *context, int *result)
{
    if (!bus->direct || outgoing->options->delay_ms || !outgoing->type.size || outgoing->type.size > UINT8_MAX || (!outgoing->body.data && outgoing->body.size) ||
        outgoing->body.size > OUTGOING_BODY_MAX)
        return false;   /* what is wrong of it is told on the other way */
    struct route *route = route_find(bus, outgoing->type);
    if (!route || !route->is_direct)
        return false;
    uint64_t ticket = told ? ticket_open(&bus->tickets, told, context) : 0;
    if (told && !ticket)
        *result = loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    else if (!is_plain(outgoing->options))
        *result = append_whole(bus, route, outgoing);
    else
        *result = append(bus, route, outgoing, (struct bytes){0});
    if (ticket && *result == GW_DONE)
        tickets_told(&bus->tickets, ticket, 1, GW_DONE);
    else if (ticket)
        ticket_cancel(&bus->tickets, ticket);
    return true;
}

/* ---- handling ---------------------------------------------------------------------------------------------------------------------- */

static void hand_over(struct gw_handler *handler, struct block *block, const struct entry *entry)
{
    struct gw_event *event = event_new(&handler->bus->events);
    if (UNLIKELY(!event))
        return;   /* without memory a transient event is gone */
    const uint8_t *at = entry->bytes;
    event->handler = handler;
    event->body = bytes_of(at, entry->body_size);
    event->properties = bytes_of(at + entry->body_size, entry->properties_size);
    event->routing_key = bytes_of(at + entry->body_size + entry->properties_size, entry->type_size);
    event->exchange = bytes_of(EVENTS_EXCHANGE, sizeof(EVENTS_EXCHANGE) - 1);
    event->memory = block;
    event->serial = entry->serial;
    event->attempt = 1;
    event->redelivered = false;
    event->is_direct = true;
    block->live++;
    if (LIKELY(handler_has_room(handler) && !handler->waiting.first)) {
        handler_call(handler, event);
        return;
    }
    event->state = EVENT_WAITING;
    event_list_append(&handler->waiting, event);
    handler_is_ready(handler);
}

static void entry_done(struct gw_bus *bus, struct block *block, const struct entry *entry)
{
    struct route *route = entry->route;
    bus->direct->at = 0;
    block->read += entry->size;
    if (--route->pending || !route->is_stale)
        return;
    for (struct route **at = &bus->direct->stale; *at; at = &(*at)->next_stale)
        if (*at == route) {
            *at = route->next_stale;
            break;
        }
    route_free(bus, route);
}

/* The first event that is not done with; NULL: there is none. */
static struct entry *first_entry(struct direct *d)
{
    for (struct block *block; (block = d->first);) {
        if (block->read < block->used)
            return (struct entry *)(void *)(block->data + block->read);
        d->first = block->next;
        if (!d->first)
            d->last = NULL;
        block_release(d, block);
    }
    return NULL;
}

bool direct_has_work(const struct gw_bus *bus)
{
    const struct direct *d = bus->direct;
    return d && d->first && (d->first->read < d->first->used || d->first->next);
}

void direct_turn(struct gw_bus *bus, unsigned *budget)
{
    struct direct *d = bus->direct;
    struct entry *entry;
    uint64_t turn = bus->loop->turns;
    while (*budget && d && (entry = first_entry(d))) {
        struct block *block = d->first;
        if (d->at < entry->route->count) {
            struct gw_handler *handler = entry->route->handlers[d->at++];
            (*budget)--;
            if (LIKELY(!handler->off))
                hand_over(handler, block, entry);
            /* A handler that ran the loop itself may have brought everything to its end. */
            if (UNLIKELY(bus->loop->turns != turn))
                return;
        }
        if (d->at >= entry->route->count)
            entry_done(bus, block, entry);
        if (UNLIKELY(loop_turn_is_over(bus->loop)))
            *budget = 0;
    }
}

/* ---- answers ----------------------------------------------------------------------------------------------------------------------- */

static void rest(struct gw_event *event, uint64_t delay_ms)
{
    struct gw_handler *handler = event->handler;
    struct gw_bus *bus = handler->bus;
    struct gw_event *again = event_new(&bus->events);
    if (!again)
        return;
    again->handler = handler;
    again->exchange = event->exchange;
    again->routing_key = event->routing_key;
    again->properties = event->properties;
    again->body = event->body;
    again->memory = event->memory;
    again->serial = event->serial;
    again->attempt = event->attempt + 1;
    again->redelivered = again->is_direct = true;
    again->state = EVENT_RESTING;
    delay_ms = delay_ms ? delay_ms : handler_delay_ms(handler, event->attempt);
    again->due_us = loop_clock(bus->loop) + 1000 * (delay_ms < DELAY_MAX_MS ? delay_ms : DELAY_MAX_MS);
    if (bug_enabled(BUG_HANDLER_DIRECT_SOON))
        again->due_us = loop_clock(bus->loop);
    ((struct block *)event->memory)->live++;
    event_list_append(&handler->resting, again);
    if (again->due_us < bus->due_us)
        bus->due_us = again->due_us;
    loop_again_now(bus->loop);
}

static void give_up(struct gw_event *event)
{
    static const gw_publish_options transient = {.transient = 1};
    struct gw_handler *handler = event->handler;
    struct gw_bus *bus = handler->bus;
    if (!handler->dead_letter[0])
        return;
    struct outgoing outgoing = {.exchange = event->exchange, .type = event->routing_key, .body = event->body, .options = &transient};
    char id[BUS_ID_MAX];
    if (!event->properties.size && outgoing_make(bus, &outgoing, bytes_of(id, bus_new_id(bus, id))) != GW_DONE)
        return;
    const struct engine_message letter = {.exchange = event->exchange, .routing_key = bytes_of_text(handler->dead_letter), .body = event->body,
                                          .properties = event->properties.size ? event->properties : outgoing.message.properties};
    bus->ops->publish(bus, &letter, 0);
    outgoing_deinit(&outgoing);
}

void direct_settle(struct gw_bus *bus, struct gw_event *event, enum settlement settlement, uint64_t delay_ms)
{
    const struct gw_handler *handler = event->handler;
    bool failed = settlement == SETTLED_RETRY || settlement == SETTLED_TIMEOUT;
    if (failed && event->attempt <= (uint32_t)handler->retries && !handler->off && bus->state == BUS_OPEN)
        rest(event, delay_ms);
    else if (failed || settlement == SETTLED_REJECT)
        give_up(event);
}

void direct_release(struct gw_bus *bus, struct gw_event *event) { block_release(bus->direct, event->memory); }

uint64_t direct_rested(struct gw_handler *handler, uint64_t now_us)
{
    uint64_t due_us = LOOP_NEVER;
    for (struct gw_event *event = handler->resting.first, *next; event; event = next) {
        next = event->next;
        if (event->due_us > now_us) {
            due_us = event->due_us < due_us ? event->due_us : due_us;
            continue;
        }
        event_list_remove(&handler->resting, event);
        event->state = EVENT_WAITING;
        event_list_append(&handler->waiting, event);
        handler_is_ready(handler);
    }
    return due_us;
}

/* ---- life -------------------------------------------------------------------------------------------------------------------------- */

struct direct *direct_new(uint64_t limit)
{
    struct direct *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->limit = limit;
    name_map_init(&d->routes, type_of, (uintptr_t)d);
    return d;
}

void direct_free(struct gw_bus *bus)
{
    struct direct *d = bus->direct;
    if (!d)
        return;
    for (struct entry *entry; (entry = first_entry(d));)
        entry_done(bus, d->first, entry);
    forget_all(bus);
    name_map_deinit(&d->routes);
    for (struct block *block; (block = d->kept);) {
        d->kept = block->next;
        free(block);
    }
    free(d);
    bus->direct = NULL;
}
