/* The oracle of the bus's simulation: what may be posted when, and what must be. What the broker does contrary to it is told to the trace.
 *
 *   event         published once; confirmed, refused, or not known to be either
 *   life          of a subscription, from its POST to its DELETE; another one with the same id is another life
 *   errand        an event in a life: whether it must be posted, how often that failed, and whether it is done
 *   replay        makes more than one of some errands: nobody can tell these apart, so that they are counted, see bus_replay.c
 *
 * What is being changed by a request, and what a crash may have undone, counts either way. */
#ifndef SIM_BUS_MODEL_H
#define SIM_BUS_MODEL_H

#include "io/outgoing.h"
#include "sim/bus_plan.h"
#include "sim/trace.h"

#define BUS_ATTEMPTS_KEPT 50u
#define BUS_NEVER UINT64_MAX

struct bus_event {
    uint64_t sent_us, known_us;      /* when it was published; when its answer came, BUS_NEVER: it has not */
    uint64_t before;                 /* the number of the one before it of the same publisher */
    uint8_t publisher, type, grade, key;
    bool confirmed;
};

enum errand_flags {
    ERRAND_MUST = 1,                 /* it is to be posted */
    ERRAND_DONE = 2,                 /* the broker was told 2xx … */
    ERRAND_DONE_SURE = 4,            /* … and has written that down */
    ERRAND_TAKEN = 8,                /* the sink took it, whether the broker was told or not */
    ERRAND_GIVEN_UP = 16,            /* the last attempt has failed */
    ERRAND_GIVEN_UP_SURE = 32,
    ERRAND_DEAD = 64,                /* it was found in the dead queue */
};

struct bus_errand {
    uint64_t failed_us;              /* when its last attempt failed … */
    uint32_t failed_epoch;           /* … and in which life of the broker */
    uint16_t attempts, sure_attempts;   /* that failed; of which the broker has written it down */
    uint16_t flags;                  /* enum errand_flags */
    uint32_t done_epoch;
    uint16_t under_way;
    /* Of all that there are of it: how often the broker was told 2xx, how often it was given up, and found in the dead queue; … */
    uint16_t done, given_up, dead;
    uint16_t least, most;            /* … how many replays have added, beside the one that came by itself; … */
    uint16_t sure, forgotten;        /* … how many of `done` and `given_up` are written down, and how many a crash may have undone */
};

struct bus_attempt {
    uint64_t event, now_us;
    unsigned attempt, status;
    enum outgoing_outcome outcome;
};

#define BUS_WISHES_MAX 8u

/* A replay that was asked for. */
struct bus_replay {
    bool is_asked;                   /* it may be under way */
    bool is_unsure;                  /* it was asked for, and there was no answer */
    uint64_t asked_us, answered_us;  /* answered_us 0: not yet, or never */
    uint32_t epoch;                  /* the broker's life in which it was asked for */
    struct bus_wish wishes[BUS_WISHES_MAX];   /* what the subscription wanted then, and what it came to want since: it may have begun with any of these */
    unsigned wish_count;
    enum { REPLAY_ALL, REPLAY_SINCE, REPLAY_IDS } what;
    uint64_t since_us, until_us;     /* REPLAY_SINCE: when the events came; BUS_NEVER: there is no end */
    uint64_t last;                   /* number of the last event that was published when it was asked for */
    uint64_t ids[4];
};

enum bus_doing { DOING_NOTHING, DOING_CREATE, DOING_CHANGE, DOING_REMOVE };
enum bus_ended { ENDED_NOT, ENDED_MAYBE, ENDED_FOR_SURE };

struct bus_life {
    unsigned slot, number;
    struct bus_terms terms;
    struct bus_wish now, next;       /* next: what a request that is not answered wants; the same as `now` otherwise */
    enum bus_doing doing;            /* that request */
    bool revives;                    /* it begins an ended one anew */
    bool is_made, is_leaving, is_gone;   /* its POST was answered; a DELETE was sent; answered */
    bool is_blurred;                 /* a request was answered, and the bus has not looked since: what sinks say may count or not */
    uint64_t asked_us;               /* when the POST was sent: older events have no business here */
    uint64_t bound_us;               /* since when it is known to be bound as `now` says; BUS_NEVER: it is not known */
    uint64_t settled_us;             /* since when `now` is what counts, and nothing else */
    bool binds_at_rest;              /* it will be known when all is at rest */
    unsigned sinks_named;            /* how often it got another one */
    enum bus_ended ended;
    uint32_t ended_epoch;            /* the broker's life in which the sink said so; 0: and all has come to rest since */
    bool ended_is_kept, ended_meanwhile;   /* on disk; while a request was under way */
    unsigned under_way;
    bool breaker_is_known;           /* the next two count what the broker counts */
    unsigned failures, opened;       /* in a row; how often the breaker did */
    uint64_t open_until_us, slow_until_us;
    int leave_of;                    /* the sink that allowed the origin in this life of the broker; -1: none did */
    uint64_t interval_us, next_post_us;
    struct bus_replay replay;
    struct bus_errand *errands;      /* by the event's number - first */
    uint64_t first, errand_count, errand_room;
    struct bus_attempt log[BUS_ATTEMPTS_KEPT];
    uint64_t attempt_count;
};

