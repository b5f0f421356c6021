/* The standard input: a pipe, a terminal or a socket is read when there is something; a file in libuv's threads. Its descriptor stays open, and as blocking as it was, as it may be shared with
 * other programs. */
#include "runtime/feeder_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct input_feeding {
    struct feeding feeding;          /* first */
    uv_poll_t poll;
    uv_fs_t request;
    uv_buf_t buffer;
    bool is_file, is_polling, is_reading;
    uint8_t room[FEED_ROOM];
};

static struct input_feeding *input_of(struct feeding *feeding) { return (struct input_feeding *)feeding; }

/* True: there may be more. */
static bool take(struct input_feeding *input, ssize_t count, int error)
{
    if (count > 0) {
        feeding_came(&input->feeding, 0, bytes_of(input->room, (size_t)count));
        feeding_told(&input->feeding);
        return true;
    }
    if (count == 0)
        feeding_end(&input->feeding, &(struct feed_end){.outcome = FEED_OVER});
    else
        feeding_fail(&input->feeding, FEED_BROKEN, "The standard input cannot be read: %s.", strerror(error));
    return false;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct input_feeding *input = poll->data;
    (void)status, (void)events;
    ssize_t count = read(STDIN_FILENO, input->room, sizeof(input->room));
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    take(input, count, errno);
}

static void read_file(struct input_feeding *input);

static void on_read(uv_fs_t *request)
{
    struct input_feeding *input = request->data;
    ssize_t count = request->result;
    uv_fs_req_cleanup(request);
    input->is_reading = false;
    input->feeding.handles--;
    if (input->feeding.is_closed)
        feeding_release(&input->feeding);
    else if (take(input, count < 0 ? -1 : count, (int)-count) && !input->feeding.is_paused)
        read_file(input);
}

static void read_file(struct input_feeding *input)
{
    if (input->is_reading)
        return;
    input->buffer = uv_buf_init((char *)input->room, sizeof(input->room));
    input->request.data = input;
    if (uv_fs_read(input->feeding.set->config.loop, &input->request, STDIN_FILENO, &input->buffer, 1, -1, on_read) != 0) {
        feeding_fail(&input->feeding, FEED_NO_MEMORY, "There is too little memory.");
        return;
    }
    input->is_reading = true;
    input->feeding.handles++;
}

static void start(struct feeding *feeding)
{
    struct input_feeding *input = input_of(feeding);
    struct stat stat;
    if (fstat(STDIN_FILENO, &stat) != 0) {
        feeding_fail(feeding, FEED_UNREACHABLE, "There is no standard input.");
        return;
    }
    feeding_opened(feeding, &(struct feed_opening){0});
    input->is_file = S_ISREG(stat.st_mode) || S_ISBLK(stat.st_mode);
    if (input->is_file) {
        read_file(input);
        return;
    }
    /* What cannot be waited for, such as /dev/null, can be read at once. */
    input->is_file = uv_poll_init(feeding->set->config.loop, &input->poll, STDIN_FILENO) != 0;
    if (input->is_file) {
        read_file(input);
        return;
    }
    input->poll.data = input;
    feeding->handles++;
    input->is_polling = true;
    if (!feeding->is_paused)
        uv_poll_start(&input->poll, UV_READABLE, on_ready);
}

static struct feeding *begin(struct feeder_set *set, const struct feed_request *request)
{
    struct input_feeding *input = calloc(1, sizeof(*input));
    (void)request;
    if (input)
        input->feeding.set = set;
    return input ? &input->feeding : NULL;
}

static void pause_input(struct feeding *feeding, bool paused)
{
    struct input_feeding *input = input_of(feeding);
    if (input->is_polling && paused)
        uv_poll_stop(&input->poll);
    else if (input->is_polling)
        uv_poll_start(&input->poll, UV_READABLE, on_ready);
    else if (!paused && input->is_file)
        read_file(input);
}

static void close_input(struct feeding *feeding)
{
    struct input_feeding *input = input_of(feeding);
    if (!input->is_polling)
        return;
    uv_poll_stop(&input->poll);
    feeding_close_handle(feeding, (uv_handle_t *)&input->poll);
}

static void free_input(struct feeding *feeding) { free(feeding); }

const struct feeding_kind feeding_input = {.begin = begin, .start = start, .pause = pause_input, .close = close_input, .free = free_input};
