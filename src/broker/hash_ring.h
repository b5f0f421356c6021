/* The index of an x-consistent-hash exchange: buckets in the order in which they were bound, as many for a destination as its binding key says. A hash is led to
 * a bucket by jump consistent hashing (Lamping and Veach, 2014): what is bound later takes only its share from the others.
 *
 *   bindings   q1 "2"        q2 "3"               q3 "1"
 *   buckets    0    1        2    3    4          5
 */
#ifndef BROKER_HASH_RING_H
#define BROKER_HASH_RING_H

#include "base/bytes.h"
#include "base/err.h"

struct binding;
struct hash_ring;

struct hash_ring *hash_ring_new(void);          /* NULL: out of memory */
void hash_ring_free(struct hash_ring *ring);

/* Adds the binding (borrowed until it is removed) with the weight that its routing key says. A destination that has buckets gets no more: a second binding of it
 * counts once the first is gone. */
enum gw_err hash_ring_add(struct hash_ring *ring, struct binding *binding);
void hash_ring_remove(struct hash_ring *ring, const struct binding *binding);

/* The binding whose bucket the hash (27 bits, see erlang_hash.h) falls into; NULL: there is none. */
struct binding *hash_ring_find(struct hash_ring *ring, uint32_t hash);

/* A weight is a decimal number from 1 on. On false `text` says what RabbitMQ says of it. */
bool hash_ring_weight_valid(struct bytes key, char *text, size_t room);

/* Are the exchange's arguments hash-header and hash-property such that it can be declared? On false `text` says why not. */
bool hash_ring_arguments_valid(struct bytes arguments, char *text, size_t room);

/* What of a message is hashed: its routing key, or what the arguments name. `arguments`: the exchange's; `properties`: the message's property bytes. */
bool hash_ring_is_by_key(struct bytes arguments);
uint32_t hash_ring_hash(struct bytes arguments, struct bytes routing_key, struct bytes properties);

#endif
