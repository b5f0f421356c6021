#include "broker/key_index.h"

#include "base/map.h"
#include "broker/topology.h"

#include <stdlib.h>

/* The bindings of one key, which lies behind the struct. */
struct binding_list {
    struct bytes key;
    struct binding *first;
};

struct key_index {
    struct name_map lists;
};

static struct bytes list_key(const void *value) { return ((const struct binding_list *)value)->key; }

struct key_index *key_index_new(uint64_t seed)
{
    struct key_index *index = calloc(1, sizeof(*index));
    if (index)
        name_map_init(&index->lists, list_key, seed);
    return index;
}

void key_index_free(struct key_index *index)
{
    if (!index)
        return;
    uint32_t cursor = 0;
    for (void *list; (list = map_next(&index->lists.map, &cursor));)
        free(list);
    name_map_deinit(&index->lists);
    free(index);
}

enum gw_err key_index_add(struct key_index *index, struct binding *binding)
{
    struct bytes key = binding->routing_key;
    struct binding_list *list = name_map_get(&index->lists, key);
    if (!list) {
        list = calloc(1, sizeof(*list) + key.size);
        if (!list)
            return GW_ERR_NOMEM;
        if (key.size)
            memcpy(list + 1, key.data, key.size);
        list->key = bytes_of(list + 1, key.size);
        if (name_map_put(&index->lists, list)) {
            free(list);
            return GW_ERR_NOMEM;
        }
    }
    binding->route_next = list->first;
    list->first = binding;
    return GW_OK;
}

void key_index_remove(struct key_index *index, struct binding *binding)
{
    struct binding_list *list = name_map_get(&index->lists, binding->routing_key);
    CHECK(list);
    struct binding **at = &list->first;
    while (*at != binding) {
        CHECK(*at);
        at = &(*at)->route_next;
    }
    *at = binding->route_next;
    if (!list->first) {
        name_map_remove(&index->lists, list->key);
        free(list);
    }
}

struct binding *key_index_find(const struct key_index *index, struct bytes key)
{
    const struct binding_list *list = name_map_get(&index->lists, key);
    return list ? list->first : NULL;
}
