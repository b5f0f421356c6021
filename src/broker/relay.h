/* The relay: messages that a queue gives up and that the broker itself routes on, each exactly once whatever crashes between. One a shard, made when it is first
 * needed. The message stays where it was, held as unacknowledged by the relay (RELAY_HOLDER), until it is safe where it goes:
 *
 *   all its queues are in the source's own shard:   one RECORD_TRANSACTION { publish, settle }
 *
 *   other shards too:   source                              each of the others
 *                       COMMAND_RELAY ───────────────────→  logs RECORD_RELAYED (message, queues, origin); keeps the origin
 *                                                           committed: the message is ready there
 *                       settles, with the publish to its    ←─────────────────────────── COMMAND_RELAYED
 *                       own queues when there are some
 *                       committed: COMMAND_FORGET ───────→  logs RECORD_FORGET, forgets the origin
 *
 *   nothing of it outlives a restart:   it is handed over at once
 *
 * What stands between two of these steps when the program ends is put together again by relay_reconcile, once all shards are open: an origin whose message is
 * still in its old place is gone on with, to those of its queues that do not have it; one whose message is gone from there is forgotten.
 * Where a message goes is decided once, when it is first sent, and written down with it. Nobody gets it before it is committed, so nobody gets it twice.
 *
 * A shard that refuses (its disk is full) is asked again later. With no queue to go to a message is dropped, as in RabbitMQ; of a queue with the strategy
 * at-least-once it waits. What is under way is bounded: relay_has_room. */
#ifndef BROKER_RELAY_H
#define BROKER_RELAY_H

#include "broker/shard.h"

struct broker;
struct record;
struct relay;

#define RELAY_HOLDER UINT32_MAX   /* an entry's holder: no consumer has this handle */

void relay_free(struct relay *relay);

/* ---- where messages come from (relay.c) ---- */

/* May the queue give up one more now? If not it is marked dirty when it may. */
bool relay_has_room(struct shard *shard, struct queue *queue);

/* Takes a live message over, ready or unacknowledged. */
void relay_take(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked,
                enum discard_reason reason);

/* The same for a ready message that goes to the one queue `target`: reason DISCARD_MOVED and those behind it. The inspection (inspect.h) is told of its end; where that queue
 * does not take it, it is ready again in its old place. */
void relay_send_to(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, enum discard_reason reason, uint64_t target,
                   uint64_t inspection);

/* Sends on what waits, a bounded number. */
void relay_turn(struct shard *shard);
/* Is there something that relay_turn could do at once? And when must it be called at the latest? */
bool relay_is_due(const struct shard *shard);
uint64_t relay_deadline(const struct shard *shard);
/* So much waits that publishers should be slowed down. */
bool relay_is_behind(const struct shard *shard);

void relay_answered(struct shard *shard, const struct command_relayed *command);
/* Of the shard's own log: PENDING_MOVED, PENDING_SETTLED. */
void relay_moved(struct shard *shard, uint64_t serial, bool ok);
void relay_settled(struct shard *shard, uint64_t count, bool ok);

/* The message of `origin` is live here though the shard `known_by` has it: it is held, and gone on with. */
struct origin;
enum gw_err relay_resume(struct shard *shard, const struct origin *origin, unsigned known_by);

/* ---- where they go (relay_target.c) ---- */

void relay_arrived(struct shard *shard, const struct command_relay *command);
void relay_forget(struct shard *shard, uint64_t queue, uint64_t seq);
/* PENDING_RELAYED. */
void relay_arrival_committed(struct shard *shard, uint64_t queue, uint64_t seq, bool ok);

/* Hides what was just pushed from consumers; shows it again, or takes it back when its record was refused. `count` targets, those of this shard alone count. */
struct relay_target;
void relay_hide(struct shard *shard, const struct relay_target *targets, uint32_t count);
void relay_show(struct shard *shard, const struct relay_target *targets, uint32_t count, bool ok);

/* shard_enqueue, and what has a time to live of its own is told to its queues. */
void relay_enqueue(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable);

/* Has one of the targets in this shard taken it? */
bool relay_is_placed(struct shard *shard, const struct relay_target *targets, uint32_t count);

/* Recovery: the origin of a RECORD_RELAYED; a RECORD_FORGET. */
enum gw_err relay_restore_origin(struct shard *shard, const struct record *record);
void relay_restore_forget(struct shard *shard, const struct record *record);

/* All shards are open and nothing runs yet: puts together what the end of the program left half done. GW_ERR_NOMEM, GW_ERR_IO. */
enum gw_err relay_reconcile(struct broker *broker);

#endif
