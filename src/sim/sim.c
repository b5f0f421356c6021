#include "sim/sim.h"

#include "base/bugs.h"
#include "sim/bus_run.h"
#include "sim/feature_run.h"
#include "sim/handler_run.h"
#include "sim/log_sim.h"
#include "sim/planted.h"
#include "sim/random.h"
#include "sim/seed_run.h"
#include "sim/source_run.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <time.h>

/* For the speed that is printed; nothing inside a simulation sees it. */
static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t run_seed(const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    trace_init(trace, options->verbose);
    if (options->log_only)
        return log_sim_run(options, seed, trace);
    if (options->bus)
        return bus_run(options, seed, trace);
    if (options->sources)
        return source_run(options, seed, trace);
    if (options->handlers)
        return handler_run(options, seed, trace);
    return options->features ? feature_run(options, seed, trace) : seed_run(options, seed, trace);
}

static void report_failure(const struct sim_options *options, uint64_t seed, const struct trace *trace)
{
    char command[512];
    sim_options_command(options, seed, command, sizeof(command));
    fprintf(stderr, "\nseed %" PRIu64 " broke \"%s\":\n  %s\nthe last events:\n", seed, trace->invariant, trace->failure);
    trace_print_kept(trace);
    fprintf(stderr, "repeat it with:\n  %s\n", command);
}

int sim_main(int argc, char **argv)
{
    struct sim_options options;
    struct trace trace;
    if (!sim_options_read(&options, argc, argv))
        return 2;
    if (!bug_plant(options.bug)) {
        fprintf(stderr, "godwit sim: this build has no planted bugs (configure with -Dplanted_bugs=true)\n");
        return 2;
    }
    /* Every life of a broker takes and gives back the same chunks: a third of the time would go into asking the system for them. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    if (options.planted)
        return planted_find(run_seed);
    double begin = seconds_now();
    uint64_t ops = 0, hash = 0;
    for (uint64_t seed = options.first_seed; seed <= options.last_seed; seed++) {
        ops += run_seed(&options, seed, &trace);
        if (trace.failed) {
            report_failure(&options, seed, &trace);
            return 1;
        }
        hash = random_mix(hash ^ trace.hash);
    }
    double seconds = seconds_now() - begin;
    printf("seeds %" PRIu64 "..%" PRIu64 ": good; %" PRIu64 " operations, %.0f/s; event hash %016" PRIx64 "\n", options.first_seed,
           options.last_seed, ops, seconds > 0 ? (double)ops / seconds : 0, hash);
    return 0;
}
