/* How long a message that came back waits for its next delivery: x-retry-backoff of a queue's arguments, retry-backoff of a policy. It is said in one of three ways,
 * and every time in it as a number of milliseconds or as a text like "250ms", "5s", "1.5m", "2h", "1d":
 *
 *   an array         [1000, 5000, "1m"]       the time after the first return, the second, …; the last one repeats
 *   a table          {"initial": "1s", "multiplier": 2, "max": "1m", "jitter": 0.2}
 *   the text of one  "1s,5s,1m"   "initial=1s multiplier=2 max=1m jitter=0.2"
 *
 * The n-th return waits for initial · multiplierⁿ⁻¹, at most max; jitter is the part of it by which that may be shorter or longer. No state, no clock. */
#ifndef BROKER_BACKOFF_H
#define BROKER_BACKOFF_H

#include "base/bytes.h"
#include "protocol/amqp/table.h"

#include <stdbool.h>

#define BACKOFF_STEPS 32u
#define BACKOFF_MAX_MS 315360000000u      /* ten years */

struct json_t;

struct backoff {
    unsigned count;                       /* of steps; 0: it grows */
    uint64_t steps_ms[BACKOFF_STEPS];
    uint64_t initial_ms, max_ms;
    double multiplier, jitter;            /* jitter: 0 … 1, of both kinds */
};

/* False: it makes no sense, and `why` says what does not. */
bool backoff_of_field(const struct amqp_field *field, struct backoff *backoff, char *why, size_t room);
bool backoff_of_json(const struct json_t *json, struct backoff *backoff, char *why, size_t room);
bool backoff_of_text(struct bytes text, struct backoff *backoff, char *why, size_t room);

bool backoff_equal(const struct backoff *a, const struct backoff *b);

/* What the `count`-th return (from 1) waits for, milliseconds. `random`: any number; it decides what the jitter adds or takes away. */
uint64_t backoff_ms(const struct backoff *backoff, uint64_t count, uint64_t random);

/* … and the most that it can be. */
uint64_t backoff_most_ms(const struct backoff *backoff, uint64_t count);

#endif
