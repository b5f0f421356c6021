/* What waits for the log of a shard: confirms of publishes, answers of transactions, changes of the topology, the relay's steps. In the order of the log; it is
 * concluded when the log says committed, or that it has failed. */
#ifndef BROKER_PENDING_H
#define BROKER_PENDING_H

#include "broker/shard.h"

/* A new one at the end; the caller fills it in. Its `end` is UINT64_MAX while its slice is not appended. */
struct pending_confirm *pending_add(struct shard *shard);

/* A slice was appended, up to `end`, or refused: what waited for it now knows. `own`: a slice of the shard's own. */
void pending_close(struct shard *shard, bool own, bool ok, uint64_t end);

/* What was added since there were `before` lies in a record that was appended by itself, up to `end`; 0: it was refused. */
void pending_close_from(struct shard *shard, uint32_t before, uint64_t end);

/* Concludes what the log holds up to `offset`, and what it refused. */
void pending_conclude(struct shard *shard, uint64_t offset);

/* Tells a client of `count` publishes from the tag `first`; flags: enum confirm_flags. */
void pending_confirm(struct shard *shard, uint64_t client, uint16_t channel, uint64_t first, uint64_t count, unsigned flags);
/* The same for publishes whose slice is about to be appended, once it is on disk. */
void pending_confirm_later(struct shard *shard, const struct command_publish *command);

/* Code 0: it is true. 541: the log refused it; 406: a full queue refused a part of it, the rest is true. What the client is told is the requests' affair. */
void pending_answer_commit(struct shard *shard, uint64_t client, uint64_t serial, uint16_t channel, uint16_t code);

#endif
