#include "base/siphash.h"

struct sip {
    uint64_t v0, v1, v2, v3;
    uint64_t word;          /* bytes that do not fill one yet, … */
    unsigned filled;        /* … so many of them */
};

static inline uint64_t rotate(uint64_t value, unsigned bits) { return value << bits | value >> (64 - bits); }

static inline void mix(struct sip *sip, unsigned rounds)
{
    while (rounds--) {
        sip->v0 += sip->v1;
        sip->v1 = rotate(sip->v1, 13) ^ sip->v0;
        sip->v0 = rotate(sip->v0, 32);
        sip->v2 += sip->v3;
        sip->v3 = rotate(sip->v3, 16) ^ sip->v2;
        sip->v0 += sip->v3;
        sip->v3 = rotate(sip->v3, 21) ^ sip->v0;
        sip->v2 += sip->v1;
        sip->v1 = rotate(sip->v1, 17) ^ sip->v2;
        sip->v2 = rotate(sip->v2, 32);
    }
}

static inline void take_word(struct sip *sip, uint64_t word)
{
    sip->v3 ^= word;
    mix(sip, 2);
    sip->v0 ^= word;
}

static void take(struct sip *sip, struct bytes bytes)
{
    size_t i = 0;
    if (!sip->filled)
        for (; bytes.size - i >= 8; i += 8)
            take_word(sip, load_le64(bytes.data + i));
    for (; i < bytes.size; i++) {
        sip->word |= (uint64_t)bytes.data[i] << (8 * sip->filled++);
        if (sip->filled == 8) {
            take_word(sip, sip->word);
            sip->word = 0;
            sip->filled = 0;
        }
    }
}

struct hash128 siphash128(const struct siphash_key *key, struct bytes first, struct bytes second)
{
    struct sip sip = {.v0 = key->low ^ 0x736f6d6570736575u, .v1 = key->high ^ 0x646f72616e646f6du ^ 0xee, .v2 = key->low ^ 0x6c7967656e657261u,
                      .v3 = key->high ^ 0x7465646279746573u};
    struct hash128 hash;
    take(&sip, first);
    take(&sip, second);
    take_word(&sip, sip.word | (uint64_t)((first.size + second.size) & 0xFF) << 56);
    sip.v2 ^= 0xee;
    mix(&sip, 4);
    hash.low = sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
    sip.v1 ^= 0xdd;
    mix(&sip, 4);
    hash.high = sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
    return hash;
}
