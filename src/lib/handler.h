/* gw_handler: a function, the queue whose events it gets, and those that are on their way to it or in its hands. */
#ifndef LIB_HANDLER_H
#define LIB_HANDLER_H

#include "base/bugs.h"
#include "lib/engine.h"
#include "lib/event.h"

#define HANDLER_NAME_MAX 256u
#define PLAN_ARGUMENTS_MAX 1024u

/* What an engine has to declare for a handler, in this order: the dead letters' queue (durable, without arguments) if there is one, the queue, the binding to `events`, and `consumers`
 * consumers with `prefetch` each, which acknowledge. */
struct plan {
    char queue[HANDLER_NAME_MAX];
    char pattern[HANDLER_NAME_MAX];  /* empty: nothing is bound; messages come by the queue's name */
    char dead_queue[HANDLER_NAME_MAX];   /* empty: none */
    uint8_t arguments[PLAN_ARGUMENTS_MAX];   /* the queue's, a table without its size */
    uint32_t arguments_size;
    bool durable;                    /* otherwise: exclusive, deleted with its connection */
    uint32_t consumers;
    uint32_t prefetch;               /* of each; 0: what suits the engine */
};

struct gw_handler {
    struct gw_bus *bus;
    struct gw_handler *next, *previous;
    struct gw_handler *ready_next;
    gw_event_fn handle;
    void *context;
    struct plan plan;
    void *link;                      /* the engine's own */
    uint64_t queue;                  /* embedded: the queue's id; 0: not known */
    struct event_list waiting, in_hand, late, resting;   /* in hand: in the order in which they will be late */
    uint32_t in_hand_count, concurrency;
    int32_t retries;                 /* INT32_MAX: for ever */
    uint64_t delays_ms[32];
    unsigned delay_count;
    uint64_t timeout_us;             /* LOOP_NEVER: none */
    char dead_letter[HANDLER_NAME_MAX];
    bool transient, takes_direct, is_ready, off;
    uint32_t direct_routes;          /* that know it */
    bool is_cut;                     /* from its queue: nothing comes any more */
    void (*over)(struct gw_handler *handler);   /* one of the library's own is about to be freed, with whatever it has; may be NULL */
};

/* A handler of the library's own, as the plan says (copied); without a pattern it gets what is sent to its queue by that name. Any number of events may be in its hands, and none is ever late.
 * NULL: a sentence was left. Ends with gw_off. */
struct gw_handler *handler_new(struct gw_bus *bus, const struct plan *plan, gw_event_fn handle, void *context);
/* Frees it with whatever it has. */
void handler_free(struct gw_handler *handler);

/* plan.c: may a durable queue of handlers be called so? */
bool handler_name_is_possible(const char *name);
/* plan.c: fills in plan and settings from what the program said. < 0: a sentence was left. */
int handler_plan(struct gw_handler *handler, const char *pattern, const gw_handler_options *options);

/* ---- for engines ---- */
/* An event has come. False: out of memory; the engine gives it back to its queue. */
bool handler_deliver(struct gw_handler *handler, const struct incoming *incoming);
/* The connection by which its events came is lost: those that wait are forgotten, and those in hand can no longer be settled. Both will come again; ops->release is called for each, for
 * the latter when they are answered. */
void handler_lost(struct gw_handler *handler);

/* ---- for the bus ---- */
static inline bool handler_has_room(const struct gw_handler *handler) { return handler->in_hand_count < handler->concurrency + bug_enabled(BUG_HANDLER_ONE_MORE) && !handler->off; }
static inline bool handler_has_work(const struct gw_handler *handler) { return handler->waiting.first && handler_has_room(handler); }
/* Calls it with an event that is in no list. Afterwards the event may be gone. */
void handler_call(struct gw_handler *handler, struct gw_event *event);
/* Nothing comes to it any more, and what it has not seen goes back; it stays, for gw_off. */
void handler_cut(struct gw_handler *handler);
/* It gets nothing more. What it has in hand may still be answered; when handler_is_over, nobody knows it any more. */
void handler_stop(struct gw_handler *handler);
bool handler_is_over(const struct gw_handler *handler);
/* Calls the handler for some of what waits, at most `budget` events, which is lowered. */
void handler_turn(struct gw_handler *handler, unsigned *budget);
/* Takes back what is late; answers when the next one is. */
uint64_t handler_late(struct gw_handler *handler, uint64_t now_us);
/* Those that wait go back to the queue; the ones in hand too, with `all`. */
void handler_give_back(struct gw_handler *handler, bool all);
void handler_is_ready(struct gw_handler *handler);
/* How long an event waits that failed for the `attempt`-th time, from 1. */
static inline uint64_t handler_delay_ms(const struct gw_handler *handler, uint32_t attempt)
{
    return handler->delay_count ? handler->delays_ms[attempt <= handler->delay_count ? attempt - 1 : handler->delay_count - 1] : 0;
}

/* event.c: gives back what the event consists of; it is empty then. */
void event_let_go(struct gw_event *event);
/* The event is settled, and gone. */
void event_settle(struct gw_event *event, enum settlement settlement);
/* A message takes its place, and it is gone. GW_E_TIMEOUT: it was late, and is gone all the same; another error: it is still to be answered. With a sentence. */
int event_replace(struct gw_event *event, const struct engine_message *message);

#endif
