/* Reading a log's files back: batch by batch, record by record, telling a torn end from rot inside. */
#ifndef STORE_LOG_REPLAY_H
#define STORE_LOG_REPLAY_H

#include "store/file_log.h"

struct log_replay {
    struct file_log *log;
    log_visitor *visit;
    void *visit_owner;
    struct log_recovery *found;
    uint64_t from;              /* batches below it are not read */
    uint64_t epoch;             /* the highest met: what is lower after it is stale */

    /* The piece of `file` that was read last. */
    struct log_file *file;
    struct chunk *chunk;
    uint64_t chunk_place, chunk_size;
    uint64_t proof;             /* offset of a batch that began a write, the first one that was looked for; 0: none known */
    uint64_t last_write;        /* offset of the last batch that began a write, in the file at hand */
    uint64_t lined_up;          /* the highest end of a batch whose header lined up, whatever else is wrong with it */
};

/* Replays one file. `last`: nothing was ever written after it, so its end may be torn; then what is torn is removed from the disk. Otherwise it
 * is complete up to the start of the file after it, and what cannot be read is rot. `end`: where the log ends now, for the last. */
enum gw_err log_replay_file(struct log_replay *replay, struct log_file *file, bool last, uint64_t *end);

void log_replay_deinit(struct log_replay *replay);

#endif
