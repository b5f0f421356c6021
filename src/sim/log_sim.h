/* A simulation of the file log alone: appends, commits, recycling, truncation, crashes and failures, against a list of what was appended.
 *
 * Checked: what is committed is found again, in order and byte for byte, over kills and losses of power; what is found beyond it is the next
 * that was appended; nothing else is ever found; commits only grow and end between batches; what a recovery replayed is as
 * durable as what was committed before; rot is told, and takes no record outside the batch that it hit. */
#ifndef SIM_LOG_SIM_H
#define SIM_LOG_SIM_H

#include "sim/options.h"
#include "sim/trace.h"

/* Runs one seed; the answer is in `trace`. Returns the operations done. */
uint64_t log_sim_run(const struct sim_options *options, uint64_t seed, struct trace *trace);

#endif
