/* The oracle: what may and what must be in every queue, from what clients said and what they were told.
 *
 * For every message and queue that it was routed to there is one `instance`. MAY: it may be in the queue. MUST: it has to be, as long as the broker lives.
 * CONFIRMED: it has to be in the queue even after a crash. HELD: a client has it unacknowledged. ENDED: it was settled for good; until that is
 * SURE, a crash may bring it back. What a broker does contrary to these is told to the trace as a failure. */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

#include "sim/content.h"
#include "sim/plan.h"
#include "sim/trace.h"

enum instance_flags {
    INSTANCE_ROUTED = 1, INSTANCE_MAY = 2, INSTANCE_MUST = 4, INSTANCE_CONFIRMED = 8, INSTANCE_SEEN = 16, INSTANCE_HELD = 32,
    INSTANCE_ENDED = 64, INSTANCE_SURE = 128, INSTANCE_APPLIED = 256, INSTANCE_IN_TX = 512,
};

struct instance {
    uint16_t flags;
    uint8_t generation;      /* of the queue when it was published */
    uint8_t deliveries;
};

struct sim_message {
    uint32_t stream;         /* the publishing channel's life */
    uint32_t order;          /* in its stream */
    uint32_t epoch;          /* the broker's life in which it was published */
    uint16_t route;          /* queues, a bit each */
    uint8_t exchange, key;
    bool persistent, returned, mandatory, answered;
    uint32_t first_instance;
};

struct model_queue {
    uint8_t generation;
    unsigned disturbances;   /* purges and the like that were asked for and not answered */
    bool waived;             /* counts and contents are unknown until the next drain */
};

/* What one transaction does to one queue. */
struct model_group {
    uint32_t first, count;   /* in `members` */
    uint8_t queue;
    uint8_t generation;
    uint32_t epoch;          /* the broker's life in which its end was lost sight of */
};

struct model_member {
    uint64_t message;
    bool settles;            /* or publishes */
    uint8_t deliveries;      /* before */
};

struct model {
    const struct plan *plan;
    struct trace *trace;
    struct sim_message *messages;     /* by number - 1 */
    uint64_t message_count, message_room;
    struct instance *instances;
    uint64_t instance_count, instance_room;
    uint64_t first_open;              /* all messages with lower numbers have come to their end for sure */
    struct model_queue queues[PLAN_QUEUES_MAX];
    struct model_group *groups;
    unsigned group_count, group_room;
    struct model_member *members;
    unsigned member_count, member_room;
    uint32_t epoch, next_stream;
    uint64_t delivered, confirmed;
    bool rotten, unreadable;          /* something rotted, or could not be read: what is lost must have been told */
    uint64_t alarms;                  /* warnings and errors since the broker was last started */
    bool refusals;                    /* the disk has failed or filled up: publishes may be refused */
    bool torn_log;                    /* the log had failed when the broker was last ended */
    bool failing;                     /* storage has failed in this life: the broker closes channels whose clients do not know yet, so that owners and flags cannot be judged */
    uint8_t *scratch;
    uint64_t scratch_size;
};

/* How far a consumer has come in each stream. */
struct model_progress {
    bool strict;             /* redelivered messages too must come in order: all of them were ready before the first was delivered */
    struct { uint32_t stream, order; } of[PLAN_CLIENTS_MAX * PLAN_CHANNELS_MAX];
};

void model_init(struct model *model, const struct plan *plan, struct trace *trace);
void model_deinit(struct model *model);

/* May messages be lost, or settled ones come back? Something rotted, and that was told. */
static inline bool model_excuses(const struct model *model) { return (model->rotten || model->unreadable) && model->alarms > 0; }

struct instance *model_instance(struct model *model, uint64_t message, unsigned queue);
static inline struct sim_message *model_message(struct model *model, uint64_t message) { return &model->messages[message - 1]; }

uint32_t model_stream(struct model *model);

/* A publish is about to be sent. Answers its number; its content is in `content`. */
uint64_t model_publish(struct model *model, uint32_t stream, uint32_t order, enum plan_exchange exchange, unsigned key, bool mandatory, bool in_tx,
                       struct content *content);
void model_confirm(struct model *model, uint64_t message, bool accepted);
void model_return(struct model *model, uint64_t message);

/* Compares what arrived with what was published; answers the message's number, 0 after a failure. */
uint64_t model_identify(struct model *model, struct bytes exchange, struct bytes routing_key, struct bytes properties, struct bytes body);

/* `doubtful`: somebody else had it, who may have lost it without knowing. `progress`: the consumer's; NULL for a get. */
void model_deliver(struct model *model, unsigned queue, uint64_t message, bool redelivered, bool no_ack, bool doubtful,
                   struct model_progress *progress);

/* It was delivered, and is already given back. */
void model_see(struct model *model, unsigned queue, uint64_t message);

/* The client has settled it for good, or given it back. */
void model_end(struct model *model, unsigned queue, uint64_t message);
void model_give_back(struct model *model, unsigned queue, uint64_t message);

/* What was ended is known to have reached the broker; it may not have (its connection was lost); it is known to be on disk. */
void model_end_applied(struct model *model, unsigned queue, uint64_t message);
void model_end_lost(struct model *model, unsigned queue, uint64_t message);
void model_end_sure(struct model *model, unsigned queue, uint64_t message);

/* A purge, delete or the loss of a consumer without acknowledgements: what is ready in the queue may go. `held`: also what is held. */
void model_disturb(struct model *model, unsigned queue, bool held);

/* A transaction: its publishes come into being; on disk; never. */
void model_commit_sent(struct model *model, uint64_t message);
void model_rolled_back(struct model *model, uint64_t message);

/* A group of effects on one queue of which all or none are to be found: begin, add, … The settles count as done by the commit. */
void model_group_begin(struct model *model, unsigned queue);
void model_group_add(struct model *model, uint64_t message, bool settles);

/* The broker's process has ended; `clean`: in an orderly way. */
void model_restart(struct model *model, bool clean);

/* Everything has come to rest: what was ended is on disk. */
void model_quiet(struct model *model);

/* What a queue may count. */
void model_bounds(struct model *model, unsigned queue, uint64_t *least, uint64_t *most);

/* Somebody holds all that was in the queue, and everything has come to rest: what had to be there must be held, and what is not held is gone. */
void model_drain_end(struct model *model, unsigned queue);
void model_check_groups(struct model *model);

#endif
