/* A simulated AMQP 0-9-1 client: bytes in, bytes out, and everything that it is told compared with the model.
 *
 *   sim_client.c    the connection: handshake, frames, its end
 *   sim_channel.c   what the broker says on a channel, and what is held there
 *   sim_acts.c      what a client does of its own accord
 *   sim_setup.c     declaring the topology
 */
#ifndef SIM_SIM_CLIENT_H
#define SIM_SIM_CLIENT_H

#include "protocol/amqp/methods.h"
#include "sim/model.h"
#include "sim/sim_broker.h"

#define CONSUMERS_MAX 3u
#define CONTROL_CHANNEL (PLAN_CHANNELS_MAX + 1u)   /* for declarations; the others are 1 … plan->channels */

/* A delivery that the client has not settled. */
struct held {
    uint64_t tag, message;
    uint8_t queue, consumer;     /* consumer: CONSUMERS_MAX for a get */
    bool in_tx;                  /* settled in the open transaction */
    bool uncounted;              /* it no longer counts for the prefetch: its commit was sent */
};

struct settled {
    uint64_t message;
    uint8_t queue;
};

struct sim_consumer {
    bool open, no_ack;
    uint8_t queue;
    uint16_t prefetch;
    uint32_t unacked;
    uint32_t number;             /* its tag is "c" and the number */
    struct model_progress progress;
};

enum channel_state { CHANNEL_CLOSED, CHANNEL_OPENING, CHANNEL_OPEN, CHANNEL_CLOSING };

/* The content that is arriving. */
struct arrival {
    uint32_t method;             /* 0: none; AMQP_BASIC_DELIVER, _GET_OK, _RETURN */
    uint64_t tag;
    uint8_t queue, consumer;
    bool redelivered, no_ack, header_seen;
    char exchange[64], key[64];
    uint8_t exchange_size, key_size;
    uint64_t body_size;
    struct stream properties, body;
};

struct sim_client;

struct sim_channel {
    struct sim_client *client;
    uint16_t number;
    enum channel_state state;
    bool publishes, confirms, consumes, transacts;
    uint32_t stream, order;
    uint32_t waiting;            /* the method that must come next; 0: none */
    uint8_t waiting_queue, waiting_consumer;
    bool waiting_no_ack;
    unsigned setup_left;         /* answers to pipelined declarations */
    unsigned setup_queue;        /* the deleted queue that is declared again; PLAN_QUEUES_MAX: none */

    uint64_t *unconfirmed;       /* messages by tag - first_tag; 0: answered */
    uint64_t first_tag, next_tag;
    unsigned unconfirmed_room, unconfirmed_left;

    struct held *held;           /* by tag */
    unsigned held_count, held_room;
    uint64_t last_tag;
    struct settled *unsynced;    /* settled, and the broker may not know yet */
    unsigned unsynced_count, unsynced_room;
    uint32_t channel_unacked;    /* deliveries held, not gets */
    uint16_t prefetch, channel_prefetch;
    struct sim_consumer consumers[CONSUMERS_MAX];
    uint32_t next_consumer;
    bool qos_done;

    uint64_t *tx_published;
    unsigned tx_published_count, tx_published_room;
    struct settled *tx_settled;
    unsigned tx_settled_count, tx_settled_room;
    struct arrival arrival;
};

struct sim_world;

enum client_state { CLIENT_DOWN, CLIENT_START, CLIENT_TUNE, CLIENT_OPEN_OK, CLIENT_SETUP, CLIENT_UP, CLIENT_CLOSING };

/* What clients of one simulation share. */
struct sim_world {
    const struct plan *plan;
    struct random *random;
    struct trace *trace;
    struct model *model;
    struct sim_broker *broker;
    struct sim_client *clients;  /* plan->clients, and one that drains */
    uint64_t ops;
    bool topology_ready;         /* somebody declared everything in this life of the broker */
    bool topology_lasting;       /* and in an earlier one too: what is durable must still be there */
    bool queue_there[PLAN_QUEUES_MAX];
    bool queue_locked[PLAN_QUEUES_MAX];   /* somebody deletes it and declares it again */
    bool calm;                   /* clients finish what they have begun and go */
    uint64_t counts[PLAN_QUEUES_MAX];     /* the last passive declare's message counts */
    uint8_t *body;               /* room for the largest */
};

struct sim_client {
    struct sim_world *world;
    unsigned index;
    enum client_state state;
    bool scripted;               /* does nothing of its own accord */
    struct link *link;
    uint32_t frame_max;
    uint16_t heartbeat_s;
    bool blocked;                /* the broker lacks something and reads nothing of what we say */
    uint64_t sent_us;
    struct sim_channel channels[CONTROL_CHANNEL + 1];
};

/* ---- sim_client.c ---- */

void sim_client_init(struct sim_client *client, struct sim_world *world, unsigned index);
void sim_client_deinit(struct sim_client *client);
void sim_client_connect(struct sim_client *client);

/* Reads some of what has arrived. True: something happened. */
bool sim_client_read(struct sim_client *client);

/* The connection is lost from one moment to the next. `half_open`: the broker is not told. */
void sim_client_drop(struct sim_client *client, bool half_open);

/* Says connection.close. */
void sim_client_close(struct sim_client *client);

/* The broker died; the model knows already. */
void sim_client_forget(struct sim_client *client);

void sim_client_say(struct sim_client *client, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values);

/* ---- sim_channel.c ---- */

void sim_channel_open(struct sim_channel *channel);
void sim_channel_close(struct sim_channel *channel);
void sim_channel_method(struct sim_channel *channel, const struct amqp_method *method);
void sim_channel_header(struct sim_channel *channel, const struct amqp_content_header *header);
void sim_channel_body(struct sim_channel *channel, struct bytes bytes);

/* It is gone: what it held is ready again. `applied`: the broker has read all that was said on it. `crashed`: the model has been told of the
 * whole broker's end. */
void sim_channel_end(struct sim_channel *channel, bool applied, bool crashed);
void sim_channel_deinit(struct sim_channel *channel);

/* The broker is about to be found dead; called before the model is told. Of a transaction whose commit was sent all or nothing is true; what was on its way
 * to a consumer without acknowledgements is lost. */
void sim_channel_crash(struct sim_channel *channel);

/* held[index] is settled: for good, or given back. */
enum settlement { SETTLED_ACK, SETTLED_BACK };
void sim_channel_settle(struct sim_channel *channel, unsigned index, enum settlement settlement);

/* It no longer counts for the prefetch. */
void sim_channel_uncount(struct sim_channel *channel, struct held *held);

/* ---- sim_acts.c ---- */

void sim_client_act(struct sim_client *client);

/* ---- sim_setup.c ---- */

/* Declares everything on the control channel, pipelined. */
void sim_client_setup(struct sim_client *client);
void sim_client_declare_queue(struct sim_client *client, unsigned queue, bool passive);
void sim_client_setup_answered(struct sim_channel *channel);

#endif
