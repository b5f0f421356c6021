/* What a file log has done to its files behind its appends, one operation at a time: making the next file ready before it is
 * needed, giving begun files their names, unlinking those that nobody needs. */
#ifndef STORE_LOG_CHORES_H
#define STORE_LOG_CHORES_H

#include "io/alarm.h"
#include "store/log_file.h"

struct log_chores {
    struct disk *disk;
    const char *directory;
    struct alarm_sink *alarms;
    void (*changed)(void *owner);   /* a file became ready, or `blocked` changed; from a disk completion */
    void *owner;

    struct log_file *ready;         /* spares: allocated, their names durable */
    struct log_file *doomed;        /* to be closed and unlinked */
    struct log_file *late;          /* begun under a spare's name, oldest first */
    struct log_file **late_end;
    uint64_t wanted;                /* capacity of the file to make ready; 0: none */
    uint64_t ready_bytes;           /* on disk, of ready and doomed files */
    uint32_t next_spare;            /* number for the next spare's name */
    bool blocked;                   /* the last attempt to make one failed: tried again at log_chores_retry */
    bool probed;                    /* the disk said that there is room again */
    bool stopped;                   /* finishes what is under way and begins nothing more */
    enum gw_err cause;              /* of `blocked` */

    enum chore {
        CHORE_NONE, CHORE_PROBE, CHORE_OPEN, CHORE_ALLOCATE, CHORE_SYNC, CHORE_SYNC_DIR, CHORE_NAME, CHORE_CLOSE, CHORE_UNLINK,
    } chore;
    struct log_file *file;          /* the one at work */
    uint64_t named_start;
    char new_name[DISK_NAME_SIZE];
    struct disk_op op;
};

void log_chores_init(struct log_chores *chores, struct disk *disk, const char *directory, struct alarm_sink *alarms,
                     void (*changed)(void *owner), void *owner);

/* Nothing may be under way. Closes and frees the spares; their files stay for the next opening to clear away. */
void log_chores_deinit(struct log_chores *chores);
/* At an orderly end, nothing being under way: the spares' files go now, which spares the next opening that. Those that stay all the same are cleared away there. */
void log_chores_discard(struct log_chores *chores);

/* A ready file of exactly `capacity`, now the caller's, or NULL. */
struct log_file *log_chores_take(struct log_chores *chores, uint64_t capacity);

bool log_chores_has(const struct log_chores *chores, uint64_t capacity);

/* Makes a file of `capacity` ready, when there is none; replaces what was wanted before and not begun. */
void log_chores_want(struct log_chores *chores, uint64_t capacity);

/* Takes a file whose batches nobody needs any more: to be used again when `keep`, else to be unlinked. Its old batches must lie below
 * everything that will be appended. */
void log_chores_give(struct log_chores *chores, struct log_file *file, bool keep);

/* `file` stays the caller's; it is renamed after its start. */
void log_chores_name(struct log_chores *chores, struct log_file *file);

/* After a failure: looks again, when nothing is under way. */
void log_chores_retry(struct log_chores *chores);

/* Waits until nothing is under way, and begins nothing more. */
void log_chores_stop(struct log_chores *chores);

#endif
