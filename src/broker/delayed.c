#include "broker/delayed.h"

#include "base/err.h"

struct bytes delayed_queue_name(struct bytes exchange, uint8_t *room)
{
    memset(room, '.', DELAYED_NAME_PREFIX);
    memcpy(room, "delayed", 7);
    memcpy(room + DELAYED_NAME_PREFIX, exchange.data, exchange.size);
    return bytes_of(room, DELAYED_NAME_PREFIX + exchange.size);
}

struct queue_entry *delayed_queue(const struct exchange *exchange)
{
    uint8_t room[DELAYED_NAME_MAX];
    return topology_queue(exchange->vhost, delayed_queue_name(exchange->name, room));
}

struct exchange *delayed_exchange(const struct queue_entry *queue)
{
    CHECK(queue->name.size > DELAYED_NAME_PREFIX);
    return topology_exchange(queue->vhost, bytes_of(queue->name.data + DELAYED_NAME_PREFIX, queue->name.size - DELAYED_NAME_PREFIX));
}
