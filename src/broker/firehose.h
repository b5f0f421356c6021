/* The firehose: while a vhost is traced, what is published and delivered in it is published once more, to its exchange amq.rabbitmq.trace, with RabbitMQ's routing keys
 * (publish.EXCHANGE, deliver.QUEUE) and headers.
 *
 * A vhost that is not traced pays nothing for it: its routes are found and cached as ever, and its clients are told of deliveries directly. In one that is, no route is
 * cached, and clients' callbacks are those of a table whose `deliver` passes by here. */
#ifndef BROKER_FIREHOSE_H
#define BROKER_FIREHOSE_H

#include "broker/client.h"

struct worker;

/* A message as it was published to `count` queues (0: nobody got it). `content`: see store/message.h. */
void firehose_published(struct client *client, uint16_t channel, struct bytes content, const uint8_t *targets, uint32_t count);

/* The client has opened its vhost: it is tapped if that is traced. */
void firehose_opened(struct client *client);

/* Vhosts may be traced that were not, or the other way round: all clients are looked at. */
void firehose_changed(struct worker *worker);

#endif
