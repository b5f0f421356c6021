#include "base/map.h"

#include <stdlib.h>

#define MAP_MIN_CAPACITY 8u

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t bytes_hash(struct bytes bytes, uint64_t seed)
{
    const uint64_t odd = 0x9E3779B97F4A7C15u;
    uint64_t hash = seed ^ (bytes.size * odd);
    const uint8_t *p = bytes.data;
    size_t size = bytes.size;
    for (; size >= 8; p += 8, size -= 8)
        hash = mix(hash ^ load_le64(p), odd ^ seed);
    if (size) {
        uint64_t last = 0;
        memcpy(&last, p, size);
        hash = mix(hash ^ last ^ ((uint64_t)size << 56), odd ^ seed);
    }
    return mix(hash, odd);
}

static uint32_t place_of(const struct map *map, uint64_t key)
{
    return (uint32_t)((key * 0x9E3779B97F4A7C15u) >> 32) & (map->capacity - 1);
}

void map_deinit(struct map *map)
{
    free(map->slots);
    *map = (struct map){0};
}

static struct map_slot *first_at(const struct map *map, uint64_t key, uint32_t *place)
{
    if (!map->capacity)
        return NULL;
    *place = place_of(map, key);
    return &map->slots[*place];
}

void *map_get(const struct map *map, uint64_t key)
{
    uint32_t place;
    if (!first_at(map, key, &place))
        return NULL;
    for (; map->slots[place].value; place = (place + 1) & (map->capacity - 1))
        if (map->slots[place].key == key)
            return map->slots[place].value;
    return NULL;
}

static void insert(struct map *map, uint64_t key, void *value)
{
    uint32_t place = place_of(map, key);
    while (map->slots[place].value)
        place = (place + 1) & (map->capacity - 1);
    map->slots[place] = (struct map_slot){key, value};
    map->count++;
}

static enum gw_err reserve(struct map *map)
{
    if ((uint64_t)(map->count + 1) * 4 <= (uint64_t)map->capacity * 3)
        return GW_OK;
    uint32_t capacity = map->capacity ? map->capacity * 2 : MAP_MIN_CAPACITY;
    struct map_slot *slots = calloc(capacity, sizeof(*slots));
    if (!slots)
        return GW_ERR_NOMEM;
    struct map bigger = {slots, 0, capacity};
    for (uint32_t i = 0; i < map->capacity; i++)
        if (map->slots[i].value)
            insert(&bigger, map->slots[i].key, map->slots[i].value);
    free(map->slots);
    *map = bigger;
    return GW_OK;
}

enum gw_err map_put(struct map *map, uint64_t key, void *value)
{
    CHECK(value);
    uint32_t place;
    if (first_at(map, key, &place))
        for (; map->slots[place].value; place = (place + 1) & (map->capacity - 1))
            if (map->slots[place].key == key) {
                map->slots[place].value = value;
                return GW_OK;
            }
    enum gw_err err = reserve(map);
    if (err)
        return err;
    insert(map, key, value);
    return GW_OK;
}

/* Empties a slot and moves back what probed past it, so that no tombstones are needed. */
static void *remove_at(struct map *map, uint32_t place)
{
    void *value = map->slots[place].value;
    uint32_t mask = map->capacity - 1, hole = place;
    map->slots[hole].value = NULL;
    map->count--;
    for (uint32_t next = (hole + 1) & mask; map->slots[next].value; next = (next + 1) & mask) {
        uint32_t home = place_of(map, map->slots[next].key);
        if (((next - home) & mask) >= ((next - hole) & mask)) {
            map->slots[hole] = map->slots[next];
            map->slots[next].value = NULL;
            hole = next;
        }
    }
    return value;
}

void *map_remove(struct map *map, uint64_t key)
{
    uint32_t place;
    if (!first_at(map, key, &place))
        return NULL;
    for (; map->slots[place].value; place = (place + 1) & (map->capacity - 1))
        if (map->slots[place].key == key)
            return remove_at(map, place);
    return NULL;
}

void *map_next(const struct map *map, uint32_t *cursor)
{
    while (*cursor < map->capacity) {
        void *value = map->slots[(*cursor)++].value;
        if (value)
            return value;
    }
    return NULL;
}

void name_map_init(struct name_map *map, struct bytes (*name_of)(const void *value), uint64_t seed)
{
    *map = (struct name_map){.name_of = name_of, .seed = seed};
}

void name_map_deinit(struct name_map *map)
{
    map_deinit(&map->map);
}

/* The slot of `name`, or capacity when absent. */
static uint32_t find_name(const struct name_map *names, struct bytes name)
{
    const struct map *map = &names->map;
    if (!map->capacity)
        return 0;
    uint64_t hash = bytes_hash(name, names->seed);
    uint32_t place = place_of(map, hash);
    for (; map->slots[place].value; place = (place + 1) & (map->capacity - 1))
        if (map->slots[place].key == hash && bytes_equal(names->name_of(map->slots[place].value), name))
            return place;
    return map->capacity;
}

void *name_map_get(const struct name_map *map, struct bytes name)
{
    uint32_t place = find_name(map, name);
    return place < map->map.capacity ? map->map.slots[place].value : NULL;
}

enum gw_err name_map_put(struct name_map *map, void *value)
{
    enum gw_err err = reserve(&map->map);
    if (err)
        return err;
    insert(&map->map, bytes_hash(map->name_of(value), map->seed), value);
    return GW_OK;
}

void *name_map_remove(struct name_map *map, struct bytes name)
{
    uint32_t place = find_name(map, name);
    return place < map->map.capacity ? remove_at(&map->map, place) : NULL;
}
