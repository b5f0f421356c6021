/* The broker's own sources: those that were declared over HTTP (parameters `source` of their virtual hosts), and those of the configuration. Each worker has intakes for those that fall to it,
 * as its bus has drains for subscriptions.
 *
 *   parameter `source`, configuration ──▶ intake = source (sources/source.h) + client of the broker ──▶ exchange `events`
 *                                           ▲                           └──▶ queue source.ID.position, one message
 *                                        feeder (io/feed.h) */
#ifndef BUS_INTAKES_H
#define BUS_INTAKES_H

#include "broker/worker.h"
#include "io/alarm.h"
#include "io/feed.h"
#include "io/zone.h"

struct intakes;

/* A source of the configuration: its declaration in JSON. */
struct intake_fixed {
    const char *vhost, *id, *text;
};

/* All borrowed. */
struct intakes_config {
    struct worker *worker;
    unsigned workers;
    struct feeder *feeder;
    struct zones *zones;
    uint64_t (*now)(void *owner);    /* monotonic microseconds, between turns, too */
    void *owner;
    uint64_t random;
    const struct intake_fixed *fixed;
    unsigned fixed_count;
    struct alarm_sink *alarms;       /* what goes wrong with a source is told; NULL: nobody wants to know */
    bool allows_local;               /* what was declared over HTTP may read files, start programs and listen */
};

/* NULL: out of memory. */
struct intakes *intakes_new(const struct intakes_config *config);

/* Before each turn of the worker's, and by intakes_deadline at the latest. */
void intakes_tick(struct intakes *intakes, uint64_t now_us);
uint64_t intakes_deadline(const struct intakes *intakes);

/* The broker stops: nothing more is read, and what was read is published. */
void intakes_stop(struct intakes *intakes);
/* After intakes_stop. */
void intakes_free(struct intakes *intakes);

/* The worker whose intakes have it. */
unsigned intakes_place(struct bytes vhost, struct bytes id, unsigned workers);

/* How it goes with it, in JSON (source_describe); free() it. NULL: it is not here. */
char *intakes_describe(struct intakes *intakes, struct bytes vhost, struct bytes id);

/* The sources of the configuration, for lists. */
const struct intake_fixed *intakes_fixed(const struct intakes *intakes, unsigned *count);
bool intakes_allow_local(const struct intakes *intakes);
struct zones *intakes_zones(const struct intakes *intakes);

#endif
