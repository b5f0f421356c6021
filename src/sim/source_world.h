/* What sources read in a simulation, and what is known of it: servers of event streams, files that are written to and replaced, queues at other brokers, and clocks. It stands where curl, inotify
 * and connections would be.
 *
 * Streams, files and queues consist of numbers, 1, 2, 3, … So of each source it is known what must be handled, in which order, and under which id it came before. */
#ifndef SIM_SOURCE_WORLD_H
#define SIM_SOURCE_WORLD_H

#include "io/feed.h"
#include "io/zone.h"
#include "sim/other_queue.h"
#include "sim/random.h"
#include "sim/trace.h"
#include "sources/cron.h"

#include <stddef.h>

#define OUTSIDES_MAX 5u
#define NUMBERS_MAX 20000u
#define GENERATIONS_MAX 64u
#define OUT_ROOM 4096u

enum outside_kind { OUTSIDE_STREAM, OUTSIDE_FILE, OUTSIDE_QUEUE, OUTSIDE_TIMER, OUTSIDE_CRON, OUTSIDE_KINDS };
enum outside_missed { OUTSIDE_ONCE, OUTSIDE_SKIP, OUTSIDE_ALL };

/* A file under the path: the numbers from `first` on, up to `last` (0: the one that is written to now). */
struct generation {
    uint64_t inode, first, last;
};

/* What one source reads. */
struct outside {
    struct source_world *world;
    unsigned index;
    enum outside_kind kind;
    char id[16], text[512];          /* its declaration */
    uint64_t made;                   /* numbers that there are */
    uint64_t seen;                   /* … were handled */
    uint64_t *ids;                   /* by number: a hash of the id of its event; 0: not handled yet */
    uint64_t every_us;               /* TIMER */
    struct cron cron;
    enum outside_missed missed;
    uint64_t last_us;                /* of times: the last that was handled; 0: none */
    uint64_t born_us;                /* when its source ran for the first time, at the latest */
    struct generation generations[GENERATIONS_MAX];
    unsigned generation_count;
    struct other_queue queue;        /* QUEUE */

    /* A feed of it: */
    struct feed *feed;               /* NULL: none */
    bool is_opened, is_paused;
    uint64_t at;                     /* STREAM: the next number to be written */
    unsigned generation;             /* FILE: which one is open */
    uint64_t offset;
    uint8_t out[OUT_ROOM];           /* written and not yet read */
    size_t out_size;
};

struct source_world {
    struct feeder feeder;            /* first */
    struct zones zones;
    struct random *random;
    struct trace *trace;
    struct outside list[OUTSIDES_MAX];
    unsigned count;
    bool calm;                       /* nothing fails */
    uint64_t handled;
};

void source_world_init(struct source_world *world, struct random *random, struct trace *trace, uint64_t seed);
void source_world_deinit(struct source_world *world);

/* Something new is written somewhere. */
void source_world_make(struct source_world *world);
/* Some feed brings something. True: something happened. */
bool source_world_step(struct source_world *world);
/* Has none of them anything to bring now? */
bool source_world_is_idle(const struct source_world *world);
/* All that there was is handled, and known to be: files are replaced or cut off now and then. */
void source_world_turn_over(struct source_world *world);

/* An event was handled, or comes to the handler. */
void source_world_handled(struct source_world *world, struct bytes id, struct bytes body);
/* Is there anything that is still to be handled? */
bool source_world_is_owed(const struct source_world *world);
void source_world_check_end(struct source_world *world);

#endif
