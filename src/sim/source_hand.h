/* The handler of a simulation of sources: a client that consumes a queue that all events come to, and acknowledges them, soon or late. */
#ifndef SIM_SOURCE_HAND_H
#define SIM_SOURCE_HAND_H

#include "broker/client.h"
#include "sim/source_world.h"

#define HANDS_HELD 16u

struct source_hand {
    struct client client;            /* first */
    struct source_world *world;
    bool attached, is_ready;         /* ready: what is published now comes to it, in whichever life */
    bool is_consuming;
    struct held {
        uint64_t queue, seq;
    } held[HANDS_HELD];
    unsigned held_count;
};

void source_hand_init(struct source_hand *hand, struct source_world *world);
/* The broker has begun a life, and ends it. Between turns. */
void source_hand_begin(struct source_hand *hand, struct worker *worker);
void source_hand_end(struct source_hand *hand);
/* Acknowledges something. True: it did. */
bool source_hand_step(struct source_hand *hand);

#endif
