#include "sim/log_sim.h"

#include "base/err.h"
#include "sim/sim_disk.h"
#include "store/log.h"

#include <stdlib.h>
#include <string.h>

#define DIRECTORY "shard-0"
#define FILE_SIZE (1u << 20)
#define FILE_COUNT 3u
#define RECORD_ROOM (3u << 20)

struct sim_batch {
    uint64_t offset, size;       /* in the log; size without padding */
    uint64_t first_record;       /* the number that its first record was made from */
    uint32_t count;
    bool gone, gaps;             /* a recovery lacked it, or records of it */
};

struct log_sim {
    struct random random;
    struct trace *trace;
    const struct sim_options *options;
    struct sim_disk *disk;
    struct chunk_pool *pool;
    struct chunk *chunk;         /* where batches are laid out */
    struct log *log;
    struct alarm_sink alarms;
    uint64_t alarm_count;
    uint8_t *scratch;

    struct sim_batch *batches;   /* everything since `from`, oldest first */
    unsigned batch_count, batch_room;
    uint64_t committed;          /* offset; what lies below must be found */
    uint64_t from;               /* a snapshot covers what lies below */
    uint64_t wanted;             /* the log wants to recycle up to here; 0: nothing */
    uint64_t epoch, next_record, seed, ops;
    bool failed;                 /* the log told so */

    /* during a recovery: */
    unsigned at_batch;
    uint32_t at_record;
    unsigned hurt;               /* batches below `committed` that lack records */
    bool rotten;
};

static void on_alarm(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct log_sim *sim = (struct log_sim *)((char *)sink - offsetof(struct log_sim, alarms));
    if (level != ALARM_INFO)
        sim->alarm_count++;
    trace_event(sim->trace, TRACE_ALARM, level, 0, 0, 0);
    trace_note(sim->trace, "alarm: %s", text);
}

/* ---- records that can be made again from their number ------------------------------------------------------------------ */

static uint64_t content_size(struct random *chance)
{
    switch (random_below(chance, 400)) {
    case 0: return random_below(chance, 2u << 20);
    case 1: case 2: case 3: case 4: case 5: return random_below(chance, 300u << 10);
    default: return random_size(chance, 4000);
    }
}

/* Lays record `number` out at `at` and answers its size; with `at` NULL only the size. */
static uint32_t lay_out(const struct log_sim *sim, uint64_t number, uint8_t *at)
{
    struct random chance;
    random_init(&chance, random_mix(sim->seed) ^ number);
    uint8_t type = (uint8_t)random_between(&chance, RECORD_VOID, RECORD_FORGET);
    uint16_t count = (uint16_t)random_between(&chance, 1, random_chance(&chance, 1, 50) ? 300 : 3);
    uint64_t content = type == RECORD_SETTLE ? 0 : content_size(&chance);
    uint32_t head = record_head_size(type, count), size = (uint32_t)(RECORD_HEADER_SIZE + head + content);
    if (!at)
        return size;
    random_fill(&chance, at + RECORD_HEADER_SIZE, head + content);
    record_begin(at, size, type, count, crc32c(0, at + RECORD_HEADER_SIZE + head, content));
    record_seal(at);
    return size;
}

static bool is_void(const uint8_t *at) { return at[8] == RECORD_VOID; }

/* ---- what the log tells --------------------------------------------------------------------------------------------------- */

static void on_committed(void *owner, struct log_position upto)
{
    struct log_sim *sim = owner;
    trace_event(sim->trace, TRACE_LOG_COMMIT, upto.offset, 0, 0, 0);
    if (sim_disk_stopped(sim->disk))
        trace_fail(sim->trace, "commit", "the log says that %lu is committed after the disk stopped", (unsigned long)upto.offset);
    if (upto.offset < sim->committed || upto.offset > log_end(sim->log).offset)
        trace_fail(sim->trace, "commit", "committed up to %lu after %lu, the end is %lu", (unsigned long)upto.offset,
                   (unsigned long)sim->committed, (unsigned long)log_end(sim->log).offset);
    if (sim->failed)
        trace_fail(sim->trace, "commit", "committed up to %lu after the log had failed", (unsigned long)upto.offset);
    sim->committed = upto.offset;
}

