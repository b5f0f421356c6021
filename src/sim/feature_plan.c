#include "sim/feature_plan.h"

#include <stdio.h>
#include <string.h>

/* A few features that may meet in one queue. */
static unsigned draw_features(struct random *random)
{
    static const unsigned classic[] = {CHAIN_TTL, CHAIN_EXPIRATION, CHAIN_DROP_HEAD, CHAIN_REJECT_PUBLISH, CHAIN_PRIORITY, CHAIN_SINGLE_ACTIVE, CHAIN_DELAY};
    unsigned features = 0;
    switch (random_below(random, 8)) {
    case 0: return CHAIN_STREAM;
    case 1: return CHAIN_DELIVERY_LIMIT | (random_chance(random, 1, 2) ? CHAIN_TTL : 0) | (random_chance(random, 1, 3) ? CHAIN_SINGLE_ACTIVE : 0);
    default: break;
    }
    for (unsigned i = 1 + (unsigned)random_below(random, 3); i > 0; i--)
        features |= classic[random_below(random, sizeof(classic) / sizeof(*classic))];
    if (features & CHAIN_REJECT_PUBLISH)
        features &= ~(unsigned)(CHAIN_DROP_HEAD | CHAIN_DELAY);   /* what the broker itself brings to a full queue is another matter */
    return features;
}

/* Groups are drawn apart, so that seeds mean what they meant before there were any. */
static void draw_groups(struct chain *chain, unsigned only, uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    if (only ? !(only & CHAIN_GROUPS) : (chain->features & (CHAIN_STREAM | CHAIN_PRIORITY)) || !random_chance(&random, 1, 4))
        return;
    chain->features = random_chance(&random, 1, 2) ? CHAIN_GROUPS : (chain->features & ~(unsigned)(CHAIN_STREAM | CHAIN_PRIORITY)) | CHAIN_GROUPS;
    if ((!only || (only & CHAIN_GROUP_FAIR)) && random_chance(&random, 1, 3))
        chain->features |= CHAIN_GROUP_FAIR;
    chain->keys = (uint8_t)random_between(&random, 1, GROUP_KEYS_MAX - 1);
    chain->regrouped = !(chain->features & CHAIN_GROUP_FAIR) && random_chance(&random, 1, 4);
}

/* Retries too. */
static void draw_retry(struct chain *chain, unsigned only, uint64_t seed)
{
    static const unsigned of_both = CHAIN_TTL | CHAIN_SINGLE_ACTIVE | CHAIN_DELIVERY_LIMIT | CHAIN_GROUPS | CHAIN_GROUP_FAIR | CHAIN_RETRY;
    struct random random;
    random_init(&random, seed);
    if ((chain->features & CHAIN_STREAM) || (only ? !(only & CHAIN_RETRY) : !random_chance(&random, 1, 3)))
        return;
    chain->features |= CHAIN_RETRY;
    if ((!only || (only & CHAIN_DELIVERY_LIMIT)) && random_chance(&random, 1, 2))
        chain->features |= CHAIN_DELIVERY_LIMIT;
    chain->classic = (chain->features & ~of_both) || random_chance(&random, 1, 2);
    chain->retry_steps = (uint8_t)random_below(&random, RETRY_STEPS_MAX + 1);
    uint32_t longest_ms = random_chance(&random, 1, 2) ? 60 : 3000;
    for (unsigned i = 0; i < RETRY_STEPS_MAX; i++)
        chain->retry_ms[i] = (uint32_t)random_between(&random, 1, longest_ms);
    if (chain->retry_ms[1] < chain->retry_ms[0])
        chain->retry_ms[1] = chain->retry_ms[0];
    if (random_chance(&random, 1, 3))
        chain->own_wait_ms = longest_ms;
}

static void make_chain(struct chain *chain, unsigned number, unsigned only, struct random *random)
{
    snprintf(chain->source, sizeof(chain->source), "source.%u", number);
    snprintf(chain->dead, sizeof(chain->dead), "dead.%u", number);
    snprintf(chain->asks, sizeof(chain->asks), "asks.%u", number);
    snprintf(chain->delayed, sizeof(chain->delayed), "delayed.%u", number);
    chain->features = draw_features(random) & (only ? only : ~0u);
    chain->ttl_ms = (uint32_t)random_between(random, 1, random_chance(random, 1, 2) ? 50 : 5000);
    chain->max_length = (uint32_t)random_between(random, 1, random_chance(random, 1, 2) ? 10 : 400);
    chain->delivery_limit = (uint32_t)random_between(random, 0, 4);
    chain->max_priority = (uint8_t)random_between(random, 1, random_chance(random, 1, 2) ? 5 : 255);
    chain->keyed = random_chance(random, 1, 2);
}

