/* Where publish takes its bodies from: words of the command line, files, lines, or a whole stream. */
#ifndef CLI_BODY_SOURCE_H
#define CLI_BODY_SOURCE_H

#include "base/bytes.h"
#include "client/remote_buffer.h"

#define BODY_MAX (1ull << 30)   /* bytes of a line or file that is taken as one body */

enum body_kind {
    BODY_WORDS,    /* each of `items` is a body */
    BODY_WHOLE,    /* each of the files `items` is a body */
    BODY_LINES,    /* each line of the files `items` is a body, without its newline */
};

enum body_answer {
    BODY_READY,    /* *body is the next one */
    BODY_WAIT,     /* nothing yet: wait until body_source_fd is readable */
    BODY_END,
    BODY_FAILED,   /* see body_source_complaint */
};

struct body_source {
    enum body_kind kind;
    char *const *items;        /* borrowed; a file named "-" is stdin */
    size_t count, index;
    int fd;                    /* of items[index], -1: not open yet */
    bool is_at_end;
    size_t scanned;            /* bytes held in which there is no newline */
    size_t taken;              /* bytes of the body given last */
    struct remote_buffer held;
    char complaint[320];
};

void body_source_init(struct body_source *source, enum body_kind kind, char *const *items, size_t count);
void body_source_deinit(struct body_source *source);

/* *body is valid until the next call. */
enum body_answer body_source_next(struct body_source *source, struct bytes *body);

static inline int body_source_fd(const struct body_source *source) { return source->fd; }
static inline const char *body_source_complaint(const struct body_source *source) { return source->complaint; }

#endif
