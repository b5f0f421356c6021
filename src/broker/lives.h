/* What happens to the messages of a queue while somebody wants to know: queue_trace switches it on for one queue, and the last LIVES_EVENTS events are kept, in memory alone, until it is
 * switched off or the broker ends. A queue that is traced is a ruled one (rules.h), so that others pay nothing. */
#ifndef BROKER_LIVES_H
#define BROKER_LIVES_H

#include "broker/shard.h"
#include "broker/writer.h"

#define LIVES_EVENTS 65536u      /* of a queue, 40 bytes each */

enum life_event { LIFE_ACCEPTED, LIFE_DELIVERED, LIFE_ACKED, LIFE_RETURNED, LIFE_REJECTED, LIFE_EXPIRED, LIFE_DROPPED, LIFE_DELIVERY_LIMIT, LIFE_SENT, LIFE_DELETED };

struct lives;

/* False: out of memory. */
bool lives_begin(struct shard *shard, struct queue *queue);
void lives_end(struct queue *queue);

/* What has come since it was looked at last. */
void lives_look(struct shard *shard, struct queue *queue);

/* Of a traced queue: something happens to a message. `client` 0: nobody in particular. */
void lives_note(struct shard *shard, struct queue *queue, uint64_t seq, enum life_event event, uint64_t client, uint16_t channel, uint32_t consumer);
void lives_discarded(struct shard *shard, struct queue *queue, uint64_t seq, enum discard_reason reason);

/* Writes the events of the messages with that message-id (empty: of that one), the oldest first, as an array. */
void lives_write(const struct queue *queue, struct bytes id, uint64_t seq, struct writer *writer);

#endif