static void on_failed(void *owner, enum gw_err err)
{
    struct log_sim *sim = owner;
    trace_event(sim->trace, TRACE_LOG_FAILED, err, 0, 0, 0);
    sim->failed = true;
}

static void on_checkpoint_wanted(void *owner, uint64_t cutoff)
{
    struct log_sim *sim = owner;
    sim->wanted = cutoff;
}

/* ---- recovery --------------------------------------------------------------------------------------------------------------- */

/* Moves to the next record that a reader must see. False: none is left. */
static bool next_expected(struct log_sim *sim)
{
    for (; sim->at_batch < sim->batch_count; sim->at_batch++, sim->at_record = 0) {
        const struct sim_batch *batch = &sim->batches[sim->at_batch];
        for (; sim->at_record < batch->count; sim->at_record++) {
            lay_out(sim, batch->first_record + sim->at_record, sim->scratch);
            if (!is_void(sim->scratch))
                return true;
        }
    }
    return false;
}

/* The expected record is not there. That is allowed in what was never committed, where a crash keeps any pages of the last write, and when
 * something rots. */
static bool may_be_missing(struct log_sim *sim)
{
    struct sim_batch *batch = &sim->batches[sim->at_batch];
    if (batch->offset < sim->committed && !batch->gaps) {
        if (!sim->rotten)
            return false;
        sim->hurt++;
    }
    batch->gaps = true;
    return true;
}

static bool is_expected(const struct log_sim *sim, const struct record *record, uint64_t offset)
{
    const struct sim_batch *batch = &sim->batches[sim->at_batch];
    const uint8_t *at = sim->scratch;
    return batch->offset == offset && load_le32(at) == record->size && at[8] == record->type && load_le16(at + 10) == record->count
        && bytes_equal(record->head, bytes_of(at + RECORD_HEADER_SIZE, record->head.size))
        && bytes_equal(record->content, bytes_of(at + RECORD_HEADER_SIZE + record->head.size, record->content.size));
}

static enum gw_err on_record(void *owner, const struct record *record, struct chunk *chunk, uint64_t offset)
{
    struct log_sim *sim = owner;
    (void)chunk;
    if (record->type == RECORD_VOID)
        return GW_OK;
    bool more = next_expected(sim);
    while (more && !is_expected(sim, record, offset) && may_be_missing(sim)) {
        if (sim->batches[sim->at_batch].offset == offset) {
            sim->at_record++;
        } else {
            sim->batches[sim->at_batch].gone = sim->at_record == 0;
            sim->at_batch++;
            sim->at_record = 0;
        }
        more = next_expected(sim);
    }
    if (!more)
        trace_fail(sim->trace, "nothing appears", "a record of type %u in the batch at %lu, behind everything that was appended",
                   record->type, (unsigned long)offset);
    else if (!is_expected(sim, record, offset))
        trace_fail(sim->trace, "same bytes", "the batch at %lu gave a record of type %u and %u bytes, expected was batch %lu record %u",
                   (unsigned long)offset, record->type, record->size, (unsigned long)sim->batches[sim->at_batch].offset, sim->at_record);
    if (sim->trace->failed)
        return GW_ERR_INVALID;
    sim->at_record++;
    return GW_OK;
}

static struct log_config config_of(struct log_sim *sim)
{
    return (struct log_config){
        .body = LOG_FILE,
        .disk = sim_disk_face(sim->disk),
        .directory = DIRECTORY,
        .pool = sim->pool,
        .alarms = &sim->alarms,
        .file_size = FILE_SIZE,
        .file_count = FILE_COUNT,
        .events = {on_committed, on_failed, on_checkpoint_wanted, sim},
    };
}

