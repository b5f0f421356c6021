/* One seed of the library's simulation: a program with an embedded bus and handlers, on a simulated disk, over crashes at any step and virtual days. */
#ifndef SIM_HANDLER_RUN_H
#define SIM_HANDLER_RUN_H

#include "sim/options.h"
#include "sim/trace.h"

/* Runs the seed; a broken invariant is in `trace`. Answers how many events were handled. */
uint64_t handler_run(const struct sim_options *options, uint64_t seed, struct trace *trace);

#endif
