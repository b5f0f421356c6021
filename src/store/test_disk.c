#include "store/test_disk.h"

#include "base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What the disk holds lies in one arena, so that tests may let the heap's allocations fail. Only what is touched takes memory. */
#define ARENA_SIZE (UINT64_C(8) << 30)
#define HANDLES_MAX 256
#define NAMES_MAX 256
#define HISTORY_MAX 16

struct inode {
    uint8_t *now, *safe;        /* as read, and as a crash would leave it */
    uint64_t now_size, safe_size, room;
    struct inode *next;
};

struct names {
    unsigned count;
    struct {
        char name[256];
        struct inode *inode;
    } entry[NAMES_MAX];
};

struct test_disk {
    struct disk face;
    uint8_t *arena;
    uint64_t arena_used;
    uint64_t random;
    struct inode *inodes;
    struct names names;
    struct names history[HISTORY_MAX];  /* the durable names, then those after each operation since */
    unsigned history_count;
    struct inode *handles[HANDLES_MAX];
    struct disk_op *first, **last;
    unsigned counts[DISK_FREE_SPACE + 1];
    uint64_t operations, limit, crash_at;
    bool shuffled, crashed;
    enum disk_kind fail_kind;
    unsigned fail_skip, fail_count;
    int fail_error;
};

static uint64_t next_random(struct test_disk *disk)
{
    disk->random ^= disk->random << 13;
    disk->random ^= disk->random >> 7;
    disk->random ^= disk->random << 17;
    return disk->random;
}

/* ---- files and names ---- */

static int find_name(const struct names *names, const char *name)
{
    for (unsigned i = 0; i < names->count; i++)
        if (strcmp(names->entry[i].name, name) == 0)
            return (int)i;
    return -1;
}

static void remember_names(struct test_disk *disk)
{
    if (disk->history_count == HISTORY_MAX) {
        /* The oldest step after the durable state is taken for done. */
        memmove(&disk->history[0], &disk->history[1], (HISTORY_MAX - 1) * sizeof(struct names));
        disk->history_count--;
    }
    disk->history[disk->history_count++] = disk->names;
}

static void set_name(struct test_disk *disk, const char *name, struct inode *inode)
{
    int at = find_name(&disk->names, name);
    if (at < 0) {
        CHECK(disk->names.count < NAMES_MAX && strlen(name) < 256);
        at = (int)disk->names.count++;
        strcpy(disk->names.entry[at].name, name);
    }
    disk->names.entry[at].inode = inode;
}

static void remove_name(struct test_disk *disk, int at)
{
    disk->names.entry[at] = disk->names.entry[--disk->names.count];
}

static uint64_t used_bytes(const struct test_disk *disk)
{
    uint64_t used = 0;
    for (unsigned i = 0; i < disk->names.count; i++)
        used += disk->names.entry[i].inode->now_size;
    return used;
}

static void *take(struct test_disk *disk, uint64_t size)
{
    void *memory = disk->arena + disk->arena_used;
    disk->arena_used += (size + TEST_DISK_PAGE - 1) / TEST_DISK_PAGE * TEST_DISK_PAGE;
    CHECK(disk->arena_used <= ARENA_SIZE);
    return memory;
}

static uint8_t *enlarge(struct test_disk *disk, const uint8_t *old, uint64_t old_size, uint64_t size)
{
    uint8_t *memory = take(disk, size);
    if (old_size)
        memcpy(memory, old, old_size);
    return memory;
}

static void reserve(struct test_disk *disk, struct inode *inode, uint64_t size)
{
    if (size <= inode->room)
        return;
    uint64_t room = (size + TEST_DISK_PAGE - 1) / TEST_DISK_PAGE * TEST_DISK_PAGE;
    inode->now = enlarge(disk, inode->now, inode->room, room);
    inode->safe = enlarge(disk, inode->safe, inode->room, room);
    inode->room = room;
}

