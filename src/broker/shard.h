/* A shard: the unit of order, of durability and of replication. It owns a log, a segment store and queues, and belongs to one worker, whose
 * thread alone touches it.
 *
 *   shard.c      lifecycle, the shard's own records, transactions, the end of a turn
 *   enter.c      messages enter their queues
 *   settle.c     messages leave their consumers
 *   pending.c    what waits for the log
 *   consumers.c  who gets what: consumers, prefetch, credit, gets
 *   pager.c      blocks to and from the segments
 *   checkpoint.c making log files unnecessary: spill, sync, snapshot, recycle
 *   recovery.c   snapshot and log → state
 */
#ifndef BROKER_SHARD_H
#define BROKER_SHARD_H

#include "base/bugs.h"
#include "base/map.h"
#include "base/siphash.h"
#include "broker/batch.h"
#include "broker/group_index.h"
#include "broker/observer.h"
#include "broker/origins.h"
#include "broker/queue.h"
#include "broker/stage.h"
#include "broker/timers.h"
#include "store/log.h"
#include "store/segment.h"

struct filter;
struct inspect;
struct shard;
struct topology_change;
struct worker;

struct consumer {
    uint32_t handle;            /* its index in the shard's table and a generation, see consumers.c */
    uint32_t number;            /* the client's own */
    uint64_t client;
    struct queue *queue;
    struct stream_cursor *cursor;   /* of a stream: where it is */
    struct group_holder keys;   /* of messages that stick to it, see groups.h */
    struct filter *filter;      /* what it wants of another queue; NULL: anything. See filters.h */
    int64_t window;             /* bytes that it may still be sent */
    uint32_t prefetch, unacked; /* messages; prefetch 0: no limit */
    int64_t priority;           /* x-priority; 0 when it has none */
    uint16_t channel;
    bool no_ack, exclusive;
    uint8_t stopped;            /* enum consumer_stopped; it gets nothing while it is not 0 */
    bool is_active;             /* in the queue's ring */
    struct consumer *next, *previous;            /* the ring */
    struct consumer *all_next, *all_previous;    /* the queue's list */
};

enum consumer_stopped {
    CONSUMER_REFUSED = 1,       /* its channel is full: wait for resume */
    CONSUMER_WAITS = 2,         /* another one is the queue's active consumer */
};

/* A get that waits for its queue's first block. */
struct pending_get {
    struct pending_get *next;
    uint64_t client, serial;
    uint32_t tag;
    uint16_t channel;
    bool no_ack;
};

/* Publishes of one channel that wait for the log. */
struct pending_confirm {
    uint64_t end;               /* log offset that must be committed; UINT64_MAX: its slice is not appended yet */
    uint64_t client, first, count;
    uint16_t channel, flags;    /* flags: those of command_confirm; of an answer: its code */
    uint16_t kind;              /* PENDING_… */
};
enum pending_kind {
    PENDING_CONFIRM,
    PENDING_ANSWER,      /* of a transaction: `first` is its serial */
    PENDING_DECIDED,     /* `first` is a queue of half messages, `count` a transaction's number, see half.h; a client decided it, … */
    PENDING_TOPOLOGY,    /* `first` is its sequence. This one and those below lie in the shard's own slices */
    PENDING_MARK,        /* `first` is a queue, `count` the mark, see redelivery.c */
    PENDING_RELAYED,     /* `first` is a queue, `count` a sequence number: an origin. This one and the next two: see relay.h */
    PENDING_MOVED,       /* `first` is a serial of the relay */
    PENDING_SETTLED,     /* `count` messages */
    PENDING_GIVEN_UP,    /* … or the broker did: as PENDING_DECIDED */
    PENDING_INSPECTED,   /* `first` is the number of an inspection, see inspect.h */
};

/* Credit that is kept back from a publisher while a queue is congested. */
struct withheld {
    uint64_t client, bytes, queue;
};

struct checkpoint;

struct shard {
    struct worker *worker;
    unsigned index;
    struct log *log;
    struct segment_store *segments;
    struct alarm_sink *alarms;
    char directory[32];

    struct map queues;               /* id → struct queue */
    struct queue *last_queue;        /* the one looked up last */
    struct queue *dirty;             /* queues with something to dispatch */
    struct timers timers;            /* queues to be looked at later */

    struct chunk_account account;
    struct block_pool blocks;
    uint64_t memory_limit;           /* bytes of chunks before blocks are paged out */

