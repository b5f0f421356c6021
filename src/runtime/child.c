#include "runtime/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void shut(int descriptor)
{
    if (descriptor >= 0)
        close(descriptor);
}

/* A descriptor that stands in nobody's way: 0, 1 and 2 are the child's to be. */
static int above(int descriptor)
{
    if (descriptor < 0 || descriptor > 2)
        return descriptor;
    int higher = fcntl(descriptor, F_DUPFD_CLOEXEC, 3), error = errno;
    close(descriptor);
    errno = error;
    return higher;
}

static bool pipe_above(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0) {
        ends[0] = ends[1] = -1;
        return false;
    }
    ends[0] = above(ends[0]);
    ends[1] = above(ends[1]);
    return ends[0] >= 0 && ends[1] >= 0;
}

/* In the child, where other threads may have held any lock: nothing but system calls. */
static _Noreturn void become(char *const *argv, pid_t parent, int nothing, int output, int told)
{
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)         /* it was over before there was somebody to tell */
        _exit(127);
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(nothing, 0) == 0 && dup2(output, 1) == 1)
        execvp(argv[0], argv);
    int error = errno;
    while (write(told, &error, sizeof(error)) < 0 && errno == EINTR)
        ;
    _exit(127);
}

/* How the child fares: 0, it has become what it was to be; otherwise why not. */
static int outcome(int told)
{
    int error = 0;
    ssize_t count;
    while ((count = read(told, &error, sizeof(error))) < 0 && errno == EINTR)
        ;
    return count == (ssize_t)sizeof(error) ? error : 0;
}

static void on_signal(uv_signal_t *watcher, int number)
{
    struct child *child = (struct child *)(void *)((char *)watcher - offsetof(struct child, watcher));
    int status = 0;
    (void)number;
    if (!child->is_running)
        return;
    pid_t waited = waitpid(child->pid, &status, WNOHANG);
    if (waited == 0 || (waited < 0 && errno == EINTR))
        return;
    /* Somebody else in our process may have waited for it: then nobody can say any more how it ended. */
    child->is_running = false;
    child->status = waited > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    child->signal = waited > 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    uv_signal_stop(watcher);
    child->ended(child);
}

int child_init(struct child *child, uv_loop_t *loop)
{
    *child = (struct child){0};
    return uv_signal_init(loop, &child->watcher);
}

int child_start(struct child *child, char *const *argv, void (*ended)(struct child *child), int *output)
{
    int pipe_[2] = {-1, -1}, told[2] = {-1, -1}, nothing = -1;
    sigset_t all, before;
    /* Listened for before there is anything to hear. */
    int error = uv_signal_start(&child->watcher, on_signal, SIGCHLD);
    if (error)
        return error;
    if (!pipe_above(pipe_) || !pipe_above(told) || (nothing = above(open("/dev/null", O_RDONLY | O_CLOEXEC))) < 0) {
        error = errno;
    } else {
        pid_t parent = getpid();
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);       /* none of our handlers runs in the child */
        pid_t pid = fork();
        if (pid == 0)
            become(argv, parent, nothing, pipe_[1], told[1]);
        error = pid < 0 ? errno : 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        shut(told[1]);
        told[1] = -1;
        if (!error && (error = outcome(told[0])))
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        if (!error)
            child->pid = pid;
    }
    shut(nothing);
    shut(told[0]);
    shut(told[1]);
    shut(pipe_[1]);
    if (error) {
        shut(pipe_[0]);
        uv_signal_stop(&child->watcher);
        return uv_translate_sys_error(error);
    }
    child->ended = ended;
    child->is_running = true;
    *output = pipe_[0];
    return 0;
}

void child_signal(const struct child *child, int number)
{
    if (child->pid)
        kill(-child->pid, number);
}
