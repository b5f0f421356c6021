/* Messages that wait for their time: the headers that say how long, and a heap of times. Whatever exchange a message is published to, it may say
 *
 *   x-delay        milliseconds from its arrival: a number, or the text of one; what is no number or not positive is no delay, as in RabbitMQ's plugin
 *   x-deliver-at   milliseconds since 1970, or an AMQP timestamp; what is past is no delay
 *
 * and the later of the two counts. Where they wait: schedule.h. */
#ifndef BROKER_DELAY_H
#define BROKER_DELAY_H

#include "base/bytes.h"
#include "base/err.h"

#define DELAY_MAX_MS 3155760000000u   /* a hundred years */

/* How long a message with these AMQP properties is to be kept back, milliseconds: its header x-delay. 0: not at all. At most DELAY_MAX_MS + 1, which is too long. */
uint64_t delay_of(struct bytes properties);

/* When it is due, milliseconds since 1970; 0: at once. Never early: the fraction of its arrival that milliseconds do not say is counted as whole.
 * GW_ERR_LIMIT: more than DELAY_MAX_MS ahead. */
enum gw_err delay_due(struct bytes properties, uint64_t wall_us, uint64_t *due_ms);

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
