#include "base/rate.h"

/* When it would be full again if one were taken now. False: there is none to be had. */
static bool next_due(uint64_t due_us, const struct rate_limit *limit, uint64_t now_us, uint64_t *next_us, uint64_t *wait_us)
{
    uint64_t each_us = limit->period_us / limit->count, from_us = due_us > now_us ? due_us : now_us;
    *next_us = from_us + (each_us ? each_us : 1);
    if (*next_us - now_us <= limit->period_us)
        return true;
    *wait_us = *next_us - now_us - limit->period_us;
    return false;
}

bool rate_take(struct rate *rate, const struct rate_limit *limit, uint64_t now_us, uint64_t *wait_us)
{
    uint64_t due_us = atomic_load_explicit(&rate->due_us, memory_order_relaxed), next_us;
    *wait_us = 0;
    if (limit->count == 0)
        return true;
    do {
        if (!next_due(due_us, limit, now_us, &next_us, wait_us))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&rate->due_us, &due_us, next_us, memory_order_relaxed, memory_order_relaxed));
    return true;
}

bool rate_allows(const struct rate *rate, const struct rate_limit *limit, uint64_t now_us, uint64_t *wait_us)
{
    uint64_t next_us;
    *wait_us = 0;
    return limit->count == 0 || next_due(atomic_load_explicit(&rate->due_us, memory_order_relaxed), limit, now_us, &next_us, wait_us);
}

bool rate_is_full(const struct rate *rate, uint64_t now_us)
{
    return atomic_load_explicit(&rate->due_us, memory_order_relaxed) <= now_us;
}
