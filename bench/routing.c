/* How long finding a message's queues takes when no cache knows them. Prints nanoseconds a message, the best of some rounds:
 *
 *   bench/routing [bindings]
 */
#include "broker/hash_ring.h"
#include "broker/headers_index.h"
#include "broker/topic.h"
#include "broker/topology.h"
#include "protocol/amqp/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 40
#define KEYS 512u

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

/* ---- headers --------------------------------------------------------------------------------------------------------- */

#define TABLE_ROOM 96u

/* {x-match: MODE, kind: "order", number: NUMBER} */
static struct bytes make_table(uint8_t *room, const char *mode, unsigned number)
{
    struct amqp_table_writer writer;
    struct bytes table = {0};
    amqp_table_begin(&writer, room, TABLE_ROOM);
    if (mode)
        amqp_table_put_text(&writer, "x-match", bytes_of_text(mode));
    amqp_table_put_text(&writer, "kind", bytes_of_text(mode && strcmp(mode, "any") == 0 ? "nothing" : "order"));
    amqp_table_put_int(&writer, "number", (int32_t)number);
    amqp_table_finish(&writer, &table);
    return table;
}

static void measure_headers(const char *mode, unsigned bindings)
{
    struct headers_index *index = headers_index_new(1);
    struct binding *all = calloc(bindings, sizeof(*all));
    uint8_t (*rooms)[TABLE_ROOM] = calloc(bindings, sizeof(*rooms)), (*keys)[TABLE_ROOM] = calloc(KEYS, sizeof(*keys));
    struct bytes views[KEYS];
    if (!index || !all || !rooms || !keys)
        exit(1);
    for (unsigned i = 0; i < bindings; i++) {
        all[i].arguments = make_table(rooms[i], mode, i);
        if (headers_index_add(index, &all[i]))
            exit(1);
    }
    for (unsigned i = 0; i < KEYS; i++)
        views[i] = make_table(keys[i], NULL, random_below(bindings));
    uint64_t best = UINT64_MAX, found = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        found = 0;
        uint64_t begin = now_ns();
        for (unsigned i = 0; i < KEYS; i++)
            headers_index_match(index, views[i], count, &found);
        uint64_t took = now_ns() - begin;
        best = took < best ? took : best;
    }
    printf("headers, %-27s %8.0f ns a message, %6.2f bindings found\n", mode, (double)best / KEYS, (double)found / KEYS);
    headers_index_free(index);
    free(all);
    free(rooms);
    free(keys);
}

static void measure_ring(unsigned queues)
{
    struct hash_ring *ring = hash_ring_new();
    struct binding *all = calloc(queues, sizeof(*all));
    struct queue_entry *entries = calloc(queues, sizeof(*entries));
    if (!ring || !all || !entries)
        exit(1);
    for (unsigned i = 0; i < queues; i++) {
        all[i] = (struct binding){.queue = &entries[i], .routing_key = bytes_of_text("10")};
        if (hash_ring_add(ring, &all[i]))
            exit(1);
    }
    uint64_t found = 0, begin = now_ns();
    for (unsigned i = 0; i < KEYS; i++)
        found += hash_ring_find(ring, random_below(1u << 27)) != NULL;
    printf("x-consistent-hash, %4u queues       %8.0f ns a message, %6.2f bindings found\n", queues, (double)(now_ns() - begin) / KEYS, (double)found / KEYS);
    hash_ring_free(ring);
    free(all);
    free(entries);
}

int main(int count_, char **arguments)
{
    unsigned bindings = count_ > 1 ? (unsigned)atoi(arguments[1]) : 10000;
    printf("%u bindings on one topic exchange\n", bindings);
    for (unsigned i = 0; i < sizeof(families) / sizeof(*families); i++)
        measure(&families[i], bindings ? bindings : 1);
    measure_headers("all", bindings ? bindings : 1);
    measure_headers("any", bindings ? bindings : 1);
    measure_ring(100);
    return 0;
}