/* Whatever else the chain is, messages with the same id may be let in once: drawn by itself, so that older seeds stay what they were. */
static void draw_dedup(struct chain *chain, unsigned only, struct random *random)
{
    bool wanted = only ? only & CHAIN_DEDUP : random_chance(random, 1, 5);
    if (!wanted || (chain->features & CHAIN_STREAM))
        return;
    chain->features |= CHAIN_DEDUP;
    chain->keyed |= (chain->features & CHAIN_DELAY) != 0;   /* an exchange that delays would bring them later than they were published */
    chain->window_ms = (uint32_t)random_between(random, 1, random_chance(random, 1, 2) ? 200 : 60000);
    chain->most_ids = random_chance(random, 1, 4) ? (uint32_t)random_between(random, 1, 50) : 1000000;
    chain->ids = (uint32_t)random_between(random, 1, random_chance(random, 1, 2) ? 40 : 2000);
}

/* A chain of half messages is nothing else. */
static void draw_half(struct chain *chain, unsigned only, uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    if (only ? !(only & CHAIN_HALF) : !random_chance(&random, 1, 6))
        return;
    chain->features = CHAIN_HALF;
    chain->half_ms = (uint32_t)random_between(&random, 1, random_chance(&random, 1, 2) ? 100 : 3000);
    chain->half_limit = (uint32_t)random_below(&random, 4);
}

/* Nor is one whose messages are sorted out by hand. */
static void draw_inside(struct chain *chain, unsigned only, uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    if (only ? only & CHAIN_INSIDE : random_chance(&random, 1, 6))
        chain->features = CHAIN_INSIDE;
}

/* The same for filters, which queues with groups refuse. */
static void draw_filter(struct chain *chain, unsigned only, struct random *random)
{
    bool wanted = only ? only & CHAIN_FILTER : random_chance(random, 1, 4);
    if (!wanted || (chain->features & (CHAIN_GROUPS | CHAIN_HALF | CHAIN_INSIDE)))
        return;
    if (random_chance(random, 1, 2))
        chain->features &= CHAIN_STREAM | CHAIN_PRIORITY | CHAIN_DELAY;   /* in which it is known who gets what */
    chain->features |= CHAIN_FILTER;
    chain->keys = (uint8_t)random_between(random, 1, GROUP_KEYS_MAX - 1);
}

void feature_plan_make(struct feature_plan *plan, const struct sim_options *options, uint64_t seed)
{
    struct random random;
    memset(plan, 0, sizeof(*plan));
    plan_make(&plan->base, options, seed);
    random_init(&random, seed ^ 0x66656174);
    plan->base.disk_errors = plan->base.rot = plan->base.full_disk = false;
    plan->base.capacity = UINT64_MAX;
    plan->chain_count = (unsigned)random_between(&random, 1, CHAINS_MAX);
    for (unsigned i = 0; i < plan->chain_count; i++)
        make_chain(&plan->chains[i], i, options->only, &random);
    for (unsigned i = 0; i < plan->chain_count; i++)
        draw_groups(&plan->chains[i], options->only, random_mix(seed + i) ^ 0x67726f7570);
    for (unsigned i = 0; i < plan->chain_count; i++)
        draw_retry(&plan->chains[i], options->only, random_mix(seed + i) ^ 0x7265747279);
    struct random apart;
    random_init(&apart, seed ^ 0x64656475);
    for (unsigned i = 0; i < plan->chain_count; i++)
        draw_dedup(&plan->chains[i], options->only, &apart);
    for (unsigned i = 0; i < plan->chain_count; i++)
        draw_half(&plan->chains[i], options->only, random_mix(seed + i) ^ 0x68616c66);
    for (unsigned i = 0; i < plan->chain_count; i++)
        draw_inside(&plan->chains[i], options->only, random_mix(seed + i) ^ 0x696e73696465);
    plan->client_count = (unsigned)random_between(&random, plan->chain_count + 1, FEATURE_CLIENTS_MAX - 1);
    for (unsigned i = 0; i < plan->client_count; i++) {
        enum feature_role role = i < plan->chain_count ? ROLE_PUBLISHER : random_chance(&random, 3, 5) ? ROLE_CONSUMER : random_chance(&random, 1, 2) ? ROLE_MOURNER : ROLE_PUBLISHER;
        unsigned chain = i < plan->chain_count ? i : (unsigned)random_below(&random, plan->chain_count);
        plan->parts[i] = (struct feature_part){role, chain, (uint16_t)random_between(&random, 1, random_chance(&random, 1, 2) ? 5 : 200), 0};
    }
    plan->parts[plan->client_count] = (struct feature_part){.role = ROLE_ADMIN};
    random_init(&apart, seed ^ 0x66696c74);
    for (unsigned i = 0; i < plan->chain_count; i++)
        draw_filter(&plan->chains[i], options->only, &apart);
    for (unsigned i = 0; i < plan->client_count; i++) {
        struct feature_part *part = &plan->parts[i];
        if ((plan->chains[part->chain].features & CHAIN_FILTER) && part->role == ROLE_CONSUMER && random_chance(&apart, 7, 8))
            part->wants = (uint8_t)(random_chance(&apart, 1, 2) ? 1u << random_between(&apart, 1, plan->chains[part->chain].keys) : random_between(&apart, 1, 255));
    }
    plan->drop = options->faults >= SIM_FAULTS_CRASH && random_chance(&random, 2, 3) ? (unsigned)random_between(&random, 1, 30) : 0;
    plan->slack = (unsigned)random_below(&random, 24);
}
