/* One source of the broker's: a client that publishes what the source makes, and keeps its position. For the files of this folder. */
#ifndef BUS_INTAKE_H
#define BUS_INTAKE_H

#include "base/map.h"
#include "broker/client.h"
#include "bus/intakes.h"
#include "sources/source.h"

#define INTAKE_NEVER UINT64_MAX

enum intake_stage {
    INTAKE_CLOSED,                   /* it is opened at retry_us */
    INTAKE_OPENING,                  /* the client, the position's queue */
    INTAKE_OPEN,                     /* the source runs */
};

struct intake {
    struct client client;            /* first */
    struct source_sink sink;
    struct intakes *intakes;
    struct intake *next;
    struct bytes key, vhost, id;     /* they lie in `texts` */
    char *texts;
    char *value;                     /* the declaration's text */
    bool is_fixed, is_seen, is_ready;
    struct intake *ready_next;
    uint64_t due_us, retry_us;
    enum intake_stage stage;
    bool attached, broken, declaring, waits_for_room;
    struct source *source;           /* NULL: the declaration makes no sense, or there was no memory */
    char owner[UINT8_MAX + 1], name[SOURCE_ID_MAX + 16], queue[SOURCE_QUEUE_MAX];
    uint64_t next_tag;
    uint64_t whole;                  /* the bus was found whole at that version of the routes and one; 0: not yet */
    struct map out;                  /* confirm tag → what was published: its ticket and OUT_TICKETS, or OUT_POSITION */
    uint64_t unrouted[64];           /* tickets of events that nobody wanted: confirmed at the next look */
    unsigned unrouted_count;
    char why[SOURCE_WHY_MAX];
    uint64_t why_wall_us;            /* when that was */
    uint64_t told_wall_us, told_hash;   /* the operator was told of that: when, and what */
};

/* NULL: out of memory. The texts are copied. */
struct intake *intake_new(struct intakes *intakes, struct bytes vhost, struct bytes id);
void intake_free(struct intake *intake);

/* What the declaration says now. True: something else than before. */
bool intake_follow(struct intake *intake, struct bytes value);
uint64_t intake_tick(struct intake *intake, uint64_t now_us);
/* Publishes what can be published at once, and leaves. */
void intake_stop(struct intake *intake);
char *intake_describe(const struct intake *intake);
/* Tells the operator what went wrong last, if that is news. */
void intake_tell(struct intake *intake);

/* ---- intakes.c ---- */
const struct intakes_config *intakes_config(const struct intakes *intakes);
void intakes_due(struct intake *intake, uint64_t at_us);
uint64_t intakes_random(struct intakes *intakes);

#endif
