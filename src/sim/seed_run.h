/* One seed: rounds of work and trouble, each followed by calm, in which everything that is in the queues is counted, read and compared. */
#ifndef SIM_SEED_RUN_H
#define SIM_SEED_RUN_H

#include "sim/options.h"
#include "sim/trace.h"

/* Runs one seed; the answer is in `trace`. Returns the operations done. */
uint64_t seed_run(const struct sim_options *options, uint64_t seed, struct trace *trace);

#endif
