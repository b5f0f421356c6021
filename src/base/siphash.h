/* SipHash-2-4 with an output of 128 bits (Aumasson and Bernstein): whoever does not know the key cannot choose bytes that hash alike. */
#ifndef BASE_SIPHASH_H
#define BASE_SIPHASH_H

#include "base/bytes.h"

struct hash128 {
    uint64_t low, high;
};

struct siphash_key {
    uint64_t low, high;
};

/* Of `first` and `second`, one after the other. */
struct hash128 siphash128(const struct siphash_key *key, struct bytes first, struct bytes second);

#endif
