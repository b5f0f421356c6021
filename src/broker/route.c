#include "broker/route.h"

#include "broker/headers_match.h"
#include "broker/topic.h"

#include <stdlib.h>

struct search {
    struct topology *topology;
    struct bytes routing_key, properties;
    struct route *route;
    struct exchange *next[64];     /* exchanges found and not yet gone through */
    unsigned next_count;
    enum gw_err err;
};

void route_deinit(struct route *route)
{
    free(route->queues);
    *route = (struct route){0};
}

static void add_queue(struct search *search, struct queue_entry *queue)
{
    if (queue->visited == search->topology->visit || search->err)
        return;
    queue->visited = search->topology->visit;
    struct route *route = search->route;
    if (route->count == route->capacity) {
        uint32_t capacity = route->capacity ? route->capacity * 2 : 4;
        uint64_t *queues = realloc(route->queues, capacity * sizeof(*queues));
        if (!queues) {
            search->err = GW_ERR_NOMEM;
            return;
        }
        route->queues = queues;
        route->capacity = capacity;
    }
    route->durable |= !(queue->id & QUEUE_ID_TRANSIENT);
    route->stamped |= queue->settings && (queue->settings->flags & SETTINGS_STAMPED);
    route->queues[route->count++] = queue->id;
}

static void visit(struct search *search, struct exchange *exchange);

static void follow(void *owner, struct binding *binding)
{
    struct search *search = owner;
    if (binding->queue) {
        add_queue(search, binding->queue);
        return;
    }
    if (binding->exchange->visited == search->topology->visit)
        return;
    binding->exchange->visited = search->topology->visit;
    /* Deep chains of exchanges go by the list, not by the stack; what does not fit is gone through at once. */
    if (search->next_count < sizeof(search->next) / sizeof(*search->next))
        search->next[search->next_count++] = binding->exchange;
    else
        visit(search, binding->exchange);
}

static void visit_direct(struct search *search, struct exchange *exchange)
{
    if (!exchange->name.size) {   /* the default exchange: every queue is bound to it by its name */
        struct queue_entry *queue = topology_queue(exchange->vhost, search->routing_key);
        if (queue)
            add_queue(search, queue);
        return;
    }
    const struct binding_list *list = name_map_get(&exchange->direct, search->routing_key);
    for (struct binding *binding = list ? list->first : NULL; binding; binding = binding->route_next)
        follow(search, binding);
}

static void visit(struct search *search, struct exchange *exchange)
{
    switch (exchange->type) {
    case EXCHANGE_DIRECT:
        visit_direct(search, exchange);
        break;
    case EXCHANGE_FANOUT:
        for (struct binding *binding = exchange->outgoing; binding; binding = binding->source_next)
            follow(search, binding);
        break;
    case EXCHANGE_TOPIC:
        topic_match(exchange->topic, search->routing_key, follow, search);
        break;
    case EXCHANGE_HEADERS:
        search->route->cacheable = false;
        for (struct binding *binding = exchange->outgoing; binding; binding = binding->source_next)
            if (headers_match(binding->arguments, search->properties))
                follow(search, binding);
        break;
    }
}

static int by_shard(const void *a, const void *b)
{
    unsigned x = queue_id_shard(*(const uint64_t *)a), y = queue_id_shard(*(const uint64_t *)b);
    return (x > y) - (x < y);
}

enum gw_err topology_route(struct topology *topology, struct exchange *exchange, struct bytes routing_key, struct bytes properties,
                           struct route *route)
{
    struct search search = {.topology = topology, .routing_key = routing_key, .properties = properties, .route = route};
    topology->visit++;
    route->count = 0;
    route->durable = route->stamped = false;
    route->cacheable = true;
    route->version = topology->version;
    exchange->visited = topology->visit;
    visit(&search, exchange);
    while (search.next_count)
        visit(&search, search.next[--search.next_count]);
    if (route->count > 1)
        qsort(route->queues, route->count, sizeof(*route->queues), by_shard);
    return search.err;
}
