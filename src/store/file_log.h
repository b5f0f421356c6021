/* The file log's own struct, for file_log.c, log_recovery.c and log_truncation.c. */
#ifndef STORE_FILE_LOG_H
#define STORE_FILE_LOG_H

#include "store/log_body.h"
#include "store/log_chores.h"

#define FILE_LOG_IOV_MAX 512u
#define FILE_LOG_WRITE_MAX (8u << 20) /* bytes in one write */

/* A slice that waits for its write or is being written. */
struct slice {
    struct chunk *chunk;    /* one reference */
    uint64_t begin;         /* in the chunk */
    uint64_t size;          /* bytes with padding */
    uint64_t begins;        /* 0, or the capacity of the file that has yet to be begun with it */
};

struct file_log {
    struct log log;
    struct disk *disk;
    struct chunk_pool *pool;
    struct alarm_sink *alarms;
    char directory[DISK_NAME_SIZE];
    uint64_t capacity;              /* of an ordinary file, bytes of batches */
    unsigned file_count;

    /* Files with batches in them. The last one is being written. */
    struct log_file *oldest, *current;
    unsigned files;
    uint64_t files_bytes;
    struct log_chores chores;

    /* Where appends go: the file that the last appended slice will lie in. */
    uint64_t append_room;           /* bytes left in it */
    uint64_t append_used;           /* bytes taken of it */
    bool stalled;                   /* the first slice begins a file that is not ready */
    bool held;                      /* nothing new is written: the log is being truncated */

    /* Slices in order, a ring that doubles: [head, head + count). */
    struct slice *ring;
    unsigned ring_size, head, count;
    uint64_t waiting;               /* bytes in the ring */
    uint64_t head_written;          /* bytes of the first slice that are written already: it is larger than one write */

    /* The write under way. */
    bool writing;
    bool wrote;                     /* at least one, since the log was opened */
    bool write_begins_file;
    uint64_t write_bytes;
    uint8_t *header;                /* one aligned block */
    struct disk_op op;
    struct iovec iov[FILE_LOG_IOV_MAX + 1];

    uint64_t recycled;              /* the highest cutoff of log_recycle */
    uint64_t told;                  /* the last cutoff of checkpoint_wanted */
    bool check_files;               /* look whether a checkpoint is due at the next chance for a callback */
};

/* log_recovery.c: finds the files, replays them, cuts the tail and fills in what the log knows of its files. */
enum gw_err file_log_recover(struct file_log *log, uint64_t from, uint64_t epoch, log_visitor *visit, void *visit_owner,
                             struct log_recovery *recovery);

/* log_truncation.c: the verb. */
enum gw_err file_log_truncate(struct log *log, uint64_t offset, bool force);

/* Gives back the first slice that waits. */
void file_log_pop_slice(struct file_log *log);
static inline struct slice *file_log_slice(struct file_log *log, unsigned index)
{
    return &log->ring[(log->head + index) & (log->ring_size - 1)];
}

/* The header of a batch as it was found on the disk. */
struct batch_header {
    uint64_t epoch, offset;
    uint32_t size;
    uint32_t count;         /* without the bit below */
    bool begins_write;
};

void batch_header_write(uint8_t *at, const struct batch_header *header);

/* False when its magic number or checksum is wrong. */
bool batch_header_read(const uint8_t *at, struct batch_header *header);

/* The newest file of the log, which appends go to from now on. */
void file_log_add_file(struct file_log *log, struct log_file *file);

#endif
