/* Who asks the broker's HTTP for something: publishers of events, and for each subscription's id somebody who makes it, changes it, looks at it and removes it. */
#ifndef SIM_BUS_HAND_H
#define SIM_BUS_HAND_H

#include "sim/bus_door.h"
#include "sim/bus_job.h"
#include "sim/bus_listener.h"
#include "sim/bus_model.h"

#define BUS_DOORS_MAX (BUS_PUBLISHERS_MAX + BUS_SLOTS_MAX + BUS_WORKERS_MAX + BUS_LISTENERS_MAX)

struct bus_hands;

#define BUS_TAG_SIZE 64u

struct bus_hand {
    struct bus_hands *hands;
    struct bus_door *door;
    unsigned number;                 /* of the publisher, of the slot */
    uint64_t event;                  /* that is being published */
    struct bus_life *life;           /* that the request is about */
    enum { HAND_IDLE, HAND_PUBLISHES, HAND_CREATES, HAND_CHANGES, HAND_REMOVES, HAND_LOOKS, HAND_READS_LOG, HAND_READS_DEAD, HAND_REPLAYS, HAND_LOOKS_AT_REPLAY } doing;
    bool is_unsure;                  /* it does not know what became of its last request */
    enum { MATCH_NOTHING, MATCH_LATEST, MATCH_OLD } match;   /* what its change says in If-Match */
    char tag[BUS_TAG_SIZE], old_tag[BUS_TAG_SIZE];   /* the ETag that it has seen last, and the one before that was another; empty: none */
    struct bus_life *tag_of;         /* of this one; NULL: it may not be true any more */
    uint64_t *dead;                  /* numbers of events that it found */
    unsigned dead_count, dead_room;
};

struct bus_hands {
    const struct bus_plan *plan;
    struct random *random;
    struct trace *trace;
    struct bus_model *model;
    struct bus_doors doors;
    struct bus_door list[BUS_DOORS_MAX];
    struct bus_hand publishers[BUS_PUBLISHERS_MAX], keepers[BUS_SLOTS_MAX];
    bool is_ending;                  /* nothing is asked: the broker goes */
    uint64_t ops;                    /* requests that were answered */
};

void bus_hands_init(struct bus_hands *hands, const struct bus_plan *plan, struct random *random, struct trace *trace, struct bus_model *model, struct sim_broker *broker);
void bus_hands_deinit(struct bus_hands *hands);

void bus_hand_publish(struct bus_hand *publisher);
/* Whatever comes to the keeper's mind; but what must be done first. */
void bus_hand_keep(struct bus_hand *keeper);
/* Finds out what became of its last request, or what it does not know of its subscription. False: it knows everything. */
bool bus_hand_find_out(struct bus_hand *keeper);
/* Lets a paused one go on. False: it is not paused. */
bool bus_hand_resume(struct bus_hand *keeper);
/* Looks at a replay that may be under way. False: there is none. */
bool bus_hand_look_at_replay(struct bus_hand *keeper);
void bus_hand_read_log(struct bus_hand *keeper);
void bus_hand_read_dead(struct bus_hand *keeper);

static inline bool bus_hand_is_idle(const struct bus_hand *hand) { return !hand->door->is_waiting && hand->doing == HAND_IDLE; }

#endif
