/* What becomes of a message's properties when the message is dead-lettered: who killed it, where and why, as RabbitMQ's clients read it.
 *
 *   headers                           x-death: an array, one table for each (queue, reason), the latest first
 *   ┌───────────────────────────┐     ┌────────────────────────────────────────────────────────────────────────┐
 *   │ x-death                   │ ──→ │ count · reason · queue · time · exchange · routing-keys · original-    │
 *   │ x-first-death-exchange    │     │ expiration (when it had one)                                           │
 *   │ x-first-death-queue       │     ├────────────────────────────────────────────────────────────────────────┤
 *   │ x-first-death-reason      │     │ …                                                                      │
 *   │ x-last-death-… (the same) │     └────────────────────────────────────────────────────────────────────────┘
 *   └───────────────────────────┘     A second death of the same kind counts the table up and moves it to the front.
 *
 * The order of fields and tables is that of RabbitMQ 3.10.8, which turns the older deaths around each time; x-last-death-… came with 3.13. No state, no clock.
 */
#ifndef BROKER_DEATH_H
#define BROKER_DEATH_H

#include "base/bytes.h"
#include "base/err.h"
#include "store/message.h"

struct death {
    struct bytes queue;              /* the name of the queue that it died in */
    struct bytes reason;             /* "rejected", "expired", "maxlen", "delivery_limit" */
    uint64_t time_s;                 /* now, seconds since 1970 */
    uint64_t returns;                /* how often it came back before, and why it last did: x-delivery-count, x-retry-reason; 0 and empty: they are not said */
    struct bytes retry_reason;
    bool rerouted;                   /* it goes on with another routing key: CC and BCC do not apply any more and are taken out */
};

/* The properties with which `message` goes on, in memory of their own (free properties->data). GW_ERR_NOMEM; GW_ERR_INVALID: those that it has cannot be
 * read. */
enum gw_err death_properties(const struct message *message, const struct death *death, struct bytes *properties);

/* Would a message with these properties, on its way into `queue`, come back to where it died before without anyone having rejected it since? */
bool death_is_cycle(struct bytes properties, struct bytes queue);

/* Did a message with these properties die in `queue` before? */
bool death_was_in(struct bytes properties, struct bytes queue);

#endif
