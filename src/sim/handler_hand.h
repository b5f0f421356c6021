/* The program of the library's simulation: what anybody's would be, on the functions of godwit.h alone. It opens its bus, says gw_on for each of its handlers, publishes, and answers events at
 * once, later, or never. */
#ifndef SIM_HANDLER_HAND_H
#define SIM_HANDLER_HAND_H

#include "sim/handler_loop.h"
#include "sim/handler_model.h"
#include "sim/random.h"

struct handler_program;

struct hand {
    struct handler_program *program;
    unsigned index;
    gw_handler *handler, *graves;    /* NULL: off; graves: of its queue of dead letters */
};

/* An event that is to be answered later, or never. */
struct held_event {
    gw_event *event;
    unsigned handler, number;
    bool is_late, is_never;
};

/* A publish whose publisher is to be told. */
struct handler_ticket {
    struct handler_program *program;
    unsigned number;
    bool is_short;                   /* the disk was, when it was published: one shard may have refused what others took later */
};

/* A request that waits for its reply. */
struct handler_request {
    struct handler_program *program;
    struct handler_request *next, *previous;
    unsigned number;
    uint64_t due_us;                 /* there is an answer by then */
    bool was_wanted;                 /* there was a queue for it */
    bool is_replied;                 /* a handler has said so */
};

struct handler_program {
    const struct handler_plan *plan;
    struct handler_model *model;
    struct random *random;
    struct trace *trace;
    struct sim_loop loop;
    gw_bus *bus;                     /* NULL: it has none, or is closing it */
    bool is_running, is_closed;      /* is_closed: it was told so */
    bool calm;                       /* everything is acknowledged at once, or soon */
    bool lacks_memory;               /* an allocation fails somewhere */
    bool is_short;                   /* the disk may be full … */
    bool has_failed;                 /* … and storage has failed of it: the process is to be started anew */
    struct hand hands[HANDLERS_MAX];
    uint64_t short_until_us;         /* the broker looks for room now and then only, and may refuse as long */
    gw_handler *letters;             /* of those with a type */
    struct held_event *held;
    unsigned held_count, held_room;
    struct handler_request *requests;
    unsigned next_told;              /* no publisher of an earlier event is to be told now */
    uint64_t acts;                   /* anything that was called or said */
};

void handler_program_init(struct handler_program *program, const struct handler_plan *plan, struct handler_model *model, struct random *random, struct trace *trace);
void handler_program_deinit(struct handler_program *program);

/* A new process, on a broker that is open. False: it died before it was ready. */
bool handler_program_start(struct handler_program *program, struct worker *worker, struct sim_disk *disk);

/* One turn of its loop. True: something happened. */
bool handler_program_turn(struct handler_program *program);
/* It publishes something. */
void handler_program_publish(struct handler_program *program);
/* It asks for a reply. */
void handler_program_ask(struct handler_program *program);
/* Whoever waits for a reply has waited long enough: nobody may be left. */
void handler_program_check_asked(struct handler_program *program);
/* It takes one of its handlers off, or has one again. */
void handler_program_change(struct handler_program *program);
/* All handlers are there. */
void handler_program_all_on(struct handler_program *program);
/* It answers one of the events that it has kept. False: there is none. */
bool handler_program_answer(struct handler_program *program);
unsigned handler_program_held(const struct handler_program *program);

/* It begins to close the bus; is_closed tells when that is done. */
void handler_program_close(struct handler_program *program, uint64_t grace_ms);
/* It has died. */
void handler_program_die(struct handler_program *program);

#endif
