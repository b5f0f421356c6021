#include "broker/route.h"

#include "broker/delay.h"
#include "broker/delayed.h"
#include "protocol/amqp/copies.h"

#include <stdlib.h>

struct search {
    struct topology *topology;
    const struct routed_message *message;
    struct route *route;
    uint32_t matched;              /* bindings of the exchange being visited */
    struct exchange **next;        /* exchanges found and not yet gone through */
    struct exchange *few[16];
    uint32_t next_count, next_capacity;
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
    if (queue->settings) {
        route->keeps |= queue->settings->type != QUEUE_CLASSIC || (queue->settings->flags & SETTINGS_DEDUP);
        route->stamped |= (queue->settings->flags & SETTINGS_STAMPED) != 0;
        route->asks |= route->keeps || route->stamped;
    }
    route->queues[route->count++] = queue->id;
}

static void visit(struct search *search, struct exchange *exchange);

static void add_exchange(struct search *search, struct exchange *exchange)
{
    if (exchange->visited == search->topology->visit)
        return;
    exchange->visited = search->topology->visit;
    /* Deep chains of exchanges go by the list, not by the stack. */
    if (search->next_count == search->next_capacity) {
        uint32_t capacity = search->next_capacity * 2;
        struct exchange **grown = malloc(capacity * sizeof(*grown));
        if (!grown) {
            search->err = GW_ERR_NOMEM;
            return;
        }
        memcpy(grown, search->next, search->next_count * sizeof(*grown));
        if (search->next != search->few)
            free(search->next);
        search->next = grown;
        search->next_capacity = capacity;
    }
    search->next[search->next_count++] = exchange;
}

static void follow(void *owner, struct binding *binding)
{
    struct search *search = owner;
    search->matched++;
    if (binding->queue)
        add_queue(search, binding->queue);
    else
        add_exchange(search, binding->exchange);
}

static void add_named(struct search *search, const struct vhost *vhost, struct bytes name)
{
    struct queue_entry *queue = topology_queue(vhost, name);
    if (queue)
        add_queue(search, queue);
}

/* Every queue is bound to the default exchange by its name. */
static void visit_default(struct search *search, const struct vhost *vhost)
{
    struct bytes key;
    add_named(search, vhost, search->message->routing_key);
    for (unsigned i = 0; i < 2; i++)
        for (struct bytes rest = search->message->copies[i]; copies_next(&rest, &key);)
            add_named(search, vhost, key);
}

/* A message that a delayed exchange is to keep back goes to the exchange's own queue, and where it goes from there is seen when it is due. */
static bool hold_back(struct search *search, struct exchange *exchange)
{
    search->route->cacheable = false;
    struct queue_entry *queue = delay_of(search->message->properties) ? delayed_queue(exchange) : NULL;
    if (!queue)
        return false;
    add_queue(search, queue);
    return true;
}

static void visit(struct search *search, struct exchange *exchange)
{
    search->route->cacheable &= exchange->by_key;
    if (exchange->type == EXCHANGE_DELAYED && hold_back(search, exchange))
        return;
    if (!exchange->name.size) {
        visit_default(search, exchange->vhost);
        return;
    }
    search->matched = 0;
    exchange_kind(exchange->routes_as)->match(exchange, search->message, follow, search);
    if (search->matched || !exchange->alternate.size)
        return;
    struct exchange *alternate = topology_exchange(exchange->vhost, exchange->alternate);
    if (alternate)
        add_exchange(search, alternate);
}

static int by_shard(const void *a, const void *b)
{
    unsigned x = queue_id_shard(*(const uint64_t *)a), y = queue_id_shard(*(const uint64_t *)b);
    return (x > y) - (x < y);
}

enum gw_err topology_route(struct topology *topology, struct exchange *exchange, const struct routed_message *message, struct route *route)
{
    struct search search = {.topology = topology, .message = message, .route = route, .next_capacity = sizeof(search.few) / sizeof(*search.few)};
    search.next = search.few;
    topology->visit++;
    route->count = 0;
    route->durable = route->stamped = route->keeps = route->asks = false;
    route->traced = exchange->vhost->flags & TOPOLOGY_TRACING;
    route->cacheable = !route->traced && !message->copies[0].size && !message->copies[1].size;
    route->version = topology->version;
    exchange->visited = topology->visit;
    visit(&search, exchange);
    while (search.next_count)
        visit(&search, search.next[--search.next_count]);
    if (search.next != search.few)
        free(search.next);
    if (route->count > 1)
        qsort(route->queues, route->count, sizeof(*route->queues), by_shard);
    return search.err;
}
