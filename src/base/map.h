/* Two small hash maps, open addressing with linear probing: 64-bit number → pointer, and name → pointer. They own neither values nor names.
 * Not for several threads. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/bytes.h"
#include "base/err.h"

struct map_slot {
    uint64_t key;    /* of a name: its hash */
    void *value;     /* NULL: empty */
};

/* Zero-initialized is empty. */
struct map {
    struct map_slot *slots;
    uint32_t count, capacity;   /* capacity: 0 or a power of two */
};

void map_deinit(struct map *map);

/* NULL when absent. */
void *map_get(const struct map *map, uint64_t key);

/* Adds or replaces; value is not NULL. GW_ERR_NOMEM: nothing changed. */
enum gw_err map_put(struct map *map, uint64_t key, void *value);

/* Returns what was removed, or NULL. */
void *map_remove(struct map *map, uint64_t key);

/* Goes through all values: start with *cursor = 0; NULL at the end. The map must not change meanwhile. */
void *map_next(const struct map *map, uint32_t *cursor);

/* A map from names. The name of a value is found in the value itself, `name_of` says where. */
struct name_map {
    struct map map;             /* keyed by hash; equal hashes stand in neighbouring slots */
    struct bytes (*name_of)(const void *value);
    uint64_t seed;              /* so that nobody outside can choose colliding names */
};

void name_map_init(struct name_map *map, struct bytes (*name_of)(const void *value), uint64_t seed);
void name_map_deinit(struct name_map *map);
void *name_map_get(const struct name_map *map, struct bytes name);

/* The name is not in the map yet. */
enum gw_err name_map_put(struct name_map *map, void *value);
void *name_map_remove(struct name_map *map, struct bytes name);

/* A seeded 64-bit hash of bytes; not a MAC. */
uint64_t bytes_hash(struct bytes bytes, uint64_t seed);

#endif
