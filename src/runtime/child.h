/* A process that is started by us: leader of a session and a group of its own, without input, with our standard error, and told to end (SIGTERM) by the system when we die, whatever of.
 *
 * (uv_spawn has no way to ask for that last one: who is killed could not end what it had started, and whoever comes after would start it a second time.) */
#ifndef RUNTIME_CHILD_H
#define RUNTIME_CHILD_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct child {
    uv_signal_t watcher;             /* SIGCHLD; its data is the owner's to use */
    void (*ended)(struct child *child);
    pid_t pid;                       /* 0: it was not started */
    bool is_running;
    int status, signal;              /* once it has ended */
};

/* Before anything else; child->watcher is then to be closed by uv_close. 0, or an error of libuv's. */
int child_init(struct child *child, uv_loop_t *loop);
/* argv[0] is looked for in $PATH. `ended` is called once, from the loop. `output`: a descriptor to read what it writes, taken by the caller. 0, or an error of libuv's (what execvp said, too).
 * The system takes the end of the calling thread for ours. */
int child_start(struct child *child, char *const *argv, void (*ended)(struct child *child), int *output);
/* To all of its group: it, as long as it runs, and what it started. */
void child_signal(const struct child *child, int number);

#endif
