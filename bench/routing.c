/* How long finding a message's queues takes when no cache knows them. Prints nanoseconds a message, the best of some rounds:
 *
 *   bench/routing [bindings]
 */
#include "broker/topic.h"

#include "broker/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 5
#define KEYS 4096u

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t random_state = 88172645463325252u;

static unsigned random_below(unsigned limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state % limit);
}

static void count(void *owner, struct binding *binding)
{
    (void)binding;
    ++*(uint64_t *)owner;
}

struct family {
    const char *name, *pattern, *key;   /* % is a number: of the binding, or one below `range` (the number of bindings where it is 0) */
    unsigned range;
};

/* `random`: every % becomes a number below `number`; otherwise `number` itself. */
static void expand(char *text, size_t room, const char *from, unsigned number, bool random)
{
    size_t used = 0;
    for (; *from && used + 12 < room; from++)
        if (*from == '%')
            used += (size_t)snprintf(text + used, room - used, "%u", random ? random_below(number) : number);
        else
            text[used++] = *from;
    text[used] = 0;
}

static const struct family families[] = {
    {"exact keys of three words", "shop.%.created", "shop.%.created", 0},
    {"one star", "shop.%.*", "shop.%.created", 0},
    {"a star in front", "*.%.created", "shop.%.created", 0},
    {"stars and hashes mixed", NULL, "eu.%.order.%.paid", 100},
    {"a hash behind", "shop.%.#", "shop.%.a.b.c", 0},
    {"a hash in front", "#.%", "a.b.c.d.%", 0},
    {"hashes on both sides", "#.%.#", "a.b.%.c.d", 0},
    {"hashes between words that repeat", "#.a.#.a.#.a.#.%", "a.a.a.a.a.a.a.a.a.a.a.a.%", 0},
};

/* Five words of which some are wildcards. */
static void mixed_pattern(char *text, size_t room)
{
    static const char *const regions[] = {"eu", "us", "*", "#"}, *const last[] = {"paid", "sent", "*", "#"};
    char first[16], second[16];
    expand(first, sizeof(first), random_below(8) ? "%" : "*", 100, true);
    expand(second, sizeof(second), random_below(8) ? "%" : "*", 100, true);
    snprintf(text, room, "%s.%s.order.%s.%s", regions[random_below(4)], first, second, last[random_below(4)]);
}

static void measure(const struct family *family, unsigned bindings)
{
    struct topic_node *root = topic_new(1);
    struct binding *all = calloc(bindings, sizeof(*all));
    char (*texts)[64] = calloc(bindings, sizeof(*texts)), (*keys)[64] = calloc(KEYS, sizeof(*keys));
    unsigned range = family->range ? family->range : bindings;
    if (!root || !all || !texts || !keys)
        exit(1);
    for (unsigned i = 0; i < bindings; i++) {
        if (family->pattern)
            expand(texts[i], sizeof(texts[i]), family->pattern, i, false);
        else
            mixed_pattern(texts[i], sizeof(texts[i]));
        all[i].routing_key = bytes_of_text(texts[i]);
        if (topic_add(root, &all[i]))
            exit(1);
    }
    struct bytes views[KEYS];
    for (unsigned i = 0; i < KEYS; i++) {
        expand(keys[i], sizeof(keys[i]), family->key, range, true);
        views[i] = bytes_of_text(keys[i]);
    }
    uint64_t best = UINT64_MAX, found = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        found = 0;
        uint64_t begin = now_ns();
        for (unsigned i = 0; i < KEYS; i++)
            topic_match(root, views[i], count, &found);
        uint64_t took = now_ns() - begin;
        if (took < best)
            best = took;
    }
    printf("%-36s %8.0f ns a message, %6.2f bindings found\n", family->name, (double)best / KEYS, (double)found / KEYS);
    topic_free(root);
    free(all);
    free(texts);
    free(keys);
}

int main(int count_, char **arguments)
{
    unsigned bindings = count_ > 1 ? (unsigned)atoi(arguments[1]) : 10000;
    printf("%u bindings on one topic exchange\n", bindings);
    for (unsigned i = 0; i < sizeof(families) / sizeof(*families); i++)
        measure(&families[i], bindings ? bindings : 1);
    return 0;
}
