/* A file that is written to: read to its end, and on whenever inotify says that there is more. Reading waits in libuv's threads.
 *
 *   path leads to another file    (rotated) the old one is read to its end, and left when nothing was written to it for a second; then those that were rotated after it, as their names
 *                                 (path.1, path-20260329) and times of change say, each to its end; then the new one
 *                                 Names change while files are rotated: which one is next is asked while nothing changes in the directory
 *   shorter, or begins otherwise  (cut off) it is opened again
 *   no such file                  it is waited for, as long as its directory is there
 *
 * Where inotify tells nothing (network file systems) it is looked at every now and then. */
#include "runtime/feeder_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 5000u                /* without being told */
#define LEAVE_MS 1000u               /* nothing was written to a file that was replaced */
#define LONG_AGO_MS 10000u           /* … nor for so long by the clock on the wall, which may jump: it is not waited for */
#define SETTLED_MS 50u               /* nothing changed in the directory; more than the grain of the times of files */
#define SETTLE_MS 2000u              /* in a directory where something always changes, it is not waited for any longer */

struct file_feeding {
    struct feeding feeding;          /* first */
    char *path, *directory;
    int file;                        /* -1: none */
    struct notice of_file, of_folder;
    uv_timer_t timer;
    uv_fs_t request;
    uv_buf_t buffer;
    uint8_t *room;                   /* of its own, as several read at a time */
    bool is_reading, is_again;       /* again: it was to be looked at meanwhile */
    uint64_t wanted;                 /* the inode to begin with; 0: none */
    uint64_t inode, device, offset;
    uint64_t left_ns;                /* when the one that was left was written to last; 0: none was */
    uint64_t unsettled_ms;           /* since when it is waited for the directory; 0: it is not */
    uint64_t still_ms;               /* since when nothing came, and it is not what the path leads to; 0: it is */
    uint8_t head[FEED_HEAD_MAX];
    size_t head_size;
};

static struct file_feeding *file_of(struct feeding *feeding) { return (struct file_feeding *)feeding; }
static void look(struct file_feeding *file);
static void on_time(uv_timer_t *timer) { look(timer->data); }

/* ---- opening --------------------------------------------------------------------------------------------------------------- */

static void close_file(struct file_feeding *file)
{
    notices_forget(file->feeding.set->notices, &file->of_file);
    if (file->file >= 0)
        close(file->file);
    file->file = -1;
}

static uint64_t changed_ns(const struct stat *stat) { return (uint64_t)stat->st_mtim.tv_sec * 1000000000u + (uint64_t)stat->st_mtim.tv_nsec; }

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* When something changed in the directory last; false: it has only just. */
static bool is_settled(const struct file_feeding *file, uint64_t *changed)
{
    struct stat stat_;
    uint64_t now = wall_ns();
    *changed = stat(file->directory, &stat_) == 0 ? changed_ns(&stat_) : 0;
    return *changed > now || now - *changed >= SETTLED_MS * 1000000u;
}

/* Which of the directory's files has the inode; -1: none. */
static int open_by_inode(struct file_feeding *file)
{
    DIR *directory = opendir(file->directory);
    int found = -1;
    for (struct dirent *entry; directory && found < 0 && (entry = readdir(directory));) {
        if (entry->d_ino != file->wanted)
            continue;
        found = openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    }
    if (directory)
        closedir(directory);
    return found;
}

/* "NAME.1", "NAME-20260329", "NAME.2026-03-29.1" */
static bool is_rotated_name(const char *name, const char *base)
{
    size_t size = strlen(base);
    return strncmp(name, base, size) == 0 && (name[size] == '.' || name[size] == '-') && name[size + 1] && strspn(name + size + 1, "0123456789.-") == strlen(name + size + 1);
}

/* The first of those that were rotated after the one that was left; -1: there is none. */
static int open_next_rotated(struct file_feeding *file)
{
    const char *slash = strrchr(file->path, '/'), *base = slash ? slash + 1 : file->path;
    DIR *directory = opendir(file->directory);
    struct stat now, stat_;
    uint64_t first_ns = UINT64_MAX;
    char first[NAME_MAX + 1] = "";
    bool is_there = stat(file->path, &now) == 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (!is_rotated_name(entry->d_name, base) || fstatat(dirfd(directory), entry->d_name, &stat_, 0) != 0 || !S_ISREG(stat_.st_mode) || (is_there && stat_.st_ino == now.st_ino))
            continue;
        if (changed_ns(&stat_) <= file->left_ns || changed_ns(&stat_) >= first_ns)
            continue;
        first_ns = changed_ns(&stat_);
        snprintf(first, sizeof(first), "%s", entry->d_name);
    }
    int found = first[0] ? openat(dirfd(directory), first, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    if (directory)
        closedir(directory);
    return found;
}

