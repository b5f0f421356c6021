/* Runs one seed again and again, each time with another allocation that fails: the broker may refuse, close, or end itself with its own check (which loses
 * nothing confirmed), but never do anything wrong. Each run has a process of its own.
 *
 *   godwit-sim-nomem [--handlers] [--seed N] [--ops N] [--faults LEVEL] [--nomem-at K]
 *
 * Without --nomem-at as many allocations are tried, evenly spread, as fit into a few seconds. */
#include "base/err.h"
#include "sim/handler_run.h"
#include "sim/nomem.h"
#include "sim/seed_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIES 300u

enum outcome { GOOD, ENDED_ITSELF, WRONG };

static void run_seed(const struct sim_options *options, struct trace *trace)
{
    if (options->handlers)
        handler_run(options, options->first_seed, trace);
    else
        seed_run(options, options->first_seed, trace);
}

static enum outcome run_in_child(const struct sim_options *options, uint64_t number, bool quiet)
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct sim_options mine = *options;
        struct trace trace;
        mine.nomem_at = number;
        if (quiet)
            CHECK(freopen("/dev/null", "w", stderr));
        trace_init(&trace, options->verbose);
        nomem_arm(number);
        run_seed(&mine, &trace);
        if (trace.failed)
            fprintf(stderr, "allocation %" PRIu64 ": \"%s\": %s\n", number, trace.invariant, trace.failure);
        _exit(trace.failed ? 3 : 0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
        return ENDED_ITSELF;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? GOOD : WRONG;
}

/* How many allocations the seed makes when none fails. */
static uint64_t count_allocations(const struct sim_options *options)
{
    struct trace trace;
    trace_init(&trace, false);
    nomem_arm(UINT64_MAX);
    run_seed(options, &trace);
    uint64_t count = nomem_counted();
    nomem_arm(0);
    return trace.failed ? 0 : count;
}

static void print_command(const struct sim_options *options, uint64_t number)
{
    struct sim_options with = *options;
    char command[256];
    with.nomem_at = number;
    sim_options_command(&with, options->first_seed, command, sizeof(command));
    /* The text begins with the other program's name. */
    printf("wrong: godwit-sim-nomem%s\n", command + strlen("godwit sim"));
}

int main(int argc, char **argv)
{
    struct sim_options options;
    unsigned outcomes[3] = {0, 0, 0};
    if (!sim_options_read(&options, argc, argv))
        return 2;
    if (options.nomem_at)
        return run_in_child(&options, options.nomem_at, false) == WRONG;
    uint64_t count = count_allocations(&options), step = count / TRIES + 1;
    for (uint64_t number = 1; number <= count; number += step) {
        enum outcome outcome = run_in_child(&options, number, true);
        outcomes[outcome]++;
        if (outcome == WRONG)
            print_command(&options, number);
    }
    printf("%" PRIu64 " allocations; of the failures tried %u were taken in stride, %u ended the program by its own check, %u went wrong\n", count,
           outcomes[GOOD], outcomes[ENDED_ITSELF], outcomes[WRONG]);
    return count == 0 || outcomes[WRONG] > 0;
}
