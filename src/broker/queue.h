/* A queue as its shard knows it: its messages in lanes, its consumers, and what its arguments and policies say. A plain queue has the one lane that lies in it; a
 * priority queue (x-max-priority) gets one for each priority that was ever used, and the highest that has ready messages is served first.
 * The shard's thread owns it. */
#ifndef BROKER_QUEUE_H
#define BROKER_QUEUE_H

#include "broker/lane.h"
#include "broker/settings.h"

#define QUEUE_PRIORITIES 256u
#define QUEUE_LEVELS (QUEUE_PRIORITIES + 1u)   /* priorities, and LEVEL_SCHEDULED */

struct consumer;
struct dedup;
struct filters;
struct groups;
struct lives;
struct outlook;
struct half;
struct schedule;
struct pending_get;
struct queue_rules;
struct stream;

/* The lanes of a queue but for that of priority 0. */
struct queue_levels {
    uint64_t occupied[QUEUE_PRIORITIES / 64];   /* levels that may have ready messages; those of 0 too */
    uint16_t numbers[QUEUE_LEVELS];        /* of the lanes there are, in the order in which they were made */
    unsigned count;
    unsigned page_next;                    /* the lane at which paging out goes on */
    struct lane *lanes[QUEUE_LEVELS];      /* NULL: never used */
};

struct queue {
    uint64_t id;
    bool durable, auto_delete;
    struct lane lane;                  /* of priority 0; the only one of most queues */
    struct queue_levels *levels;       /* NULL: no message had a priority */
    const struct queue_settings *settings;   /* NULL: it uses none; borrowed from its worker's topology */
    uint8_t ruled;                     /* enum ruled: why serving it takes more than serving a plain queue */
    struct queue_rules *rules;         /* what its rules remember; NULL: nothing. See rules.h */
    struct stream *stream;             /* NULL: it is none. The lanes of one are empty but for the count of its messages, see stream.h */

    struct consumer *active;           /* ring of consumers that may get more */
    struct consumer *consumers;        /* all */
    uint32_t consumer_count;
    bool has_exclusive, has_priorities;
    struct pending_get *gets, *gets_last;
    uint64_t progress_us;              /* when a consumer last made room */
    uint64_t timer_us;                 /* when it is to be looked at, monotonic; see timers.h */
    uint32_t timer_place;              /* in the shard's heap, from 1; 0: it is in none */
    struct groups *groups;             /* x-group-key; NULL: it has none, see groups.h */
    struct half *half;                 /* of a vhost's half messages; NULL: it is not for those, see half.h */
    struct schedule *schedule;         /* what is not due yet; NULL: nothing ever was, see schedule.h */
    struct dedup *dedup;               /* ids of what it took in lately; NULL: none, see dedup.h */
    struct lives *lives;               /* what happened to its messages; NULL: nobody wants to know, see lives.h */
    struct outlook *outlook;           /* what was seen of it; NULL: nothing, see observer.h */
    uint64_t lost;                     /* messages that left without having been taken: expired, too many, purged */
    uint32_t relayed;                  /* messages that the relay holds */
    struct filters *filters;           /* what consumers want of it; NULL: none ever wanted less than everything */
    bool dirty, unused_told;
    bool starved;                      /* it waits for room in the relay */
    struct queue *dirty_next;
};

void queue_init(struct queue *queue, uint64_t id);
/* Gives all memory back; the caller has released the segments. */
void queue_deinit(struct queue *queue, struct chunk_account *account, struct block_pool *pool);

/* The lane of a level, made if need be. NULL: out of memory. */
struct lane *queue_lane_make(struct queue *queue, unsigned level);

/* The lane that a sequence number is of; NULL: there is none. */
static inline struct lane *queue_lane(struct queue *queue, uint64_t seq)
{
    unsigned level = seq_level(seq);
    if (LIKELY(!level))
        return &queue->lane;
    return queue->levels ? queue->levels->lanes[level] : NULL;
}

/* Messages became ready in the lane of `level`. */
static inline void queue_occupied(struct queue *queue, unsigned level)
{
    if (UNLIKELY(queue->levels != NULL) && level < QUEUE_PRIORITIES)
        queue->levels->occupied[level >> 6] |= 1ull << (level & 63);
}

/* The lane of the highest priority that has ready messages; the first lane when none has. */
struct lane *queue_highest(struct queue *queue);
static inline struct lane *queue_head_lane(struct queue *queue)
{
    return LIKELY(!queue->levels) ? &queue->lane : queue_highest(queue);
}

/* The lane of the lowest priority that has ready messages (what a full queue drops first); the first lane when none has. */
struct lane *queue_lowest(struct queue *queue);

/* Goes through all lanes: begin with *at 0; NULL at the end. */
static inline struct lane *queue_next_lane(struct queue *queue, unsigned *at)
{
    unsigned i = (*at)++;
    if (!i)
        return &queue->lane;
    return queue->levels && i <= queue->levels->count ? queue->levels->lanes[queue->levels->numbers[i - 1]] : NULL;
}

/* The same for those from which messages are delivered. */
static inline struct lane *queue_next_ready_lane(struct queue *queue, unsigned *at)
{
    struct lane *lane = queue_next_lane(queue, at);
    return UNLIKELY(lane && seq_level(lane->next_seq) == LEVEL_SCHEDULED) ? queue_next_lane(queue, at) : lane;
}

struct queue_totals {
    uint64_t ready, unacked, ready_bytes;   /* as in struct lane */
};
struct queue_totals queue_sum(const struct queue *queue);
static inline struct queue_totals queue_totals(const struct queue *queue)
{
    if (UNLIKELY(queue->levels != NULL))
        return queue_sum(queue);
    return (struct queue_totals){queue->lane.ready, queue->lane.unacked, queue->lane.ready_bytes};
}

#endif
