/* The queues and the exchange that a measurement needs: declared and deleted in one pipelined stream of calls. */
#ifndef CLI_BENCH_TOPOLOGY_H
#define CLI_BENCH_TOPOLOGY_H

#include "cli/bench_link.h"

/* Declares the queues, durable where messages are persistent, and nothing else. */
enum bench_progress bench_topology_declare_queues(struct bench_link *link, const struct bench_plan *plan);
enum bench_progress bench_topology_delete_queues(struct bench_link *link, const struct bench_plan *plan);

/* Deletes what an earlier run left and declares queues, exchange and bindings anew; with plan->reuses, nothing. */
enum bench_progress bench_topology_make(struct bench_link *link, const struct bench_plan *plan);
enum bench_progress bench_topology_remove(struct bench_link *link, const struct bench_plan *plan);

/* Messages that are ready in the queues now. */
enum gw_err bench_topology_count(struct bench_link *link, const struct bench_plan *plan, uint64_t *messages);

#endif
