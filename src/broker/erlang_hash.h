/* Erlang's portable hash (phash2) of the terms that exchanges hash, and its generator exs1024: with them the hashing exchanges send a message to the queue
 * to which RabbitMQ would have sent it, so that a system that moves over keeps the order of its keys. */
#ifndef BROKER_ERLANG_HASH_H
#define BROKER_ERLANG_HASH_H

#include "base/bytes.h"

struct amqp_field;

/* Each goes on from `hash`, 0 at the beginning, as Erlang does with the parts of a term. */
uint32_t erlang_hash_binary(uint32_t hash, struct bytes bytes);
uint32_t erlang_hash_atom(uint32_t hash, const char *name);
uint32_t erlang_hash_integer(uint32_t hash, int64_t value);
uint32_t erlang_hash_float(uint32_t hash, double value);
uint32_t erlang_hash_tuple(uint32_t hash, uint32_t arity);   /* its elements follow */
uint32_t erlang_hash_nil(uint32_t hash);                     /* the end of a list, whose elements came before */

/* {Type, Value} as RabbitMQ holds a field of a table. Arrays and tables hash by their bytes, unlike there. */
uint32_t erlang_hash_field(const struct amqp_field *field);

/* What phash2 answers: the lower 27 bits. */
#define ERLANG_HASH_RANGE (1u << 27)

struct exs1024 {
    uint64_t state[16];
    unsigned at;
};

/* rand:seed(exs1024, {seed, seed, seed}). */
void exs1024_seed(struct exs1024 *generator, uint32_t seed);
/* rand:uniform(): 0 ≤ x < 1. */
double exs1024_uniform(struct exs1024 *generator);

#endif