static int grow(struct test_disk *disk, struct inode *inode, uint64_t size)
{
    if (size <= inode->now_size)
        return 0;
    if (used_bytes(disk) + (size - inode->now_size) > disk->limit)
        return ENOSPC;
    reserve(disk, inode, size);
    inode->now_size = size;
    return 0;
}

static void make_safe(struct inode *inode)
{
    memcpy(inode->safe, inode->now, inode->room);
    inode->safe_size = inode->now_size;
}

/* ---- operations ---- */

static int perform_open(struct test_disk *disk, struct disk_op *op)
{
    int at = find_name(&disk->names, op->name), handle = 0;
    if (at < 0 && !(op->flags & DISK_CREATE))
        return ENOENT;
    if (at < 0) {
        struct inode *inode = take(disk, sizeof(*inode));
        reserve(disk, inode, TEST_DISK_PAGE);
        inode->next = disk->inodes;
        disk->inodes = inode;
        set_name(disk, op->name, inode);
        remember_names(disk);
        at = find_name(&disk->names, op->name);
    }
    while (disk->handles[handle])
        handle++;
    CHECK(handle < HANDLES_MAX);
    disk->handles[handle] = disk->names.entry[at].inode;
    op->file = handle;
    return 0;
}

static int perform_read(struct disk_op *op, const struct inode *inode)
{
    uint64_t at = op->offset;
    for (unsigned i = 0; i < op->iov_count && at < inode->now_size; i++) {
        uint64_t size = op->iov[i].iov_len < inode->now_size - at ? op->iov[i].iov_len : inode->now_size - at;
        memcpy(op->iov[i].iov_base, inode->now + at, size);
        at += size;
    }
    op->result = (int64_t)(at > op->offset ? at - op->offset : 0);
    return 0;
}

/* With `half`, each page by chance. */
static int perform_write(struct test_disk *disk, struct disk_op *op, struct inode *inode, bool half)
{
    uint64_t at = op->offset, total = 0;
    for (unsigned i = 0; i < op->iov_count; i++)
        total += op->iov[i].iov_len;
    int error = grow(disk, inode, op->offset + total);
    if (error)
        return error;
    for (unsigned i = 0; i < op->iov_count; i++) {
        const uint8_t *from = op->iov[i].iov_base;
        for (uint64_t done = 0; done < op->iov[i].iov_len;) {
            uint64_t part = TEST_DISK_PAGE - at % TEST_DISK_PAGE;
            if (part > op->iov[i].iov_len - done)
                part = op->iov[i].iov_len - done;
            if (!half || next_random(disk) % 2)
                memcpy(inode->now + at, from + done, part);
            at += part;
            done += part;
        }
    }
    op->result = (int64_t)total;
    if (op->kind == DISK_WRITE_SYNC && !half)
        make_safe(inode);
    return 0;
}

static int perform_rename(struct test_disk *disk, struct disk_op *op)
{
    int at = find_name(&disk->names, op->name);
    if (at < 0)
        return ENOENT;
    struct inode *inode = disk->names.entry[at].inode;
    remove_name(disk, at);
    set_name(disk, op->new_name, inode);
    remember_names(disk);
    return 0;
}

static int perform_unlink(struct test_disk *disk, struct disk_op *op)
{
    int at = find_name(&disk->names, op->name);
    if (at < 0)
        return ENOENT;
    remove_name(disk, at);
    remember_names(disk);
    return 0;
}

static void perform_list(struct test_disk *disk, struct disk_op *op)
{
    size_t size = strlen(op->name);
    for (unsigned i = 0; i < disk->names.count; i++) {
        const char *name = disk->names.entry[i].name;
        if (strncmp(name, op->name, size) == 0 && name[size] == '/')
            op->entry(op, name + size + 1);
    }
}

static int perform_allocate(struct test_disk *disk, struct disk_op *op, struct inode *inode)
{
    int error = grow(disk, inode, op->offset + op->size);
    if (!error)
        memset(inode->now + op->offset, 0, op->size);
    return error;
}

