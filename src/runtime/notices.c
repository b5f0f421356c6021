#include "runtime/notices.h"

#include "base/err.h"
#include "base/map.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <unistd.h>

struct notices {
    uv_poll_t poll;                  /* first */
    int inotify;
    struct map watches;              /* the watch's number → the first notice */
};

static void tell(struct notice *first, const char *name)
{
    for (struct notice *notice = first; notice; notice = notice->next)
        notice->heard(notice, name);
}

static void take(struct notices *notices, const struct inotify_event *event)
{
    uint32_t cursor = 0;
    /* So much happened that some of it was not noted down. */
    if (event->mask & IN_Q_OVERFLOW) {
        for (struct notice *first; (first = map_next(&notices->watches, &cursor));)
            tell(first, NULL);
        return;
    }
    struct notice *first = map_get(&notices->watches, (uint64_t)event->wd);
    tell(first, event->len ? event->name : NULL);
    if (!(event->mask & IN_IGNORED) || !first)
        return;
    /* What was watched is gone, and the watch with it. */
    map_remove(&notices->watches, (uint64_t)event->wd);
    for (struct notice *next; first; first = next) {
        next = first->next;
        first->watch = -1;
        first->next = NULL;
    }
}

static void on_notice(uv_poll_t *poll, int status, int events)
{
    struct notices *notices = (struct notices *)poll;
    char room[16 * (sizeof(struct inotify_event) + NAME_MAX + 1)] __attribute__((aligned(8)));
    ssize_t count;
    (void)status, (void)events;
    while ((count = read(notices->inotify, room, sizeof(room))) > 0)
        for (char *at = room; at < room + count;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
            take(notices, event);
            at += sizeof(*event) + event->len;
        }
}

struct notices *notices_new(uv_loop_t *loop)
{
    struct notices *notices = calloc(1, sizeof(*notices));
    if (!notices)
        return NULL;
    notices->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (notices->inotify < 0 || uv_poll_init(loop, &notices->poll, notices->inotify) != 0) {
        if (notices->inotify >= 0)
            close(notices->inotify);
        free(notices);
        return NULL;
    }
    uv_unref((uv_handle_t *)&notices->poll);
    uv_poll_start(&notices->poll, UV_READABLE, on_notice);
    return notices;
}

static void on_closed(uv_handle_t *handle) { free(handle); }

void notices_free(struct notices *notices)
{
    if (!notices)
        return;
    CHECK(notices->watches.count == 0);
    map_deinit(&notices->watches);
    uv_poll_stop(&notices->poll);
    uv_close((uv_handle_t *)&notices->poll, on_closed);
    close(notices->inotify);
}

void notices_watch(struct notices *notices, struct notice *notice, const char *path, uint32_t mask)
{
    notices_forget(notices, notice);
    int watch = notices ? inotify_add_watch(notices->inotify, path, mask | IN_MASK_ADD) : -1;
    if (watch < 0)
        return;
    struct notice *first = map_get(&notices->watches, (uint64_t)watch);
    if (first) {
        notice->next = first->next;
        first->next = notice;
    } else if (map_put(&notices->watches, (uint64_t)watch, notice) != GW_OK) {
        inotify_rm_watch(notices->inotify, watch);
        return;
    }
    notice->watch = watch;
}

void notices_forget(struct notices *notices, struct notice *notice)
{
    if (notice->watch < 0)
        return;
    struct notice *first = map_get(&notices->watches, (uint64_t)notice->watch);
    if (first == notice && !notice->next) {
        map_remove(&notices->watches, (uint64_t)notice->watch);
        inotify_rm_watch(notices->inotify, notice->watch);
    } else if (first == notice) {
        /* It takes the place of this one, which needs no memory. */
        enum gw_err err = map_put(&notices->watches, (uint64_t)notice->watch, notice->next);
        CHECK(err == GW_OK);
    } else {
        struct notice *before = first;
        while (before->next != notice)
            before = before->next;
        before->next = notice->next;
    }
    notice->watch = -1;
    notice->next = NULL;
}