static bool read_head(struct file_feeding *file, uint64_t size)
{
    ssize_t count = pread(file->file, file->head, size < FEED_HEAD_MAX ? (size_t)size : FEED_HEAD_MAX, 0);
    file->head_size = count > 0 ? (size_t)count : 0;
    return count >= 0;
}

static void tell_opened(struct file_feeding *file, const struct stat *stat)
{
    struct feed_opening opening = {.inode = stat->st_ino, .size = (uint64_t)stat->st_size, .head = bytes_of(file->head, file->head_size)};
    feeding_opened(&file->feeding, &opening);
    file->offset = opening.offset;
    file->still_ms = 0;
    feeding_told(&file->feeding);
}

/* The one that is next: of those that were rotated, or what the path leads to. False: files were renamed meanwhile, so that it may be another one; it is asked again soon. */
static bool find_next(struct file_feeding *file)
{
    uint64_t before_ns, after_ns, now_ms = uv_now(file->feeding.set->config.loop);
    bool settled = is_settled(file, &before_ns), chooses = file->wanted || file->left_ns;
    if (settled || !chooses || (file->unsettled_ms && now_ms - file->unsettled_ms >= SETTLE_MS)) {
        file->file = file->wanted ? open_by_inode(file) : file->left_ns ? open_next_rotated(file) : -1;
        if (file->file < 0)
            file->file = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        int error = errno;
        is_settled(file, &after_ns);
        errno = error;
        if (!settled || !chooses || before_ns == after_ns) {
            file->unsettled_ms = 0;
            return true;
        }
        close_file(file);
    }
    if (!file->unsettled_ms)
        file->unsettled_ms = now_ms;
    uv_timer_start(&file->timer, on_time, SETTLED_MS, LOOK_MS);
    return false;
}

/* False: the feed is over. */
static bool open_file(struct file_feeding *file)
{
    struct stat stat;
    if (!find_next(file))
        return true;
    if (file->file < 0 && errno == ENOENT && access(file->directory, F_OK) == 0)
        return true;
    file->wanted = file->left_ns = 0;
    if (file->file < 0 || fstat(file->file, &stat) != 0) {
        feeding_fail(&file->feeding, FEED_UNREACHABLE, "%.100s cannot be opened: %s.", file->path, strerror(errno));
        return false;
    }
    if (!S_ISREG(stat.st_mode) || !read_head(file, (uint64_t)stat.st_size)) {
        feeding_fail(&file->feeding, FEED_BROKEN, "%.100s is no file that can be read line by line.", file->path);
        return false;
    }
    char link[40];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", file->file);
    notices_watch(feeder_notices(file->feeding.set), &file->of_file, link, IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF);
    file->inode = stat.st_ino;
    file->device = stat.st_dev;
    tell_opened(file, &stat);
    return true;
}

/* Has it another beginning than it had? */
static bool begins_otherwise(const struct file_feeding *file)
{
    uint8_t now[FEED_HEAD_MAX];
    ssize_t count = pread(file->file, now, file->head_size, 0);
    return count >= 0 && ((size_t)count < file->head_size || memcmp(now, file->head, file->head_size) != 0);
}

/* ---- reading --------------------------------------------------------------------------------------------------------------- */

static void on_read(uv_fs_t *request)
{
    struct file_feeding *file = request->data;
    struct feeding *feeding = &file->feeding;
    ssize_t count = request->result;
    uv_fs_req_cleanup(request);
    file->is_reading = false;
    feeding->handles--;
    if (feeding->is_closed) {
        close_file(file);
        feeding_release(feeding);
        return;
    }
    if (count < 0) {
        feeding_fail(feeding, FEED_BROKEN, "%.100s cannot be read: %s.", file->path, uv_strerror((int)count));
        return;
    }
    if (count > 0) {
        file->offset += (uint64_t)count;
        file->still_ms = 0;
        feeding_came(feeding, 0, bytes_of(file->room, (size_t)count));
        feeding_told(feeding);
    }
    look(file);
}

static bool read_more(struct file_feeding *file)
{
    file->buffer = uv_buf_init((char *)file->room, FEED_ROOM);
    file->request.data = file;
    if (uv_fs_read(file->feeding.set->config.loop, &file->request, file->file, &file->buffer, 1, (int64_t)file->offset, on_read) != 0)
        return false;
    file->is_reading = true;
    file->feeding.handles++;
    return true;
}

