/* Transactions in two steps: half messages, which nobody gets before somebody commits them. Each vhost has a hidden queue for them, whose lane holds, in the order in
 * which they came,
 *
 *   half messages    as they were published (half_message.h): to be routed by their own exchanges once their transaction is committed
 *   decisions        "commit" or "rollback", published to the exchange amq.godwit.transactions, or made by the broker of a transaction that nobody decides
 *   notes            how often the producer was asked already
 *
 * They are logged, spilled and recovered like the messages of any queue. What is below is an index of them, made anew by reading the lane when the queue is opened:
 *
 *   id → transaction: its messages' numbers, its decision, when its producer is to be asked
 *
 *   open ──decision in the lane──→ deciding ──committed to the log──→ going: each message is given to the relay, or removed ──none is left──→ done: kept
 *     └── nobody decides: a check-back to x-check-queue after each x-check-after; after x-check-limit of them, a rollback                     for a while
 *
 * A decision is true when the log has it; it stays in the lane until nothing of its transaction is left there, so a restart goes on where the last end was, and the
 * relay (relay.h) sees to it that each message arrives once. Then it is kept for an hour more, so that the same decision may be said again. */
#ifndef BROKER_HALF_H
#define BROKER_HALF_H

#include "broker/shard.h"

#define HALF_MESSAGES_MAX (1u << 20)             /* in one vhost … */
#define HALF_INDEX_MAX (256ull << 20)            /* … bytes that the index may have … */
#define HALF_DONE_MAX 100000u                    /* … decisions that are remembered, … */
#define HALF_DONE_US 3600000000ull               /* … and how long */

struct half;

/* The queue is a vhost's for half messages: its index is made. */
void half_open(struct shard *shard, struct queue *queue);
void half_free(struct queue *queue);

/* A record's message comes to the queue. Answers its sequence number; 0: it is not kept. `refused`: its publisher is to learn that. */
uint64_t half_enter(struct shard *shard, struct queue *queue, const struct content *content, uint64_t log_offset, bool *refused);

/* A decision is in the log, or was refused by it: PENDING_DECIDED, PENDING_GIVEN_UP. */
void half_decided(struct shard *shard, uint64_t queue, uint64_t transaction, bool ok);

/* Goes on with what is decided, asks producers whose time has come, forgets what is old. */
void half_look(struct shard *shard, struct queue *queue);

/* What an administrator sees of a transaction that is not done. */
struct half_row {
    struct bytes id, check_queue;
    const char *state;               /* "open", "deciding", "committing", "rolling back" */
    uint64_t messages, age_ms, due_in_ms;
    uint32_t checks, check_limit;
};
/* The next one: begin with *cursor 0. False: there is none left. */
bool half_next(const struct queue *queue, uint32_t *cursor, uint64_t wall_us, struct half_row *row);

#endif
