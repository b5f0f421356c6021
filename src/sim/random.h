/* The one source of chance in a simulation: xoshiro256** seeded by splitmix64 (Blackman and Vigna). The same seed gives the same numbers on
 * every machine. */
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

void random_init(struct random *random, uint64_t seed);
uint64_t random_next(struct random *random);

/* 0 … below - 1; 0 when below is 0. */
uint64_t random_below(struct random *random, uint64_t below);

/* first … last, both included. */
uint64_t random_between(struct random *random, uint64_t first, uint64_t last);

/* True `count` times in `of` on average. */
bool random_chance(struct random *random, uint64_t count, uint64_t of);

/* A size up to `limit` whose magnitude is uniform: small ones are as frequent as large ones. */
uint64_t random_size(struct random *random, uint64_t limit);

void random_fill(struct random *random, void *at, size_t size);

/* A number that depends on all bits of `value`; stateless. */
uint64_t random_mix(uint64_t value);

#endif
