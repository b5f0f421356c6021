/* gw_source: a supervised source (sources/source.h) on a bus: its events are published as the program's are, its position is the one message of a queue of its own, and feeders on the loop
 * (runtime/feeder.h) bring in what it reads.
 *
 * What is published is told in the order of its tickets; a source remembers for each which of its own tickets it was, or that it was a position. So the handle's memory stays until the last of
 * them is told, whatever has become of the source. */
#ifndef LIB_SOURCE_H
#define LIB_SOURCE_H

#include "lib/bus.h"
#include "runtime/feeder.h"
#include "runtime/zone.h"
#include "sources/source.h"

/* What the sources of a bus share. */
struct sources {
    struct bus_part part;            /* first */
    struct gw_bus *bus;
    struct feeder_set *feeders;
    struct system_zones *zones;
    struct gw_source *first;
    unsigned closing;                /* handles of libuv's that are being closed */
    bool is_closing;                 /* the bus is */
};

#define SOURCE_OUT_POSITION UINT64_MAX

struct gw_source {
    struct source_sink sink;         /* first */
    struct sources *sources;
    struct gw_source *next, *previous;
    struct source *source;           /* NULL: it has ended, and only its memory is still needed */
    uv_timer_t timer;
    char id[SOURCE_ID_MAX + 1], queue[SOURCE_QUEUE_MAX];
    uint64_t *out;                   /* a ring of what is not told yet */
    uint64_t out_first, out_next, out_room;   /* room: a power of two, or 0 */
    uint64_t told_us;                /* when what went wrong last was, and was told */
    uint64_t recall_us;              /* when the position is asked for again */
    bool is_recalling, is_started, is_timer_open, is_transient;
};

#endif
