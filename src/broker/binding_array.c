#include "broker/binding_array.h"

#include "broker/topology.h"

#include <stdlib.h>

struct binding_array *binding_array_new(void)
{
    return calloc(1, sizeof(struct binding_array));
}

void binding_array_free(struct binding_array *array)
{
    if (array)
        free(array->bindings);
    free(array);
}

static int compare_bytes(struct bytes a, struct bytes b)
{
    size_t least = a.size < b.size ? a.size : b.size;
    int order = least ? memcmp(a.data, b.data, least) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* Key, then exchanges before queues, then the destination's name, then arguments. */
static int compare(const struct binding *a, const struct binding *b)
{
    int order = compare_bytes(a->routing_key, b->routing_key);
    if (!order)
        order = (a->queue != NULL) - (b->queue != NULL);
    if (!order)
        order = a->queue ? compare_bytes(a->queue->name, b->queue->name) : compare_bytes(a->exchange->name, b->exchange->name);
    return order ? order : compare_bytes(a->arguments, b->arguments);
}

/* The place of the binding, or the one where it belongs. */
static uint32_t place_of(const struct binding_array *array, const struct binding *binding)
{
    uint32_t low = 0, high = array->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare(array->bindings[middle], binding) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum gw_err binding_array_add(struct binding_array *array, struct binding *binding)
{
    if (array->count == array->capacity) {
        uint32_t capacity = array->capacity ? array->capacity * 2 : 8;
        struct binding **grown = realloc(array->bindings, capacity * sizeof(*grown));
        if (!grown)
            return GW_ERR_NOMEM;
        array->bindings = grown;
        array->capacity = capacity;
    }
    uint32_t at = place_of(array, binding);
    memmove(array->bindings + at + 1, array->bindings + at, (array->count - at) * sizeof(*array->bindings));
    array->bindings[at] = binding;
    array->count++;
    return GW_OK;
}

void binding_array_remove(struct binding_array *array, const struct binding *binding)
{
    uint32_t at = place_of(array, binding);
    CHECK(at < array->count && array->bindings[at] == binding);
    memmove(array->bindings + at, array->bindings + at + 1, (array->count - at - 1) * sizeof(*array->bindings));
    array->count--;
}
