#include "store/log_body.h"

#define FILE_SIZE_DEFAULT (UINT64_C(16) << 20)
#define FILE_COUNT_DEFAULT 4u

enum gw_err log_open(const struct log_config *config, uint64_t from, uint64_t epoch, log_visitor *visit, void *visit_owner,
                     struct log_recovery *recovery, struct log **log)
{
    struct log_config filled = *config;
    if (filled.file_size == 0)
        filled.file_size = FILE_SIZE_DEFAULT;
    if (filled.file_count == 0)
        filled.file_count = FILE_COUNT_DEFAULT;
    struct log_recovery found = {0};
    *log = NULL;
    enum gw_err err = filled.body == LOG_MEMORY ? memory_log_open(&filled, from, epoch, log)
                                                : file_log_open(&filled, from, epoch, visit, visit_owner, &found, log);
    if (recovery)
        *recovery = found;
    return err;
}

enum gw_err log_append(struct log *log, struct chunk *chunk, uint64_t begin, uint32_t size, uint32_t count, uint64_t *offset)
{
    CHECK(begin % LOG_ALIGN == 0 && size > BATCH_HEADER_SIZE && begin + log_align(size) <= chunk->capacity);
    return log->ops->append(log, chunk, begin, size, count, offset);
}

void log_flush(struct log *log)
{
    log->ops->flush(log);
}

enum gw_err log_state(const struct log *log)
{
    return log->state;
}

bool log_lacks_file(const struct log *log) { return log->lacks_file; }
void log_set_patient(struct log *log, bool patient) { log->patient = patient; }

struct log_position log_end(const struct log *log)
{
    return (struct log_position){log->epoch, log->end};
}

struct log_position log_committed(const struct log *log)
{
    return (struct log_position){log->epoch, log->committed};
}

struct log_position log_readable(const struct log *log)
{
    /* Both bodies there are let commands be applied before they are committed: one machine has nobody to contradict it. */
    return log_end(log);
}

enum gw_err log_truncate(struct log *log, struct log_position position, bool force)
{
    if (position.epoch > log->epoch || position.offset > log->end || position.offset % LOG_ALIGN != 0)
        return GW_ERR_INVALID;
    if (position.offset < log->committed && !force)
        return GW_ERR_INVALID;
    return log->ops->truncate(log, position.offset, force);
}

void log_recycle(struct log *log, uint64_t cutoff)
{
    log->ops->recycle(log, cutoff);
}

uint64_t log_disk_bytes(const struct log *log)
{
    return log->ops->disk_bytes(log);
}

enum gw_err log_close(struct log *log)
{
    return log->ops->close(log);
}
