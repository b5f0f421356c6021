/* Lines out of bytes as they come. A line ends with LF; a CR before it belongs to the end. A line longer than the limit (with its CR) is told in pieces of the limit's length, so that
 * nothing is lost and nothing grows without bound; the last piece ends as a line does. */
#ifndef SOURCES_LINES_H
#define SOURCES_LINES_H

#include "sources/text.h"

#define LINE_SIZE_MAX (1u << 20)     /* bytes; what a splitter is given as its limit at most */

struct line_splitter {
    struct text held;                /* the beginning of a line whose end has not come */
    size_t size_max;
    uint64_t consumed;               /* bytes that are told, with their ends */
    bool is_told;                    /* `held` was, and is let go with the next call */
    bool is_continued;               /* what comes next is the rest of a line */
};

struct line {
    struct bytes text;               /* until the next call */
    uint64_t consumed;               /* behind it and its end, as in the splitter */
    bool is_whole;                   /* false: a piece of one that was too long (the last one, too) */
};

enum line_result { LINE_READY, LINE_MORE, LINE_NO_MEMORY };

/* `size_max`: 1 … LINE_SIZE_MAX. */
void line_splitter_init(struct line_splitter *splitter, size_t size_max);
void line_splitter_deinit(struct line_splitter *splitter);

/* Takes one line out of *input, which is shortened by what was used. LINE_MORE: all of it was used. LINE_NO_MEMORY: nothing of it was. */
enum line_result line_next(struct line_splitter *splitter, struct bytes *input, struct line *line);

/* There is no more input: the line without an end. LINE_MORE: there is none. */
enum line_result line_last(struct line_splitter *splitter, struct line *line);

/* Begins anew, with nothing held. */
void line_reset(struct line_splitter *splitter, uint64_t consumed);

#endif
