/* The disk as everything above the runtime sees it: operations on files below one data directory, answered later.
 *
 * Two bodies: runtime/disk.c (io_uring, or a thread where the kernel closes io_uring) and sim/disk.c (virtual, faulty).
 * Completions run on the thread that submitted, never from inside disk_submit itself. Operations on one file that are
 * in flight together complete in any order; whoever needs an order waits. */
#ifndef IO_DISK_H
#define IO_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum disk_kind {
    DISK_OPEN,        /* name, flags → file. Creates with mode 0600 when DISK_CREATE is set. */
    DISK_CLOSE,       /* file */
    DISK_READ,        /* file, iov, offset → result: bytes read; short only at the end of the file */
    DISK_WRITE,       /* file, iov, offset → result: all bytes or an error; not yet durable */
    DISK_WRITE_SYNC,  /* the same, and durable when it completes (RWF_DSYNC, or write and fdatasync) */
    DISK_SYNC,        /* file: fdatasync */
    DISK_ALLOCATE,    /* file, offset, size: the range becomes zero bytes for which the disk has room */
    DISK_TRUNCATE,    /* file, size: the file ends there */
    DISK_RENAME,      /* name → new_name, replacing it */
    DISK_UNLINK,      /* name */
    DISK_MAKE_DIR,    /* name; mode 0700; an existing directory is no error */
    DISK_SYNC_DIR,    /* name: names made, renamed or unlinked in this directory are durable */
    DISK_LIST,        /* name: calls `entry` for each name in it (not . and ..), in no order */
    DISK_SIZE,        /* file → result: size in bytes */
    DISK_FREE_SPACE,  /* → result: bytes that may still be written in the data directory's file system */
};

enum disk_flags {
    DISK_CREATE = 1,
    DISK_DIRECT = 2,   /* bypass the page cache where the file system can; then memory, offsets and sizes are 4 KiB-aligned */
};

/* Owned by the submitter until `done` ran. iov and its memory, name and new_name are borrowed until then. */
struct disk_op {
    enum disk_kind kind;
    unsigned flags;
    int file;                 /* a handle that DISK_OPEN gave; -1: none */
    const char *name;         /* relative to the data directory, at most 255 bytes, never with ".." */
    const char *new_name;
    struct iovec *iov;
    unsigned iov_count;
    uint64_t offset, size;    /* bytes */
    void (*entry)(struct disk_op *op, const char *name);

    int error;                /* out: 0 or a positive errno */
    int64_t result;           /* out: see the kinds */

    void (*done)(struct disk_op *op);
    void *owner;              /* the submitter's */
    struct disk_op *next;     /* the disk's while in flight */
};

struct disk {
    /* Starts `op`; op->done runs later on this thread. */
    void (*submit)(struct disk *disk, struct disk_op *op);
    /* Runs `op` before it returns, without calling done: for opening and closing a data directory. Returns op->error. */
    int (*call)(struct disk *disk, struct disk_op *op);
    /* Blocks until at least one operation that this thread submitted has completed, and runs the `done` of all that have; for
     * closing and truncating, which must outlast what is in flight. Returns false at once when nothing is in flight. */
    bool (*wait)(struct disk *disk);
};

#endif
