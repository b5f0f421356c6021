#include "sim/random.h"

#include <string.h>

uint64_t random_mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

void random_init(struct random *random, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++)
        random->state[i] = random_mix(seed + i * 0x9e3779b97f4a7c15u);
}

static uint64_t rotate(uint64_t value, int by)
{
    return (value << by) | (value >> (64 - by));
}

uint64_t random_next(struct random *random)
{
    uint64_t *s = random->state, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t below)
{
    /* The bias of either way is below one in a million for every bound that a simulation uses. */
    uint64_t value = random_next(random);
    if (below >> 32)
        return value % below;
    return (value >> 32) * below >> 32;
}

uint64_t random_between(struct random *random, uint64_t first, uint64_t last)
{
    return first + random_below(random, last - first + 1);
}

bool random_chance(struct random *random, uint64_t count, uint64_t of)
{
    return count != 0 && random_below(random, of) < count;
}

uint64_t random_size(struct random *random, uint64_t limit)
{
    if (limit == 0)
        return 0;
    unsigned bits = 64u - (unsigned)__builtin_clzll(limit);
    /* One after the other, so that no compiler chooses their order. */
    uint64_t mask = (2ull << random_below(random, bits)) - 1;
    uint64_t size = random_next(random) & mask;
    return size > limit ? limit : size;
}

void random_fill(struct random *random, void *at, size_t size)
{
    uint8_t *to = at;
    while (size > 0) {
        uint64_t value = random_next(random);
        size_t part = size < 8 ? size : 8;
        memcpy(to, &value, part);
        to += part;
        size -= part;
    }
}
