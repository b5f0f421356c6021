/* The oracle of the features' simulation: where every message may be, and where it must be. What the broker does contrary to it is told to the trace.
 *
 * A message lives in its chain's source; there it is acknowledged, or dies and is in the dead queue from then on, once. */
#ifndef SIM_FEATURE_MODEL_H
#define SIM_FEATURE_MODEL_H

#include "base/bytes.h"
#include "sim/feature_plan.h"
#include "sim/trace.h"

enum feature_answer { ANSWER_NONE, ANSWER_ACCEPTED, ANSWER_REFUSED };
enum feature_end { END_NONE, END_ACKED, END_REJECTED };

struct feature_message {
    uint64_t sent_us;            /* when it was published */
    uint64_t known_us;           /* when its confirm came: it had arrived before */
    uint64_t offset;             /* in a stream, UINT64_MAX: not seen yet */
    uint32_t stream, order;      /* the publishing connection, and its place in that */
    uint32_t ttl_ms, delay_ms;   /* NO_TTL: it does not expire */
    uint32_t end_epoch;          /* when its end was said; 0: the broker may never have heard of it */
    uint32_t returns;            /* times that it was given back */
    uint32_t id;                 /* of a chain that deduplicates, from 1 */
    uint64_t seen_us;            /* when it was first seen anywhere; 0: never */
    uint32_t epoch;              /* when it was published */
    bool firm;                   /* it was seen, and not only by a consumer that was quicker than the log */
    bool paired, excused;        /* what feature_dedup.c has judged already */
    uint8_t chain, priority, answer, end, ender;
    uint8_t key;                 /* CHAIN_GROUPS: of its group; 0: it has none */
    uint32_t transaction;        /* CHAIN_HALF: its number; 0: it is in none */
    uint8_t holder, returner;    /* the client that has it, or gave it back last; FEATURE_CLIENTS_MAX: none */
    uint64_t before;             /* the number of the one before it of the same connection and key; 0: none */
    bool sure;                   /* its end is on disk */
    bool dead;                   /* it was found in the dead queue at rest */
    bool buried;                 /* and acknowledged there for good */
    uint64_t back_us;            /* CHAIN_RETRY: when it was given back last, … */
    uint32_t back_epoch;
    uint32_t seen_count, least_count;   /* … what it said then of how often it had come back, and what it says at the least after a restart */
    uint32_t own_ms;             /* for how long it was to wait then, where its client said that; 0: as its queue says */
    uint8_t retrier;             /* who has read it, and may give it back */
    bool is_back, back_sure;     /* nobody has read it since; and that is on disk */
    uint8_t here, there;         /* copies found in source and dead queue while counting */
    bool loose;                  /* given back to the source while counting: it may die of that, or expire */
};

/* Of a chain of half messages. */
struct feature_transaction {
    uint64_t first_us;           /* when it was begun */
    uint32_t confirmed;          /* of its messages */
    uint32_t decisions;          /* sent, whether they arrived or not */
    uint8_t chain;
    bool commit_sent, committed, rolled_back;   /* the latter two: the broker said so */
    bool seen;                   /* one of its messages was */
    bool over;                   /* nobody decided it, and its time was up */
};

#define FILTER_STREAMS 16u

/* How far a consumer has got with what one connection published with one priority. */
struct filter_order {
    uint32_t stream, next;       /* next 0: nothing yet */
    uint8_t priority;
};

struct feature_model {
    const struct feature_plan *plan;
    struct trace *trace;
    struct feature_message *messages;   /* by number - 1 */
    uint64_t count, room;
    uint32_t epoch;              /* the broker's life, from 1 */
    unsigned active[CHAINS_MAX];        /* the client that a single active consumer is; FEATURE_CLIENTS_MAX: not known */
    uint64_t delivered, died;
    unsigned holding[CHAINS_MAX][GROUP_KEYS_MAX][FEATURE_CLIENTS_MAX + 1];   /* messages of a key that a client holds */
    struct feature_transaction *transactions;   /* by number - 1 */
    uint32_t transaction_count, transaction_room;
    struct filter_order orders[FEATURE_CLIENTS_MAX + 1][FILTER_STREAMS];
    uint32_t left[CHAINS_MAX];   /* consumers that went: each may have held any message, and given it back unseen */
};

/* What came with a message. */
struct feature_arrival {
    uint64_t number;
    bool redelivered;
    bool has_count, has_offset, has_death;
    uint64_t delivery_count, offset;
    char reason[16];             /* of the first x-death */
    char retry_reason[24];
    uint32_t transaction;        /* of a check-back; how often it was asked */
    uint64_t checks;
};

void feature_model_init(struct feature_model *model, const struct feature_plan *plan, struct trace *trace);
void feature_model_deinit(struct feature_model *model);
static inline struct feature_message *feature_message(struct feature_model *model, uint64_t number) { return &model->messages[number - 1]; }

/* A new message is about to be published to `chain`; answers its number. */
uint64_t feature_publish(struct feature_model *model, unsigned chain, uint32_t stream, uint32_t order, uint8_t priority, uint32_t ttl_ms, uint32_t delay_ms);
void feature_confirm(struct feature_model *model, uint64_t number, bool accepted);

