#include "cli/sink.h"

#include "cli/message_json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_SIZE 4096u     /* what a pipe that poll calls writable takes without blocking (PIPE_BUF) */
#define POLL_MS 1000

static enum gw_err fail(struct sink *sink, const char *what, int error)
{
    snprintf(sink->complaint, sizeof sink->complaint, "cannot write %s: %s", what, strerror(error));
    return gw_err_from_errno(error);
}

/* The first number that no file in the directory has yet, so that two runs do not overwrite each other's messages. */
static uint64_t first_free_number(int directory_fd)
{
    char name[32];
    struct stat info;
    uint64_t low = 0, high = 1;
    do {
        low = high - 1;
        high *= 2;
        snprintf(name, sizeof name, "%012" PRIu64, high - 1);
    } while (fstatat(directory_fd, name, &info, 0) == 0);
    for (; low < high; low++) {
        snprintf(name, sizeof name, "%012" PRIu64, low);
        if (fstatat(directory_fd, name, &info, 0) != 0)
            break;
    }
    return low;
}

enum gw_err sink_init(struct sink *sink, enum sink_kind kind, const char *directory)
{
    struct stat info;
    *sink = (struct sink){.kind = kind, .directory = directory, .directory_fd = -1};
    if (kind != SINK_DIRECTORY) {
        sink->writes_pieces = fstat(STDOUT_FILENO, &info) == 0 && !S_ISREG(info.st_mode);
        return GW_OK;
    }
    if (mkdir(directory, 0777) < 0 && errno != EEXIST)
        return fail(sink, directory, errno);
    sink->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (sink->directory_fd < 0)
        return fail(sink, directory, errno);
    sink->number = first_free_number(sink->directory_fd);
    return GW_OK;
}

void sink_deinit(struct sink *sink)
{
    if (sink->directory_fd >= 0)
        close(sink->directory_fd);
    remote_buffer_deinit(&sink->held);
}

static int write_all(int fd, struct bytes bytes)
{
    while (bytes.size > 0) {
        ssize_t size = write(fd, bytes.data, bytes.size);
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return errno;
        bytes = bytes_of(bytes.data + size, bytes.size - (size_t)size);
    }
    return 0;
}

/* Writes the body under a temporary name, syncs it, then gives it its own name: whoever watches the directory sees whole
 * messages only. */
static enum gw_err put_file(struct sink *sink, struct bytes body)
{
    char name[32];
    static const char temporary[] = ".godwit-partial";
    snprintf(name, sizeof name, "%012" PRIu64, sink->number);
    int fd = openat(sink->directory_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail(sink, sink->directory, errno);
    int error = write_all(fd, body);
    if (!error && fdatasync(fd) < 0)
        error = errno;
    close(fd);
    if (!error && renameat(sink->directory_fd, temporary, sink->directory_fd, name) < 0)
        error = errno;
    if (error) {
        unlinkat(sink->directory_fd, temporary, 0);
        return fail(sink, sink->directory, error);
    }
    sink->number++;
    sink->is_dirty = true;
    return GW_OK;
}

static enum gw_err put_json(struct sink *sink, const struct remote_message *message)
{
    json_t *json = message_json(message);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    enum gw_err err = text ? remote_buffer_add(&sink->held, bytes_of_text(text)) : GW_ERR_NOMEM;
    free(text);
    json_decref(json);
    return err;
}

enum gw_err sink_put(struct sink *sink, const struct remote_message *message)
{
    enum gw_err err;
    if (sink->kind == SINK_DIRECTORY)
        return put_file(sink, message->body);
    if (sink->kind == SINK_JSON)
        err = put_json(sink, message);
    else
        err = remote_buffer_add(&sink->held, message->body);
    if (!err)
        err = remote_buffer_add(&sink->held, bytes_of("\n", 1));
    if (err)
        snprintf(sink->complaint, sizeof sink->complaint, "out of memory");
    return err;
}

static enum gw_err flush_directory(struct sink *sink)
{
    if (sink->is_dirty && fsync(sink->directory_fd) < 0)
        return fail(sink, sink->directory, errno);
    sink->is_dirty = false;
    return GW_OK;
}

enum gw_err sink_flush(struct sink *sink, struct remote *remote)
{
    if (sink->kind == SINK_DIRECTORY)
        return flush_directory(sink);
    while (remote_buffer_size(&sink->held) > 0) {
        struct bytes bytes = remote_buffer_bytes(&sink->held);
        if (sink->writes_pieces) {
            struct pollfd wait = {.fd = STDOUT_FILENO, .events = POLLOUT};
            int count = poll(&wait, 1, POLL_MS);
            if (count < 0 && errno != EINTR)
                return fail(sink, "to stdout", errno);
            if (count <= 0) {
                enum gw_err err = remote_keep_alive(remote);
                if (err) {
                    snprintf(sink->complaint, sizeof sink->complaint, "%s", remote_error(remote));
                    return err;
                }
                continue;
            }
            if (bytes.size > PIECE_SIZE)
                bytes.size = PIECE_SIZE;
        }
        ssize_t size = write(STDOUT_FILENO, bytes.data, bytes.size);
        if (size < 0 && errno != EINTR && errno != EAGAIN)
            return fail(sink, "to stdout", errno);
        if (size > 0)
            remote_buffer_take(&sink->held, (size_t)size);
    }
    return GW_OK;
}