/* Everything that was committed must have been seen; the rest is forgotten, and what was seen counts as committed. */
static void compare(struct log_sim *sim, const struct log_recovery *recovery)
{
    bool missing = next_expected(sim) && sim->batches[sim->at_batch].offset < sim->committed && !sim->batches[sim->at_batch].gaps;
    bool told = sim->alarm_count > 0 || recovery->quarantined > 0;
    if (sim->hurt > 1)
        trace_fail(sim->trace, "rot", "one rotten bit took records of %u batches", sim->hurt);
    if ((missing || sim->hurt) && !(sim->rotten && told))
        trace_fail(sim->trace, "committed is found", "the batch at %lu is missing from record %u on; %lu was committed",
                   (unsigned long)(sim->at_batch < sim->batch_count ? sim->batches[sim->at_batch].offset : 0), sim->at_record,
                   (unsigned long)sim->committed);
    uint64_t end = log_end(sim->log).offset;
    if (log_committed(sim->log).offset != end)
        trace_fail(sim->trace, "commit", "after a recovery %lu is committed and %lu is the end",
                   (unsigned long)log_committed(sim->log).offset, (unsigned long)end);
    unsigned kept = 0;
    for (unsigned i = 0; i < sim->batch_count; i++) {
        struct sim_batch *batch = &sim->batches[i];
        if (batch->gone || batch->offset >= end)
            continue;
        if (i == sim->at_batch)
            batch->count = sim->at_record;
        else if (i > sim->at_batch)
            batch->gaps = true;
        sim->batches[kept++] = *batch;
    }
    sim->batch_count = kept;
    sim->committed = end;
}

static bool open_log(struct log_sim *sim)
{
    struct log_config config = config_of(sim);
    struct log_recovery recovery;
    sim->at_batch = 0;
    sim->at_record = 0;
    sim->hurt = 0;
    for (unsigned i = 0; i < sim->batch_count; i++)
        sim->batches[i].gone = false;
    sim->alarm_count = 0;
    sim->failed = false;
    sim->wanted = 0;
    sim->epoch += random_below(&sim->random, 2);
    enum gw_err err = log_open(&config, sim->from, sim->epoch, on_record, sim, &recovery, &sim->log);
    if (sim->trace->failed)
        return false;
    if (err) {
        sim->log = NULL;
        bool excused = sim_disk_stopped(sim->disk) || (sim->rotten && sim->alarm_count > 0) || sim->rotten;
        if (!excused)
            trace_fail(sim->trace, "recovery", "the log does not open: %s", gw_err_text(err));
        return false;
    }
    trace_event(sim->trace, TRACE_LOG_OPEN, recovery.records, recovery.truncated_bytes, recovery.quarantined, log_end(sim->log).offset);
    compare(sim, &recovery);
    return !sim->trace->failed;
}

/* ---- steps ------------------------------------------------------------------------------------------------------------------ */

static void append(struct log_sim *sim)
{
    uint32_t count = (uint32_t)random_between(&sim->random, 1, random_chance(&sim->random, 1, 8) ? 60 : 4), size = BATCH_HEADER_SIZE;
    uint32_t fits = 0;
    for (; fits < count && (fits == 0 || size < RECORD_ROOM / 2); fits++)
        size += lay_out(sim, sim->next_record + fits, NULL);
    count = fits;
    uint64_t room = (size + LOG_ALIGN - 1) / LOG_ALIGN * LOG_ALIGN;
    if (sim->chunk && sim->chunk->used + room > sim->chunk->capacity) {
        chunk_release(sim->chunk, sim->pool);
        sim->chunk = NULL;
    }
    if (!sim->chunk) {
        sim->chunk = chunk_new(sim->pool, room > CHUNK_SIZE ? room : CHUNK_SIZE);
        CHECK(sim->chunk);
    }
    uint64_t begin = sim->chunk->used, offset = 0, end = log_end(sim->log).offset;
    uint8_t *at = sim->chunk->data + begin + BATCH_HEADER_SIZE;
    for (uint32_t i = 0; i < count; i++)
        at += lay_out(sim, sim->next_record + i, at);
    enum gw_err state = log_state(sim->log);
    enum gw_err err = log_append(sim->log, sim->chunk, begin, size, count, &offset);
    if (err) {
        if (sim->options->faults != SIM_FAULTS_ALL && !sim_disk_stopped(sim->disk))
            trace_fail(sim->trace, "progress", "an append was refused without a fault: %s", gw_err_text(err));
        return;
    }
    if (sim->failed || state == GW_ERR_FAILED)
        trace_fail(sim->trace, "failure is final", "an append was taken after the log had failed");
    if (offset < end || offset % LOG_ALIGN)
        trace_fail(sim->trace, "append", "a batch was put at %lu, the end was %lu", (unsigned long)offset, (unsigned long)end);
    trace_event(sim->trace, TRACE_LOG_APPEND, offset, size, count, 0);
    if (sim->batch_count == sim->batch_room) {
        sim->batch_room = sim->batch_room ? sim->batch_room * 2 : 256;
        sim->batches = realloc(sim->batches, sim->batch_room * sizeof(*sim->batches));
        CHECK(sim->batches);
    }
    sim->batches[sim->batch_count++] = (struct sim_batch){offset, size, sim->next_record, count, false, false};
    sim->next_record += count;
    sim->chunk->used += room;
}