static int perform(struct test_disk *disk, struct disk_op *op)
{
    bool has_file = op->file >= 0 && op->kind != DISK_OPEN;
    struct inode *inode = has_file ? disk->handles[op->file] : NULL;
    CHECK(!has_file || inode);
    if (op->kind == disk->fail_kind && disk->fail_count > 0 && disk->fail_skip-- == 0) {
        disk->fail_skip = 0;
        disk->fail_count--;
        return disk->fail_error;
    }
    switch (op->kind) {
    case DISK_OPEN: return perform_open(disk, op);
    case DISK_CLOSE: disk->handles[op->file] = NULL; return 0;
    case DISK_READ: return perform_read(op, inode);
    case DISK_WRITE:
    case DISK_WRITE_SYNC: return perform_write(disk, op, inode, false);
    case DISK_SYNC: make_safe(inode); return 0;
    case DISK_ALLOCATE: return perform_allocate(disk, op, inode);
    case DISK_TRUNCATE:
        if (op->size > inode->now_size)
            return grow(disk, inode, op->size);
        memset(inode->now + op->size, 0, inode->now_size - op->size);
        inode->now_size = op->size;
        return 0;
    case DISK_RENAME: return perform_rename(disk, op);
    case DISK_UNLINK: return perform_unlink(disk, op);
    case DISK_MAKE_DIR: return 0;
    case DISK_SYNC_DIR:
        disk->history[0] = disk->names;
        disk->history_count = 1;
        return 0;
    case DISK_LIST: perform_list(disk, op); return 0;
    case DISK_SIZE: op->result = (int64_t)inode->now_size; return 0;
    case DISK_FREE_SPACE:
        op->result = (int64_t)(disk->limit > used_bytes(disk) ? disk->limit - used_bytes(disk) : 0);
        return 0;
    }
    return EINVAL;
}

static int run_op(struct test_disk *disk, struct disk_op *op)
{
    op->result = 0;
    if (!disk->crashed && ++disk->operations == disk->crash_at) {
        disk->crashed = true;
        if (op->kind == DISK_WRITE || op->kind == DISK_WRITE_SYNC)
            perform_write(disk, op, disk->handles[op->file], true);
    }
    op->error = disk->crashed ? EIO : perform(disk, op);
    if (op->error)
        op->result = -1;
    else
        disk->counts[op->kind]++;
    return op->error;
}

/* ---- the interface ---- */

static struct test_disk *of(struct disk *face)
{
    return (struct test_disk *)face;
}

static void submit(struct disk *face, struct disk_op *op)
{
    struct test_disk *disk = of(face);
    op->next = NULL;
    *disk->last = op;
    disk->last = &op->next;
}

static int call(struct disk *face, struct disk_op *op)
{
    return run_op(of(face), op);
}

static bool wait_face(struct disk *face)
{
    return test_disk_step(of(face));
}

struct test_disk *test_disk_new(uint64_t seed)
{
    struct test_disk *disk = calloc(1, sizeof(*disk));
    CHECK(disk);
    disk->arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(disk->arena != MAP_FAILED);
    disk->face = (struct disk){submit, call, wait_face};
    disk->random = seed * 2 + 1;
    disk->last = &disk->first;
    disk->limit = UINT64_MAX;
    disk->history_count = 1;
    return disk;
}

void test_disk_free(struct test_disk *disk)
{
    munmap(disk->arena, ARENA_SIZE);
    free(disk);
}

struct disk *test_disk_face(struct test_disk *disk)
{
    return &disk->face;
}

bool test_disk_step(struct test_disk *disk)
{
    struct disk_op **at = &disk->first;
    if (!*at)
        return false;
    if (disk->shuffled)
        while ((*at)->next && next_random(disk) % 2)
            at = &(*at)->next;
    struct disk_op *op = *at;
    *at = op->next;
    if (!*at)
        disk->last = at;
    run_op(disk, op);
    op->done(op);
    return true;
}

void test_disk_shuffle(struct test_disk *disk, bool shuffled)
{
    disk->shuffled = shuffled;
}

void test_disk_run(struct test_disk *disk)
{
    while (test_disk_step(disk))
        ;
}

