/* Requests about single messages of a queue, done while others use it: look at them, delete them, send them on. A request becomes an inspection of the queue's shard: a walk
 * (walk.h) in bounded steps, one or more a turn, that waits for blocks on their way from the disk, for the relay and for the log. The answer leaves when all that it
 * says is on disk. It is bounded too, and says where the next request may go on.
 *
 *   {"command": "queue_browse", "name": "q", "from": "17", "limit": 100, "filter": "type = 'a'", "body": 1000}
 *      → {"ok": {"messages": [{"position": "17", "state": "ready", …}], "scanned": 4096, "next": "4113|0:9000"}}
 *   queue_delete_messages, queue_cancel        → {"ok": {"deleted": 1, "scanned": 1, "next": null}}
 */
#ifndef BROKER_INSPECT_H
#define BROKER_INSPECT_H

#include "broker/shard.h"

struct inspect;

/* A REQUEST_INSPECT for a queue of the shard. */
void inspect_request(struct shard *shard, struct queue *queue, const struct command_request *request);

/* Goes on with what is under way. */
void inspect_turn(struct shard *shard);
/* Is there something that inspect_turn could do at once? And when must it be called at the latest? */
bool inspect_is_due(const struct shard *shard);
uint64_t inspect_deadline(const struct shard *shard);

/* PENDING_INSPECTED: `id` is an inspection's. */
void inspect_committed(struct shard *shard, uint64_t id, bool ok);

void inspect_free_all(struct shard *shard);

#endif