/* The snapshot is on disk, then the files go; the process may die between the two. */
static void recycle(struct log_sim *sim)
{
    if (!sim->wanted)
        return;
    sim->from = sim->wanted;
    sim->wanted = 0;
    unsigned first = 0;
    while (first < sim->batch_count && sim->batches[first].offset < sim->from)
        first++;
    memmove(sim->batches, sim->batches + first, (sim->batch_count - first) * sizeof(*sim->batches));
    sim->batch_count -= first;
    if (random_chance(&sim->random, 1, 8))
        return;
    trace_event(sim->trace, TRACE_LOG_RECYCLE, sim->from, 0, 0, 0);
    log_recycle(sim->log, sim->from);
}

static void truncate_tail(struct log_sim *sim)
{
    unsigned first = 0;
    while (first < sim->batch_count && sim->batches[first].offset < sim->committed)
        first++;
    if (first >= sim->batch_count || sim->failed)
        return;
    unsigned keep = (unsigned)random_between(&sim->random, first, sim->batch_count - 1);
    struct log_position to = {sim->epoch, sim->batches[keep].offset};
    enum gw_err err = log_truncate(sim->log, to, false);
    trace_event(sim->trace, TRACE_LOG_TRUNCATE, to.offset, err, 0, 0);
    if (err == GW_OK) {
        if (log_end(sim->log).offset > to.offset)
            trace_fail(sim->trace, "truncation", "truncated to %lu, but the end is %lu", (unsigned long)to.offset,
                       (unsigned long)log_end(sim->log).offset);
        while (sim->batch_count > 0 && sim->batches[sim->batch_count - 1].offset >= to.offset)
            sim->batch_count--;
    } else if (err == GW_ERR_INVALID && to.offset >= log_committed(sim->log).offset && !sim_disk_stopped(sim->disk)) {
        trace_fail(sim->trace, "truncation", "a batch boundary at %lu was refused", (unsigned long)to.offset);
    }
}

static void close_log(struct log_sim *sim)
{
    if (!sim->log)
        return;
    bool orderly = !sim_disk_stopped(sim->disk) && !sim->failed && sim->options->faults != SIM_FAULTS_ALL;
    enum gw_err err = log_close(sim->log);
    sim->log = NULL;
    if (orderly && !sim_disk_stopped(sim->disk)) {
        if (err)
            trace_fail(sim->trace, "progress", "the log does not close: %s", gw_err_text(err));
        else if (sim->batch_count && sim->batches[sim->batch_count - 1].offset >= sim->committed)
            trace_fail(sim->trace, "commit", "a clean close left the batch at %lu uncommitted",
                       (unsigned long)sim->batches[sim->batch_count - 1].offset);
    }
    while (sim_disk_step(sim->disk))
        ;
    if (!sim_disk_stopped(sim->disk) && orderly && sim_disk_open_handles(sim->disk))
        trace_fail(sim->trace, "leaks", "%u files are open after the log was closed", sim_disk_open_handles(sim->disk));
}

