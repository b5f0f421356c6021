/* How often something may be done: so many times at once, and then as they come back one by one (a token bucket, kept as the time when it is full again, which is all
 * that need be known). Any number of threads may take from one. */
#ifndef BASE_RATE_H
#define BASE_RATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* `count` times in `period_us`, all of them at once if need be. A count of 0: any number of times. */
struct rate_limit {
    uint32_t count;
    uint64_t period_us;
};

/* Zero-initialized is full. */
struct rate {
    _Atomic uint64_t due_us;
};

/* What an address has taken: of requests, and of passwords and tokens that may be wrong. */
struct rates {
    struct rate requests, failures;
};

/* Takes one. False: there is none, and *wait_us says how long until there is. Times are monotonic microseconds. */
bool rate_take(struct rate *rate, const struct rate_limit *limit, uint64_t now_us, uint64_t *wait_us);

/* Would there be one? */
bool rate_allows(const struct rate *rate, const struct rate_limit *limit, uint64_t now_us, uint64_t *wait_us);

/* Nothing has been taken that is not back already. */
bool rate_is_full(const struct rate *rate, uint64_t now_us);

#endif
