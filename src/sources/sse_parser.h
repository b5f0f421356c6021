/* An event stream as it is read: WHATWG HTML, section 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream". Bytes come in any pieces; an event is told as soon as the
 * first byte of the end of its blank line has come.
 *
 *   stream = [ BOM ] *event          event = *( comment / field ) end-of-line          end-of-line = CRLF / LF / CR
 *   field  = name [ ":" [ SPACE ] value ] end-of-line
 *
 * What the standard leaves without bound has one here: an event (its lines together, and each line) has at most `size_max` bytes. One that is longer is passed over up to its blank line
 * and told as SSE_TOO_LONG; its id counts if it came before that. */
#ifndef SOURCES_SSE_PARSER_H
#define SOURCES_SSE_PARSER_H

#include "sources/text.h"

#define SSE_SIZE_MAX (1u << 20)      /* bytes: the default, and the most */
#define SSE_ID_MAX 1024u             /* bytes of a last event id: a longer one is no header that a server takes, and is ignored like one with a NUL */
#define SSE_RETRY_MAX_MS 86400000u   /* a longer reconnection time counts as a day */

struct sse_parser {
    size_t size_max;
    struct text line, data, type, last_id;
    struct text id;                  /* what the event's last id says, if it has one */
    size_t event_size;               /* bytes of the event's lines so far */
    uint8_t bom_seen;                /* bytes of it; 3: no more is looked for */
    bool after_cr, is_oversized, is_told, has_id;
    uint32_t retry_ms;               /* the reconnection time, 0: none was told */
};

enum sse_result {
    SSE_EVENT,                       /* something to be dispatched */
    SSE_ID,                          /* a block without data has changed the last event id */
    SSE_TOO_LONG,                    /* an event was passed over */
    SSE_MORE,                        /* all input was used */
    SSE_NO_MEMORY,                   /* an event was not taken in: the connection must be begun anew, from the last id that was */
};

/* Borrowed until the next call. */
struct sse_event {
    struct bytes type, data;         /* UTF-8; a type that was not named is "message" */
    struct bytes last_id;            /* of the whole stream */
    bool has_new_id;                 /* this event changed it */
};

/* `last_id`: from an earlier connection. False: out of memory. */
bool sse_parser_init(struct sse_parser *parser, size_t size_max, struct bytes last_id);
void sse_parser_deinit(struct sse_parser *parser);

/* Takes from *input, which is shortened by what was used, until there is something to be told. The end of a stream has nothing to be told: an event without its blank line is none. */
enum sse_result sse_next(struct sse_parser *parser, struct bytes *input, struct sse_event *event);

/* A new connection: everything but the last event id and the reconnection time is forgotten. */
void sse_parser_reset(struct sse_parser *parser);

#endif
