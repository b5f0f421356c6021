/* The deliveries of one channel that its peer has not settled yet, by delivery tag.
 *
 * Tags count up from 1. They are kept in blocks of 64, each with a bitmap of who is still held; a block that is empty goes, so that one message never settled
 * costs one block however many come after it. The tags of a block are looked up in a sorted array of blocks. */
#ifndef PROTOCOL_AMQP_UNACKED_H
#define PROTOCOL_AMQP_UNACKED_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNACKED_BLOCK 64u

struct unacked_entry {
    uint64_t queue, seq;
};

struct unacked_block {
    uint64_t number;           /* tag / UNACKED_BLOCK */
    uint64_t held;             /* a bit a tag: not settled */
    uint64_t parked;           /* a bit a tag: settled in a transaction that is still open */
    uint64_t counted;          /* a bit a tag: counts towards the channel's prefetch, since a consumer got it */
    struct unacked_entry entries[UNACKED_BLOCK];
};

struct unacked {
    struct unacked_block **blocks;   /* [first, first + count), by number */
    uint32_t first, count, capacity;
    uint64_t next_tag;               /* of the next delivery */
    uint64_t held;                   /* entries held */
    uint64_t parked;
    uint64_t counted;                /* of those held or parked, how many count towards the channel's prefetch */
};

void unacked_init(struct unacked *unacked);
void unacked_deinit(struct unacked *unacked);

/* Begins a block for unacked->next_tag; called by unacked_add. */
struct unacked_block *unacked_grow(struct unacked *unacked);

/* Holds the message under unacked->next_tag, and counts that up. `counted`: towards the channel's prefetch. False: out of memory, nothing changed. */
static inline bool unacked_add(struct unacked *unacked, uint64_t queue, uint64_t seq, bool counted)
{
    uint64_t tag = unacked->next_tag, number = tag / UNACKED_BLOCK;
    struct unacked_block *block = unacked->count ? unacked->blocks[unacked->first + unacked->count - 1] : NULL;
    if (UNLIKELY(!block || block->number != number)) {
        block = unacked_grow(unacked);
        if (!block)
            return false;
    }
    unsigned place = tag % UNACKED_BLOCK;
    block->entries[place] = (struct unacked_entry){queue, seq};
    block->held |= 1ull << place;
    block->counted |= (uint64_t)counted << place;
    unacked->counted += counted;
    unacked->held++;
    unacked->next_tag = tag + 1;
    return true;
}

/* Called for runs of what is settled: `count` messages of `queue` from `seq` on, in the order of their tags. */
typedef void unacked_run(void *owner, uint64_t queue, uint64_t seq, uint64_t count);

/* Settles the tag, or with `multiple` every held one up to it (0: all). `park`: they stay, as of an open transaction. Answers how many there were; 0 when the
 * tag is not held, which is an error but for 0 with multiple. */
uint64_t unacked_take(struct unacked *unacked, uint64_t tag, bool multiple, bool park, unacked_run *run, void *owner);

/* Is a message held whose tag is lower than what `bound` answers for its queue? That is asked again whenever the queue changes. */
typedef uint64_t unacked_bound(void *owner, uint64_t queue);
bool unacked_holds_below(const struct unacked *unacked, unacked_bound *bound, void *owner);

/* The transaction ended: what it had parked is forgotten, or held again. */
void unacked_forget_parked(struct unacked *unacked);
void unacked_hold_parked(struct unacked *unacked);

#endif
