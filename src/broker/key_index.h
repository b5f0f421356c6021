/* The index of a direct exchange: routing key → the bindings with that key. */
#ifndef BROKER_KEY_INDEX_H
#define BROKER_KEY_INDEX_H

#include "base/bytes.h"
#include "base/err.h"

struct binding;
struct key_index;

struct key_index *key_index_new(uint64_t seed);   /* NULL: out of memory */
void key_index_free(struct key_index *index);

/* The binding is borrowed until it is removed. GW_ERR_NOMEM: nothing changed. */
enum gw_err key_index_add(struct key_index *index, struct binding *binding);
void key_index_remove(struct key_index *index, struct binding *binding);

/* The first of a key's bindings, the others follow by route_next; NULL: there are none. */
struct binding *key_index_find(const struct key_index *index, struct bytes key);

#endif
