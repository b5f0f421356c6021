/* See compaction.c. */
#ifndef BROKER_COMPACTION_H
#define BROKER_COMPACTION_H

#include "broker/shard.h"

struct compaction;

/* What lives in the file that is most worth emptying; NULL: none is, or memory is short. */
struct compaction *compaction_new(struct shard *shard);
void compaction_free(struct compaction *compaction);

/* Starts moves as far as reading allows. True: all are done (their spills may be under way) or *err says why not. */
bool compaction_step(struct shard *shard, struct compaction *compaction, enum gw_err *err);

/* Spills a block whose bodies are in memory anew. */
enum gw_err compaction_move(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t block_number);

#endif