static void set_faults(struct log_sim *sim)
{
    struct sim_disk_faults faults = {.names_any_order = random_chance(&sim->random, 1, 2)};
    sim_disk_set_capacity(sim->disk, UINT64_MAX);
    if (sim->options->faults == SIM_FAULTS_ALL) {
        if (random_chance(&sim->random, 1, 3))
            faults.write_error = 400;
        if (random_chance(&sim->random, 1, 3))
            faults.sync_error = 400;
        if (random_chance(&sim->random, 1, 4))
            faults.name_error = 2000;
        if (random_chance(&sim->random, 1, 3))
            sim_disk_set_capacity(sim->disk, random_between(&sim->random, 2, 12) * FILE_SIZE);
    }
    sim_disk_set_faults(sim->disk, &faults);
}

/* Ends the process in one way or another and starts it again, until it runs. */
static bool restart(struct log_sim *sim)
{
    if (!sim_disk_stopped(sim->disk) && sim->options->faults != SIM_FAULTS_NONE && random_chance(&sim->random, 3, 4))
        sim_disk_stop(sim->disk);
    for (;;) {
        bool power = sim->options->faults != SIM_FAULTS_NONE && random_chance(&sim->random, 1, 2);
        close_log(sim);
        struct sim_disk_faults calm = {.names_any_order = random_chance(&sim->random, 1, 2)};
        sim_disk_set_faults(sim->disk, &calm);
        sim_disk_set_capacity(sim->disk, UINT64_MAX);
        sim_disk_restart(sim->disk, power);
        sim->rotten = sim->options->faults == SIM_FAULTS_ALL && random_chance(&sim->random, 1, 12) && sim_disk_rot(sim->disk, "/");
        if (!sim->rotten && sim->options->faults != SIM_FAULTS_NONE && random_chance(&sim->random, 1, 3))
            sim_disk_stop_at(sim->disk, sim_disk_operations(sim->disk) + random_between(&sim->random, 1, 30));
        if (open_log(sim)) {
            set_faults(sim);
            return !sim->rotten;
        }
        if (sim->trace->failed || sim->rotten)
            return false;
    }
}

static bool make_directory(struct log_sim *sim)
{
    struct disk *face = sim_disk_face(sim->disk);
    struct disk_op make = {.kind = DISK_MAKE_DIR, .name = DIRECTORY}, sync = {.kind = DISK_SYNC_DIR, .name = ""};
    return !face->call(face, &make) && !face->call(face, &sync);
}

uint64_t log_sim_run(const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    struct log_sim *sim = calloc(1, sizeof(*sim));
    CHECK(sim);
    random_init(&sim->random, seed);
    sim->seed = seed;
    sim->trace = trace;
    sim->options = options;
    sim->alarms.raise = on_alarm;
    sim->disk = sim_disk_new(&sim->random, trace);
    sim->pool = chunk_pool_new(8);
    sim->scratch = malloc(RECORD_ROOM);
    CHECK(sim->pool && sim->scratch && make_directory(sim));
    bool going = open_log(sim);
    if (going)
        set_faults(sim);
    if (options->crash_at)
        sim_disk_stop_at(sim->disk, options->crash_at);
    while (going && sim->ops < options->ops && !trace->failed) {
        sim->ops++;
        trace->now_us++;
        switch (random_below(&sim->random, 32)) {
        case 0: case 1: case 2: case 3: case 4: case 5: case 6: case 7: case 8: case 9: append(sim); break;
        case 10: recycle(sim); break;
        case 11:
            if (random_chance(&sim->random, 1, 8))
                truncate_tail(sim);
            break;
        case 12:
            if (random_chance(&sim->random, 1, 20))
                going = restart(sim);
            break;
        case 13: case 14: case 15: case 16: case 17: case 18: case 19: log_flush(sim->log); break;
        default: sim_disk_step(sim->disk);
        }
        if (going && (sim_disk_stopped(sim->disk) || sim->failed))
            going = restart(sim);
    }
    sim_disk_set_faults(sim->disk, &(struct sim_disk_faults){0});
    sim_disk_set_capacity(sim->disk, UINT64_MAX);
    close_log(sim);
    if (sim->chunk)
        chunk_release(sim->chunk, sim->pool);
    chunk_pool_free(sim->pool);
    sim_disk_free(sim->disk);
    free(sim->batches);
    free(sim->scratch);
    uint64_t ops = sim->ops;
    free(sim);
    return ops;
}
