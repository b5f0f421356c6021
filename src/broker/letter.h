/* A message as it goes on from a queue: where to, with which properties, and how it is laid out again. */
#ifndef BROKER_LETTER_H
#define BROKER_LETTER_H

#include "broker/rules.h"
#include "broker/topology.h"
#include "store/message.h"

struct letter {
    struct exchange *exchange;       /* where it goes; NULL: there is none of that name, or none is wanted any more */
    struct bytes name;               /* of the exchange, whether it is there or not */
    struct bytes routing_key, properties, body;   /* they point into the message that it was made of, into the topology, or into `own` */
    uint8_t *own;                    /* properties that were made for it; NULL: none */
    bool stays;                      /* it was only waiting for its time: it goes on in its own queue */
    bool sent;                       /* by somebody, to one queue that has it or not */
    bool waits;                      /* for room, where a queue that it goes to is full */
    bool expires;                    /* by itself: it needs a stamp */
    bool persistent;                 /* false: it need not outlive a restart where it goes, though it did where it was */
};

/* `queue` gave `message` up, which came back as `returned` says (NULL: that is not of interest). Borrows all of it: the letter is to be used and
 * ended (letter_end) before any of it changes. GW_ERR_NOMEM. */
enum gw_err letter_make(struct letter *letter, const struct message *message, const struct queue_entry *queue, enum discard_reason reason, const struct returned *returned,
                        uint64_t wall_us);
void letter_end(struct letter *letter);

/* Bytes that it takes as a message's content. `stamped`: with the time of its arrival. */
uint64_t letter_size(const struct letter *letter, bool stamped);
void letter_write(const struct letter *letter, uint8_t *at, uint64_t arrived_ms);

#endif
