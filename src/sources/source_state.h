/* What a source consists of, for source.c, window.c and the kinds. */
#ifndef SOURCES_SOURCE_STATE_H
#define SOURCES_SOURCE_STATE_H

#include "sources/kind.h"

#define EVENT_ID_MAX 255u
#define EVENT_TEXT_MAX 255u          /* bytes of a type, a key, a subject */

enum source_state {
    SOURCE_NEW,                      /* source_start was not called */
    SOURCE_WAITING,                  /* to be started, or started again, at start_us */
    SOURCE_STARTING,                 /* its feed is under way, nothing came yet */
    SOURCE_RUNNING,
    SOURCE_OVER,                     /* it came to its end, and is not started again */
};

enum entry_state { ENTRY_WAITING, ENTRY_UNDER_WAY, ENTRY_CONFIRMED };

/* An event, from when it was read until it and those before it are confirmed. */
struct entry {
    enum entry_state state;
    struct source_event event;
    struct bytes mark;
    size_t size;                     /* of all of it */
    uint8_t texts[];
};

/* Entries in the order in which they were read: tickets are consecutive. */
struct window {
    struct entry **ring;
    size_t capacity;                 /* a power of two */
    uint64_t first, next, end;       /* tickets: the first that is kept, the first that may have to be published, the one after the last */
    size_t bytes;
    unsigned under_way;
    uint64_t again_us;               /* nothing is published before, as something was refused */
};

struct source {
    struct feed feed;                /* first */
    struct declaration declaration;
    const struct source_kind *kind;
    struct source_sink *sink;
    struct feeder *feeder;
    struct zones *zones;
    uint64_t now_us, wall_us;
    enum source_state state;
    bool paused, finishing;
    bool unwanted;                   /* what the feed tells is not listened to: it is to be cancelled */
    bool is_held;                    /* the feed is paused, as too much is on its way */
    bool draining;                   /* nothing more is taken from the feed, which stays for what is under way to be settled */
    uint64_t start_us;
    unsigned failures;               /* in a row */
    uint64_t random;
    struct window window;
    bool is_dirty, is_saving;
    bool keeps_position;             /* it has one at all */
    bool has_position;               /* on disk */
    bool must_save;                  /* where it begins has to be known before its first event is published: nobody could find that out again */
    uint64_t save_us;                /* no position is saved before */
    uint64_t read, published, unmapped, lost, starts;
    uint64_t error_wall_us;
    char error[SOURCE_WHY_MAX];
    _Alignas(16) uint8_t own[];      /* the kind's */
};

/* What was read, and is to become an event. */
struct source_item {
    struct bytes data;               /* {{data}} of all kinds, and what {{json:…}} looks into */
    bool (*find)(const void *owner, struct bytes name, struct bytes more, struct bytes *value);   /* NULL: there are no other names */
    const void *owner;
    struct bytes id;                 /* behind "ID/"; see source_id */
    struct bytes mark;
    const char *content_type;        /* what was said of it; NULL: what it looks like */
    const char *type;                /* instead of the template's; NULL: the template's */
    uint64_t time_ms;                /* 0: now */
    const struct source_event *said; /* what is said of it already: its id, its source, subject and key where there is no template, what it carries; NULL: nothing */
};

/* ---- for kinds: source.c ---- */

static inline void *source_own(const struct source *source) { return (void *)(uintptr_t)source->own; }

/* Begins the feed. */
void source_begin(struct source *source, const struct feed_request *request);
/* It goes well: the next failure is the first. */
void source_runs(struct source *source);
/* It is started again after base_ms, and twice as long for each failure in a row, with jitter. */
void source_failed(struct source *source, uint64_t base_ms, const char *why);
/* … and not before least_ms have passed: somebody asked for that. */
void source_put_off(struct source *source, uint64_t base_ms, uint64_t least_ms, const char *why);
/* What Retry-After asks for, a day at most; 0: nothing. */
uint64_t source_retry_after_ms(const struct feed_opening *opening);
/* It is started again after so many milliseconds; that is nothing to be worried about. */
void source_again(struct source *source, uint64_t after_ms);
/* It came to its end. */
void source_over(struct source *source, const char *why);
/* Something to be worried about that stops nothing. */
void source_error(struct source *source, const char *why);
/* The position has changed without an event. */
void source_moved(struct source *source);
/* A sentence for an end, and source_put_off; the default for kinds without a function of their own. */
void source_ended(struct source *source, const struct feed_end *end, uint64_t base_ms, uint64_t least_ms);

/* ---- window.c ---- */

/* False: out of memory; there is no event. The kind then fails, and begins again behind the last event that there was. */
bool source_emit(struct source *source, const struct source_item *item);
/* Are all events that were made confirmed? */
bool window_is_empty(const struct window *window);
void window_publish(struct source *source);
void window_confirmed(struct source *source, uint64_t ticket, bool accepted);
void window_lost(struct source *source);
bool window_is_full(const struct source *source);
/* Those at the end that are not under way are no more. */
void window_forget_waiting(struct window *window);
void window_deinit(struct window *window);

#endif
