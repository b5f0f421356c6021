/* The index of exchanges that choose one of all their bindings: x-random, and x-modulus-hash, whose order is the bindings' own (key, destination, arguments) so that
 * it is the same after a restart and in RabbitMQ. */
#ifndef BROKER_BINDING_ARRAY_H
#define BROKER_BINDING_ARRAY_H

#include "base/bytes.h"
#include "base/err.h"

struct binding;

struct binding_array {
    struct binding **bindings;   /* borrowed until they are removed */
    uint32_t count, capacity;
};

struct binding_array *binding_array_new(void);   /* NULL: out of memory */
void binding_array_free(struct binding_array *array);

/* GW_ERR_NOMEM: nothing changed. */
enum gw_err binding_array_add(struct binding_array *array, struct binding *binding);
void binding_array_remove(struct binding_array *array, const struct binding *binding);

#endif