    struct consumer **consumers;     /* by the low bits of their handles */
    uint32_t consumer_capacity, consumer_count, consumer_generation, consumer_free_hint;

    struct stage own;                /* records that the shard itself makes: settles, topology */
    uint8_t *settle;                 /* the open settle record in it; NULL: none */
    uint64_t look_us;                /* when it is looked again whether the log's next file can be made, which could not be */
    uint16_t settle_count;
    uint64_t own_since_us;           /* when its oldest record was made */
    bool own_urgent;                 /* something waits for what is in it */
    bool appended;                   /* in this turn a slice of publishes was */

    struct pending_confirm *pending; /* ring */
    uint32_t pending_first, pending_count, pending_capacity;
    uint32_t pending_open;           /* how many at its end wait for their slice */

    struct observer observer;
    struct relay *relay;             /* NULL: nothing was ever relayed */
    struct origins origins;          /* of what other shards relayed to this one */
    struct inspect *inspects;        /* what is being looked at or sorted out, see inspect.h */
    uint64_t next_inspect;

    struct withheld *withheld;
    uint32_t withheld_count, withheld_capacity;

    struct {
        struct siphash_key key;      /* of the hashes of ids, see dedup.h */
        bool keyed;                  /* it is made */
        uint64_t known_below;        /* while the log is replayed: the snapshot knows the ids of what lies below it */
        uint64_t dropped;            /* duplicates so far */
    } dedup;

    uint8_t **refused;               /* records of the command being done that full queues refused, in their order */
    uint32_t refused_count, refused_capacity;

    uint32_t spill_number, spilling, loading;
    uint32_t stream_count;           /* streams there are, and those deleted whose files are on their way out */
    uint32_t streams_dying;
    uint32_t stream_extents;         /* that streams have in memory for their consumers */
    struct checkpoint *checkpoint;
    uint64_t checkpoint_cutoff;      /* wanted; 0: none */
    uint64_t snapshot_generation;
    uint64_t cutoff;                 /* the log below it is not needed any more */
    uint64_t retry_us;               /* when a checkpoint or paging out that failed is tried again */
    uint64_t page_us;                /* when paging out goes on */
    uint32_t page_cursor;            /* the queue at which it does */
    uint64_t reclaim_us;             /* when segments are looked at for what is dead in them */
    bool recovering, closing, storage_failed, spill_failed;
};

struct shard_config {
    struct worker *worker;
    unsigned index;
    uint64_t memory_limit;
    struct alarm_sink *alarms;
};

struct shard *shard_new(const struct shard_config *config);
void shard_free(struct shard *shard);

/* ---- shard.c ---- */

/* The queue of that id; NULL when it is gone. */
struct queue *shard_queue_find(struct shard *shard, uint64_t id);
static inline struct queue *shard_queue(struct shard *shard, uint64_t id)
{
    return LIKELY(shard->last_queue && shard->last_queue->id == id) ? shard->last_queue : shard_queue_find(shard, id);
}
enum gw_err shard_queue_create(struct shard *shard, uint64_t id, bool auto_delete, enum queue_type type);
/* What the queue's settings are from now on (borrowed; NULL: it has none). */
void shard_queue_set(struct shard *shard, uint64_t id, const struct queue_settings *settings);
/* Consumers are told, unacknowledged messages forgotten, segments released. */
void shard_queue_delete(struct shard *shard, uint64_t id);

void shard_transaction(struct shard *shard, const struct command_transaction *command);

/* Appends a topology change to the log; `sequence` is told to master_committed once it is on disk. GW_ERR_FULL, GW_ERR_FAILED, GW_ERR_NOMEM: not logged. */
enum gw_err shard_log_change(struct shard *shard, const struct topology_change *change, uint64_t sequence);

/* Logs a mark of redelivery.c; false: out of memory. */
bool shard_log_mark(struct shard *shard, uint64_t queue, uint64_t mark);

/* Could the message be found again after a restart? One that is not persistent too, once an image holds it. */
static inline bool shard_must_log_settle(const struct queue *queue, const struct block_slot *slot, const struct entry *entry)
{
    return queue->durable && ((entry->flags & ENTRY_PERSISTENT) || slot->state != SLOT_OPEN);
}

/* Notes in the log that a message is gone. False: out of memory. */
bool shard_log_settle(struct shard *shard, uint64_t queue, uint64_t seq, uint64_t count);

