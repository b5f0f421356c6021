/* What the bodies of a log have in common, for log.c and the bodies alone. */
#ifndef STORE_LOG_BODY_H
#define STORE_LOG_BODY_H

#include "store/log.h"

struct log_ops {
    enum gw_err (*append)(struct log *log, struct chunk *chunk, uint64_t begin, uint32_t size, uint32_t count, uint64_t *offset);
    void (*flush)(struct log *log);
    enum gw_err (*truncate)(struct log *log, uint64_t offset, bool force);
    void (*recycle)(struct log *log, uint64_t cutoff);
    uint64_t (*disk_bytes)(const struct log *log);
    enum gw_err (*close)(struct log *log);
};

/* The first member of every body: what is asked on every message is answered from here. */
struct log {
    const struct log_ops *ops;
    struct log_events events;
    uint64_t epoch;
    uint64_t end, committed;    /* offsets, see log_end and log_committed */
    enum gw_err state;          /* see log_state */
    bool lacks_file, patient;   /* see log_lacks_file, log_set_patient */
};

/* log_open of either body; the config's defaults are filled in already. */
enum gw_err memory_log_open(const struct log_config *config, uint64_t from, uint64_t epoch, struct log **log);
enum gw_err file_log_open(const struct log_config *config, uint64_t from, uint64_t epoch, log_visitor *visit, void *visit_owner,
                          struct log_recovery *recovery, struct log **log);

static inline uint64_t log_align(uint64_t bytes)
{
    return (bytes + LOG_ALIGN - 1) & ~(uint64_t)(LOG_ALIGN - 1);
}

#endif
