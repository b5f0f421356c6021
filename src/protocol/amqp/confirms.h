/* Which of a channel's publishes are confirmed: a window over its sequence numbers, told to the peer in order and put together.
 *
 * A number is done once it was confirmed or refused. The peer is told of everything up to the first that is not done, with as few acks and nacks as that takes.
 * Numbers that are done out of order (they went to other shards) wait in a bitmap. */
#ifndef PROTOCOL_AMQP_CONFIRMS_H
#define PROTOCOL_AMQP_CONFIRMS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct confirms {
    uint64_t next;             /* the number of the next publish, from 1 */
    uint64_t low;              /* the first that is not done */
    uint64_t told;             /* the first that the peer was not told of */
    uint64_t refused;          /* how many of [told, next) were refused */
    uint64_t capacity;         /* bits in each bitmap, a power of two; 0: none was needed yet */
    uint64_t *done_bits;       /* of [low, next), by number modulo capacity */
    uint64_t *refused_bits;    /* of [told, next) */
};

void confirms_init(struct confirms *confirms);
void confirms_deinit(struct confirms *confirms);

/* Publishes first … first + count - 1 are done. Numbers outside the window are passed over. GW_ERR_NOMEM. */
enum gw_err confirms_done(struct confirms *confirms, uint64_t first, uint64_t count, bool accepted);

/* Is there something to tell? */
static inline bool confirms_pending(const struct confirms *confirms)
{
    return confirms->told < confirms->low;
}

/* The next thing to tell: everything up to `upto` that was not told of is accepted, or refused; `multiple` when it is more than one. False: nothing left. */
bool confirms_tell(struct confirms *confirms, uint64_t *upto, bool *multiple, bool *accepted);

#endif
