/* A broker in a process: its data directory, and for each of its loops a disk, a worker, and the mailboxes between them. The program `godwit serve` has one with a loop for each of its reactors, a
 * program with libgodwit one on a loop of its own. What else is on the loops, and when they turn, is their owners' business:
 *
 *   host_new → host_open → in every turn of a loop: host_receive · verbs · host_clock · worker_turn · host_post → all loops stopped: host_close → host_end → loops closed → host_free */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include "broker/broker.h"
#include "runtime/disk.h"
#include "runtime/mailbox.h"

#define HOST_PLACES_MAX 64u

struct host;

/* One loop's share. */
struct host_place {
    struct worker_port port;
    struct host *host;
    struct worker *worker;
    struct disk *disk;               /* NULL: nothing is kept */
    unsigned index;
    struct mailbox *in[HOST_PLACES_MAX], *out[HOST_PLACES_MAX];   /* by the other's index; NULL: its own */
    uint64_t clock_us;               /* when the time of day is looked at again */
};

struct host_loop {
    uv_loop_t *uv;
    struct wake *wake;               /* NULL: the only one */
};

struct host_config {
    const char *directory;           /* NULL: nothing is kept, in memory alone */
    enum disk_mode disk_mode;
    const struct host_loop *loops;   /* borrowed until host_new returns; what they name, until host_end */
    unsigned count;
    const struct broker_config *broker;   /* workers, random and node are filled in */
};

/* Locks the directory and makes everything that host_open opens. On an error one sentence that says what to do is in `why`: those of directory_open, disk_open, GW_ERR_NOMEM. */
enum gw_err host_new(const struct host_config *config, char *why, unsigned room, struct host **host);

/* Recovers what is in the directory, in this thread. The same of errors: those of broker_open. */
enum gw_err host_open(struct host *host, char *why, unsigned room);

struct host_place *host_place(struct host *host, unsigned index);

/* ---- in a turn of a place's loop, on its thread ---- */
/* Takes what the others have posted. True: there was something. */
bool host_receive(struct host_place *place);
/* Looks at the time of day now and then, since it may be set while the program runs. */
void host_clock(struct host_place *place, uint64_t now_us);
/* Wakes those for whom there is something. */
void host_post(struct host_place *place);

/* ---- the end ---- */
/* No loop turns any more, and the clients are detached: carries out what they left behind, and closes the files. */
enum gw_err host_close(struct host *host, uint64_t now_us);
/* The broker is gone, and so are the disks once the loops have run to close their handles. */
void host_end(struct host *host);
/* Unlocks the directory. NULL is fine; after host_end, unless the host was never opened. */
void host_free(struct host *host);

/* In a child of fork: the descriptors of the directory and its lock are closed here; the parent has them still. */
void host_forked(struct host *host);

#endif
