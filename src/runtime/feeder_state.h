/* What the feeders of the different kinds share. For the files of this folder, and for the kinds that need layers above.
 *
 * A feed under way is a `struct feeding`, embedded in what its kind needs. Its life: made by the kind's begin; told by feeding_… ; let go by feeding_end (which tells the end) or by the kind's
 * cancel. The memory goes when its last handle is closed (`handles`), whichever way it ended. */
#ifndef RUNTIME_FEEDER_STATE_H
#define RUNTIME_FEEDER_STATE_H

#include "runtime/feeder.h"
#include "runtime/notices.h"

struct feeding;

struct feeding_kind {
    /* NULL: out of memory, or descriptors. */
    struct feeding *(*begin)(struct feeder_set *set, const struct feed_request *request);
    /* Called from the loop, soon: what may fail with a reason. NULL: nothing. */
    void (*start)(struct feeding *feeding);
    void (*pause)(struct feeding *feeding, bool paused);
    void (*look_again)(struct feeding *feeding);             /* NULL: it is nothing that could be looked at */
    void (*settle)(struct feeding *feeding, uint64_t number);   /* NULL: nothing of it is to be settled */
    /* Closes all that it has open. Called once, by whoever ends it. */
    void (*close)(struct feeding *feeding);
    /* Of one that feeding_lingers: closes what is still open, now. NULL: none does. */
    void (*abandon)(struct feeding *feeding);
    void (*free)(struct feeding *feeding);
};

struct feeding {
    const struct feeding_kind *kind;
    struct feeder_set *set;
    struct feed *feed;               /* NULL: cancelled, or ended: nobody is told any more */
    unsigned handles;                /* of libuv's that are open, and requests that are under way */
    uv_timer_t starter;
    bool is_closed;
    bool is_paused;
    struct feeding *lingering;       /* the set's next one */
};

struct feeder_set {
    struct feeder io;                /* first */
    struct feeder_config config;
    struct multi *multi;             /* feed_http.c; NULL: no request yet */
    struct notices *notices;         /* NULL: nothing was to be watched yet, or nothing can be */
    unsigned feedings;               /* whose memory is still there */
    struct feeding *lingering;
    bool is_freed;
    uint8_t *room;                   /* FEED_ROOM bytes to read into */
};

#define FEED_ROOM 65536u             /* bytes that are read in one go */

extern const struct feeding_kind feeding_http, feeding_file, feeding_directory, feeding_listen, feeding_input, feeding_process, feeding_signal;

static inline bool feeding_is_heard(const struct feeding *feeding) { return feeding->feed != NULL; }

/* For kinds: what there is to tell. */
void feeding_opened(struct feeding *feeding, struct feed_opening *opening);
void feeding_came(struct feeding *feeding, uint64_t stream, struct bytes data);
void feeding_closed(struct feeding *feeding, uint64_t stream);
/* Closes it, tells, and lets it go: it is nothing that may be touched afterwards. */
void feeding_end(struct feeding *feeding, const struct feed_end *end);
__attribute__((format(printf, 3, 4)))
void feeding_fail(struct feeding *feeding, enum feed_outcome outcome, const char *format, ...);
/* The feed's user has something to do: after each callback from libuv in which something was told. */
void feeding_told(struct feeding *feeding);

/* A handle that belongs to it: counted until it is closed. */
void feeding_close_handle(struct feeding *feeding, uv_handle_t *handle);
/* What it had open stays so for a moment after its close, to take its leave: until feeding_lingered, or abandon, as the set goes. */
void feeding_lingers(struct feeding *feeding);
void feeding_lingered(struct feeding *feeding);
/* Has its memory freed, if nothing of it is open any more. */
void feeding_release(struct feeding *feeding);

/* Made when it is asked for; NULL: there are none. */
struct notices *feeder_notices(struct feeder_set *set);

/* feed_http.c: the set goes. */
void multi_free(struct multi *multi);

#endif