unsigned test_disk_in_flight(const struct test_disk *disk, enum disk_kind kind)
{
    unsigned count = 0;
    for (const struct disk_op *op = disk->first; op; op = op->next)
        count += op->kind == kind;
    return count;
}

unsigned test_disk_count(const struct test_disk *disk, enum disk_kind kind)
{
    return disk->counts[kind];
}

uint64_t test_disk_operations(const struct test_disk *disk)
{
    return disk->operations;
}

unsigned test_disk_open_handles(const struct test_disk *disk)
{
    unsigned count = 0;
    for (unsigned i = 0; i < HANDLES_MAX; i++)
        count += disk->handles[i] != NULL;
    return count;
}

void test_disk_fail(struct test_disk *disk, enum disk_kind kind, unsigned skip, unsigned count, int error)
{
    disk->fail_kind = kind;
    disk->fail_skip = skip;
    disk->fail_count = count;
    disk->fail_error = error;
}

void test_disk_limit(struct test_disk *disk, uint64_t bytes)
{
    disk->limit = bytes;
}

void test_disk_crash_at(struct test_disk *disk, uint64_t operation)
{
    disk->crash_at = operation;
}

bool test_disk_crashed(const struct test_disk *disk)
{
    return disk->crashed;
}

static void crash_inode(struct test_disk *disk, struct inode *inode, enum test_disk_loss loss)
{
    for (uint64_t at = 0; at < inode->room; at += TEST_DISK_PAGE)
        if (loss == LOSE_ALL || next_random(disk) % 2)
            memcpy(inode->now + at, inode->safe + at, TEST_DISK_PAGE);
    if (loss == LOSE_ALL || next_random(disk) % 2)
        inode->now_size = inode->safe_size;
    memset(inode->now + inode->now_size, 0, inode->room - inode->now_size);
    make_safe(inode);
}

void test_disk_restart(struct test_disk *disk, enum test_disk_loss loss)
{
    CHECK(!disk->first);
    memset(disk->handles, 0, sizeof(disk->handles));
    disk->crashed = false;
    disk->crash_at = 0;
    disk->fail_count = 0;
    if (loss == LOSE_NOTHING)
        return;
    for (struct inode *inode = disk->inodes; inode; inode = inode->next)
        crash_inode(disk, inode, loss);
    disk->names = disk->history[loss == LOSE_ALL ? 0 : next_random(disk) % disk->history_count];
    disk->history[0] = disk->names;
    disk->history_count = 1;
}

struct bytes test_disk_bytes(struct test_disk *disk, const char *name)
{
    int at = find_name(&disk->names, name);
    return at < 0 ? bytes_of(NULL, 0) : bytes_of(disk->names.entry[at].inode->now, disk->names.entry[at].inode->now_size);
}

void test_disk_put(struct test_disk *disk, const char *name, uint64_t offset, const void *data, size_t size)
{
    struct disk_op op = {.kind = DISK_OPEN, .flags = DISK_CREATE, .file = -1, .name = name};
    int error = perform_open(disk, &op);
    CHECK(error == 0);
    struct inode *inode = disk->handles[op.file];
    disk->handles[op.file] = NULL;
    error = grow(disk, inode, offset + size);
    CHECK(error == 0);
    if (size)
        memcpy(inode->now + offset, data, size);
    make_safe(inode);
    disk->history[0] = disk->names;
    disk->history_count = 1;
}

const char *test_disk_name(struct test_disk *disk, const char *prefix, unsigned index)
{
    const char *last = NULL;
    for (unsigned i = 0; i <= index; i++) {
        const char *best = NULL;
        for (unsigned j = 0; j < disk->names.count; j++) {
            const char *name = disk->names.entry[j].name;
            if (strncmp(name, prefix, strlen(prefix)) == 0 && (!last || strcmp(name, last) > 0) && (!best || strcmp(name, best) < 0))
                best = name;
        }
        if (!best)
            return NULL;
        last = best;
    }
    return last;
}