struct bus_model {
    const struct bus_plan *plan;
    struct trace *trace;
    struct bus_event *events;        /* by number - 1 */
    uint64_t event_count, event_room;
    struct bus_life **lives;         /* by number - 1 */
    unsigned life_count, life_room;
    struct bus_life *slots[BUS_SLOTS_MAX];   /* the one that has the id; NULL: none */
    uint64_t last_of[BUS_PUBLISHERS_MAX];    /* the number of the last event of a publisher */
    uint32_t epoch;                  /* the broker's life, from 1 */
    uint64_t changes[BUS_SLOTS_MAX]; /* by id: requests that change subscriptions, asked and answered, and ends that sinks said */
    uint64_t posted, delivered, failed, given_up;
};

void bus_model_init(struct bus_model *model, const struct bus_plan *plan, struct trace *trace);
void bus_model_deinit(struct bus_model *model);
static inline struct bus_event *bus_event(struct bus_model *model, uint64_t number) { return &model->events[number - 1]; }
static inline struct bus_life *bus_life(struct bus_model *model, unsigned number) { return model->lives[number - 1]; }

/* The bytes of an event's data, into `room` of BUS_BODY_MAX + 64: answers how many. */
size_t bus_event_body(const struct bus_model *model, uint64_t number, char *room);

/* ---- publishing ---- */
uint64_t bus_publish(struct bus_model *model, unsigned publisher, struct random *random);
void bus_published(struct bus_model *model, uint64_t number, bool confirmed);
/* No answer will come: from now on it is not on its way any more. */
void bus_publish_lost(struct bus_model *model, uint64_t number);

/* ---- subscriptions (bus_life.c) ---- */
struct bus_life *bus_create(struct bus_model *model, unsigned slot, const struct bus_terms *terms, const struct bus_wish *wish);
void bus_change(struct bus_model *model, struct bus_life *life, const struct bus_wish *wish);
void bus_remove(struct bus_model *model, struct bus_life *life);
/* The request was done. bus_undone: it will not be, now or ever. bus_looked: what a look at the subscription showed, when it was not known what had become of the request; NULL: it is not there. */
void bus_done(struct bus_model *model, struct bus_life *life);
void bus_undone(struct bus_model *model, struct bus_life *life);
void bus_looked(struct bus_model *model, struct bus_life *life, const json_t *shown);
/* Its attempts, as the broker tells them at rest. */
void bus_check_log(struct bus_model *model, struct bus_life *life, const json_t *log);

/* ---- replays (bus_replay.c) ---- */
void bus_replay(struct bus_model *model, struct bus_life *life, const struct bus_replay *replay);
/* The broker's answer to that has come; or, not is_known, never will. */
void bus_replay_answered(struct bus_model *model, struct bus_life *life, bool is_known);
/* It was not begun: the subscription has ended. */
void bus_replay_refused(struct bus_life *life);
/* The subscription will want something else. */
void bus_replay_changes(struct bus_life *life, const struct bus_wish *wish);
/* What the broker says of it; NULL: there is none. */
void bus_replay_looked(struct bus_model *model, struct bus_life *life, const json_t *said);
/* May the event be posted because of a replay? */
bool bus_may_be_replayed(struct bus_model *model, struct bus_life *life, uint64_t event);
/* More of it came to an end than there can have been. */
void bus_check_copies(struct bus_model *model, struct bus_life *life, uint64_t event);

/* ---- sinks ---- */
struct bus_post {
    struct bus_life *life;
    uint64_t event;
    unsigned attempt, sink;
    unsigned sinks_named;            /* the life's when it began */
    bool is_question;                /* whether the origin may post */
    bool is_stale;                   /* the sink that it goes to may be none any more */
};
/* A request has begun, is answered (with result->found, where it is a question), will not be heard of again. */
void bus_posted(struct bus_model *model, struct bus_post *post);
void bus_taken(struct bus_model *model, const struct bus_post *post);
void bus_answered(struct bus_model *model, struct bus_post *post, const struct outgoing_result *result);
void bus_cancelled(struct bus_model *model, struct bus_post *post);

/* ---- life and death ---- */
void bus_restart(struct bus_model *model);
/* All is at rest: what was said is on disk. */
void bus_quiet(struct bus_model *model);
/* The bus of every worker has looked at everything that was answered. */
void bus_unblur(struct bus_model *model);
/* Everything that can be has been posted, all is at rest. `dead`: the numbers of the events in its dead queue. */
void bus_check_end(struct bus_model *model, struct bus_life *life, const uint64_t *dead, unsigned dead_count);
/* Is something of that life still to be posted, though nothing keeps it from being? */
bool bus_is_owed(const struct bus_model *model, const struct bus_life *life);

/* ---- for these files ---- */
struct bus_errand *bus_errand(struct bus_life *life, uint64_t event);   /* NULL: it was never one */
struct bus_errand *bus_errand_for(struct bus_life *life, uint64_t event);

#endif
