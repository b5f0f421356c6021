#include "broker/origins.h"

#include <stdlib.h>

#define FIRST_CAPACITY 64u

static uint32_t bucket_of(const struct origins *origins, uint64_t queue, uint64_t seq)
{
    uint64_t hash = (queue * 0x9E3779B97F4A7C15u ^ seq) * 0xBF58476D1CE4E5B9u;
    return (uint32_t)(hash >> 32) & (origins->capacity - 1);
}

void origins_deinit(struct origins *origins)
{
    for (uint32_t i = 0; i < origins->capacity; i++)
        while (origins->buckets[i]) {
            struct origin *origin = origins->buckets[i];
            origins->buckets[i] = origin->next;
            free(origin);
        }
    free(origins->buckets);
    *origins = (struct origins){0};
}

struct origin *origins_find(const struct origins *origins, uint64_t queue, uint64_t seq)
{
    struct origin *origin = origins->capacity ? origins->buckets[bucket_of(origins, queue, seq)] : NULL;
    while (origin && (origin->queue != queue || origin->seq != seq))
        origin = origin->next;
    return origin;
}

static void link(struct origins *origins, struct origin *origin)
{
    struct origin **bucket = &origins->buckets[bucket_of(origins, origin->queue, origin->seq)];
    origin->next = *bucket;
    *bucket = origin;
}

static bool grow(struct origins *origins)
{
    struct origins grown = {.capacity = origins->capacity ? origins->capacity * 2 : FIRST_CAPACITY, .count = origins->count};
    grown.buckets = calloc(grown.capacity, sizeof(struct origin *));
    if (!grown.buckets)
        return false;
    for (uint32_t i = 0; i < origins->capacity; i++)
        while (origins->buckets[i]) {
            struct origin *origin = origins->buckets[i];
            origins->buckets[i] = origin->next;
            link(&grown, origin);
        }
    free(origins->buckets);
    *origins = grown;
    return true;
}

struct origin *origins_add(struct origins *origins, uint64_t queue, uint64_t seq, uint32_t count)
{
    if (origins->count == origins->capacity && !grow(origins))
        return NULL;
    struct origin *origin = calloc(1, sizeof(*origin) + count * sizeof(origin->targets[0]));
    if (!origin)
        return NULL;
    origin->queue = queue;
    origin->seq = seq;
    origin->count = count;
    link(origins, origin);
    origins->count++;
    return origin;
}

void origins_remove(struct origins *origins, uint64_t queue, uint64_t seq)
{
    struct origin **at = origins->capacity ? &origins->buckets[bucket_of(origins, queue, seq)] : NULL;
    while (at && *at && ((*at)->queue != queue || (*at)->seq != seq))
        at = &(*at)->next;
    if (!at || !*at)
        return;
    struct origin *origin = *at;
    *at = origin->next;
    free(origin);
    origins->count--;
}

struct origin *origins_next(const struct origins *origins, const struct origin *after)
{
    if (after && after->next)
        return after->next;
    for (uint32_t i = after ? bucket_of(origins, after->queue, after->seq) + 1 : 0; i < origins->capacity; i++)
        if (origins->buckets[i])
            return origins->buckets[i];
    return NULL;
}
