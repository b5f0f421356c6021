/* Subscriptions by HTTP. What is made here is a queue with its dead letters' queue, bindings, and a parameter (bus/subscription.h) that the bus follows; all with the permissions of
 * who asks. A subscription is its owner's, and administrators'. */
#ifndef PROTOCOL_GATEWAY_SUBSCRIPTIONS_H
#define PROTOCOL_GATEWAY_SUBSCRIPTIONS_H

#include "protocol/gateway/task.h"

/* The task is gone. */
void subscriptions_leave(struct task *task);

/* Another hall asks, or answers. */
void subscriptions_letter(struct gateway_hall *hall, unsigned from, struct bytes letter);

#endif
