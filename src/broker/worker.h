/* A worker: the broker's share of one reactor. It owns some shards, a copy of the topology, and the reactor's clients. No thread, clock or system call of its
 * own: the reactor (or the simulator) calls it with the time.
 *
 *   start:  worker_new for every reactor, then broker_open (broker/broker.h) recovers the shards, all in one thread.
 *   turn:   sessions feed (client.h) · worker_receive for each batch from the mailboxes · worker_turn · sessions' output is written
 */
#ifndef BROKER_WORKER_H
#define BROKER_WORKER_H

#include "base/bytes.h"
#include "base/chunk.h"
#include "base/err.h"
#include "io/alarm.h"
#include "io/disk.h"

#include <stdbool.h>
#include <stdint.h>

struct batch;
struct client;
struct worker;

/* How a worker reaches the others. */
struct worker_port {
    /* Hands `batch` to reactor `to`; takes it. False: no room now; the worker keeps it and tries again next turn. Never called for itself. */
    bool (*post)(struct worker_port *port, unsigned to, struct batch *batch);
};

struct broker;   /* the process-wide part: broker.h */

struct worker *worker_new(struct broker *broker, unsigned index, struct disk *disk, struct worker_port *port);
void worker_free(struct worker *worker);

/* Takes a batch that another worker posted to this one. */
void worker_receive(struct worker *worker, struct batch *batch);

/* Ends a loop turn: does all that is pending, flushes logs, posts batches. `now_us`: monotonic microseconds. True: there is more to do, call again soon
 * (after looking for input). */
bool worker_turn(struct worker *worker, uint64_t now_us);

/* True: every durable publish that was made has its slice behind it, as it must have whenever a batch is posted. */
bool worker_is_sealed(const struct worker *worker);

/* What time of day it is: `wall_us` microseconds since 1970 at the monotonic `now_us`. Without it the two are the same. Call it before a turn as often as the
 * system's clock may be set. */
void worker_set_clock(struct worker *worker, uint64_t wall_us, uint64_t now_us);

/* When worker_turn must be called at the latest though nothing arrives, monotonic microseconds; UINT64_MAX: never. */
uint64_t worker_deadline(const struct worker *worker);

/* The time that the current turn was given. */
uint64_t worker_now(const struct worker *worker);

/* The same as a time of day, microseconds since 1970. */
uint64_t worker_wall_us(const struct worker *worker);
/* … and what it is between turns, where it has become now_us (monotonic) since: the turn may have been long ago. */
uint64_t worker_wall_at(const struct worker *worker, uint64_t now_us);

/* What protocols on one reactor say to those on another (or the same one): `take` is called during a turn of worker `to`, with the letter borrowed until it returns. */
struct worker_letters {
    void (*take)(void *owner, unsigned from, struct bytes letter);
    void *owner;
};
void worker_set_letters(struct worker *worker, const struct worker_letters *letters);
void worker_send(struct worker *worker, unsigned to, struct bytes letter);

/* Parameters (as set_parameter sets them) of a component, in all virtual hosts. What `each` gets is borrowed until it returns, *value until the next turn. The version is another one
 * whenever something may have changed. Between turns. */
uint64_t worker_parameters_version(const struct worker *worker);
void worker_parameters(const struct worker *worker, struct bytes component, void (*each)(void *owner, struct bytes vhost, struct bytes name, struct bytes value), void *owner);
/* The arguments of a queue, as this worker knows them, until its next turn. False: there is no such queue. */
bool worker_queue_arguments(const struct worker *worker, struct bytes vhost, struct bytes queue, struct bytes *arguments);
bool worker_parameter(const struct worker *worker, struct bytes vhost, struct bytes component, struct bytes name, struct bytes *value);

/* Would durable publishes be refused now? GW_OK, GW_ERR_FULL, or GW_ERR_FAILED: by any shard of this worker's, or the one that declarations are kept in. */
enum gw_err worker_storage(const struct worker *worker);

struct chunk_pool *worker_chunks(struct worker *worker);
unsigned worker_index(const struct worker *worker);

#endif
