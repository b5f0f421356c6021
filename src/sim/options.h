/* What the command line of the simulator says. */
#ifndef SIM_OPTIONS_H
#define SIM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum sim_fault_level {
    SIM_FAULTS_NONE,
    SIM_FAULTS_CRASH,    /* kills and losses of power, connections lost */
    SIM_FAULTS_ALL,      /* also disk errors, full disks, rot */
};

struct sim_options {
    uint64_t first_seed, last_seed;
    uint64_t ops;                     /* per seed */
    uint64_t crash_at;                /* the disk operation that the process dies at; 0: by chance */
    enum sim_fault_level faults;
    bool log_only;                    /* the log without a broker */
    bool features;                    /* queues with arguments, see feature_run.h */
    bool bus;                         /* subscriptions, see bus_run.h */
    bool sources;                     /* see source_run.h */
    bool handlers;                    /* the library's, see handler_run.h */
    unsigned only;                    /* of them: enum chain_features; 0: all */
    bool planted;                     /* look for every planted bug */
    int bug;                          /* enum bug, or -1 */
    bool verbose;
    uint64_t nomem_at;                /* the allocation that fails; 0: none */
};

/* Reads the arguments; on a mistake prints what is wrong and returns false. */
bool sim_options_read(struct sim_options *options, int argc, char **argv);
void sim_options_usage(void);

/* Writes the command that repeats `seed`. */
void sim_options_command(const struct sim_options *options, uint64_t seed, char *text, unsigned room);

#endif
