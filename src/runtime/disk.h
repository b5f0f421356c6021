/* The real disk: io/disk.h on io_uring, or on a thread with pwritev2 where the kernel or a container closes io_uring.
 * One a reactor, all below the same locked directory. */
#ifndef RUNTIME_DISK_H
#define RUNTIME_DISK_H

#include "base/err.h"
#include "io/disk.h"
#include "runtime/directory.h"

#include <uv.h>

enum disk_mode {
    DISK_MODE_AUTO,      /* io_uring where it is to be had */
    DISK_MODE_THREADS,   /* never io_uring */
};

/* `directory` is borrowed until disk_close. Completions run on the loop's thread, from inside uv_run or
 * disk->wait. Several threads may use disks of one directory; one disk belongs to one thread at a time. GW_ERR_NOMEM, GW_ERR_LIMIT. */
enum gw_err disk_open(uv_loop_t *loop, const struct directory *directory, enum disk_mode mode, struct disk **disk);

/* For the log line that says how this broker writes. */
bool disk_uses_uring(const struct disk *disk);

/* disk->wait for at most that many milliseconds; < 0: for ever. False: nothing is in flight, or nothing has completed in time. */
bool disk_wait_for(struct disk *disk, int timeout_ms);

bool disk_is_idle(const struct disk *disk);

/* The loop has no part in it any more: one other thread may use it, with disk->wait, until it is ended and disk_close follows on the loop's. While disk_is_idle. */
void disk_leave_loop(struct disk *disk);

/* Waits for everything that is in flight, then closes. The memory goes when the loop, run once more, has closed the handles. */
void disk_close(struct disk *disk);

#endif
