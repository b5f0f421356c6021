/* Measurements that are no load: many declares, many idle connections, a long backlog. Each prints its report and returns
 * the exit code. */
#ifndef CLI_BENCH_SCENARIO_H
#define CLI_BENCH_SCENARIO_H

#include "cli/bench_plan.h"
#include "cli/console.h"

#include <stdbool.h>

/* Declares plan->queues durable queues on one channel without waiting in between, then deletes them. */
int bench_scenario_declare(const struct bench_plan *plan, struct console *console, bool json);

/* Opens plan->count connections with a channel each and leaves them idle. */
int bench_scenario_connections(const struct bench_plan *plan, struct console *console, bool json);

/* Publishes plan->messages that nobody consumes, looks at the broker's memory, then consumes and verifies them. */
int bench_scenario_backlog(const struct bench_plan *plan, struct console *console, int wake_fd, bool json);

#endif
