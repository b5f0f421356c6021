#include "store/log_chores.h"

#include <stdlib.h>

static void done(struct disk_op *op);
static void next_chore(struct log_chores *chores);

void log_chores_init(struct log_chores *chores, struct disk *disk, const char *directory, struct alarm_sink *alarms,
                     void (*changed)(void *owner), void *owner)
{
    *chores = (struct log_chores){.disk = disk, .directory = directory, .alarms = alarms, .changed = changed, .owner = owner,
                                  .next_spare = 1};
    chores->late_end = &chores->late;
}

static void close_all(struct log_chores *chores, struct log_file *file)
{
    while (file) {
        struct log_file *next = file->next;
        disk_call_close(chores->disk, file->handle);
        log_file_free(file);
        file = next;
    }
}

void log_chores_deinit(struct log_chores *chores)
{
    CHECK(chores->chore == CHORE_NONE);
    close_all(chores, chores->ready);
    close_all(chores, chores->doomed);
}

static struct log_file *discard_all(struct log_chores *chores, struct log_file *file)
{
    while (file) {
        struct log_file *next = file->next;
        disk_call_close(chores->disk, file->handle);
        disk_call_unlink(chores->disk, file->name);
        log_file_free(file);
        file = next;
    }
    return NULL;
}

void log_chores_discard(struct log_chores *chores)
{
    CHECK(chores->chore == CHORE_NONE);
    chores->ready = discard_all(chores, chores->ready);
    chores->doomed = discard_all(chores, chores->doomed);
    chores->ready_bytes = 0;
}

static uint64_t size_on_disk(const struct log_file *file)
{
    return LOG_FILE_HEADER_SIZE + file->capacity;
}

static struct log_file **find_ready(const struct log_chores *chores, uint64_t capacity)
{
    struct log_file **at = (struct log_file **)&chores->ready;
    while (*at && (*at)->capacity != capacity)
        at = &(*at)->next;
    return at;
}

bool log_chores_has(const struct log_chores *chores, uint64_t capacity)
{
    return *find_ready(chores, capacity) != NULL;
}

struct log_file *log_chores_take(struct log_chores *chores, uint64_t capacity)
{
    struct log_file **at = find_ready(chores, capacity), *file = *at;
    if (file) {
        *at = file->next;
        file->next = NULL;
        chores->ready_bytes -= size_on_disk(file);
    }
    return file;
}

void log_chores_want(struct log_chores *chores, uint64_t capacity)
{
    chores->wanted = capacity;
    next_chore(chores);
}

void log_chores_give(struct log_chores *chores, struct log_file *file, bool keep)
{
    struct log_file **list = keep ? &chores->ready : &chores->doomed;
    file->next = *list;
    *list = file;
    chores->ready_bytes += size_on_disk(file);
    if (keep && chores->wanted == file->capacity && chores->chore == CHORE_NONE) {
        chores->wanted = 0;
        chores->blocked = false;
    }
    next_chore(chores);
}

void log_chores_name(struct log_chores *chores, struct log_file *file)
{
    if (!file->named_late) {
        file->named_late = true;
        file->next_late = NULL;
        *chores->late_end = file;
        chores->late_end = &file->next_late;
    }
    next_chore(chores);
}

void log_chores_retry(struct log_chores *chores)
{
    if (!chores->blocked || chores->chore != CHORE_NONE || chores->stopped)
        return;
    if (chores->wanted == 0) {
        chores->blocked = false;
        return;
    }
    /* The probe costs a system call; an attempt may write a whole file's zeros before it finds the disk full. */
    chores->chore = CHORE_PROBE;
    chores->op = (struct disk_op){.kind = DISK_FREE_SPACE, .file = -1, .done = done, .owner = chores};
    chores->disk->submit(chores->disk, &chores->op);
}

void log_chores_stop(struct log_chores *chores)
{
    chores->stopped = true;
    while (chores->chore != CHORE_NONE) {
        bool waited = chores->disk->wait(chores->disk);
        CHECK(waited);
    }
}

static void begin(struct log_chores *chores, enum chore chore, struct disk_op op)
{
    chores->chore = chore;
    op.done = done;
    op.owner = chores;
    chores->op = op;
    chores->disk->submit(chores->disk, &chores->op);
}

static void block(struct log_chores *chores, enum gw_err cause)
{
    if (!chores->blocked || chores->cause != cause)
        alarm_raise(chores->alarms, ALARM_WARNING, "%s: the next log file cannot be made: %s; durable publishes wait for room", chores->directory,
                    gw_err_text(cause));
    chores->blocked = true;
    chores->probed = false;
    chores->cause = cause;
}

static void begin_file(struct log_chores *chores)
{
    struct log_file *file = log_file_new(chores->wanted);
    if (!file) {
        block(chores, GW_ERR_NOMEM);
        return;
    }
    enum gw_err err = log_file_spare_name(file->name, chores->directory, chores->next_spare++);
    CHECK(err == GW_OK);
    chores->file = file;
    begin(chores, CHORE_OPEN, (struct disk_op){.kind = DISK_OPEN, .flags = DISK_CREATE | DISK_DIRECT, .file = -1, .name = file->name});
}

