/* What the file system says of files and directories: one inotify instance for all feeds of a set, as the system has few of them (128 for all programs of a user) and many watches. One thread. */
#ifndef RUNTIME_NOTICES_H
#define RUNTIME_NOTICES_H

#include <stdint.h>
#include <uv.h>

struct notices;

/* Embedded by who wants to hear. */
struct notice {
    /* Something happened; `name` is what of a directory, NULL: itself, or that is not known. It may neither watch nor forget anything: it notes down that there is something to look at. */
    void (*heard)(struct notice *notice, const char *name);
    int watch;                       /* -1: nothing is watched */
    struct notice *next;             /* of those with the same watch */
};

/* NULL: there is no memory for it, or no instance left: whoever watches has to look by himself. It does not keep the loop running. */
struct notices *notices_new(uv_loop_t *loop);
/* Nothing is watched any more. Its handle is closed when the loop has run again. */
void notices_free(struct notices *notices);

/* `mask`: IN_…; others' of the same file may come, too. Where that cannot be watched nothing is heard. `notices` may be NULL. */
void notices_watch(struct notices *notices, struct notice *notice, const char *path, uint32_t mask);
/* Fine when nothing is watched. */
void notices_forget(struct notices *notices, struct notice *notice);

#endif
