/* What the broker's process uses: processor time and memory, as the kernel counts them. */
#ifndef CLI_BENCH_PROCESS_H
#define CLI_BENCH_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct bench_usage {
    double cpu_s;                      /* of all its threads since it started */
    uint64_t rss_bytes, anonymous_bytes;
};

/* False: there is no such process, or it may not be looked at. */
bool bench_process_read(int64_t pid, struct bench_usage *usage);

/* Processor seconds of the calling thread, and of this whole process. */
double bench_thread_cpu_s(void);
double bench_own_cpu_s(void);

#endif
