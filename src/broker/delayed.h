/* The queue of an exchange of type x-delayed-message: what is published there with a delay is kept in it, hidden from everybody, until it is due; then the relay
 * routes it as the exchange does at that time. The topology has it under a name that no client can say; it is declared before its exchange, and deleted with it.
 *
 * Its messages are found by time, not by place: `queue->delay` is the index. It is made anew after a restart, from the messages. */
#ifndef BROKER_DELAYED_H
#define BROKER_DELAYED_H

#include "broker/shard.h"
#include "broker/topology.h"

struct broker;

#define DELAYED_NAME_PREFIX 256u   /* bytes, more than a client can send */
#define DELAYED_NAME_MAX (DELAYED_NAME_PREFIX + 255u)

/* The name of the queue of the exchange of that name, in `room` (DELAYED_NAME_MAX bytes). */
struct bytes delayed_queue_name(struct bytes exchange, uint8_t *room);
struct queue_entry *delayed_queue(const struct exchange *exchange);
/* The exchange that the queue belongs to; NULL: it is being deleted. */
struct exchange *delayed_exchange(const struct queue_entry *queue);

/* The queue is one of these. */
enum gw_err delayed_init(struct queue *queue);
void delayed_deinit(struct queue *queue);

/* A message was pushed. */
void delayed_entered(struct queue *queue, const struct content *content, uint64_t seq);

/* Gives to the relay what is due, and sees to it that the queue is looked at again when the next is. */
void delayed_look(struct shard *shard, struct queue *queue);

/* All shards are open: makes the indexes. GW_ERR_NOMEM. */
enum gw_err delayed_recover(struct broker *broker);

#endif
