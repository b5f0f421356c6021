#include "cli/body_source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE (64u * 1024u)

void body_source_init(struct body_source *source, enum body_kind kind, char *const *items, size_t count)
{
    *source = (struct body_source){.kind = kind, .items = items, .count = count, .fd = -1};
}

static void close_item(struct body_source *source)
{
    if (source->fd > STDIN_FILENO)
        close(source->fd);
    source->fd = -1;
}

void body_source_deinit(struct body_source *source)
{
    close_item(source);
    remote_buffer_deinit(&source->held);
}

static enum body_answer fail(struct body_source *source, const char *what, int error)
{
    snprintf(source->complaint, sizeof source->complaint, "%s%s%s", what, error ? ": " : "", error ? strerror(error) : "");
    return BODY_FAILED;
}

static enum body_answer open_item(struct body_source *source)
{
    const char *name = source->items[source->index];
    source->is_at_end = false;
    source->scanned = 0;
    source->fd = strcmp(name, "-") == 0 ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    return source->fd < 0 ? fail(source, name, errno) : BODY_READY;
}

/* Reads once, without waiting. */
static enum body_answer read_more(struct body_source *source)
{
    struct pollfd wait = {.fd = source->fd, .events = POLLIN};
    if (poll(&wait, 1, 0) == 0)
        return BODY_WAIT;
    if (remote_buffer_size(&source->held) > BODY_MAX)
        return fail(source, "a body is larger than 1 GiB", 0);
    if (remote_buffer_reserve(&source->held, READ_SIZE))
        return fail(source, "out of memory", 0);
    ssize_t size = read(source->fd, source->held.data + source->held.end, READ_SIZE);
    if (size < 0 && errno == EINTR)
        return BODY_WAIT;
    if (size < 0)
        return fail(source, source->items[source->index], errno);
    source->held.end += (size_t)size;
    source->is_at_end = size == 0;
    return BODY_READY;
}

/* The next line that is held whole; false: there is none. */
static bool held_line(struct body_source *source, struct bytes *body)
{
    struct bytes held = remote_buffer_bytes(&source->held);
    const uint8_t *newline = held.size > source->scanned ? memchr(held.data + source->scanned, '\n', held.size - source->scanned) : NULL;
    source->scanned = newline ? 0 : held.size;
    if (newline) {
        *body = bytes_of(held.data, (size_t)(newline - held.data));
        source->taken = body->size + 1;
        return true;
    }
    if (!source->is_at_end || held.size == 0)
        return false;
    *body = held;   /* the last line may lack its newline */
    source->taken = held.size;
    source->scanned = 0;
    return true;
}

enum body_answer body_source_next(struct body_source *source, struct bytes *body)
{
    remote_buffer_take(&source->held, source->taken);
    source->taken = 0;
    for (;;) {
        if (source->index == source->count)
            return BODY_END;
        if (source->kind == BODY_WORDS) {
            *body = bytes_of_text(source->items[source->index++]);
            return BODY_READY;
        }
        enum body_answer answer = source->fd < 0 ? open_item(source) : BODY_READY;
        if (answer != BODY_READY)
            return answer;
        if (source->kind == BODY_LINES && held_line(source, body))
            return BODY_READY;
        if (source->is_at_end) {
            close_item(source);
            source->index++;
            if (source->kind == BODY_LINES)
                continue;
            *body = remote_buffer_bytes(&source->held);
            source->taken = body->size;
            source->is_at_end = false;
            return BODY_READY;
        }
        answer = read_more(source);
        if (answer != BODY_READY)
            return answer;
    }
}
