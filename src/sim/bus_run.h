/* One seed of the bus's simulation: whole brokers with what drains subscriptions, HTTP in front of them, sinks behind them, and virtual days. */
#ifndef SIM_BUS_RUN_H
#define SIM_BUS_RUN_H

#include "sim/options.h"
#include "sim/trace.h"

/* Runs the seed; a broken invariant is in `trace`. Answers how many operations there were. */
uint64_t bus_run(const struct sim_options *options, uint64_t seed, struct trace *trace);

#endif
