/* x-filter: consumers that want only some of a queue's messages (selector.h says which). What nobody wants stays, and holds nobody up.
 *
 *   lane:  ┌───────────────┬────────────────┬──────────────┐
 *          │ block 7       │ block 8        │ block 9      │ ← push
 *          └───────────────┴────────────────┴──────────────┘
 *            ↑ head: consumers without a filter
 *                     ↑ cursor of region = 'eu'     ↑ cursor of region = 'uk'
 *
 * All consumers of a queue with the same x-filter share one filter, and take turns. Nothing that is ready below its cursor is for it, except what has come back, of which it
 * keeps a list. A scan takes only so many steps before others have their turn; blocks that are on disk are read a little ahead, and leave the memory again behind it. Of a block
 * that is read for a selector that demands a header to be a certain text, a summary is kept (summary.h), so that the next scan passes over what has none of that.
 *
 * Nothing of this is in the log: after a restart consumers come anew, and their filters look from the beginning. */
#ifndef BROKER_FILTERS_H
#define BROKER_FILTERS_H

#include "broker/selector.h"
#include "broker/shard.h"
#include "protocol/amqp/table.h"

#define FILTER_VISITED_MAX 64u      /* blocks read for scans that a queue has in memory */

struct filter {
    struct filter *next;
    struct selector *selector;
    uint32_t consumers;
    unsigned term_count;
    uint64_t terms[SELECTOR_TERMS_MAX];
    bool dry;                       /* in the turn under way there is nothing (more) for it */
    uint64_t *cursors;              /* by the lane's level; below it nothing is for this filter but what lies in `back` */
    unsigned cursor_count;
    uint64_t *back;                 /* heap of what came back below the cursors: highest level first, then lowest number */
    uint32_t back_count, back_capacity;
    uint8_t type;                   /* of the argument; its bytes follow */
    uint32_t size;
    uint8_t bytes[];
};

struct filters {
    struct filter *first;
    unsigned count;
    bool everything_dry;            /* the same for the consumers without a filter */
    struct map summaries;           /* block number → struct summary */
    uint64_t summary_bytes;
    uint32_t sweep_at;              /* so many summaries, and those of blocks that are gone are forgotten */
    uint64_t visited[FILTER_VISITED_MAX];    /* ring of numbers of blocks that were read for a scan */
    uint32_t visited_sizes[FILTER_VISITED_MAX];
    unsigned visited_first, visited_count;
    uint64_t visited_bytes;
};

/* A consumer with that argument has come to a queue that is no stream; it is in no list yet. False: out of memory. */
bool filters_join(struct queue *queue, struct consumer *consumer, const struct amqp_field *field);
void filters_leave(struct queue *queue, struct consumer *consumer);
void filters_free(struct queue *queue);

/* Some consumer of the queue has a filter. */
static inline bool filters_apply(const struct queue *queue) { return queue->filters && queue->filters->first; }

/* Gives the queue's messages to its consumers, each what it wants, as far as it goes. */
void filters_serve(struct shard *shard, struct queue *queue);

/* A message is ready again, in its old place. */
void filters_returned(struct queue *queue, uint64_t seq, const struct entry *entry);

#endif
