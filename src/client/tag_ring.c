#include "client/tag_ring.h"

#include <stdlib.h>

#define FIRST_CAPACITY 64u

void tag_ring_deinit(struct tag_ring *ring)
{
    free(ring->states);
    *ring = (struct tag_ring){0};
}

enum gw_err tag_ring_add(struct tag_ring *ring, uint8_t state)
{
    if (ring->next - ring->first == ring->capacity) {
        size_t capacity = ring->capacity ? 2 * ring->capacity : FIRST_CAPACITY;
        uint8_t *states = calloc(capacity, 1);
        if (!states)
            return GW_ERR_NOMEM;
        for (uint64_t number = ring->first; number < ring->next; number++)
            states[number & (capacity - 1)] = ring->states[number & (ring->capacity - 1)];
        free(ring->states);
        ring->states = states;
        ring->capacity = capacity;
    }
    ring->states[ring->next++ & (ring->capacity - 1)] = state;
    return GW_OK;
}
