/* For tests: bytes that end right before a page that must not be touched, so that reading one byte too far ends the program. */
#ifndef PROTOCOL_AMQP_GUARDED_H
#define PROTOCOL_AMQP_GUARDED_H

#include "base/bytes.h"
#include "base/err.h"

#include <sys/mman.h>

#define GUARDED_SIZE 65536u

struct guarded {
    uint8_t *map;
};

static inline void guarded_open(struct guarded *guarded)
{
    guarded->map = mmap(NULL, GUARDED_SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(guarded->map != MAP_FAILED && mprotect(guarded->map + GUARDED_SIZE, 4096, PROT_NONE) == 0);
}

static inline void guarded_close(struct guarded *guarded)
{
    munmap(guarded->map, GUARDED_SIZE + 4096);
}

/* Room of `size` bytes that ends at the guard. */
static inline uint8_t *guarded_room(struct guarded *guarded, size_t size)
{
    CHECK(size <= GUARDED_SIZE);
    return guarded->map + GUARDED_SIZE - size;
}

/* A copy of `bytes` that ends at the guard. */
static inline struct bytes guarded_copy(struct guarded *guarded, struct bytes bytes)
{
    uint8_t *at = guarded_room(guarded, bytes.size);
    if (bytes.size)
        memmove(at, bytes.data, bytes.size);
    return bytes_of(at, bytes.size);
}

#endif
