/* A lane: messages in one order, an array of blocks of 256 consecutive sequence numbers each. It says which messages are ready and which are
 * held unacknowledged, in the order of their sequence numbers; a message that is requeued is back in its old place. A plain queue has one lane, a
 * priority queue one for each priority (queue.h), whose number is in the highest 9 bits of its sequence numbers.
 *
 *   block 7          block 8          block 9                   block 57
 *   ┌──────────────┐ ┌──────────────┐ ┌─────────┐               ┌──────────────┐
 *   │ in memory    │ │ in memory    │ │ paged   │  …  paged  …  │ in memory,   │ ← push
 *   │ 3 unacked    │ │ and spilled  │ │ out     │               │ being filled │
 *   └──────────────┘ └──────────────┘ └─────────┘               └──────────────┘
 *
 * A block is *spilled* once: one image of what lived in it is appended to a segment (pager.c), and the block takes no further messages. A spilled block
 * may be *paged out*: its bodies, and where nothing was consumed of it everything but its slot (40 bytes), leave the memory.
 * This file knows nothing of segments and consumers; the shard's thread owns it. */
#ifndef BROKER_LANE_H
#define BROKER_LANE_H

#include "base/chunk.h"
#include "base/err.h"
#include "store/segment.h"

#include <stdbool.h>
#include <stdint.h>

#define BLOCK_SIZE 256u
#define BLOCK_WORDS (BLOCK_SIZE / 64u)

enum entry_flags {
    ENTRY_PERSISTENT = 1, ENTRY_REDELIVERED = 2,
    ENTRY_LATE = 4,           /* it was kept back until its record was committed: later ones may have gone ahead */
};

struct entry {
    struct chunk *chunk;      /* NULL: the content is on disk only */
    uint32_t offset, size;    /* the content in the chunk, bytes */
    uint32_t content_crc;     /* of persistent ones */
    uint32_t holder;          /* the handle of the consumer that holds it unacknowledged; 0: a get */
    uint8_t flags;
    uint32_t body;            /* bytes of its body, where a queue that counts them has delivered it */
};

struct block {
    uint64_t ready[BLOCK_WORDS], unacked[BLOCK_WORDS];
    struct entry *entries;    /* NULL: only the bits above are known */
    uint64_t log_offset;      /* every persistent message here that is not spilled lies at or after it; UINT64_MAX: none */
    uint16_t ready_count, unacked_count;
    uint16_t capacity, used;  /* entries */
    bool bodies;              /* every live entry has its chunk */
    struct block *next;       /* in the free list */
};

enum slot_state { SLOT_OPEN, SLOT_SPILLING, SLOT_SPILLED };

struct block_slot {
    struct block *block;               /* NULL: paged out whole (`live` messages, all ready), or nothing here */
    struct segment_location location;
    uint32_t released;                 /* bytes of the image that were given back */
    uint32_t spill_number;             /* counts the shard's spills; see checkpoint.c */
    uint16_t live;                     /* while `block` is NULL */
    uint8_t state;
    uint8_t load_failures;             /* the disk's errors in a row while reading it */
    bool loading;
    bool moving;                       /* once loaded it is spilled anew, see compaction.c */
};

struct lane {
    uint64_t next_seq;                 /* what the next message gets */
    uint64_t head;                     /* no ready message lies below it */
    uint64_t first_block, end_block;   /* slots exist for these block numbers */
    struct block_slot *slots;          /* ring, indexed by block number */
    uint32_t slot_capacity;            /* 0 or a power of two */
    uint64_t ready, unacked;           /* messages */
    uint64_t ready_bytes;              /* contents of the ready messages that have entries in memory */
    uint64_t redelivered_below;        /* recovered messages below it may have been delivered before */
    uint64_t asked_below, flagged_below;   /* marks in the log, asked for and committed: see redelivery.c */
    uint64_t clean_below;              /* redelivered_below, had the last end been a clean one */
    uint64_t delivered_below;          /* what was delivered since the start lies below it */
    uint64_t page_from;                /* blocks below it are paged out already */
    uint64_t open_from;                /* blocks below it are spilled, or empty */
    uint64_t seen_below;               /* what lies below it was offered to consumers; this and the next are of ruled queues only, see rules.h */
    uint64_t judged, due_ms;           /* the head that expiry.c looked at last, and its time */
    uint64_t passed_over;              /* numbers that no message will get */
    uint64_t counted_below;            /* overflow.c has counted the bytes of what lies below it */
};

