/* Listeners to events: server-sent events by HTTP, from the first or from where a connection was lost. What they are told has its place in the stream, and is whole:
 *
 *   place         what was confirmed keeps its offset, over crashes, and has one
 *   no gap        between what a listener was told before and what it is told now nothing lies that it wants, however often it came back; nor is it told of one, as the stream keeps all */
#ifndef SIM_BUS_LISTENER_H
#define SIM_BUS_LISTENER_H

#include "sim/bus_door.h"
#include "sim/bus_model.h"

#define BUS_LISTENERS_MAX 2u

struct bus_listeners;

struct bus_listener {
    struct bus_listeners *listeners;
    struct bus_door *door;
    struct bus_wish wish;            /* its types */
    bool is_answered;                /* the head of the answer has come */
    bool has_last;
    uint64_t last;                   /* offset of what it was told last */
    uint64_t told;
};

struct bus_listeners {
    struct bus_model *model;
    struct random *random;
    struct trace *trace;
    struct bus_listener list[BUS_LISTENERS_MAX];
    unsigned count;
    uint64_t *at;                    /* by offset: the number of the event that lies there; 0: not known */
    uint64_t size, room;
};

void bus_listeners_init(struct bus_listeners *listeners, struct bus_model *model, struct random *random, struct bus_door *doors, unsigned count);
void bus_listeners_deinit(struct bus_listeners *listeners);

/* It listens if it does not, or goes. */
void bus_listener_act(struct bus_listener *listener);
/* Takes what has come. True: something had. */
bool bus_listener_read(struct bus_listener *listener);
/* All is at rest, and it has listened since: it was told of all that is known and that it wants. */
void bus_listener_rested(struct bus_listener *listener);

#endif
