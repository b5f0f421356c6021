/* The index of a vhost's transactions (half.h): which there are, which of the lane's messages are theirs, what is to happen to them and when. It knows nothing of
 * lanes and logs. */
#ifndef BROKER_HALF_INDEX_H
#define BROKER_HALF_INDEX_H

#include "base/map.h"
#include "broker/delay.h"
#include "broker/half_message.h"

#define HALF_SEQS_MAX (1u << 21)   /* messages of one transaction that the index has room for */

enum half_state {
    HALF_OPEN,
    HALF_DECIDING,               /* its decision is on its way to the log */
    HALF_GOING,                  /* decided: its messages are being given to the relay, or removed */
    HALF_LEAVING,                /* all of them were; the relay still holds some */
    HALF_DONE,
};

struct half_transaction {
    struct half_transaction *next;       /* in the list of its state */
    uint64_t number;
    struct bytes id;
    enum half_state state;
    bool commits, given_up;              /* given_up: the broker decided it */
    uint32_t checks, limit;              /* check-backs so far, and at most */
    uint64_t after_ms;
    struct bytes check_queue;            /* in memory of its own */
    uint64_t *seqs;                      /* of its messages */
    uint32_t count, capacity, at;        /* at: how many of them are dealt with */
    uint64_t decision, note;             /* sequence numbers; 0: there is none */
    uint64_t since_ms, last_ms;          /* when it began; when its clock was set. These are since 1970 */
    uint64_t queued_ms;                  /* the time of its entry in the heap; 0: it has none */
    uint64_t decided_ms;
    uint8_t bytes[];                     /* the id */
};

struct half_list {
    struct half_transaction *first, *last;
    uint32_t count;
};

struct half_index {
    struct name_map by_id;
    struct map by_number;
    uint64_t next_number;
    struct delay due;                    /* at_ms, number: open ones. Entries that do not say queued_ms are old ones */
    struct half_list going, leaving, done;
    uint64_t messages, bytes;            /* half messages of all; memory that all of it takes, roughly */
};

void half_index_init(struct half_index *index, uint64_t seed);
void half_index_deinit(struct half_index *index);

struct half_transaction *half_index_find(const struct half_index *index, struct bytes id);
struct half_transaction *half_index_number(const struct half_index *index, uint64_t number);

/* The transaction of that id, open, begun at `now_ms` if there was none. NULL: out of memory. */
struct half_transaction *half_index_make(struct half_index *index, struct bytes id, uint64_t now_ms);
void half_index_remove(struct half_index *index, struct half_transaction *transaction);

/* Room for one more message, and what the message says of check-backs. False: out of memory, nothing has changed. */
bool half_index_reserve(struct half_index *index, struct half_transaction *transaction, const struct half_said *said);
/* Something happened: the transaction's clock begins anew. A message that was long on its way does not set it back. */
static inline void half_index_touch(struct half_transaction *transaction, uint64_t at_ms)
{
    if (at_ms > transaction->last_ms)
        transaction->last_ms = at_ms;
}
/* The message is there, at `seq`. */
void half_index_add(struct half_index *index, struct half_transaction *transaction, uint64_t seq, uint64_t now_ms);

/* Its next check-back, or its end, is due. */
static inline uint64_t half_due_ms(const struct half_transaction *transaction) { return transaction->last_ms + transaction->after_ms; }
/* Sees to it that half_index_due tells of it in time. False: out of memory. */
bool half_index_watch(struct half_index *index, struct half_transaction *transaction);
/* The first open one that is due by `now_ms`, which must be watched anew; NULL: none, and *next_ms says when the next may be (UINT64_MAX: there is none). */
struct half_transaction *half_index_due(struct half_index *index, uint64_t now_ms, uint64_t *next_ms);

void half_list_append(struct half_list *list, struct half_transaction *transaction);
struct half_transaction *half_list_take(struct half_list *list);
/* Nothing of it is left but the decision: what was kept of its messages is given back. */
void half_index_done(struct half_index *index, struct half_transaction *transaction);

#endif
