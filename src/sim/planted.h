/* Looks for every bug that can be planted, to prove that the simulator would find it. */
#ifndef SIM_PLANTED_H
#define SIM_PLANTED_H

#include "sim/options.h"
#include "sim/trace.h"

typedef uint64_t planted_run(const struct sim_options *options, uint64_t seed, struct trace *trace);

/* First some seeds without a bug, which must be good; then for every bug seeds until one is not. Prints a table. Returns the exit code. Each seed has a
 * process of its own, since a bug may end it. */
int planted_find(planted_run *run);

#endif
