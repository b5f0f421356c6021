/* The log that forgets: what is appended is committed at the next flush and kept nowhere. For embedding, tests and transient brokers. */
#include "store/log_body.h"

#include <stdlib.h>

static enum gw_err append(struct log *log, struct chunk *chunk, uint64_t begin, uint32_t size, uint32_t count, uint64_t *offset)
{
    (void)chunk;
    (void)begin;
    (void)count;
    *offset = log->end;
    log->end += log_align(size);
    return GW_OK;
}

static void flush(struct log *log)
{
    if (log->committed == log->end)
        return;
    log->committed = log->end;
    if (log->events.committed)
        log->events.committed(log->events.owner, log_committed(log));
}

/* Which offsets are boundaries is not remembered: the caller's word is taken for it. */
static enum gw_err cut(struct log *log, uint64_t offset, bool force)
{
    (void)force;
    log->end = offset;
    if (log->committed > offset)
        log->committed = offset;
    return GW_OK;
}

static void recycle(struct log *log, uint64_t cutoff)
{
    (void)log;
    (void)cutoff;
}

static uint64_t disk_bytes(const struct log *log)
{
    (void)log;
    return 0;
}

static enum gw_err close_memory(struct log *log)
{
    flush(log);
    free(log);
    return GW_OK;
}

static const struct log_ops memory_ops = {append, flush, cut, recycle, disk_bytes, close_memory};

enum gw_err memory_log_open(const struct log_config *config, uint64_t from, uint64_t epoch, struct log **log)
{
    struct log *memory = calloc(1, sizeof(*memory));
    if (!memory)
        return GW_ERR_NOMEM;
    memory->ops = &memory_ops;
    memory->events = config->events;
    memory->epoch = epoch;
    memory->end = memory->committed = log_align(from);
    *log = memory;
    return GW_OK;
}
