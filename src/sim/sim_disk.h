/* A disk that lives in memory, takes its time, and fails.
 *
 * Operations are done one at a time, in random order among those in flight. Between any two of them (or in the middle of one) the disk can stop:
 * from then on nothing has an effect any more and everything answers EIO, so that the program above it can be torn down as if its process had
 * been killed. sim_disk_restart then decides what is found: after a kill everything written, after a loss of power only what was synced and, by
 * chance, parts of the rest. */
#ifndef SIM_SIM_DISK_H
#define SIM_SIM_DISK_H

#include "io/disk.h"
#include "sim/random.h"
#include "sim/trace.h"

/* Chances of an operation to fail, in 65,536. */
struct sim_disk_faults {
    unsigned read_error, write_error, sync_error, name_error;
    bool in_calls;           /* in disk->call too, which opens and closes data directories */
    bool names_any_order;    /* without a sync of their directory, later changes of names may survive earlier ones */
};

struct sim_disk;

struct sim_disk *sim_disk_new(struct random *random, struct trace *trace);
void sim_disk_free(struct sim_disk *disk);

/* What to give to the code under test. */
struct disk *sim_disk_face(struct sim_disk *disk);

void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults);

/* Bytes that fit; UINT64_MAX at first. */
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t capacity);
uint64_t sim_disk_used(const struct sim_disk *disk);

/* Does one operation in flight, chosen by chance. False: there is none. */
bool sim_disk_step(struct sim_disk *disk);
unsigned sim_disk_in_flight(const struct sim_disk *disk);

/* Operations done since the beginning: the numbers for sim_disk_stop_at. */
uint64_t sim_disk_operations(const struct sim_disk *disk);

/* Operations that were answered with an injected EIO or ENOSPC. */
uint64_t sim_disk_errors(const struct sim_disk *disk);
uint64_t sim_disk_read_errors(const struct sim_disk *disk);

/* Stops when operation `number` (counted from 1) is about to be done; 0: never. */
void sim_disk_stop_at(struct sim_disk *disk, uint64_t number);
void sim_disk_stop(struct sim_disk *disk);
bool sim_disk_stopped(const struct sim_disk *disk);

/* After sim_disk_stop, or when the program above has ended: closes what is open and decides what the next program finds. */
void sim_disk_restart(struct sim_disk *disk, bool power_lost);

/* Turns a random bit of a random file whose name contains `part` (NULL: any). False: nothing to rot there. */
bool sim_disk_rot(struct sim_disk *disk, const char *part);

/* Handles that are open. */
unsigned sim_disk_open_handles(const struct sim_disk *disk);

#endif
