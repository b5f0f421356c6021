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

/* ---- reception_message.c ---- */

/* Answers with the message. False: out of memory, nothing was answered. */
bool reception_answer(struct task *task, const struct delivery *delivery, const char *token);

#endif
