/* One seed of the features' simulation: expiry, lengths, dead letters, priorities, delivery limits, single active consumers, delays and streams. */
#ifndef SIM_FEATURE_RUN_H
#define SIM_FEATURE_RUN_H

#include "sim/options.h"
#include "sim/trace.h"

/* Runs the seed; a broken invariant is in `trace`. Answers how many operations clients did. */
uint64_t feature_run(const struct sim_options *options, uint64_t seed, struct trace *trace);

#endif
