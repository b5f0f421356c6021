#include "store/disk_call.h"

#include <stdio.h>
#include <string.h>

/* Linux moves at most 2 GiB less a page in one call; larger transfers are cut. */
#define TRANSFER_MAX (1u << 30)

enum gw_err disk_path(char path[DISK_NAME_SIZE], const char *directory, const char *name)
{
    int size = snprintf(path, DISK_NAME_SIZE, "%s/%s", directory, name);
    return size > 0 && (unsigned)size < DISK_NAME_SIZE ? GW_OK : GW_ERR_LIMIT;
}

static enum gw_err run(struct disk *disk, struct disk_op *op)
{
    return gw_err_from_errno(disk->call(disk, op));
}

enum gw_err disk_call_open(struct disk *disk, const char *name, unsigned flags, int *file)
{
    struct disk_op op = {.kind = DISK_OPEN, .file = -1, .name = name, .flags = flags};
    enum gw_err err = run(disk, &op);
    *file = err == GW_OK ? op.file : -1;
    return err;
}

enum gw_err disk_call_close(struct disk *disk, int file)
{
    return run(disk, &(struct disk_op){.kind = DISK_CLOSE, .file = file});
}

enum gw_err disk_call_read(struct disk *disk, int file, void *data, uint64_t size, uint64_t offset, uint64_t *got)
{
    uint64_t done = 0;
    while (done < size) {
        uint64_t part = size - done < TRANSFER_MAX ? size - done : TRANSFER_MAX;
        struct iovec iov = {(uint8_t *)data + done, part};
        struct disk_op op = {.kind = DISK_READ, .file = file, .iov = &iov, .iov_count = 1, .offset = offset + done};
        enum gw_err err = run(disk, &op);
        if (err != GW_OK)
            return err;
        CHECK(op.result >= 0 && (uint64_t)op.result <= part);
        done += (uint64_t)op.result;
        if ((uint64_t)op.result < part)
            break;
    }
    if (done < size)
        memset((uint8_t *)data + done, 0, size - done);
    if (got)
        *got = done;
    return GW_OK;
}

enum gw_err disk_call_write(struct disk *disk, int file, const void *data, uint64_t size, uint64_t offset, bool sync)
{
    uint64_t done = 0;
    while (done < size) {
        uint64_t part = size - done < TRANSFER_MAX ? size - done : TRANSFER_MAX;
        struct iovec iov = {(uint8_t *)(uintptr_t)data + done, part};
        struct disk_op op = {.kind = sync ? DISK_WRITE_SYNC : DISK_WRITE, .file = file, .iov = &iov, .iov_count = 1,
                             .offset = offset + done};
        enum gw_err err = run(disk, &op);
        if (err != GW_OK)
            return err;
        done += part;
    }
    return GW_OK;
}

enum gw_err disk_call_sync(struct disk *disk, int file)
{
    return run(disk, &(struct disk_op){.kind = DISK_SYNC, .file = file});
}

enum gw_err disk_call_allocate(struct disk *disk, int file, uint64_t offset, uint64_t size)
{
    return run(disk, &(struct disk_op){.kind = DISK_ALLOCATE, .file = file, .offset = offset, .size = size});
}

enum gw_err disk_call_truncate(struct disk *disk, int file, uint64_t size)
{
    return run(disk, &(struct disk_op){.kind = DISK_TRUNCATE, .file = file, .size = size});
}

enum gw_err disk_call_size(struct disk *disk, int file, uint64_t *size)
{
    struct disk_op op = {.kind = DISK_SIZE, .file = file};
    enum gw_err err = run(disk, &op);
    *size = err == GW_OK ? (uint64_t)op.result : 0;
    return err;
}

enum gw_err disk_call_rename(struct disk *disk, const char *name, const char *new_name)
{
    return run(disk, &(struct disk_op){.kind = DISK_RENAME, .file = -1, .name = name, .new_name = new_name});
}

enum gw_err disk_call_unlink(struct disk *disk, const char *name)
{
    return run(disk, &(struct disk_op){.kind = DISK_UNLINK, .file = -1, .name = name});
}

enum gw_err disk_call_sync_dir(struct disk *disk, const char *name)
{
    return run(disk, &(struct disk_op){.kind = DISK_SYNC_DIR, .file = -1, .name = name});
}

struct listing {
    enum gw_err (*entry)(void *owner, const char *name);
    void *owner;
    enum gw_err err;
};

static void list_entry(struct disk_op *op, const char *name)
{
    struct listing *listing = op->owner;
    if (listing->err == GW_OK)
        listing->err = listing->entry(listing->owner, name);
}

enum gw_err disk_call_list(struct disk *disk, const char *name, enum gw_err (*entry)(void *owner, const char *name), void *owner)
{
    struct listing listing = {entry, owner, GW_OK};
    struct disk_op op = {.kind = DISK_LIST, .file = -1, .name = name, .entry = list_entry, .owner = &listing};
    enum gw_err err = run(disk, &op);
    return err == GW_OK ? listing.err : err;
}
