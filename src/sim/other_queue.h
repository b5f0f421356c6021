/* A queue at another broker, in a simulation of sources: messages 1, 2, 3, … that are delivered to whoever consumes them, in their order, a few at a time, and are gone when their acknowledgement
 * has arrived. What was not acknowledged comes again over the next connection, and now and then over the same one; acknowledgements that are on their way when a connection ends may be lost. */
#ifndef SIM_OTHER_QUEUE_H
#define SIM_OTHER_QUEUE_H

#include "base/map.h"
#include "io/feed.h"
#include "sim/random.h"
#include "sim/trace.h"

#define OTHER_PREFETCH_MAX 64u

struct other_queue {
    bool *is_gone;                   /* by message */
    uint64_t room;                   /* messages that there may be */
    uint64_t gone, low;              /* how many are gone; all before `low` are */
    struct other_delivery {
        uint64_t number, message;
        bool is_settled;             /* the acknowledgement is on its way */
    } out[OTHER_PREFETCH_MAX];
    unsigned count, prefetch;
    uint64_t number;                 /* of the connection's last delivery */
    struct map names;                /* a hash of an event's id → the message that had it */
};

/* `room`: messages that there may be at most. */
void other_queue_init(struct other_queue *queue, uint64_t room);
void other_queue_deinit(struct other_queue *queue);

/* A connection begins to consume, and ends. */
void other_queue_begin(struct other_queue *queue, unsigned prefetch);
void other_queue_end(struct other_queue *queue, struct random *random);

/* The consumer acknowledges what has that number. */
void other_queue_settle(struct other_queue *queue, uint64_t number);

/* Something happens of what can: a delivery, of the messages up to `made`; an acknowledgement that arrives; `may_lose`: all that is out goes back. False: there is nothing. `id`: "s2", how
 * messages' ids begin. */
bool other_queue_step(struct other_queue *queue, uint64_t made, const char *id, struct feed *feed, struct random *random, bool may_lose);
bool other_queue_is_idle(const struct other_queue *queue, uint64_t made);

/* An event of that message was handled. Messages whose number is a multiple of 3 have no id of their own: their events may have another one each time, but never another message's. Others have
 * one and the same. */
void other_queue_handled(struct other_queue *queue, const char *source, uint64_t message, struct bytes id, struct trace *trace);

#endif
