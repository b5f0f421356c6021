/* What is known of the events of a program with libgodwit: of each what was said of it to its publisher, and, for each handler, where it is, how often it failed, and when it may come again. */
#ifndef SIM_HANDLER_MODEL_H
#define SIM_HANDLER_MODEL_H

#include "sim/handler_plan.h"
#include "sim/trace.h"

struct gw_event;

enum copy_state {
    COPY_NONE,                       /* the handler was not there, or does not want it */
    COPY_QUEUED,                     /* on its way to the handler, or back in its queue */
    COPY_IN_HAND,
    COPY_DONE,                       /* acknowledged */
    COPY_DEAD,                       /* given up; its dead letter has not been seen */
    COPY_BURIED,                     /* it has */
};

/* An event, for one handler. */
struct copy {
    uint8_t state;
    bool must;                       /* it has to come: nothing that may happen excuses that it does not */
    bool is_final;                   /* its end is on disk: not even a crash brings it back */
    bool was_seen;                   /* the handler had it once */
    bool may_be_dead;                /* QUEUED: or it has failed once too often */
    bool was_restarted;              /* the process has died since it failed: how often it failed may be forgotten, down to … */
    uint32_t fails_kept;
    uint32_t fails;                  /* attempts that have failed */
    uint64_t due_us;                 /* it does not come before */
    uint64_t given_us;               /* in hand: since */
    uint32_t life;                   /* … of which handler: gw_on's are counted */
};

/* An event that was published. */
struct sent {
    unsigned type, key;              /* key HANDLER_KEYS: it has none */
    bool persistent, is_delayed, is_request;
    bool is_told, is_refused;
    bool in_this_life;               /* of the process */
    uint64_t changes;                /* how often handlers had come and gone */
    uint64_t published_us, due_us;
    struct copy copies[HANDLERS_MAX];
};

struct handler_state {
    bool is_on;
    bool is_bound;                   /* its durable queue is there for good */
    bool may_be_bound;
    uint32_t life;                   /* gw_on's so far */
    uint32_t in_hand;                /* of this life of its */
    uint64_t last_first;             /* the last event that came unredelivered, by way of the broker for sure, + 1 */
    uint64_t last_direct[HANDLER_TYPES];   /* … that may have come from memory to memory */
};

struct handler_model {
    const struct handler_plan *plan;
    struct trace *trace;
    struct sent *sent;
    unsigned count, room;
    unsigned untold;                 /* events of this life whose publisher does not know yet */
    struct handler_state handlers[HANDLERS_MAX];
    uint64_t changes;                /* handlers that came and went */
    bool lacks_memory;               /* an allocation fails: an answer may be lost with it, until the bus is opened again, and how often something failed */
    bool was_short;                  /* the disk was full: that somebody had an event, and what he said of it, may not have been written down */
    bool is_dead;                    /* the process died: whatever is told now is of no account */
    uint64_t handled;                /* calls of handlers */
};

void handler_model_init(struct handler_model *model, const struct handler_plan *plan, struct trace *trace);
void handler_model_deinit(struct handler_model *model);

/* An event is about to be published; its number. */
unsigned handler_published(struct handler_model *model, unsigned type, unsigned key, bool persistent, uint64_t delay_ms);
/* gw_publish has refused it. */
void handler_unpublished(struct handler_model *model, unsigned number);
void handler_told(struct handler_model *model, unsigned number, bool accepted);

/* A request, which is published as an event is: what becomes of it only its reply says. */
void handler_asked(struct handler_model *model, unsigned number);
/* Every queue that wants events of the type is there for good. */
bool handler_is_wanted(const struct handler_model *model, unsigned type);

/* gw_on is called; has answered. */
void handler_on_begins(struct handler_model *model, unsigned handler);
void handler_is_on(struct handler_model *model, unsigned handler);
void handler_is_off(struct handler_model *model, unsigned handler);

/* The handler is called. False: something is wrong, and told. */
bool handler_called(struct handler_model *model, unsigned handler, unsigned number, uint32_t attempt, bool redelivered);
void handler_acked(struct handler_model *model, unsigned handler, unsigned number);
/* It failed, and comes again after that time, if at all. */
void handler_failed(struct handler_model *model, unsigned handler, unsigned number, uint64_t delay_ms);
void handler_rejected(struct handler_model *model, unsigned handler, unsigned number);
/* The library has taken it back. */
void handler_was_late(struct handler_model *model, unsigned handler, unsigned number);
/* … since the bus is being closed: it has not failed. */
void handler_given_back(struct handler_model *model, unsigned handler, unsigned number);
/* A dead letter of the handler's has come. */
void handler_buried(struct handler_model *model, unsigned handler, unsigned number, bool redelivered);

/* The process has ended: in good order, with everything on disk, or not. */
void handler_restarted(struct handler_model *model, bool cleanly);
/* Nothing moves, and what was said is on disk. */
void handler_at_rest(struct handler_model *model);
/* Is there anything that must still come? */
bool handler_is_owed(const struct handler_model *model);
void handler_check_end(struct handler_model *model);

#endif
