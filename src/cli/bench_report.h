/* How a measurement is told: lines for people, or one JSON object. */
#ifndef CLI_BENCH_REPORT_H
#define CLI_BENCH_REPORT_H

#include "cli/bench_load.h"

#include <jansson.h>

struct bench_floors {
    bool has_echo, has_sync;
    struct histogram echo, sync;      /* nanoseconds */
    const char *sync_method;
};

/* A new reference, or NULL when out of memory. */
json_t *bench_report_json(const struct bench_plan *plan, const struct bench_result *result, const struct bench_floors *floors,
                          double own_cpu_s);

void bench_report_print(const struct bench_plan *plan, const struct bench_result *result, const struct bench_floors *floors,
                        double own_cpu_s, FILE *out);

/* {"p50": …, "p90": …, "p99": …, "p99_9": …, "max": …, "mean": …, "count": …}, microseconds. */
json_t *bench_histogram_json(const struct histogram *histogram);
void bench_histogram_print(const char *title, const struct histogram *histogram, FILE *out);

#endif
