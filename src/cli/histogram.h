/* A histogram of latencies with a bounded relative error: log-linear, 128 steps per power of two (within 0.8 %).
 * Fixed memory, nothing allocated; one thread writes, results are merged afterwards. */
#ifndef CLI_HISTOGRAM_H
#define CLI_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 7u
#define HISTOGRAM_VALUE_BITS 42u    /* larger values count as the largest: 2^42 ns are 73 minutes */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS)

struct histogram {
    uint64_t count, sum;
    uint64_t minimum, maximum;      /* exact; 0 when empty */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *histogram);

/* Counts `value` `times` times. */
void histogram_add(struct histogram *histogram, uint64_t value, uint64_t times);

void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value that a share `quantile` (0 to 1) of all values does not exceed; 0 when empty. */
uint64_t histogram_quantile(const struct histogram *histogram, double quantile);

/* The arithmetic mean; 0 when empty. */
double histogram_mean(const struct histogram *histogram);

#endif
