/* The index of a headers exchange: which bindings could match a message, found by its headers' names and values, so that many bindings cost little where their
 * values differ. A binding that needs all of its pairs stands under the rarest of them, one that needs any under each; a pair without a value stands under its
 * name. What is found that way is matched in full. */
#ifndef BROKER_HEADERS_INDEX_H
#define BROKER_HEADERS_INDEX_H

#include "base/bytes.h"
#include "base/err.h"

struct binding;
struct headers_index;

struct headers_index *headers_index_new(uint64_t seed);   /* NULL: out of memory */
void headers_index_free(struct headers_index *index);

/* The binding is borrowed until it is removed; its arguments say where it stands. GW_ERR_NOMEM: nothing changed. */
enum gw_err headers_index_add(struct headers_index *index, struct binding *binding);
void headers_index_remove(struct headers_index *index, const struct binding *binding);

/* Calls `found` for every binding that the headers table (valid; empty: none) matches, some twice. */
void headers_index_match(struct headers_index *index, struct bytes headers, void (*found)(void *owner, struct binding *binding), void *owner);

#endif
