#include "sim/sim_disk.h"

#include "base/checksum.h"
#include "base/err.h"
#include "sim/sim_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_FIRST 3

struct handle {
    struct sim_file *file;   /* NULL: closed */
    bool direct;
};

struct flight {
    struct disk_op *op;
    uint32_t checksum;       /* of what a write was given: nobody may change it before the answer */
};

struct sim_disk {
    struct disk face;
    struct random *random;
    struct trace *trace;
    struct sim_names names;
    struct sim_file *files;
    uint32_t next_number;
    struct handle *handles;
    unsigned handle_count, handle_room;
    struct flight *flights;
    unsigned flight_count, flight_room;
    struct sim_disk_faults faults;
    uint64_t capacity;
    uint64_t operations, stop_at, errors, read_errors;
    bool stopped;
};

static void submit(struct disk *face, struct disk_op *op);
static int call(struct disk *face, struct disk_op *op);
static bool wait_for_one(struct disk *face);

struct sim_disk *sim_disk_new(struct random *random, struct trace *trace)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));
    CHECK(disk);
    disk->face.submit = submit;
    disk->face.call = call;
    disk->face.wait = wait_for_one;
    disk->random = random;
    disk->trace = trace;
    disk->capacity = UINT64_MAX;
    return disk;
}

/* Frees the files that nothing names, holds open or may bring back. */
static void sweep(struct sim_disk *disk)
{
    for (struct sim_file **at = &disk->files; *at;) {
        struct sim_file *file = *at;
        if (file->references) {
            at = &file->next;
            continue;
        }
        *at = file->next;
        sim_file_free(file);
    }
}

void sim_disk_free(struct sim_disk *disk)
{
    sim_names_deinit(&disk->names);
    for (unsigned i = 0; i < disk->handle_count; i++)
        if (disk->handles[i].file)
            disk->handles[i].file->references--;
    sweep(disk);
    CHECK(!disk->files);
    free(disk->handles);
    free(disk->flights);
    free(disk);
}

struct disk *sim_disk_face(struct sim_disk *disk) { return &disk->face; }
void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults) { disk->faults = *faults; }
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t capacity) { disk->capacity = capacity; }
unsigned sim_disk_in_flight(const struct sim_disk *disk) { return disk->flight_count; }
uint64_t sim_disk_operations(const struct sim_disk *disk) { return disk->operations; }
void sim_disk_stop_at(struct sim_disk *disk, uint64_t number) { disk->stop_at = number; }
uint64_t sim_disk_errors(const struct sim_disk *disk) { return disk->errors; }
uint64_t sim_disk_read_errors(const struct sim_disk *disk) { return disk->read_errors; }
bool sim_disk_stopped(const struct sim_disk *disk) { return disk->stopped; }

uint64_t sim_disk_used(const struct sim_disk *disk)
{
    uint64_t pages = 0;
    for (const struct sim_file *file = disk->files; file; file = file->next)
        if (file->visible)
            pages += sim_file_allocated(file);
    return pages * SIM_PAGE_SIZE;
}

unsigned sim_disk_open_handles(const struct sim_disk *disk)
{
    unsigned count = 0;
    for (unsigned i = 0; i < disk->handle_count; i++)
        count += disk->handles[i].file != NULL;
    return count;
}

/* ---- names -------------------------------------------------------------------------------------------------------- */

/* Every way to write the root is "". */
static const char *plain(const char *name)
{
    while (name[0] == '.' && (name[1] == '/' || name[1] == 0))
        name += name[1] ? 2 : 1;
    return name;
}

static bool parent_exists(struct sim_disk *disk, const char *text)
{
    const char *slash = strrchr(text, '/');
    if (!slash)
        return true;
    char parent[SIM_NAME_SIZE] = {0};
    memcpy(parent, text, (size_t)(slash - text));
    const struct sim_name *name = sim_names_find(&disk->names, parent);
    return name && !name->file;
}

