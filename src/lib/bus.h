/* gw_bus: what embedded and remote buses have in common. */
#ifndef LIB_BUS_H
#define LIB_BUS_H

#include "lib/engine.h"
#include "lib/event.h"
#include "lib/loop.h"
#include "lib/ticket.h"

struct direct;
struct sources;
struct gw_loop;

/* Something that lives on a bus and ends with it: a source. */
struct bus_part {
    struct bus_part *next, *previous;
    /* The bus is being closed: end, and call bus_part_remove when that is done (now, or later). Called once. */
    void (*close)(struct bus_part *part);
};

enum bus_state {
    BUS_OPEN,
    BUS_GIVEN_UP,                    /* its engine will not come up any more; everything is there until the program closes it */
    BUS_CLOSING,                     /* events in hand may be answered, publishes are waited for, parts end */
    BUS_ENDING,                      /* the engine closes */
    BUS_CLOSED,                      /* to be freed */
};

#define BUS_ROOM 1024u

struct gw_bus {
    struct gw_loop *loop;
    struct gw_bus *next, *previous;
    const struct engine_ops *ops;
    void *engine;                    /* the engine's own */
    enum bus_state state;
    struct gw_handler *handlers;
    struct gw_handler *ready, **ready_last;   /* those that may have something to be called for */
    uint64_t due_us;                 /* no event in hand is late before */
    struct bus_part *parts;
    struct sources *sources;         /* NULL: there never was one */
    struct event_pool events;        /* memory of events */
    struct gw_event *calling;        /* whose handler is being called; NULL: none, or it was answered */
    bool reap;                       /* a handler may be done with for good */
    uint64_t in_hand;                /* events that somebody is to answer */
    struct tickets tickets;
    struct requests *requests;       /* NULL: nothing was asked yet */
    struct direct *direct;           /* events that never leave the memory; NULL: the engine has no such way */
    uint8_t room[BUS_ROOM];          /* what a message is put together in */
    char id_prefix[12];              /* of events and names that this bus makes */
    uint64_t next_id;
    gw_notice_fn notice;
    void *notice_context;
    struct bus_note *notes, **notes_last;     /* not yet told */
    uint64_t until_us;               /* until when gw_publish_wait waits, while it does; 0: nobody does */
    uint64_t grace_us;               /* BUS_CLOSING: until then */
    gw_closed_fn closed;
    void *closed_context;
    int result;                      /* of closing; BUS_GIVEN_UP: what every call is answered with */
    char why[LOOP_ERROR_MAX];        /* BUS_GIVEN_UP: the sentence with it */
};

/* A bus on the loop, for an engine to fill in. NULL: a sentence was left. */
struct gw_bus *bus_begin(struct gw_loop *loop, gw_notice_fn notice, void *notice_context);
/* The engine could not be opened: frees it, and has gw_loop_run know of `result`. */
void bus_abandon(struct gw_bus *bus, int result);

/* What to answer to somebody who wants to use it; GW_DONE: nothing. */
int bus_check(struct gw_bus *bus);

/* An id of its own: at most BUS_ID_MAX bytes with the zero. */
#define BUS_ID_MAX 32u
unsigned bus_new_id(struct gw_bus *bus, char id[BUS_ID_MAX]);

/* What an engine has to say unasked; told in the loop's turn. On the loop's thread. */
__attribute__((format(printf, 3, 4)))
void bus_notice(struct gw_bus *bus, enum gw_notice_level level, const char *format, ...);

/* The engine gives up, for a reason that loop_fail has left. What was published and is not known of is told, and a loop with nothing else to do ends. */
void bus_give_up(struct gw_bus *bus, int result);

/* The engine is closed; called once, by it. */
void bus_closed(struct gw_bus *bus, int result);

void bus_part_add(struct gw_bus *bus, struct bus_part *part);
void bus_part_remove(struct gw_bus *bus, struct bus_part *part);

/* ---- for the loop ---- */
/* Is there something to wait for? */
bool buses_are_alive(const struct gw_loop *loop);
/* Each bus's share of a turn; answers when there is something again. */
uint64_t buses_turn(struct gw_loop *loop, uint64_t now_us);
/* Begins to close those that are open. */
void buses_close(struct gw_loop *loop, uint64_t grace_ms);
void buses_forked(struct gw_loop *loop);

#endif
