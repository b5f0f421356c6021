#include "broker/erlang_hash.h"

#include "protocol/amqp/table.h"

/* Terms are told apart by multiples of the golden ratio. */
static uint32_t kind(uint32_t number)
{
    return number * 0x9E3779B9u;
}

/* Bob Jenkins' mixing step (lookup2, public domain). */
static void mix(uint32_t *a, uint32_t *b, uint32_t *c)
{
    *a -= *b; *a -= *c; *a ^= *c >> 13;
    *b -= *c; *b -= *a; *b ^= *a << 8;
    *c -= *a; *c -= *b; *c ^= *b >> 13;
    *a -= *b; *a -= *c; *a ^= *c >> 12;
    *b -= *c; *b -= *a; *b ^= *a << 16;
    *c -= *a; *c -= *b; *c ^= *b >> 5;
    *a -= *b; *a -= *c; *a ^= *c >> 3;
    *b -= *c; *b -= *a; *b ^= *a << 10;
    *c -= *a; *c -= *b; *c ^= *b >> 15;
}

static uint32_t mix_two(uint32_t hash, uint32_t first, uint32_t second, uint32_t of)
{
    uint32_t a = kind(of) + first, b = kind(of) + second, c = hash;
    mix(&a, &b, &c);
    return c;
}

uint32_t erlang_hash_binary(uint32_t hash, struct bytes bytes)
{
    uint32_t a = kind(1), b = kind(1), c = kind(13) + hash;
    if (!bytes.size)
        return c;
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;
    for (; left >= 12; at += 12, left -= 12) {
        a += load_le32(at);
        b += load_le32(at + 4);
        c += load_le32(at + 8);
        mix(&a, &b, &c);
    }
    uint8_t rest[12] = {0};   /* the last word's lowest byte is the length's */
    memcpy(rest, at, left < 8 ? left : 8);
    if (left > 8)
        memcpy(rest + 9, at + 8, left - 8);
    a += load_le32(rest);
    b += load_le32(rest + 4);
    c += load_le32(rest + 8) + (uint32_t)bytes.size;
    mix(&a, &b, &c);
    return c;
}

uint32_t erlang_hash_atom(uint32_t hash, const char *name)
{
    uint32_t of_name = 0;
    for (; *name; name++) {
        of_name = (of_name << 4) + (uint8_t)*name;
        uint32_t top = of_name & 0xF0000000u;
        of_name ^= top >> 24;
        of_name ^= top;
    }
    return hash ? mix_two(hash, of_name, 0, 3) : of_name;
}

uint32_t erlang_hash_integer(uint32_t hash, int64_t value)
{
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    if (value >= (1 << 27) || value < -(1 << 27))
        return mix_two(hash, (uint32_t)size, (uint32_t)(size >> 32), value < 0 ? 10 : 11);
    if (value < 0)
        hash = mix_two(hash, (uint32_t)size, 0, 1);
    return mix_two(hash, (uint32_t)value, 0, 1);
}

uint32_t erlang_hash_float(uint32_t hash, double value)
{
    uint64_t bits;
    value += 0.0;   /* minus nought is nought */
    memcpy(&bits, &value, sizeof(bits));
    return mix_two(hash, (uint32_t)(bits >> 32), (uint32_t)bits, 12);
}

uint32_t erlang_hash_tuple(uint32_t hash, uint32_t arity)
{
    return mix_two(hash, arity, 0, 9);
}

uint32_t erlang_hash_nil(uint32_t hash)
{
    return mix_two(hash, 2, 0, 2);
}

uint32_t erlang_hash_field(const struct amqp_field *field)
{
    uint32_t hash = erlang_hash_atom(erlang_hash_tuple(0, 2), amqp_field_type_name(field->type));
    switch (field->type) {
    case 'S':
    case 'x':
    case 'F':
    case 'A': return erlang_hash_binary(hash, field->bytes);
    case 't': return erlang_hash_atom(hash, field->integer ? "true" : "false");
    case 'f':
    case 'd': return erlang_hash_float(hash, field->real);
    case 'D': return erlang_hash_integer(erlang_hash_integer(erlang_hash_tuple(hash, 2), field->scale), field->integer);
    case 'V': return erlang_hash_atom(hash, "undefined");
    default: return erlang_hash_integer(hash, field->integer);
    }
}

/* ---- the generator ------------------------------------------------------------------------------------------------- */

static uint64_t seed_part(uint32_t seed, uint64_t factor)
{
    const uint64_t mask = (1u << 21) - 1;
    return (((seed & mask) + 1) * factor) & mask;
}

void exs1024_seed(struct exs1024 *generator, uint32_t seed)
{
    uint64_t x = seed_part(seed, 2097131) << 43 | seed_part(seed, 2097133) << 22 | seed_part(seed, 2097143) << 1 | 1;
    for (unsigned i = 16; i-- > 0;) {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        generator->state[i] = x * 2685821657736338717u;
    }
    generator->at = 0;
}

double exs1024_uniform(struct exs1024 *generator)
{
    uint64_t first = generator->state[generator->at];
    generator->at = (generator->at + 1) & 15;
    uint64_t second = generator->state[generator->at];
    second ^= second << 31;
    second ^= second >> 11;
    second ^= first ^ first >> 30;
    generator->state[generator->at] = second;
    return (double)(second * 1181783497276652981u) / 18446744073709551616.0;
}
