/* Message groups (x-group-key): messages with the same key come one after the other in their order, those of different keys side by side.
 *
 * A key sticks to the consumer that has messages of it in flight, as far as its prefetch goes; when the last of them is settled it is free again. One that came back
 * is delivered before all later ones of its key, and not before everything of the key that is in flight is settled. Messages without a key are anybody's.
 *
 * Which messages there are is found out by looking through the lane from its head, as far as consumers have use for it (x-group-fair: as far as it goes), at most
 * GROUPS_WINDOW ready messages ahead; so a restart knows nothing and needs nothing. The index (group_index.h) is what has been found. */
#ifndef BROKER_GROUPS_H
#define BROKER_GROUPS_H

#include "broker/shard.h"

#define GROUPS_WINDOW (2u << 20)

struct groups;

/* The queue's settings may have changed: it gets groups, loses them, or has others. */
void groups_set(struct shard *shard, struct queue *queue);
void groups_free(struct queue *queue);

/* Gives the queue's messages to its consumers, as far as they go. */
void groups_serve(struct shard *shard, struct queue *queue);

/* A message whose turn it is. */
struct group_pick {
    uint64_t seq;
    struct block_slot *slot;
    struct entry *entry;
    uint32_t group;
};
enum group_answer { GROUP_FOUND, GROUP_NONE, GROUP_WAIT /* it is served again when that may have changed */ };

/* The next message for a get. FOUND: say groups_gave, or groups_not_given. */
enum group_answer groups_get(struct shard *shard, struct queue *queue, bool no_ack, struct group_pick *pick);
void groups_gave(struct queue *queue, const struct group_pick *pick, uint32_t holder, bool no_ack);
void groups_not_given(struct queue *queue, const struct group_pick *pick, bool no_ack);

/* A message is taken in, or given up; it is ready (again): one that was held, or hidden until now; it is held by nobody who consumes. */
void groups_ended(struct queue *queue, uint64_t seq);
void groups_returned(struct queue *queue, uint64_t seq, const struct entry *entry);
void groups_kept(struct queue *queue, uint64_t seq);
/* A ready message is given up. */
void groups_given_up(struct queue *queue, uint64_t seq);
/* Nothing is as it was. */
void groups_forget(struct queue *queue);
void groups_consumer_gone(struct queue *queue, struct consumer *consumer);

/* Keys that are known, of messages that are ready or in flight; those of them that have something in flight. */
uint32_t groups_keys(const struct queue *queue);
uint32_t groups_held_keys(const struct queue *queue);

#endif
