/* Messages taken out of queues by HTTP. A message that was answered is *leased*: a client of the broker that outlives connections holds it, until it is settled by its token
 * or the lease is over and it goes back to its queue. So `curl` alone is a worker: one request takes a message, another one says that it is done.
 *
 *   hall (one a reactor) ── reception ── holder (a user in a vhost) ── leases, by token
 *                                                                   └─ polls: requests that wait for a message
 *
 * A token says which reactor's hall has the lease; another one asks that by letter. */
#ifndef PROTOCOL_GATEWAY_RECEPTION_H
#define PROTOCOL_GATEWAY_RECEPTION_H

#include "protocol/gateway/task.h"

/* The task's peer wants no message any more, or is gone. */
void reception_leave(struct task *task);

/* A task waits for another hall's letter: task->ask is what that has to name. False: it cannot. The second: whom a letter that names it is for; NULL: it is gone. */
bool reception_expect(struct task *task);
struct task *reception_expected(struct gateway_hall *hall, uint64_t ask);

/* What a letter from hall to hall is; it is the byte behind 16 others, and no letter is shorter than 24. */
enum letter_kind { LETTER_ASK, LETTER_ANSWER, LETTER_LOOK, LETTER_LOOKED /* subscriptions.c */, LETTER_CLAIM, LETTER_CLAIMED, LETTER_KEEP /* idempotency.c */,
                   LETTER_SOURCE, LETTER_SOURCE_TOLD /* sources.c */ };

/* ---- reception_message.c ---- */

/* Answers with the message. False: out of memory, nothing was answered. */
bool reception_answer(struct task *task, const struct delivery *delivery, const char *token);

#endif