static void begin_naming(struct log_chores *chores)
{
    struct log_file *file = chores->late;
    chores->late = file->next_late;
    if (!chores->late)
        chores->late_end = &chores->late;
    file->next_late = NULL;
    chores->file = file;
    chores->named_start = file->start;
    enum gw_err err = log_file_name(chores->new_name, chores->directory, file->start);
    CHECK(err == GW_OK);
    begin(chores, CHORE_NAME, (struct disk_op){.kind = DISK_RENAME, .file = -1, .name = file->name, .new_name = chores->new_name});
}

static void begin_removing(struct log_chores *chores)
{
    struct log_file *file = chores->doomed;
    chores->doomed = file->next;
    chores->file = file;
    begin(chores, CHORE_CLOSE, (struct disk_op){.kind = DISK_CLOSE, .file = file->handle});
}

static void next_chore(struct log_chores *chores)
{
    if (chores->chore != CHORE_NONE || chores->stopped)
        return;
    if (chores->wanted != 0 && (!chores->blocked || chores->probed))
        begin_file(chores);
    if (chores->chore == CHORE_NONE && chores->late)
        begin_naming(chores);
    if (chores->chore == CHORE_NONE && chores->doomed)
        begin_removing(chores);
}

/* Puts an end to an attempt at making a file: whatever it has allocated goes back to the disk. */
static void give_up(struct log_chores *chores, enum gw_err cause)
{
    struct log_file *file = chores->file;
    block(chores, cause);
    chores->file = NULL;
    chores->chore = CHORE_NONE;
    if (file->handle >= 0) {
        file->next = chores->doomed;
        chores->doomed = file;
        chores->ready_bytes += size_on_disk(file);
    } else {
        log_file_free(file);
    }
    next_chore(chores);
    chores->changed(chores->owner);
}

static void file_is_ready(struct log_chores *chores)
{
    struct log_file *file = chores->file;
    bool was_blocked = chores->blocked;
    chores->file = NULL;
    chores->chore = CHORE_NONE;
    chores->blocked = chores->probed = false;
    if (chores->wanted == file->capacity)
        chores->wanted = 0;
    file->next = chores->ready;
    chores->ready = file;
    chores->ready_bytes += size_on_disk(file);
    if (was_blocked)
        alarm_raise(chores->alarms, ALARM_INFO, "%s: there is room for log files again", chores->directory);
    next_chore(chores);
    chores->changed(chores->owner);
}

static void probe_done(struct log_chores *chores, const struct disk_op *op)
{
    chores->chore = CHORE_NONE;
    chores->probed = op->error != 0 || op->result < 0 || (uint64_t)op->result > LOG_FILE_HEADER_SIZE + chores->wanted;
    if (chores->wanted == 0)
        chores->blocked = chores->probed = false;
    next_chore(chores);
}

static void name_done(struct log_chores *chores, int error)
{
    struct log_file *file = chores->file;
    chores->file = NULL;
    chores->chore = CHORE_NONE;
    if (error == 0)
        memcpy(file->name, chores->new_name, sizeof(file->name));
    else
        alarm_raise(chores->alarms, ALARM_WARNING, "%s keeps its name: renaming it to %s failed: %s", file->name, chores->new_name,
                    gw_err_text(gw_err_from_errno(error)));
    file->named_late = false;
    /* It was recycled and begun anew meanwhile. */
    if (file->start != chores->named_start)
        log_chores_name(chores, file);
    next_chore(chores);
}

static void removal_done(struct log_chores *chores, int error)
{
    struct log_file *file = chores->file;
    chores->ready_bytes -= size_on_disk(file);
    chores->file = NULL;
    chores->chore = CHORE_NONE;
    if (error != 0)
        alarm_raise(chores->alarms, ALARM_WARNING, "%s cannot be unlinked: %s", file->name, gw_err_text(gw_err_from_errno(error)));
    log_file_free(file);
    next_chore(chores);
}

static void done(struct disk_op *op)
{
    struct log_chores *chores = op->owner;
    struct log_file *file = chores->file;
    enum gw_err err = gw_err_from_errno(op->error);
    switch (chores->chore) {
    case CHORE_NONE:
        CHECK(false);
    case CHORE_PROBE:
        probe_done(chores, op);
        return;
    case CHORE_OPEN:
        if (err != GW_OK) {
            give_up(chores, err);
            return;
        }
        file->handle = op->file;
        begin(chores, CHORE_ALLOCATE, (struct disk_op){.kind = DISK_ALLOCATE, .file = file->handle, .size = size_on_disk(file)});
        return;
    case CHORE_ALLOCATE:
        if (err != GW_OK)
            give_up(chores, err);
        else
            begin(chores, CHORE_SYNC, (struct disk_op){.kind = DISK_SYNC, .file = file->handle});
        return;
    case CHORE_SYNC:
        if (err != GW_OK)
            give_up(chores, err);
        else
            begin(chores, CHORE_SYNC_DIR, (struct disk_op){.kind = DISK_SYNC_DIR, .file = -1, .name = chores->directory});
        return;
    case CHORE_SYNC_DIR:
        /* Before its name is durable nothing may be committed in it. */
        if (err != GW_OK)
            give_up(chores, err);
        else
            file_is_ready(chores);
        return;
    case CHORE_NAME:
        name_done(chores, op->error);
        return;
    case CHORE_CLOSE:
        begin(chores, CHORE_UNLINK, (struct disk_op){.kind = DISK_UNLINK, .file = -1, .name = file->name});
        return;
    case CHORE_UNLINK:
        removal_done(chores, op->error);
        return;
    }
}
