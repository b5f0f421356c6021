/* Requests that are repeated: who asks a POST again with the same Idempotency-Key gets the answer of the first time, and nothing is done twice
 * (draft-ietf-httpapi-idempotency-key-header). A key is a user's, in a vhost.
 *
 *   task ── claim ──▶ the hall that the key falls to ── granted ──▶ the task is done ── its answer ──▶ kept there, a day at most
 *                                                   ├─ the same request was answered: that answer
 *                                                   ├─ it is being done: 409
 *                                                   └─ another request had the key: 422
 *
 * Only what went well is kept: whoever was refused may try again. Answers are in memory, up to KEPT_MAX and KEPT_BYTES a hall, and end with the broker; what is made by a POST bears a
 * mark of the key, so that a repetition finds it in any case. */
#ifndef PROTOCOL_GATEWAY_IDEMPOTENCY_H
#define PROTOCOL_GATEWAY_IDEMPOTENCY_H

#include "protocol/gateway/task.h"

/* Of a request with a key; both are texts in hexadecimal digits. */
#define CLAIM_MARK_SIZE 33u
#define CLAIM_ID_SIZE 25u
struct claim {
    uint64_t number;                 /* in its hall; 0: not granted yet */
    unsigned place;                  /* that hall's worker */
    char mark[CLAIM_MARK_SIZE];      /* the same for the same request with the same key, and for no other … */
    char id[CLAIM_ID_SIZE];          /* … and of what it makes without an id of its own */
};

/* Before the task is done. False: it has to wait, and is done later; or it was answered. */
bool idempotency_begin(struct task *task);

/* What the task is answered with; that it is refused, or gone. */
void idempotency_answered(struct task *task, unsigned status, struct bytes answer);
void idempotency_leave(struct task *task);

/* Another hall's letter, of LETTER_CLAIM or above. */
void idempotency_letter(struct gateway_hall *hall, unsigned from, struct bytes letter);
void idempotency_free(struct gateway_hall *hall);

#endif
