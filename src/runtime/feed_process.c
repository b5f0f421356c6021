/* What a process writes to its standard output. It has no input, and the parent's standard error. One that is not wanted any more gets SIGTERM, and SIGKILL when it is still there a little
 * later, with all that belong to its group. When it has ended by itself, what it had written is read, however long that is held; those of its group that have its output open still are ended
 * a little later, so that they do not become more each time that it is started again. */
#include "base/err.h"
#include "runtime/child.h"
#include "runtime/feeder_state.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define KILL_MS 2000u                /* from SIGTERM to SIGKILL */
#define REST_MS 1000u                /* for what is still in the pipe when it has ended: somebody else may hold it open */

struct process_feeding {
    struct feeding feeding;          /* first */
    struct child child;
    uv_pipe_t output;
    uv_timer_t timer;
    char **argv;
    bool is_at_end, is_late;
    size_t left;                     /* bytes that were still to be read when it ended: what comes behind them is somebody else's */
};

static struct process_feeding *process_of(struct feeding *feeding) { return (struct process_feeding *)feeding; }

static void tell_end(struct process_feeding *p)
{
    if (!p->is_at_end)
        child_signal(&p->child, SIGTERM);
    feeding_end(&p->feeding, &(struct feed_end){.outcome = FEED_OVER, .status = p->child.status, .signal = p->child.signal});
}

static void on_late(uv_timer_t *timer)
{
    struct process_feeding *p = timer->data;
    p->is_late = true;
    if (!p->left)
        tell_end(p);
}

static size_t bytes_to_read(struct process_feeding *p)
{
    uv_os_fd_t output;
    int count = 0;
    return uv_fileno((uv_handle_t *)&p->output, &output) == 0 && ioctl(output, FIONREAD, &count) == 0 && count > 0 ? (size_t)count : 0;
}

static bool has_ended(const struct process_feeding *p) { return p->child.pid && !p->child.is_running; }

static void on_ended(struct child *child)
{
    struct process_feeding *p = (struct process_feeding *)(void *)((char *)child - offsetof(struct process_feeding, child));
    if (p->feeding.is_closed) {
        feeding_close_handle(&p->feeding, (uv_handle_t *)&p->child.watcher);
        feeding_close_handle(&p->feeding, (uv_handle_t *)&p->timer);
    } else if (p->is_at_end) {
        tell_end(p);
    } else {
        p->left = bytes_to_read(p);
        uv_timer_start(&p->timer, on_late, REST_MS, 0);
    }
}

static void on_room(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer)
{
    struct process_feeding *p = handle->data;
    (void)wanted;
    *buffer = uv_buf_init((char *)p->feeding.set->room, FEED_ROOM);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct process_feeding *p = stream->data;
    if (count > 0) {
        p->left -= (size_t)count < p->left ? (size_t)count : p->left;
        feeding_came(&p->feeding, 0, bytes_of(buffer->base, (size_t)count));
        feeding_told(&p->feeding);
        if (p->is_late && !p->left && !p->feeding.is_closed)
            tell_end(p);
    } else if (count < 0) {
        p->is_at_end = true;
        uv_read_stop(stream);
        if (has_ended(p))
            tell_end(p);
    }
}

static void start(struct feeding *feeding)
{
    struct process_feeding *p = process_of(feeding);
    int output, error = child_start(&p->child, p->argv, on_ended, &output);
    if (error) {
        feeding_fail(feeding, FEED_UNREACHABLE, "%.100s cannot be started: %s.", p->argv[0], uv_strerror(error));
        return;
    }
    if ((error = uv_pipe_open(&p->output, output)) != 0) {
        close(output);
        feeding_fail(feeding, FEED_UNREACHABLE, "%.100s cannot be read from: %s.", p->argv[0], uv_strerror(error));
        return;
    }
    feeding_opened(feeding, &(struct feed_opening){0});
    if (!feeding->is_paused)
        uv_read_start((uv_stream_t *)&p->output, on_room, on_read);
}

static void free_process(struct feeding *feeding)
{
    struct process_feeding *p = process_of(feeding);
    for (char **word = p->argv; word && *word; word++)
        free(*word);
    free(p->argv);
    free(p);
}

static struct feeding *begin(struct feeder_set *set, const struct feed_request *request)
{
    struct process_feeding *p = calloc(1, sizeof(*p));
    size_t count = 0;
    if (!p)
        return NULL;
    p->feeding.set = set;
    while (request->argv[count])
        count++;
    bool good = (p->argv = calloc(count + 1, sizeof(*p->argv))) != NULL;
    for (size_t i = 0; i < count && good; i++)
        good = (p->argv[i] = strdup(request->argv[i])) != NULL;
    if (!good || child_init(&p->child, set->config.loop) != 0) {
        free_process(&p->feeding);
        return NULL;
    }
    CHECK(uv_pipe_init(set->config.loop, &p->output, 0) == 0);      /* which asks the system for nothing */
    uv_timer_init(set->config.loop, &p->timer);
    p->output.data = p->timer.data = p;
    p->feeding.handles = 3;
    return &p->feeding;
}

static void pause_process(struct feeding *feeding, bool paused)
{
    struct process_feeding *p = process_of(feeding);
    if (!p->child.pid || p->is_at_end)
        return;
    if (paused)
        uv_read_stop((uv_stream_t *)&p->output);
    else
        uv_read_start((uv_stream_t *)&p->output, on_room, on_read);
}

static void on_kill(uv_timer_t *timer)
{
    struct process_feeding *p = timer->data;
    if (p->child.is_running)
        child_signal(&p->child, SIGKILL);
}

static void close_process(struct feeding *feeding)
{
    struct process_feeding *p = process_of(feeding);
    feeding_close_handle(feeding, (uv_handle_t *)&p->output);
    if (p->child.is_running) {
        /* Its handle is closed when it has ended. */
        child_signal(&p->child, SIGTERM);
        uv_timer_start(&p->timer, on_kill, KILL_MS, 0);
        return;
    }
    uv_timer_stop(&p->timer);
    feeding_close_handle(feeding, (uv_handle_t *)&p->child.watcher);
    feeding_close_handle(feeding, (uv_handle_t *)&p->timer);
}

const struct feeding_kind feeding_process = {.begin = begin, .start = start, .pause = pause_process, .close = close_process, .free = free_process};
