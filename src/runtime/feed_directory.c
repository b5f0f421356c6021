/* A directory's regular files, listed when inotify says that there is something new, in one of libuv's threads. */
#include "runtime/feeder_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 10000u
#define GATHER_MS 20u                /* from the first notice to the look */
#define LOOK_MS 10000u               /* without being told */

/* What a look has found; made by another thread. */
struct listing {
    struct feed_file *files;
    unsigned count;
    bool is_whole;
    int error;                       /* errno */
};

struct directory_feeding {
    struct feeding feeding;          /* first */
    char *path;
    struct notice of_folder;
    uv_timer_t timer;
    uv_work_t work;
    struct listing listing;
    bool is_looking, is_again;
};

static struct directory_feeding *directory_of(struct feeding *feeding) { return (struct directory_feeding *)feeding; }

static void forget(struct listing *listing)
{
    for (unsigned i = 0; i < listing->count; i++)
        free((void *)(uintptr_t)listing->files[i].name.data);
    free(listing->files);
    *listing = (struct listing){0};
}

static int by_name(const void *a, const void *b)
{
    struct bytes x = ((const struct feed_file *)a)->name, y = ((const struct feed_file *)b)->name;
    int order = memcmp(x.data, y.data, x.size < y.size ? x.size : y.size);
    return order ? order : (x.size > y.size) - (x.size < y.size);
}

static bool add(struct listing *listing, unsigned *room, const char *name, const struct stat *stat)
{
    if (listing->count == *room) {
        unsigned more = *room ? 2 * *room : 64;
        struct feed_file *grown = realloc(listing->files, more * sizeof(*grown));
        if (!grown)
            return false;
        listing->files = grown;
        *room = more;
    }
    char *copy = strdup(name);
    if (!copy)
        return false;
    listing->files[listing->count++] = (struct feed_file){.name = bytes_of_text(copy), .inode = stat->st_ino, .size = (uint64_t)stat->st_size,
                                                          .changed_ns = (uint64_t)stat->st_mtim.tv_sec * 1000000000u + (uint64_t)stat->st_mtim.tv_nsec};
    return true;
}

static void on_work(uv_work_t *work)
{
    struct directory_feeding *d = work->data;
    struct listing *listing = &d->listing;
    unsigned room = 0;
    DIR *directory = opendir(d->path);
    listing->is_whole = true;
    if (!directory) {
        listing->error = errno;
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct stat stat;
        if (fstatat(dirfd(directory), entry->d_name, &stat, 0) != 0 || !S_ISREG(stat.st_mode))
            continue;
        if (listing->count == FILES_MAX) {
            listing->is_whole = false;
            break;
        }
        if (!add(listing, &room, entry->d_name, &stat)) {
            listing->error = ENOMEM;
            break;
        }
    }
    closedir(directory);
    if (listing->count)
        qsort(listing->files, listing->count, sizeof(*listing->files), by_name);
}

static void look(struct directory_feeding *d);

static void on_looked(uv_work_t *work, int status)
{
    struct directory_feeding *d = work->data;
    struct feeding *feeding = &d->feeding;
    struct listing listing = d->listing;
    (void)status;
    d->listing = (struct listing){0};
    d->is_looking = false;
    feeding->handles--;
    if (feeding->is_closed) {
        forget(&listing);
        feeding_release(feeding);
        return;
    }
    if (listing.error) {
        int error = listing.error;
        forget(&listing);
        feeding_fail(feeding, error == ENOMEM ? FEED_NO_MEMORY : FEED_UNREACHABLE, "%.100s cannot be looked into: %s.", d->path, strerror(error));
        return;
    }
    if (feeding->feed)
        feeding->feed->events->listed(feeding->feed, listing.files, listing.count, listing.is_whole);
    forget(&listing);
    feeding_told(feeding);
    if (d->is_again)
        look(d);
}

static void look(struct directory_feeding *d)
{
    struct feeding *feeding = &d->feeding;
    if (d->is_looking || feeding->is_paused) {
        d->is_again = true;
        return;
    }
    d->is_again = false;
    d->work.data = d;
    if (uv_queue_work(feeding->set->config.loop, &d->work, on_work, on_looked) != 0)
        return;
    d->is_looking = true;
    feeding->handles++;
}

static void on_time(uv_timer_t *timer) { look(timer->data); }

static void soon(struct directory_feeding *d)
{
    /* The first notice counts: a directory in which something happens all the time is looked at all the same. */
    if (uv_timer_get_due_in(&d->timer) > GATHER_MS)
        uv_timer_start(&d->timer, on_time, GATHER_MS, LOOK_MS);
}

static void on_notice(struct notice *notice, const char *name)
{
    (void)name;
    soon((struct directory_feeding *)(void *)((char *)notice - offsetof(struct directory_feeding, of_folder)));
}

static void free_directory(struct feeding *feeding)
{
    struct directory_feeding *d = directory_of(feeding);
    free(d->path);
    free(d);
}

static struct feeding *begin(struct feeder_set *set, const struct feed_request *request)
{
    struct directory_feeding *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->feeding.set = set;
    d->path = strdup(request->address);
    d->of_folder = (struct notice){.heard = on_notice, .watch = -1};
    if (!d->path) {
        free_directory(&d->feeding);
        return NULL;
    }
    notices_watch(feeder_notices(set), &d->of_folder, d->path, IN_CREATE | IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF);
    uv_timer_init(set->config.loop, &d->timer);
    d->feeding.handles = 1;
    d->timer.data = d;
    uv_timer_start(&d->timer, on_time, 0, LOOK_MS);
    return &d->feeding;
}

static void pause_directory(struct feeding *feeding, bool paused)
{
    struct directory_feeding *d = directory_of(feeding);
    if (!paused && d->is_again)
        soon(d);
}

static void look_again(struct feeding *feeding) { soon(directory_of(feeding)); }

static void close_directory(struct feeding *feeding)
{
    struct directory_feeding *d = directory_of(feeding);
    notices_forget(feeding->set->notices, &d->of_folder);
    feeding_close_handle(feeding, (uv_handle_t *)&d->timer);
}

const struct feeding_kind feeding_directory = {.begin = begin, .pause = pause_directory, .look_again = look_again, .close = close_directory, .free = free_directory};
