#include "runtime/disk_perform.h"

#include "base/err.h"
#include "runtime/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NAME_MAX_SIZE 255u
#define ZEROS_SIZE (1024u * 1024u)        /* bytes of zeros a write */
#define PART_MAX_SIZE (1024u * 1024u * 1024u) /* the kernel moves at most 2 GiB a call */
#define SECTOR_SIZE 512u

/* Only names below the data directory, and not the file that its lock lives in. */
static bool name_is_good(const char *name)
{
    if (!name || name[0] == '\0' || name[0] == '/' || strlen(name) > NAME_MAX_SIZE || strcmp(name, DIRECTORY_LOCK_NAME) == 0)
        return false;
    for (const char *part = name; part;) {
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
            return false;
        part = strchr(part, '/');
        if (part)
            part++;
    }
    return true;
}

static int open_file(int directory, struct disk_op *op)
{
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    if (op->flags & DISK_CREATE)
        flags |= O_CREAT;
    int file = -1;
    if (op->flags & DISK_DIRECT)
        file = openat(directory, op->name, flags | O_DIRECT, 0600);
    /* File systems without O_DIRECT (tmpfs before Linux 6.6, some overlays) answer EINVAL: the page cache serves there. */
    if (!(op->flags & DISK_DIRECT) || (file < 0 && errno == EINVAL))
        file = openat(directory, op->name, flags, 0600);
    if (file < 0)
        return errno;
    op->file = file;
    op->result = file;
    return 0;
}

unsigned disk_rest(const struct disk_op *op, struct iovec *part, const struct iovec **rest)
{
    uint64_t skip = (uint64_t)op->result;
    unsigned index = 0;
    while (index < op->iov_count && skip >= op->iov[index].iov_len)
        skip -= op->iov[index++].iov_len;
    if (index == op->iov_count)
        return 0;
    const struct iovec *first = op->iov + index;
    if (skip > 0 || first->iov_len > PART_MAX_SIZE) {
        uint64_t left = first->iov_len - skip;
        *part = (struct iovec){(char *)first->iov_base + skip, left > PART_MAX_SIZE ? PART_MAX_SIZE : left};
        *rest = part;
        return 1;
    }
    *rest = first;
    return op->iov_count - index > IOV_MAX ? IOV_MAX : op->iov_count - index;
}

bool disk_progress(struct disk_op *op, int64_t answer)
{
    struct iovec part;
    const struct iovec *rest;
    if (answer < 0) {
        /* A direct read that ended inside a sector ended at the end of the file; asking on from there is refused. */
        bool at_end = op->kind == DISK_READ && answer == -EINVAL && op->result % SECTOR_SIZE != 0;
        op->error = at_end ? 0 : (int)-answer;
        return false;
    }
    if (answer == 0) {
        op->error = op->kind == DISK_READ || disk_rest(op, &part, &rest) == 0 ? 0 : EIO;
        return false;
    }
    op->result += answer;
    return disk_rest(op, &part, &rest) > 0;
}

static int64_t transfer(const struct disk_op *op, const struct iovec *rest, unsigned count)
{
    off_t offset = (off_t)(op->offset + (uint64_t)op->result);
    ssize_t moved;
    do {
        if (op->kind == DISK_READ)
            moved = preadv(op->file, rest, (int)count, offset);
        else
            moved = pwritev2(op->file, rest, (int)count, offset, op->kind == DISK_WRITE_SYNC ? RWF_DSYNC : 0);
        if (moved < 0 && errno == EOPNOTSUPP && op->kind == DISK_WRITE_SYNC) {
            moved = pwritev(op->file, rest, (int)count, offset);
            if (moved >= 0 && fdatasync(op->file) != 0)
                moved = -1;
        }
    } while (moved < 0 && (errno == EINTR || errno == EAGAIN));
    return moved < 0 ? -errno : moved;
}

static void transfer_all(struct disk_op *op)
{
    struct iovec part;
    const struct iovec *rest;
    unsigned count = disk_rest(op, &part, &rest);
    while (count > 0 && disk_progress(op, transfer(op, rest, count)))
        count = disk_rest(op, &part, &rest);
}

