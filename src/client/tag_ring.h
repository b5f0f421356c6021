/* Consecutive numbers that are open until something is done with each, in any order: delivery tags, and those of publishes. */
#ifndef CLIENT_TAG_RING_H
#define CLIENT_TAG_RING_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct tag_ring {
    uint8_t *states;          /* by number; 0: nothing is left to do */
    size_t capacity;          /* a power of two, or 0 */
    uint64_t first, next;     /* the numbers that are held: first ≤ n < next */
};

/* The first number will be 1. */
static inline void tag_ring_init(struct tag_ring *ring)
{
    *ring = (struct tag_ring){.first = 1, .next = 1};
}

void tag_ring_deinit(struct tag_ring *ring);

/* Gives out ring->next, in this state. Errors: GW_ERR_NOMEM. */
enum gw_err tag_ring_add(struct tag_ring *ring, uint8_t state);

/* The number's state; NULL: it is not held. */
static inline uint8_t *tag_ring_at(struct tag_ring *ring, uint64_t number)
{
    return number >= ring->first && number < ring->next ? &ring->states[number & (ring->capacity - 1)] : NULL;
}

/* Forgets the numbers at the beginning with which nothing is left to do. */
static inline void tag_ring_trim(struct tag_ring *ring)
{
    while (ring->first < ring->next && ring->states[ring->first & (ring->capacity - 1)] == 0)
        ring->first++;
}

#endif
