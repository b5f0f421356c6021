/* The loop and the house that the library stands on in a simulation: virtual time, and a broker on a simulated disk. A wait of the library's, for an answer of the broker or for room, is the disk's
 * steps; the process may die in the midst of one. */
#ifndef SIM_HANDLER_LOOP_H
#define SIM_HANDLER_LOOP_H

#include "lib/house.h"
#include "lib/loop.h"
#include "sim/random.h"
#include "sim/sim_disk.h"
#include "sim/trace.h"

struct sim_loop {
    struct gw_loop loop;             /* first */
    struct house house;
    struct random *random;
    struct trace *trace;
    struct sim_disk *disk;
    uint64_t due_us;                 /* the last turn has nothing to do before */
    unsigned fruitless;              /* waits in a row in which nothing happened: after some somebody clears the disk up */
    void (*closed)(void *owner, int result);   /* the house is being closed: whom to tell soon; NULL: it is not */
    void *closed_owner;
};

/* One process's. */
void sim_loop_begin(struct sim_loop *loop, struct random *random, struct trace *trace, struct sim_disk *disk);
void sim_loop_end(struct sim_loop *loop);

/* An embedded bus on the broker that the worker is. NULL: a sentence is in loop->error; the disk has stopped, or has failed. */
gw_bus *sim_loop_open(struct sim_loop *loop, struct worker *worker, const gw_open_options *options);

/* Has `handle` called with what is in a durable queue without arguments, such as one of dead letters, as a handler of the library's own. NULL: as above. */
gw_handler *sim_loop_drain(gw_bus *bus, const char *queue, gw_event_fn handle, void *context);

/* Was the event taken back from its handler? And was it, as nobody answered in time? Otherwise the bus is being closed. */
bool sim_loop_is_back(const gw_event *event);
bool sim_loop_is_late(const struct sim_loop *loop, const gw_event *event);

/* A turn. True: it has something to do at once. */
bool sim_loop_turn(struct sim_loop *loop);

/* The process has died: what is open is torn down, without an effect on anything. */
void sim_loop_die(struct sim_loop *loop);

#endif