static int open_file(struct sim_disk *disk, struct disk_op *op)
{
    const char *text = plain(op->name);
    struct sim_name *name = sim_names_find(&disk->names, text);
    struct sim_file *file = name ? name->file : NULL;
    if (name && !file)
        return EISDIR;
    if (!name) {
        if (!(op->flags & DISK_CREATE) || !parent_exists(disk, text))
            return ENOENT;
        file = sim_file_new(++disk->next_number);
        file->next = disk->files;
        disk->files = file;
        sim_names_change(&disk->names, NULL, text, file);
    }
    if (disk->handle_count == disk->handle_room) {
        disk->handle_room = disk->handle_room ? disk->handle_room * 2 : 64;
        disk->handles = realloc(disk->handles, disk->handle_room * sizeof(*disk->handles));
        CHECK(disk->handles);
    }
    file->references++;
    file->visible++;
    disk->handles[disk->handle_count] = (struct handle){file, op->flags & DISK_DIRECT};
    op->file = (int)disk->handle_count++ + HANDLE_FIRST;
    return 0;
}

static struct handle *handle_of(struct sim_disk *disk, const struct disk_op *op)
{
    int index = op->file - HANDLE_FIRST;
    if (index < 0 || (unsigned)index >= disk->handle_count || !disk->handles[index].file) {
        trace_fail(disk->trace, "disk contract", "operation of kind %d on file handle %d, which is not open", (int)op->kind, op->file);
        return NULL;
    }
    return &disk->handles[index];
}

static int close_file(struct sim_disk *disk, struct disk_op *op)
{
    struct handle *handle = handle_of(disk, op);
    if (!handle)
        return EBADF;
    handle->file->references--;
    handle->file->visible--;
    handle->file = NULL;
    sweep(disk);
    return 0;
}

static int rename_file(struct sim_disk *disk, struct disk_op *op)
{
    const struct sim_name *name = sim_names_find(&disk->names, plain(op->name));
    if (!name || !parent_exists(disk, plain(op->new_name)))
        return ENOENT;
    sim_names_change(&disk->names, plain(op->name), plain(op->new_name), name->file);
    sweep(disk);
    return 0;
}

static int unlink_file(struct sim_disk *disk, struct disk_op *op)
{
    const struct sim_name *name = sim_names_find(&disk->names, plain(op->name));
    if (!name)
        return ENOENT;
    if (!name->file)
        return EISDIR;
    sim_names_change(&disk->names, plain(op->name), NULL, name->file);
    sweep(disk);
    return 0;
}

static int make_dir(struct sim_disk *disk, struct disk_op *op)
{
    const char *text = plain(op->name);
    const struct sim_name *name = sim_names_find(&disk->names, text);
    if (name || !*text)
        return name && name->file ? EEXIST : 0;
    if (!parent_exists(disk, text))
        return ENOENT;
    sim_names_change(&disk->names, NULL, text, NULL);
    return 0;
}

static int list_dir(struct sim_disk *disk, struct disk_op *op)
{
    const char *directory = plain(op->name);
    const struct sim_name *found = sim_names_find(&disk->names, directory);
    if (*directory && (!found || found->file))
        return found ? ENOTDIR : ENOENT;
    const struct sim_name_list *list = &disk->names.now;
    uint64_t first = random_below(disk->random, list->count);
    for (unsigned i = 0; i < list->count; i++) {
        const char *part = sim_names_in(list->names[(first + i) % list->count].text, directory);
        if (part && op->entry)
            op->entry(op, part);
    }
    return 0;
}

/* ---- contents ------------------------------------------------------------------------------------------------------- */

static uint64_t iov_size(const struct disk_op *op)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < op->iov_count; i++)
        size += op->iov[i].iov_len;
    return size;
}

