/* Requests about single messages of a queue, done while others use it: look at them, delete them, send them on. A request becomes an inspection of the queue's shard: a walk
 * (walk.h) in bounded steps, one or more a turn, that waits for blocks on their way from the disk, for the relay and for the log. The answer leaves when all that it
 * says is on disk. It is bounded too, and says where the next request may go on.
 *
 *   {"command": "queue_browse", "name": "q", "from": "17", "limit": 100, "filter": "type = 'a'", "body": 1000}
 *      → {"ok": {"messages": [{"position": "17", "state": "ready", …}], "scanned": 4096, "next": "4113|0:9000"}}
 *   queue_delete_messages, queue_cancel        → {"ok": {"deleted": 1, "scanned": 1, "next": null}}
 *   queue_move, queue_copy ("target"), queue_replay    → {"ok": {"moved": 1, "refused": 0, "scanned": 1, "next": null}}
 *
 * What is moved, copied or sent back the relay carries (relay.h): each message is in its old place until it is on disk in the new one, and in one of them after a crash.
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

/* The relay has brought one of its messages to where it was sent; or that queue did not take it, and it is where it was. */
void inspect_sent(struct shard *shard, uint64_t id, bool arrived);

void inspect_free_all(struct shard *shard);

#endif
