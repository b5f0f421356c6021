/* A client of the features' simulation: one connection with one channel, which publishes with confirms, consumes, or counts what is at rest. */
#ifndef SIM_FEATURE_CLIENT_H
#define SIM_FEATURE_CLIENT_H

#include "protocol/amqp/methods.h"
#include "sim/feature_model.h"
#include "sim/sim_broker.h"

enum feature_state { FEATURE_DOWN, FEATURE_STARTING, FEATURE_SETTING_UP, FEATURE_UP, FEATURE_CLOSING };

struct feature_held {
    uint64_t tag, number;
};

/* What all clients of one simulation share. */
struct feature_world {
    const struct feature_plan *plan;
    struct random *random;
    struct trace *trace;
    struct feature_model *model;
    struct sim_broker *broker;
    uint64_t ops;
    uint32_t next_stream;
    bool calm;                  /* clients finish what they have begun and go */
    bool lingering;             /* but they stay for now, and consumers with filters acknowledge all they get */
};

struct feature_client {
    struct feature_world *world;
    unsigned index;
    struct feature_part part;
    enum feature_state state;
    struct link *link;
    uint32_t frame_max;
    unsigned answers_due;       /* of methods that were sent one after the other */
    uint32_t stream, order;
    uint32_t transaction, asked;   /* that it works on, that it was asked about last; 0: none */
    uint64_t last_of_key[GROUP_KEYS_MAX];   /* of its connection, numbers */
    bool consuming, from_dead;  /* its consumer reads the dead queue */
    unsigned counting;          /* of the admin: the chain that it counts */

    uint64_t *unconfirmed;      /* numbers by tag - 1; 0: answered */
    uint64_t next_tag, unconfirmed_room, unconfirmed_left;

    struct feature_held *held;
    unsigned held_count, held_room;

    struct feature_arrival arriving;
    bool in_content, header_seen;
    uint64_t arriving_tag, body_left;
    struct feature_arrival *arrivals;   /* of the admin: all that came, in order */
    unsigned arrival_count, arrival_room;
};

void feature_client_init(struct feature_client *client, struct feature_world *world, unsigned index);
void feature_client_deinit(struct feature_client *client);

/* Does something of its own accord. */
void feature_client_act(struct feature_client *client);
/* Is it a consumer of a queue in which there are filters, and there? */
bool feature_client_waits(const struct feature_client *client);
/* Reads what has arrived; true: something happened. */
bool feature_client_read(struct feature_client *client);
/* The broker died. */
void feature_client_forget(struct feature_client *client);

/* Of the admin, while all is calm: connect; consume a queue from its beginning; give everything back, or settle it for good; go. */
void feature_client_connect(struct feature_client *client);
void feature_client_count(struct feature_client *client, unsigned chain, bool dead);
void feature_client_settle(struct feature_client *client, bool for_good);
void feature_client_close(struct feature_client *client);

#endif