static void check_alignment(struct sim_disk *disk, const struct handle *handle, const struct disk_op *op)
{
    if (!handle->direct)
        return;
    bool good = op->offset % SIM_PAGE_SIZE == 0;
    for (unsigned i = 0; i < op->iov_count; i++)
        good = good && (uintptr_t)op->iov[i].iov_base % SIM_PAGE_SIZE == 0 && op->iov[i].iov_len % SIM_PAGE_SIZE == 0;
    if (!good)
        trace_fail(disk->trace, "disk contract", "unaligned transfer of %lu bytes at %lu on a file opened with DISK_DIRECT",
                   (unsigned long)iov_size(op), (unsigned long)op->offset);
}

static bool has_room(const struct sim_disk *disk, const struct sim_file *file, uint64_t offset, uint64_t size)
{
    return disk->capacity == UINT64_MAX
        || sim_disk_used(disk) + sim_file_missing(file, offset, size) * SIM_PAGE_SIZE <= disk->capacity;
}

static void write_bytes(struct sim_file *file, const struct disk_op *op, uint64_t limit)
{
    uint64_t offset = op->offset;
    for (unsigned i = 0; i < op->iov_count && limit > 0; i++) {
        uint64_t part = op->iov[i].iov_len < limit ? op->iov[i].iov_len : limit;
        sim_file_write(file, offset, op->iov[i].iov_base, part);
        offset += part;
        limit -= part;
    }
}

static int read_file(struct sim_disk *disk, const struct handle *handle, struct disk_op *op)
{
    check_alignment(disk, handle, op);
    if (random_chance(disk->random, disk->faults.read_error, 65536))
        return EIO;
    uint64_t offset = op->offset;
    op->result = 0;
    for (unsigned i = 0; i < op->iov_count; i++) {
        uint64_t part = sim_file_read(handle->file, offset, op->iov[i].iov_base, op->iov[i].iov_len);
        op->result += (int64_t)part;
        offset += part;
        if (part < op->iov[i].iov_len)
            break;
    }
    return 0;
}

/* The write reached the disk in part, or its sync failed. */
static void fail_write(struct sim_disk *disk, const struct handle *handle, const struct disk_op *op, uint64_t size)
{
    if (handle->direct)
        sim_file_fail_direct(handle->file, disk->random, op->offset, size);
    else if (op->kind == DISK_WRITE_SYNC)
        sim_file_doom(handle->file, op->offset, size);
}

static int write_file(struct sim_disk *disk, const struct handle *handle, struct disk_op *op)
{
    struct sim_file *file = handle->file;
    uint64_t size = iov_size(op);
    bool sync = op->kind == DISK_WRITE_SYNC;
    check_alignment(disk, handle, op);
    if (!has_room(disk, file, op->offset, size)) {
        write_bytes(file, op, random_below(disk->random, size / SIM_PAGE_SIZE + 1) * SIM_PAGE_SIZE / 2);
        return ENOSPC;
    }
    if (random_chance(disk->random, disk->faults.write_error, 65536)) {
        write_bytes(file, op, random_between(disk->random, 0, size));
        fail_write(disk, handle, op, size);
        return EIO;
    }
    write_bytes(file, op, size);
    op->result = (int64_t)size;
    if (!sync)
        return 0;
    if (random_chance(disk->random, disk->faults.sync_error, 65536)) {
        fail_write(disk, handle, op, size);
        return EIO;
    }
    sim_file_sync_range(file, op->offset, size);
    return 0;
}

static int sync_file(struct sim_disk *disk, const struct handle *handle)
{
    if (random_chance(disk->random, disk->faults.sync_error, 65536)) {
        sim_file_doom(handle->file, 0, handle->file->size);
        return EIO;
    }
    sim_file_sync(handle->file);
    return 0;
}

