/* A supervised source: what a feed brings (io/feed.h), and time, become events; those are published, and when they are on disk the source's position is kept, so that the next start goes on
 * behind them. A source that ends or fails is started again, later each time; how it goes with it can be read.
 *
 *   feeder ──came──▶ kind (sse, file, cron, …) ──events──▶ window ──publish──▶ sink
 *                      ▲                                      │
 *                      └───── position, once it is confirmed ◀┴──confirmed─────┘
 *
 * At least once: between an event's confirm and the next position on disk there may be a crash, after which the event comes again, with the same id wherever what is read can be read again.
 * No clock, no system call. */
#ifndef SOURCES_SOURCE_H
#define SOURCES_SOURCE_H

#include "sources/declaration.h"

#define SOURCE_NEVER UINT64_MAX
#define SOURCE_ENTRIES_MAX_BYTES (4u << 20)   /* of events that wait or are under way; with more the feed is paused */

struct source;

/* An event to be published; empty: it has none. Borrowed until `publish` returns. */
struct source_event {
    struct bytes id, type, source, subject, key, content_type, data;
    uint64_t time_ms;                /* since 1970 */
    struct bytes carried;            /* properties, encoded, of the message that it was elsewhere: what of them it keeps, event_message.h says. Empty: it was none */
    bool keeps_time, keeps_encoding; /* the time is in the headers of that one as it is; the data is that one's body */
};

struct source_sink {
    /* False: not now; source_ready says when to try again. True: source_confirmed is called later, not from inside. */
    bool (*publish)(struct source_sink *sink, const struct source_event *event, uint64_t ticket);
    /* Keeps the position in place of the one before. False: not now. True: source_saved is called later, not from inside. */
    bool (*save)(struct source_sink *sink, struct bytes position);
    /* source_tick is wanted soon. */
    void (*due)(struct source_sink *sink);
    /* Monotonic microseconds, and microseconds since 1970. */
    void (*clock)(struct source_sink *sink, uint64_t *now_us, uint64_t *wall_us);
};

/* The declaration is taken. `random`: what its backoffs' jitter is made of. The others are borrowed. NULL: out of memory; the declaration is still the caller's. */
struct source *source_new(struct declaration *declaration, struct source_sink *sink, struct feeder *feeder, struct zones *zones, uint64_t random);
/* The feed is cancelled; what was not confirmed is forgotten here, and comes again from where the position is. */
void source_free(struct source *source);

/* Begins behind the position that was saved last; empty: as one that is new. A position that makes no sense counts as none, and is told as an error. Call source_tick then. */
void source_start(struct source *source, struct bytes position);

/* Nothing more is read. What was read is still published: source_is_idle says when that is done. */
void source_finish(struct source *source);
bool source_is_idle(const struct source *source);

void source_pause(struct source *source, bool paused);

/* Does what is due; answers when there is something again, in monotonic microseconds. */
uint64_t source_tick(struct source *source);

/* What became of a publish or a save. Call source_tick soon (`due` says so). */
void source_confirmed(struct source *source, uint64_t ticket, bool accepted);
void source_saved(struct source *source, bool saved);
void source_ready(struct source *source);
/* Whatever is under way will not be told of any more: it is published and saved again. */
void source_lost(struct source *source);

/* "2026-03-29T00:00:10Z", with milliseconds where there are some. */
#define SOURCE_TIME_SIZE 48u
void source_time_text(uint64_t time_ms, char text[SOURCE_TIME_SIZE]);

/* What went wrong last, and when that was (microseconds since 1970; 0: nothing has). Valid until the next call. */
const char *source_last_error(const struct source *source, uint64_t *wall_us);

/* A hash by which what was read is known again, always the same. */
uint64_t source_hash(struct bytes bytes);

const struct declaration *source_declaration(const struct source *source);

/* {"state": "running", "read": 7, "published": 7, "error": "…", …}, json_decref it. NULL: out of memory. */
json_t *source_describe(const struct source *source);

#endif