/* Removes a live message, releasing what it occupied. */
void shard_remove(struct shard *shard, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked);

/* A live message leaves for good: that is noted in the log where it must be, and it is removed. */
static inline void shard_take_away(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked)
{
    if (shard_must_log_settle(queue, slot, entry) && !(unacked && bug_enabled(BUG_ACK_UNLOGGED)))
        shard_log_settle(shard, queue->id, seq, 1);
    shard_remove(shard, lane, seq, slot, entry, unacked);
}

/* Why a queue gives a message up; RabbitMQ's words for the reason of an x-death. */
enum discard_reason {
    DISCARD_REJECTED, DISCARD_EXPIRED, DISCARD_MAXLEN, DISCARD_DELIVERY_LIMIT,
    DISCARD_DUE,         /* it was only waiting for its time: see schedule.h */
    DISCARD_COMMITTED,   /* it was only waiting for its transaction: see half.h */
    DISCARD_MOVED,       /* somebody sends it to another queue, see inspect.h; this one and those below */
    DISCARD_COPIED,      /* it stays, too */
    DISCARD_REPLAYED,    /* a dead letter goes back, see replay.h */
};

/* The same for one that nobody has taken in: where the queue has a dead-letter exchange it goes on there. */
void shard_discard(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked,
                   enum discard_reason reason);

/* Has the queue looked at (marked dirty) no later than `at_us`, monotonic. */
void shard_timer(struct shard *shard, struct queue *queue, uint64_t at_us);
/* Begins a turn: what is due is marked dirty. */
void shard_timers(struct shard *shard);

/* For records that the shard makes itself: room for one, in the chunk shard->own.chunk (NULL: out of memory); it is whole, and its slice urgent. What
 * waits for that slice to be committed: shard_own_pending. */
uint8_t *shard_own_room(struct shard *shard, uint32_t size);
void shard_own_made(struct shard *shard, uint32_t size);


/* Appends what the shard itself has to log, now. */
void shard_flush_own(struct shard *shard);

/* End of a turn: appends what it made, lets the log write, pages out, gives credit back. */
void shard_turn_end(struct shard *shard);
uint64_t shard_deadline(const struct shard *shard);

/* The queue has something to dispatch at the end of the turn. */
static inline void shard_mark_dirty(struct shard *shard, struct queue *queue)
{
    if (queue->dirty)
        return;
    queue->dirty = true;
    queue->dirty_next = shard->dirty;
    shard->dirty = queue;
}

/* The log has filled its files. */
void shard_checkpoint_wanted(void *owner, uint64_t cutoff);

/* ---- enter.c ---- */

void shard_publish(struct shard *shard, const struct command_publish *command);
void shard_slice(struct shard *shard, const struct command_slice *command);

/* Pushes the message of a publish record to those of its queues that are here, and writes their sequence numbers into it. Answers the last of them. */
struct queue *shard_enter(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable, uint64_t log_offset);
/* The same for a message that nobody waits to be told of; also for the record of a relayed one. */
void shard_enqueue(struct shard *shard, uint8_t *record, struct chunk *chunk, bool durable, uint64_t log_offset);

/* ---- settle.c ---- */

void shard_settle(struct shard *shard, const struct command_settle *command);
/* The targets of a settle record, done to the queues in memory. */
void shard_settle_ranges(struct shard *shard, struct bytes targets);

/* ---- pending.c ---- */

void shard_committed(void *owner, struct log_position upto);
void shard_log_failed(void *owner, enum gw_err err);
void shard_own_pending(struct shard *shard, enum pending_kind kind, uint64_t first, uint64_t count);

/* ---- withheld.c ---- */

/* So many bytes of the client's have entered, the last of them `queue` (NULL: none). */
void withheld_give_back(struct shard *shard, uint64_t client, uint64_t bytes, const struct queue *queue);
/* Gives back what there is no reason to keep any more. */
void withheld_release(struct shard *shard);

/* ---- consumers.c ---- */