static int do_file(struct sim_disk *disk, struct disk_op *op)
{
    struct handle *handle = handle_of(disk, op);
    if (!handle)
        return EBADF;
    switch (op->kind) {
    case DISK_READ: return read_file(disk, handle, op);
    case DISK_WRITE:
    case DISK_WRITE_SYNC: return write_file(disk, handle, op);
    case DISK_SYNC: return sync_file(disk, handle);
    case DISK_ALLOCATE:
        if (!has_room(disk, handle->file, op->offset, op->size))
            return ENOSPC;
        if (random_chance(disk->random, disk->faults.write_error, 65536))
            return EIO;
        sim_file_allocate(handle->file, op->offset, op->size);
        return 0;
    case DISK_TRUNCATE:
        sim_file_truncate(handle->file, op->size);
        return 0;
    default:
        op->result = (int64_t)handle->file->size;
        return 0;
    }
}

static int do_name(struct sim_disk *disk, struct disk_op *op)
{
    if (random_chance(disk->random, disk->faults.name_error, 65536))
        return EIO;
    switch (op->kind) {
    case DISK_OPEN: return open_file(disk, op);
    case DISK_RENAME: return rename_file(disk, op);
    case DISK_UNLINK: return unlink_file(disk, op);
    case DISK_MAKE_DIR: return make_dir(disk, op);
    case DISK_LIST: return list_dir(disk, op);
    default:
        sim_names_sync(&disk->names, plain(op->name));
        sweep(disk);
        return 0;
    }
}

/* The disk stops while `op` is being done, or before it was begun: parts of a write may have been written. */
static void do_partly(struct sim_disk *disk, struct disk_op *op)
{
    struct handle *handle = op->kind == DISK_WRITE || op->kind == DISK_WRITE_SYNC ? handle_of(disk, op) : NULL;
    if (!handle || random_chance(disk->random, 1, 3))
        return;
    uint64_t size = iov_size(op);
    if (!has_room(disk, handle->file, op->offset, size))
        return;
    write_bytes(handle->file, op, random_chance(disk->random, 1, 2) ? size : random_between(disk->random, 0, size));
    if (random_chance(disk->random, 1, 4))
        sim_file_sync_range(handle->file, op->offset, size);
}

static void execute(struct sim_disk *disk, struct disk_op *op)
{
    disk->operations++;
    if (!disk->stopped && disk->operations == disk->stop_at) {
        sim_disk_stop(disk);
        do_partly(disk, op);
    }
    op->result = 0;
    if (disk->stopped)
        op->error = EIO;
    else if (op->kind == DISK_CLOSE)
        op->error = close_file(disk, op);
    else if (op->kind == DISK_FREE_SPACE) {
        uint64_t used = sim_disk_used(disk);
        op->error = 0;
        op->result = disk->capacity == UINT64_MAX ? INT64_MAX : used > disk->capacity ? 0 : (int64_t)(disk->capacity - used);
    } else if (op->kind == DISK_OPEN || (op->kind >= DISK_RENAME && op->kind <= DISK_LIST))
        op->error = do_name(disk, op);
    else
        op->error = do_file(disk, op);
    disk->errors += !disk->stopped && (op->error == EIO || op->error == ENOSPC);
    disk->read_errors += !disk->stopped && op->kind == DISK_READ && op->error == EIO;
    if (!disk->stopped && disk->files && random_chance(disk->random, 1, 16))
        sim_file_write_back(disk->files, disk->random);
    if (op->kind == DISK_OPEN || (op->kind >= DISK_RENAME && op->kind <= DISK_LIST))
        trace_note(disk->trace, "%s %s: %d", op->name, op->kind == DISK_RENAME ? op->new_name : "", op->error);
    trace_event(disk->trace, TRACE_DISK_DONE, op->kind, (uint64_t)op->file, (uint64_t)op->error, (uint64_t)op->result);
}

/* ---- the face --------------------------------------------------------------------------------------------------------- */

static uint32_t checksum_of(const struct disk_op *op)
{
    uint32_t checksum = 0;
    if (op->kind == DISK_WRITE || op->kind == DISK_WRITE_SYNC)
        for (unsigned i = 0; i < op->iov_count; i++)
            checksum = crc32c(checksum, op->iov[i].iov_base, op->iov[i].iov_len);
    return checksum;
}

