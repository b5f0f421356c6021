/* Subscriptions by HTTP. What is made here is a queue with its dead letters' queue, bindings, and a parameter (bus/subscription.h) that the bus follows; all with the permissions of
 * who asks. A subscription is its owner's, and administrators'. */
#ifndef PROTOCOL_GATEWAY_SUBSCRIPTIONS_H
#define PROTOCOL_GATEWAY_SUBSCRIPTIONS_H

#include "protocol/gateway/task.h"

#include <jansson.h>

/* The task is gone: so is what it was about to put. */
void subscriptions_leave(struct task *task);

/* What another reactor's hall asks of a subscription, or answers. */
void subscriptions_letter(struct gateway_hall *hall, unsigned from, struct bytes letter);

/* The subscription that the path names, as it is kept. NULL: the task was answered. */
json_t *subscription_find(struct task *task);

/* The body, which must be an object. NULL: the task was answered. */
json_t *subscription_read_object(struct task *task);

/* Takes the answer; NULL: out of memory. */
void subscription_answer(struct task *task, unsigned status, json_t *answer);

/* A letter and random digits. */
#define NEW_ID_SIZE 32u
bool subscription_new_id(char letter, char id[NEW_ID_SIZE]);

/* What a POST makes gets an id, unless it has one, and a mark of the request's Idempotency-Key; was it made by this very request before? */
bool subscription_put_id(const struct task *task, json_t *root, char letter);
bool subscription_is_repeated(const struct task *task, const json_t *root);

/* Asks the hall whose bus has the subscription that the path names; it tells later. */
enum status_asked { ASKED_STATUS, ASKED_ATTEMPTS, ASKED_REPLAY };
void subscription_ask(struct task *task, enum status_asked what);

/* ---- replays.c ---- */

/* What the bus says of the replay; empty: it has none. */
void replays_told(struct task *task, struct bytes text);

#endif