void shard_dispatch(struct shard *shard);
/* Gives the queue's messages to gets and consumers, as far as they go. */
void shard_serve(struct shard *shard, struct queue *queue);
void shard_request(struct shard *shard, const struct command_request *request);
void shard_credit(struct shard *shard, const struct command_credit *command);
void shard_refuse(struct shard *shard, const struct command_refuse *command);
void shard_resume(struct shard *shard, const struct command_refuse *command);
void shard_cancel_consumer(struct shard *shard, struct consumer *consumer);
struct consumer *shard_consumer(struct shard *shard, uint32_t handle);
/* One of its messages was settled; several. */
void consumer_settled(struct shard *shard, struct consumer *consumer);
void consumer_settled_many(struct shard *shard, struct consumer *consumer, uint32_t count);
/* Has it room for another message, by its prefetch and its window? */
bool consumer_may_get_more(const struct consumer *consumer);
void shard_answer_gets(struct shard *shard, struct queue *queue);
/* For queues that choose what goes to whom: the consumer whose turn it is (there is one in the ring), and the delivery of a ready message to one of them, which may
 * go ahead of others. False: no memory; nothing happened. */
struct consumer *consumer_next(const struct queue *queue);
bool consumer_give(struct shard *shard, struct queue *queue, struct consumer *consumer, uint64_t seq, struct block_slot *slot, struct entry *entry);

/* ---- redelivery.c ---- */

/* Deliveries will come near `seq`: has the log a mark above it, or is one on its way? */
void redelivery_ask(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t seq);
/* False: not before a mark is committed; the queue is served again then. */
bool redelivery_may_deliver(struct shard *shard, struct queue *queue, struct lane *lane, const struct entry *entry, uint64_t seq);
void redelivery_committed(struct shard *shard, uint64_t queue, uint64_t mark);
/* The log was replayed; `clean`: up to the end that the snapshot knows. */
void redelivery_recovered(struct lane *lane, bool clean);

/* ---- pager.c ---- */

/* Starts reading the block of `slot` back, and the next ones after it. */
void shard_load(struct shard *shard, struct queue *queue, struct lane *lane, struct block_slot *slot);
/* Reads one block back before it returns; false: it could not be, or nothing of it is left. */
bool shard_load_now(struct shard *shard, const struct queue *queue, struct lane *lane, uint64_t block_number);
/* Starts reading one block back, unless it is in memory or on its way. */
void shard_load_block(struct shard *shard, const struct queue *queue, struct block_slot *slot, uint64_t block_number);
/* The lane's first ready message and its number. NULL: there is none, or (*slot is set) its block is on its way from the disk now. */
static inline struct entry *shard_first(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t *seq, struct block_slot **slot)
{
    struct entry *entry = lane_first(lane, seq, slot);
    if (!entry && *slot)
        shard_load(shard, queue, lane, *slot);
    return entry;
}
/* A block that was read back leaves the memory again, if its image is whole. */
void shard_unload_block(struct shard *shard, struct lane *lane, struct block_slot *slot);
/* Forgets the ready messages of a block that is not in memory. */
void shard_drop_paged(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t block_number);
/* While the log is replayed: a block that was spilled too early takes messages again. Reads it back before it returns. */
enum gw_err shard_reopen_block(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t number);
/* Pages blocks out until the memory limit holds. */
void shard_page_out(struct shard *shard);
/* Writes one image of what lives in the block; `wait`: before it returns. */
enum gw_err shard_spill(struct shard *shard, struct queue *queue, struct lane *lane, uint64_t block_number, bool wait);
void segment_released(struct shard *shard, struct segment_location location, uint32_t bytes);

/* ---- checkpoint.c ---- */

void shard_checkpoint_step(struct shard *shard);
bool checkpoint_is_spilling(const struct shard *shard);
/* Has it asked the disk for something that is not answered yet? Then it must not be freed. */
bool checkpoint_waits(const struct shard *shard);
void checkpoint_free(struct shard *shard);
/* At a clean end, before the last one: begins one that spares the next start reading a log of what is mostly gone. It is under way, or there is none. */
void shard_checkpoint_closing(struct shard *shard);
/* The last one, at a clean end: a snapshot of how things are, synchronously. */
enum gw_err shard_checkpoint_final(struct shard *shard);

/* ---- recovery.c ---- */

enum gw_err shard_open(struct shard *shard, char *why, unsigned room);
enum gw_err shard_close(struct shard *shard);
/* Closes what an opening that failed has left open. */
void shard_abandon(struct shard *shard);
/* A change that the log or a snapshot of shard 0 holds: to the master copy, and to the shard's queues. */
enum gw_err shard_restore_change(struct shard *shard, const struct topology_change *change);
enum gw_err shard_open_segments(struct shard *shard, const struct segment_file_info *files, unsigned count);

#endif
