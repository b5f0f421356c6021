/* One seed of the simulation of sources: whole brokers that run sources, what those read, a handler, crashes at any operation of the disk, and virtual days. */
#ifndef SIM_SOURCE_RUN_H
#define SIM_SOURCE_RUN_H

#include "sim/options.h"
#include "sim/trace.h"

/* Runs the seed; a broken invariant is in `trace`. Answers how many events were handled. */
uint64_t source_run(const struct sim_options *options, uint64_t seed, struct trace *trace);

#endif