/* A consumer of the source, of the dead queue, has got it. `client`: which one; `leaving`: it has said that it goes, and this was on its way. */
void feature_deliver(struct feature_model *model, unsigned chain, unsigned client, bool leaving, const struct feature_arrival *arrival);
void feature_deliver_dead(struct feature_model *model, unsigned chain, const struct feature_arrival *arrival);

/* The client has said what becomes of it. */
void feature_end(struct feature_model *model, uint64_t number, enum feature_end end, unsigned client);
/* What the client has said since the last rest may not have reached the broker. */
void feature_lost(struct feature_model *model, unsigned client);
/* The client no longer consumes. */
void feature_gone(struct feature_model *model, unsigned client);

/* The same for queues with x-retry-backoff: of a message that is read, of what becomes of it, of a client that goes, of restarts and rests. */
void retry_delivered(struct feature_model *model, unsigned client, const struct feature_arrival *arrival);
void retry_let_go(struct feature_model *model, uint64_t number, bool returned);
/* The client has given it back, and said for how long it is to wait. */
void retry_own_wait(struct feature_model *model, uint64_t number, uint32_t ms);
void retry_gone(struct feature_model *model, unsigned client);
void retry_restart(struct feature_model *model);
void retry_quiet(struct feature_model *model);
void retry_died(struct feature_model *model, const struct feature_arrival *arrival);
/* The longest time that something waits. */
uint64_t retry_longest_us(const struct feature_plan *plan);

/* The broker's process has ended. */
void feature_restart(struct feature_model *model);
/* All is at rest: what was said is on disk. */
void feature_quiet(struct feature_model *model);

/* Everything that is ready in the source (in the order of delivery), and in the dead queue, at rest. */
void feature_count_begin(struct feature_model *model, unsigned chain);
void feature_found(struct feature_model *model, unsigned chain, const uint64_t *numbers, unsigned count, bool dead);
void feature_count_end(struct feature_model *model, unsigned chain);

/* The whole stream, from its first offset, in the order of delivery. */
void feature_found_stream(struct feature_model *model, unsigned chain, const struct feature_arrival *arrivals, unsigned count);

/* ---- feature_dedup.c ---- */

/* Of a chain that deduplicates: nothing came twice within the window, and what is missing is the same as something that came. */
void feature_check_once(struct feature_model *model, unsigned chain);

/* Until when time must pass so that nothing is delayed any more, microseconds. */
uint64_t feature_due_us(const struct feature_model *model);

/* ---- feature_groups.c: the keys of groups ---- */

/* The message just published has that key; `last`: the one before it of the same connection and key. */
void groups_published(struct feature_model *model, uint64_t number, uint8_t key, uint64_t last);
void groups_delivered(struct feature_model *model, unsigned client, uint64_t number);
/* The client has said what becomes of a message. */
void groups_let_go(struct feature_model *model, uint64_t number, unsigned client, bool returned);
void groups_gone(struct feature_model *model, unsigned client);
/* What is ready at rest, in the order of delivery. */
void groups_found(struct feature_model *model, unsigned chain, const uint64_t *numbers, unsigned count);

/* ---- feature_half.c: messages of transactions ---- */

uint32_t halves_begin(struct feature_model *model, unsigned chain);
/* May the broker refuse the message? */
bool halves_may_refuse(const struct feature_model *model, const struct feature_message *message);
void halves_confirmed(struct feature_model *model, const struct feature_message *message);
/* One of the chain's transactions by chance; 0: none. */
uint32_t halves_pick(const struct feature_model *model, unsigned chain, uint64_t draw);
/* A decision is about to be sent: the number under which its confirm is waited for. */
#define HALF_DECISION (1ull << 63)
#define HALF_COMMITS (1ull << 62)
#define HALF_CERTAIN (1ull << 61)   /* it is the first, and the broker knows the transaction */
uint64_t halves_decide(struct feature_model *model, uint32_t number, bool commits);
void halves_answered(struct feature_model *model, uint64_t decision, bool accepted);
void halves_seen(struct feature_model *model, uint64_t number);
/* Must a message that was confirmed be somewhere? */
bool halves_must_be_there(const struct feature_model *model, const struct feature_message *message);
/* A check-back has come. */
void halves_asked(struct feature_model *model, unsigned chain, uint32_t number, uint64_t count);
void halves_quiet(struct feature_model *model);
uint64_t halves_longest_us(const struct feature_plan *plan);

/* ---- feature_inside.c: messages that somebody sorts out ---- */

/* What somebody asks of the broker. */
void inside_request(const struct chain *chain, struct random *random, char *text, size_t room);
/* The message has come out of the source: it may have been elsewhere. */
void inside_delivered(struct feature_message *message);

/* ---- feature_filters.c: consumers that want some keys ---- */

struct amqp_table_writer;
/* Appends the x-filter of a consumer that has one. */
void filter_argument(const struct feature_part *part, unsigned client, struct amqp_table_writer *writer);
void filters_delivered(struct feature_model *model, unsigned client, const struct feature_arrival *arrival);
void filters_gone(struct feature_model *model, unsigned client);
/* The consumer waits, holds nothing, and all is at rest. `arrivals`: of a stream, all that it has got. */
void filters_rested(struct feature_model *model, unsigned client, const struct feature_arrival *arrivals, unsigned count);

#endif