/* It is at its end. Is it still what the path leads to? */
static void look_at_path(struct file_feeding *file)
{
    struct stat stat_;
    uint64_t now_ms = uv_now(file->feeding.set->config.loop);
    bool is_same = stat(file->path, &stat_) != 0 || (stat_.st_ino == file->inode && stat_.st_dev == file->device);
    if (is_same) {
        file->still_ms = 0;
        return;
    }
    if (!file->still_ms)
        file->still_ms = now_ms;
    uint64_t now_ns = wall_ns(), written_ns = fstat(file->file, &stat_) == 0 ? changed_ns(&stat_) : now_ns;
    bool is_long_ago = written_ns < now_ns && now_ns - written_ns >= LONG_AGO_MS * 1000000u;
    if (now_ms - file->still_ms < LEAVE_MS && !is_long_ago) {
        uv_timer_start(&file->timer, on_time, LEAVE_MS - (now_ms - file->still_ms), LOOK_MS);
        return;
    }
    file->left_ns = written_ns;
    close_file(file);
    feeding_closed(&file->feeding, 0);
    feeding_told(&file->feeding);
    uv_timer_start(&file->timer, on_time, 0, LOOK_MS);
}

static void look(struct file_feeding *file)
{
    struct stat stat;
    if (file->is_reading || file->feeding.is_paused || file->feeding.is_closed) {
        file->is_again = true;
        return;
    }
    /* A folder that is made anew is another one. */
    if (file->of_folder.watch < 0)
        notices_watch(feeder_notices(file->feeding.set), &file->of_folder, file->directory, IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF);
    if (file->file < 0) {
        if (!open_file(file) || file->file < 0)
            return;
    } else if (fstat(file->file, &stat) == 0 && ((uint64_t)stat.st_size < file->offset || begins_otherwise(file))) {
        read_head(file, (uint64_t)stat.st_size);
        tell_opened(file, &stat);
    }
    if (fstat(file->file, &stat) != 0 || (uint64_t)stat.st_size <= file->offset) {
        look_at_path(file);
    } else if (!read_more(file)) {
        feeding_fail(&file->feeding, FEED_NO_MEMORY, "There is too little memory.");
        return;
    }
    /* What has grown since it was opened is its beginning, too. */
    if (file->head_size < FEED_HEAD_MAX && file->file >= 0 && fstat(file->file, &stat) == 0 && (uint64_t)stat.st_size > file->head_size)
        read_head(file, (uint64_t)stat.st_size);
}

static void on_file(struct notice *notice, const char *name)
{
    struct file_feeding *file = (struct file_feeding *)(void *)((char *)notice - offsetof(struct file_feeding, of_file));
    (void)name;
    uv_timer_start(&file->timer, on_time, 0, LOOK_MS);
}

/* The path may lead to another file now. What else happens in its folder is others' business. */
static void on_folder(struct notice *notice, const char *name)
{
    struct file_feeding *file = (struct file_feeding *)(void *)((char *)notice - offsetof(struct file_feeding, of_folder));
    const char *slash = strrchr(file->path, '/');
    if (!name || strcmp(name, slash ? slash + 1 : file->path) == 0)
        uv_timer_start(&file->timer, on_time, 0, LOOK_MS);
}

/* ---- beginning and ending -------------------------------------------------------------------------------------------------- */

static void free_file(struct feeding *feeding)
{
    struct file_feeding *file = file_of(feeding);
    free(file->path);
    free(file->directory);
    free(file->room);
    free(file);
}

static struct feeding *begin(struct feeder_set *set, const struct feed_request *request)
{
    struct file_feeding *file = calloc(1, sizeof(*file));
    if (!file)
        return NULL;
    file->feeding.set = set;
    file->file = -1;
    file->of_file = (struct notice){.heard = on_file, .watch = -1};
    file->of_folder = (struct notice){.heard = on_folder, .watch = -1};
    file->wanted = request->inode;
    const char *slash = strrchr(request->address, '/');
    file->path = strdup(request->address);
    file->directory = slash ? strndup(request->address, slash == request->address ? 1 : (size_t)(slash - request->address)) : strdup(".");
    file->room = malloc(FEED_ROOM);
    if (!file->path || !file->directory || !file->room) {
        free_file(&file->feeding);
        return NULL;
    }
    uv_timer_init(set->config.loop, &file->timer);
    file->feeding.handles = 1;
    file->timer.data = file;
    uv_timer_start(&file->timer, on_time, 0, LOOK_MS);
    return &file->feeding;
}

static void pause_file(struct feeding *feeding, bool paused)
{
    struct file_feeding *file = file_of(feeding);
    if (!paused && file->is_again) {
        file->is_again = false;
        uv_timer_start(&file->timer, on_time, 0, LOOK_MS);
    }
}

static void close_feeding(struct feeding *feeding)
{
    struct file_feeding *file = file_of(feeding);
    notices_forget(feeding->set->notices, &file->of_file);
    notices_forget(feeding->set->notices, &file->of_folder);
    feeding_close_handle(feeding, (uv_handle_t *)&file->timer);
    /* What is being read is closed when that has come back. */
    if (!file->is_reading)
        close_file(file);
}

const struct feeding_kind feeding_file = {.begin = begin, .pause = pause_file, .close = close_feeding, .free = free_file};
