#include "broker/headers_index.h"

#include "base/map.h"
#include "broker/headers_match.h"
#include "broker/topology.h"
#include "protocol/amqp/table.h"

#include <stdlib.h>

/* The bindings under one place: a hash of a header's name and value, or of its name. */
struct place {
    uint64_t key;
    struct place_entry {
        struct place_entry *next;
        struct binding *binding;
        bool any, with_x;            /* its mode */
    } *first;
    uint32_t count;
};

struct headers_index {
    struct map places;
    struct place unconditional;      /* bindings without pairs that match everything */
    uint64_t seed;
};

struct headers_index *headers_index_new(uint64_t seed)
{
    struct headers_index *index = calloc(1, sizeof(*index));
    if (index)
        index->seed = seed;
    return index;
}

static void free_entries(struct place *place)
{
    while (place->first) {
        struct place_entry *entry = place->first;
        place->first = entry->next;
        free(entry);
    }
}

void headers_index_free(struct headers_index *index)
{
    if (!index)
        return;
    uint32_t cursor = 0;
    for (struct place *place; (place = map_next(&index->places, &cursor));) {
        free_entries(place);
        free(place);
    }
    map_deinit(&index->places);
    free_entries(&index->unconditional);
    free(index);
}

static uint64_t key_of(const struct headers_index *index, const struct amqp_field *pair)
{
    uint64_t of_name = bytes_hash(pair->name, index->seed);
    return pair->type == 'V' ? of_name : headers_value_hash(pair, of_name);
}

/* ---- adding and removing ------------------------------------------------------------------------------------------- */

static enum gw_err add_to(struct place *place, struct binding *binding)
{
    struct place_entry *entry = malloc(sizeof(*entry));
    if (!entry)
        return GW_ERR_NOMEM;
    *entry = (struct place_entry){place->first, binding, headers_mode_is_any(binding->arguments), headers_mode_takes_x(binding->arguments)};
    place->first = entry;
    place->count++;
    return GW_OK;
}

static enum gw_err add_under(struct headers_index *index, uint64_t key, struct binding *binding)
{
    struct place *place = map_get(&index->places, key);
    if (!place) {
        place = calloc(1, sizeof(*place));
        if (!place)
            return GW_ERR_NOMEM;
        place->key = key;
        if (map_put(&index->places, key, place)) {
            free(place);
            return GW_ERR_NOMEM;
        }
    }
    return add_to(place, binding);
}

static bool remove_from(struct place *place, const struct binding *binding)
{
    for (struct place_entry **at = &place->first; *at; at = &(*at)->next)
        if ((*at)->binding == binding) {
            struct place_entry *entry = *at;
            *at = entry->next;
            free(entry);
            place->count--;
            return true;
        }
    return false;
}

static void remove_under(struct headers_index *index, uint64_t key, const struct binding *binding)
{
    struct place *place = map_get(&index->places, key);
    if (place)
        remove_from(place, binding);
    if (place && !place->count) {
        map_remove(&index->places, key);
        free(place);
    }
}

/* The pair under which the fewest bindings stand so far. False: there is no pair. */
static bool rarest(const struct headers_index *index, struct bytes arguments, uint64_t *key)
{
    bool with_x = headers_mode_takes_x(arguments), found = false;
    uint32_t fewest = UINT32_MAX;
    struct amqp_field pair;
    for (struct bytes rest = arguments; headers_next_pair(&rest, with_x, &pair);) {
        uint64_t candidate = key_of(index, &pair);
        const struct place *place = map_get(&index->places, candidate);
        uint32_t count = place ? place->count : 0;
        if (pair.type == 'V' && count < UINT32_MAX / 2)
            count += UINT32_MAX / 2;   /* any value matches, so that a pair with one is better */
        if (!found || count < fewest) {
            fewest = count;
            *key = candidate;
        }
        found = true;
    }
    return found;
}

void headers_index_remove(struct headers_index *index, const struct binding *binding)
{
    bool with_x = headers_mode_takes_x(binding->arguments), any = false;
    struct amqp_field pair;
    for (struct bytes rest = binding->arguments; headers_next_pair(&rest, with_x, &pair); any = true)
        remove_under(index, key_of(index, &pair), binding);
    if (!any)
        remove_from(&index->unconditional, binding);
}

enum gw_err headers_index_add(struct headers_index *index, struct binding *binding)
{
    uint64_t key = 0;
    bool has_pairs = rarest(index, binding->arguments, &key);
    if (!headers_mode_is_any(binding->arguments))
        return has_pairs ? add_under(index, key, binding) : add_to(&index->unconditional, binding);
    bool with_x = headers_mode_takes_x(binding->arguments);
    struct amqp_field pair;
    for (struct bytes rest = binding->arguments; headers_next_pair(&rest, with_x, &pair);)
        if (add_under(index, key_of(index, &pair), binding)) {
            headers_index_remove(index, binding);
            return GW_ERR_NOMEM;
        }
    return GW_OK;
}

/* ---- matching ------------------------------------------------------------------------------------------------------ */

static void match_under(const struct headers_index *index, uint64_t key, struct bytes headers, void (*found)(void *owner, struct binding *binding), void *owner)
{
    const struct place *place = map_get(&index->places, key);
    for (const struct place_entry *entry = place ? place->first : NULL; entry; entry = entry->next)
        if (headers_match_in_mode(entry->binding->arguments, headers, entry->any, entry->with_x))
            found(owner, entry->binding);
}

void headers_index_match(struct headers_index *index, struct bytes headers, void (*found)(void *owner, struct binding *binding), void *owner)
{
    struct amqp_field header;
    for (const struct place_entry *entry = index->unconditional.first; entry; entry = entry->next)
        found(owner, entry->binding);
    for (struct bytes rest = headers; amqp_table_next(&rest, &header) == WIRE_OK;) {
        uint64_t by_name = bytes_hash(header.name, index->seed), by_value = key_of(index, &header);
        match_under(index, by_name, headers, found, owner);
        if (by_value != by_name)
            match_under(index, by_value, headers, found, owner);
    }
}
