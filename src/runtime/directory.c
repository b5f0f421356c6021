#include "runtime/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct directory {
    int descriptor;
    int lock;
};

/* What an operator can do about a directory that answered `error`. */
static const char *advice(int error)
{
    switch (error) {
    case EACCES:
    case EPERM: return "give this user read and write access to it, or choose another with --data-dir";
    case ENOENT: return "make its parent directory first, or choose another with --data-dir";
    case ENOTDIR: return "it or its parent is a file; choose another with --data-dir";
    case EROFS: return "its file system is read-only; remount it, or choose another with --data-dir";
    case ENOSPC:
    case EDQUOT: return "free some space on its file system";
    case EMFILE:
    case ENFILE: return "raise the limit on open files (ulimit -n)";
    case ENAMETOOLONG: return "choose a shorter path with --data-dir";
    case ELOOP: return "its lock file is a symbolic link; remove it, or choose another with --data-dir";
    default: return "check its file system, or choose another with --data-dir";
    }
}

static enum gw_err refuse(const char *path, int error, char *why, size_t why_size)
{
    snprintf(why, why_size, "cannot open data directory %s: %s; %s", path, strerror(error), advice(error));
    return error == ENOTDIR || error == ELOOP ? GW_ERR_INVALID : gw_err_from_errno(error);
}

/* The lock file's content, for the sentence that names who is there; 0 when it is unreadable. */
static long lock_holder(int lock)
{
    char text[32];
    ssize_t size = pread(lock, text, sizeof(text) - 1, 0);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    return strtol(text, NULL, 10);
}

static enum gw_err refuse_busy(const char *path, int lock, char *why, size_t why_size)
{
    long holder = lock_holder(lock);
    char who[48] = "another process";
    if (holder > 0)
        snprintf(who, sizeof(who), "process %ld", holder);
    snprintf(why, why_size, "data directory %s is in use by %s; stop it, or choose another directory", path, who);
    return GW_ERR_BUSY;
}

enum gw_err directory_open(const char *path, char *why, size_t why_size, struct directory **directory)
{
    enum gw_err err;
    char holder[24];
    *directory = NULL;
    struct directory *d = calloc(1, sizeof(*d));
    if (!d) {
        snprintf(why, why_size, "out of memory");
        return GW_ERR_NOMEM;
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        err = refuse(path, errno, why, why_size);
        goto err_after_alloc;
    }
    d->descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->descriptor < 0) {
        err = refuse(path, errno, why, why_size);
        goto err_after_alloc;
    }
    d->lock = openat(d->descriptor, DIRECTORY_LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (d->lock < 0) {
        err = refuse(path, errno, why, why_size);
        goto err_after_open;
    }
    if (flock(d->lock, LOCK_EX | LOCK_NB) != 0) {
        err = errno == EWOULDBLOCK ? refuse_busy(path, d->lock, why, why_size) : refuse(path, errno, why, why_size);
        goto err_after_lock_file;
    }
    /* The holder's id only serves the sentence above: a full disk does not keep the broker from trying to recover. */
    int length = snprintf(holder, sizeof(holder), "%ld\n", (long)getpid());
    if (ftruncate(d->lock, 0) == 0 && pwrite(d->lock, holder, (size_t)length, 0) != length)
        (void)!ftruncate(d->lock, 0);
    *directory = d;
    return GW_OK;

err_after_lock_file:
    close(d->lock);
err_after_open:
    close(d->descriptor);
err_after_alloc:
    free(d);
    return err;
}

void directory_close(struct directory *directory)
{
    /* A child of fork may have the lock's file open still: closing alone would leave it locked. */
    if (directory)
        flock(directory->lock, LOCK_UN);
    directory_forked(directory);
}

void directory_forked(struct directory *directory)
{
    if (!directory)
        return;
    close(directory->lock);
    close(directory->descriptor);
    free(directory);
}

int directory_descriptor(const struct directory *directory)
{
    return directory->descriptor;
}