/* Really written zeros: a block that was only reserved costs a metadata write when it is first used, a third more for each. */
static int allocate(struct disk_op *op)
{
    int error = 0;
    void *zeros = mmap(NULL, ZEROS_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (zeros == MAP_FAILED)
        return ENOMEM;
    for (uint64_t done = 0; done < op->size && error == 0;) {
        uint64_t size = op->size - done < ZEROS_SIZE ? op->size - done : ZEROS_SIZE;
        ssize_t written = pwrite(op->file, zeros, size, (off_t)(op->offset + done));
        if (written > 0)
            done += (uint64_t)written;
        else if (written == 0)
            error = EIO;
        else if (errno != EINTR && errno != EAGAIN)
            error = errno;
    }
    munmap(zeros, ZEROS_SIZE);
    /* Only now does a file system that postpones finding room say whether there is any. */
    if (error == 0 && fdatasync(op->file) != 0)
        error = errno;
    return error;
}

static int list(int directory, struct disk_op *op)
{
    char *names = NULL;
    size_t size = 0, capacity = 0;
    int error = 0;
    int descriptor = openat(directory, op->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0)
        return errno;
    DIR *stream = fdopendir(descriptor);
    if (!stream) {
        error = errno;
        close(descriptor);
        return error;
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry) {
            error = errno;
            break;
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, DIRECTORY_LOCK_NAME) == 0)
            continue;
        size_t length = strlen(name) + 1;
        if (size + length + 1 > capacity) {
            size_t wanted = capacity * 2 + length + 1024;
            char *grown = realloc(names, wanted);
            if (!grown) {
                error = ENOMEM;
                break;
            }
            names = grown;
            capacity = wanted;
        }
        memcpy(names + size, name, length);
        size += length;
    }
    closedir(stream);
    if (error) {
        free(names);
        return error;
    }
    if (names)
        names[size] = '\0';
    /* The result is the names' memory until disk_tell_names: this may be another thread than the one that listens. */
    op->result = (int64_t)(intptr_t)names;
    return 0;
}

void disk_tell_names(struct disk_op *op)
{
    if (op->kind != DISK_LIST || op->error != 0)
        return;
    char *names = (char *)(intptr_t)op->result;
    op->result = 0;
    for (const char *name = names; name && *name; name += strlen(name) + 1) {
        op->entry(op, name);
        op->result++;
    }
    free(names);
}

static int sync_directory(int directory, const char *name)
{
    int descriptor = openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (descriptor < 0)
        return errno;
    int error = fsync(descriptor) == 0 ? 0 : errno;
    close(descriptor);
    return error;
}

static int make_directory(int directory, const char *name)
{
    if (mkdirat(directory, name, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return errno;
    struct stat status;
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno;
    return S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
}

static int file_size(struct disk_op *op)
{
    struct stat status;
    if (fstat(op->file, &status) != 0)
        return errno;
    op->result = status.st_size;
    return 0;
}

static int free_space(int directory, struct disk_op *op)
{
    struct statvfs status;
    if (fstatvfs(directory, &status) != 0)
        return errno;
    uint64_t bytes = (uint64_t)status.f_bavail * status.f_frsize;
    op->result = bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;
    return 0;
}

static bool has_name(enum disk_kind kind)
{
    return kind == DISK_OPEN || kind == DISK_RENAME || kind == DISK_UNLINK || kind == DISK_MAKE_DIR || kind == DISK_SYNC_DIR ||
           kind == DISK_LIST;
}

static int perform_named(int directory, struct disk_op *op)
{
    if (!name_is_good(op->name) || (op->kind == DISK_RENAME && !name_is_good(op->new_name)))
        return EINVAL;
    switch (op->kind) {
    case DISK_OPEN: return open_file(directory, op);
    case DISK_RENAME: return renameat(directory, op->name, directory, op->new_name) == 0 ? 0 : errno;
    case DISK_UNLINK: return unlinkat(directory, op->name, 0) == 0 ? 0 : errno;
    case DISK_MAKE_DIR: return make_directory(directory, op->name);
    case DISK_SYNC_DIR: return sync_directory(directory, op->name);
    default: return list(directory, op);
    }
}

void disk_perform(int directory, struct disk_op *op)
{
    if (has_name(op->kind)) {
        op->error = perform_named(directory, op);
        return;
    }
    switch (op->kind) {
    case DISK_READ:
    case DISK_WRITE:
    case DISK_WRITE_SYNC: transfer_all(op); break;
    /* Linux closes the descriptor even when it answers EINTR. */
    case DISK_CLOSE: op->error = close(op->file) == 0 || errno == EINTR ? 0 : errno; break;
    case DISK_SYNC: op->error = fdatasync(op->file) == 0 ? 0 : errno; break;
    case DISK_ALLOCATE: op->error = allocate(op); break;
    case DISK_TRUNCATE: op->error = ftruncate(op->file, (off_t)op->size) == 0 ? 0 : errno; break;
    case DISK_SIZE: op->error = file_size(op); break;
    case DISK_FREE_SPACE: op->error = free_space(directory, op); break;
    default: CHECK(!"a kind of disk operation"); break;
    }
}
