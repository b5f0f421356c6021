/* Messages that wait for their time: the header that says how long, and the order in which they become due. An exchange of type x-delayed-message keeps them in a
 * queue of its own that nobody sees (delayed.h); its index is this: 16 bytes a message, in memory. */
#ifndef BROKER_DELAY_H
#define BROKER_DELAY_H

#include "base/bytes.h"
#include "base/err.h"

#define DELAY_MAX_MS 4294967295u   /* as in RabbitMQ's plugin: what is longer is no delay */

/* How long a message with these AMQP properties is to be kept back, milliseconds: its header x-delay, a number or the text of one. 0: not at all. */
uint64_t delay_of(struct bytes properties);

/* The properties with which it goes on, in memory of their own (free properties->data): x-delay is negative, so that it is not kept back again and its
 * consumers see that it was. GW_ERR_NOMEM; GW_ERR_INVALID: they cannot be read, or have no delay. */
enum gw_err delay_served(struct bytes properties, struct bytes *after);

struct due {
    uint64_t at_ms;                /* since 1970 */
    uint64_t seq;
};

/* A heap: the earliest first, of the same time the one that came first. Zero-initialized is empty. */
struct delay {
    struct due *heap;
    uint32_t count, capacity;
};

void delay_deinit(struct delay *delay);
bool delay_push(struct delay *delay, uint64_t at_ms, uint64_t seq);   /* false: out of memory */
static inline const struct due *delay_first(const struct delay *delay) { return delay->count ? &delay->heap[0] : NULL; }
void delay_pop(struct delay *delay);

#endif
