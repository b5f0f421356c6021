/* x-single-active-consumer: of a queue's consumers one gets everything, the others wait. When it goes, the one that came first among those of the highest priority
 * follows it. */
#include "broker/rules.h"
#include "base/bugs.h"

void single_active_come(struct queue *queue, struct consumer *consumer)
{
    if (!queue->rules->single)
        queue->rules->single = consumer;
    else if (!bug_enabled(BUG_TWO_ACTIVE))
        consumer->stopped |= CONSUMER_WAITS;
}

struct consumer *single_active_gone(struct queue *queue, const struct consumer *consumer)
{
    if (!queue->rules || queue->rules->single != consumer)
        return NULL;
    struct consumer *next = queue->consumers;
    for (struct consumer *other = next; other; other = other->all_next)   /* the youngest first */
        if (other->priority >= next->priority)
            next = other;
    queue->rules->single = next;
    if (next)
        next->stopped &= (uint8_t)~CONSUMER_WAITS;
    return next;
}
