#include "sim/planted.h"

#include "base/bugs.h"
#include "base/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLEAN_SEEDS 24u
#define SEEDS_MAX 400u     /* a bug that hides from so many is missed */
#define OPS 2500u

/* One seed in a child. True: good. Otherwise `why` (64 bytes) says what broke. */
static bool seed_is_good(planted_run *run, const struct sim_options *options, uint64_t seed, char *why)
{
    int ends[2];
    fflush(NULL);
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct trace trace;
        CHECK(bug_plant(options->bug));
        /* What it says when it dies is of no interest here. */
        CHECK(freopen("/dev/null", "w", stderr));
        trace_init(&trace, false);
        run(options, seed, &trace);
        ssize_t written = write(ends[1], trace.invariant, sizeof(trace.invariant));
        _exit(written < 0 || trace.failed);
    }
    close(ends[1]);
    memset(why, 0, 64);
    ssize_t size = read(ends[0], why, 63);
    close(ends[0]);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (size <= 0)
        snprintf(why, 64, "the process died");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Seeds with less and with more trouble in turn; every fourth is the log alone, others are the features of queues, the bus, sources, or the library's handlers. */
static struct sim_options options_for(uint64_t seed, int bug)
{
    bool handlers = bug >= 0 ? bug >= (int)BUGS_OF_HANDLERS : seed % 6 == 0;
    bool sources = !handlers && (bug >= 0 ? bug >= (int)BUGS_OF_SOURCES : seed % 11 == 0);
    bool bus = !handlers && !sources && (bug >= 0 ? bug >= (int)BUGS_OF_BUS : seed % 7 == 0);
    bool features = !handlers && !bus && !sources && (bug >= 0 ? bug >= (int)BUGS_OF_FEATURES : seed % 5 == 0);
    return (struct sim_options){.first_seed = seed, .last_seed = seed, .ops = OPS, .faults = seed % 3 ? SIM_FAULTS_CRASH : SIM_FAULTS_ALL,
                                .log_only = seed % 4 == 0 && !features && !bus && !sources && !handlers, .features = features, .bus = bus, .sources = sources,
                                .handlers = handlers, .bug = bug};
}

static bool clean_runs_are_good(planted_run *run)
{
    char why[64], command[512];
    for (uint64_t seed = 1; seed <= CLEAN_SEEDS; seed++) {
        struct sim_options options = options_for(seed, -1);
        if (seed_is_good(run, &options, seed, why))
            continue;
        sim_options_command(&options, seed, command, sizeof(command));
        printf("without a bug a seed breaks \"%s\": %s\n", why, command);
        return false;
    }
    return true;
}

int planted_find(planted_run *run)
{
    char why[64];
    unsigned missed = 0;
    if (!bug_plant(-1) || !bug_plant(0)) {
        fprintf(stderr, "godwit sim: this build has no planted bugs (configure with -Dplanted_bugs=true)\n");
        return 2;
    }
    bug_plant(-1);
    if (!clean_runs_are_good(run))
        return 1;
    printf("%-26s %-7s %6s  %s\n", "bug", "", "seeds", "broken invariant");
    for (int bug = 0; bug < BUG_COUNT; bug++) {
        uint64_t seed = 1;
        for (; seed <= SEEDS_MAX; seed++) {
            struct sim_options options = options_for(seed, bug);
            if (!seed_is_good(run, &options, seed, why))
                break;
        }
        bool caught = seed <= SEEDS_MAX;
        missed += !caught;
        printf("%-26s %-7s %6" PRIu64 "  %s\n", bug_name(bug), caught ? "caught" : "missed", caught ? seed : SEEDS_MAX,
               caught ? why : bug_text(bug));
        fflush(stdout);
    }
    return missed ? 1 : 0;
}
