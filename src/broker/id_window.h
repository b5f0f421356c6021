/* The ids of the messages that a queue has taken in lately, and when: what decides whether another message is the same once more. An id is kept as a hash of 128 bits.
 *
 *   ring, oldest first      segments of 256:  (hash, at) (hash, at) …      24 bytes an id
 *   slots, by hash          32 bits of the hash · which ring · place in it   8 bytes, between 0.4 and 0.8 of them filled
 *
 * There are two rings: of messages that came, and of those that are only due later (schedule.h), whose time lies ahead and which would keep the others from being
 * forgotten in their order. The slots are in the order of the hashes but for collisions, so that growing reads and writes them from front to back. */
#ifndef BROKER_ID_WINDOW_H
#define BROKER_ID_WINDOW_H

#include "base/err.h"
#include "base/siphash.h"

#define ID_SEGMENT 256u
#define ID_RINGS 2u

struct known_id {
    struct hash128 hash;
    uint64_t at_ms;             /* since 1970; 0: it is known by a later entry, or not any more */
};

struct id_ring {
    struct known_id **segments; /* ring, by segment number */
    uint32_t capacity;          /* 0 or a power of two */
    uint64_t first, next;       /* places that are in use */
    uint64_t live;              /* of them those with a time */
};

/* Zero-initialized is empty. */
struct id_window {
    struct id_ring rings[ID_RINGS];
    uint64_t *slots;            /* 0: empty */
    uint64_t capacity, used;    /* capacity: 0 or a power of two */
};

void id_window_deinit(struct id_window *window);

/* Is it known? Since when. */
bool id_window_find(const struct id_window *window, struct hash128 hash, uint64_t *at_ms);
/* It is known from `at_ms` (not 0) on, and no longer from an earlier time. GW_ERR_NOMEM: nothing changed. */
enum gw_err id_window_add(struct id_window *window, unsigned ring, struct hash128 hash, uint64_t at_ms);
/* It is not known. */
void id_window_remove(struct id_window *window, struct hash128 hash);

/* Forgets, from the oldest on, a bounded number of those that are older than `gone_ms`, or more than `most` in their ring. Answers how many of the latter are not
 * older than `over_ms`. */
unsigned id_window_trim(struct id_window *window, uint64_t gone_ms, uint64_t over_ms, uint64_t most);

static inline uint64_t id_window_count(const struct id_window *window) { return window->rings[0].live + window->rings[1].live; }
/* Goes through a ring, oldest first: begin with *place 0; NULL at the end. */
const struct known_id *id_window_next(const struct id_window *window, unsigned ring, uint64_t *place);
/* Bytes that it occupies. */
uint64_t id_window_bytes(const struct id_window *window);

#endif
