#include "cli/bench_process.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static double clock_s(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time) < 0)
        return -1;
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

double bench_thread_cpu_s(void) { return clock_s(CLOCK_THREAD_CPUTIME_ID); }
double bench_own_cpu_s(void) { return clock_s(CLOCK_PROCESS_CPUTIME_ID); }

bool bench_process_read(int64_t pid, struct bench_usage *usage)
{
    char path[64], line[256];
    clockid_t clock;
    /* A process's clock counts nanoseconds and threads that have ended, which /proc/PID/stat and task/ do not both do. */
    if (clock_getcpuclockid((pid_t)pid, &clock) != 0)
        return false;
    usage->cpu_s = clock_s(clock);
    usage->rss_bytes = usage->anonymous_bytes = 0;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/status", pid);
    FILE *file = fopen(path, "re");
    if (!file || usage->cpu_s < 0) {
        if (file)
            fclose(file);
        return false;
    }
    while (fgets(line, sizeof line, file)) {
        uint64_t kib;
        if (sscanf(line, "VmRSS: %" SCNu64, &kib) == 1)
            usage->rss_bytes = kib * 1024;
        else if (sscanf(line, "RssAnon: %" SCNu64, &kib) == 1)
            usage->anonymous_bytes = kib * 1024;
    }
    fclose(file);
    return true;
}