#define SEQ_LEVEL_SHIFT 55u            /* the highest bits of a sequence number say which lane it is of */
#define LEVEL_SCHEDULED 256u           /* above all priorities: the lane of what is not due yet, see schedule.h */
static inline unsigned seq_level(uint64_t seq) { return (unsigned)(seq >> SEQ_LEVEL_SHIFT); }
static inline uint64_t seq_base(unsigned level) { return (uint64_t)level << SEQ_LEVEL_SHIFT; }
static inline unsigned block_level(uint64_t block_number) { return seq_level(block_number * BLOCK_SIZE); }

/* Free blocks of full size, one list a shard, so that the hot path never allocates. */
struct block_pool {
    struct block *free;
    unsigned count;
};
void block_pool_deinit(struct block_pool *pool);

/* Where chunk memory is accounted: the shard. */
struct chunk_account {
    struct chunk_pool *pool;
    uint64_t resident;                 /* bytes of chunks that some message lies in */
};
void account_hold(struct chunk_account *account, struct chunk *chunk);
void account_drop(struct chunk_account *account, struct chunk *chunk);

void lane_init(struct lane *lane, unsigned level);
/* Gives all memory back; the caller has released the segments. */
void lane_deinit(struct lane *lane, struct chunk_account *account, struct block_pool *pool);

/* What a message is made of, for push and restore. */
struct content {
    struct chunk *chunk;
    uint32_t offset, size, crc;
    uint8_t flags;
};

/* Appends a ready message; answers its sequence number, 0 when out of memory. `log_offset`: nothing of it lies lower in the log. */
uint64_t lane_push(struct lane *lane, const struct content *content, uint64_t log_offset, struct chunk_account *account, struct block_pool *pool);

/* Puts a message back to the place that it had before a restart. What is already there, or was spilled, stays as it is. */
enum gw_err lane_restore(struct lane *lane, uint64_t seq, const struct content *content, uint64_t log_offset,
                          struct chunk_account *account, struct block_pool *pool);

/* Closes the block being filled: the next message begins a new one. */
void lane_close_tail(struct lane *lane);

/* The first ready message: its entry and number. NULL with *slot NULL: there is none. NULL with *slot: that block must be loaded first. */
struct entry *lane_first(struct lane *lane, uint64_t *seq, struct block_slot **slot);

/* A block that was spilled is to be spilled again. */
static inline void lane_opened(struct lane *lane, uint64_t block_number)
{
    if (block_number < lane->open_from)
        lane->open_from = block_number;
}

/* The slot of a sequence number or block number; NULL when the lane has none there. */
struct block_slot *lane_slot(const struct lane *lane, uint64_t block_number);

/* The live entry (ready or unacked) of `seq`; NULL when there is none, or its block is paged out whole. */
struct entry *lane_entry_at(const struct lane *lane, uint64_t seq, struct block_slot **slot, bool *unacked);

/* Ready → held by `holder`. */
void lane_hold(struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, uint32_t holder);

/* Held → ready, in its place. */
void lane_requeue(struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool redelivered);

/* Removes a live message. Answers the image that is wholly dead now (file 0: none) and how many of its bytes to release. */
struct segment_location lane_remove(struct lane *lane, uint64_t seq, struct block_slot *slot, struct entry *entry, bool unacked,
                                     uint32_t *release, struct chunk_account *account, struct block_pool *pool);

/* Drops a slot whose block is paged out or empty; answers what to release. */
struct segment_location lane_drop_slot(struct lane *lane, uint64_t block_number, uint32_t *release, struct chunk_account *account,
                                        struct block_pool *pool);

/* Gives back the memory for slots that a long backlog needed, once the lane is empty. */
void lane_shrink(struct lane *lane);

/* Makes a slot for a block that a snapshot names. */
struct block_slot *lane_restore_slot(struct lane *lane, uint64_t block_number);

/* A block with room for `capacity` entries; NULL when out of memory. */
struct block *block_new(struct block_pool *pool, unsigned capacity);
void block_free(struct block *block, struct block_pool *pool);

static inline bool bit_get(const uint64_t *bits, unsigned i) { return bits[i >> 6] >> (i & 63) & 1; }
static inline void bit_set(uint64_t *bits, unsigned i) { bits[i >> 6] |= 1ull << (i & 63); }
static inline void bit_clear(uint64_t *bits, unsigned i) { bits[i >> 6] &= ~(1ull << (i & 63)); }

/* The lowest set bit at or after `from`; BLOCK_SIZE: none. */
static inline unsigned bits_next(const uint64_t *bits, unsigned from)
{
    for (unsigned word = from >> 6; word < BLOCK_WORDS; word++, from = word << 6) {
        uint64_t rest = bits[word] >> (from & 63) << (from & 63);
        if (rest)
            return (word << 6) + (unsigned)__builtin_ctzll(rest);
    }
    return BLOCK_SIZE;
}

#endif