static void submit(struct disk *face, struct disk_op *op)
{
    struct sim_disk *disk = (struct sim_disk *)face;
    if (disk->flight_count == disk->flight_room) {
        disk->flight_room = disk->flight_room ? disk->flight_room * 2 : 64;
        disk->flights = realloc(disk->flights, disk->flight_room * sizeof(*disk->flights));
        CHECK(disk->flights);
    }
    disk->flights[disk->flight_count++] = (struct flight){op, checksum_of(op)};
    trace_event(disk->trace, TRACE_DISK_SUBMIT, op->kind, (uint64_t)op->file, op->offset, iov_size(op));
}

static int call(struct disk *face, struct disk_op *op)
{
    struct sim_disk *disk = (struct sim_disk *)face;
    struct sim_disk_faults faults = disk->faults;
    if (!faults.in_calls)
        memset(&disk->faults, 0, sizeof(disk->faults));
    execute(disk, op);
    disk->faults = faults;
    return op->error;
}

bool sim_disk_step(struct sim_disk *disk)
{
    if (disk->flight_count == 0)
        return false;
    uint64_t index = random_below(disk->random, disk->flight_count);
    struct flight flight = disk->flights[index];
    disk->flights[index] = disk->flights[--disk->flight_count];
    if (!disk->stopped && checksum_of(flight.op) != flight.checksum)
        trace_fail(disk->trace, "disk contract", "%lu bytes at %lu changed while they were being written",
                   (unsigned long)iov_size(flight.op), (unsigned long)flight.op->offset);
    execute(disk, flight.op);
    if (flight.op->done)
        flight.op->done(flight.op);
    return true;
}

static bool wait_for_one(struct disk *face)
{
    return sim_disk_step((struct sim_disk *)face);
}

void sim_disk_stop(struct sim_disk *disk)
{
    if (disk->stopped)
        return;
    trace_event(disk->trace, TRACE_DISK_DIES, disk->operations, disk->flight_count, 0, 0);
    disk->stopped = true;
    for (unsigned i = 0; i < disk->flight_count; i++)
        do_partly(disk, disk->flights[i].op);
}

void sim_disk_restart(struct sim_disk *disk, bool power_lost)
{
    CHECK(disk->flight_count == 0);
    for (unsigned i = 0; i < disk->handle_count; i++) {
        if (disk->handles[i].file) {
            disk->handles[i].file->references--;
            disk->handles[i].file->visible--;
        }
    }
    disk->handle_count = 0;
    struct sim_losses losses = {0, 0, 0};
    if (power_lost) {
        sim_names_lose_power(&disk->names, disk->random, disk->faults.names_any_order);
        for (struct sim_file *file = disk->files; file; file = file->next)
            if (file->references)
                sim_file_lose_power(file, disk->random, &losses);
    }
    sweep(disk);
    disk->stopped = false;
    disk->stop_at = 0;
    trace_event(disk->trace, TRACE_DISK_RESTART, power_lost, losses.lost, losses.kept, losses.torn);
}

bool sim_disk_rot(struct sim_disk *disk, const char *part)
{
    const struct sim_name_list *list = &disk->names.now;
    uint64_t first = random_below(disk->random, list->count);
    for (unsigned i = 0; i < list->count; i++) {
        const struct sim_name *name = &list->names[(first + i) % list->count];
        uint64_t offset;
        unsigned bit;
        if (!name->file || (part && !strstr(name->text, part)) || !sim_file_rot(name->file, disk->random, &offset, &bit))
            continue;
        trace_event(disk->trace, TRACE_DISK_ROT, name->file->number, offset, bit, 0);
        trace_note(disk->trace, "rot in %s at %lu", name->text, (unsigned long)offset);
        return true;
    }
    return false;
}
