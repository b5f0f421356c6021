#include "sim/handler_plan.h"

#include "sim/trace.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SECOND_US 1000000ull
#define DAY_US (86400 * SECOND_US)
#define LIFE_OPERATIONS 40u          /* of the disk between deaths, at the least */

const char *const handler_types[HANDLER_TYPES] = {"a.x", "a.y", "b.x", "b.x.z", "c"};

static const struct {
    const char *pattern;
    unsigned types;
} patterns[] = {{"a.*", 3}, {"*.x", 5}, {"a.x", 1}, {"b.#", 12}, {"c", 16}, {"#.z", 8}, {"a.#", 3}};

static const uint64_t delays[][HANDLER_DELAYS_MAX] = {{1}, {20, 100}, {1000, 5000, 60000}, {0}, {3600000, 86400000}, {100, 86400000, 7 * 86400000ull}};
static const unsigned delay_counts[] = {1, 2, 3, 1, 2, 3};

uint64_t handler_terms_delay_ms(const struct handler_terms *terms, uint32_t fails)
{
    return terms->delays_ms[fails <= terms->delay_count ? fails - 1 : terms->delay_count - 1];
}

static void draw_habits(struct handler_terms *terms, struct random *random)
{
    terms->later = (unsigned)random_below(random, 8);
    terms->retry = random_chance(random, 1, 2) ? (unsigned)random_below(random, 4) : 0;
    terms->retry_after = random_chance(random, 1, 3) ? (unsigned)random_below(random, 3) : 0;
    terms->reject = random_chance(random, 1, 3) ? 1 : 0;
    terms->never = terms->timeout_ms && random_chance(random, 1, 2) ? 1 : 0;
    terms->reply = random_chance(random, 1, 2) ? 2 : 0;
}

static void draw_terms(struct handler_terms *terms, unsigned number, struct random *random)
{
    static const uint64_t timeouts_ms[] = {50, 2000, 600000, 86400000};
    unsigned pattern = (unsigned)random_below(random, sizeof(patterns) / sizeof(patterns[0])), which = (unsigned)random_below(random, sizeof(delay_counts) / sizeof(delay_counts[0]));
    *terms = (struct handler_terms){.pattern = patterns[pattern].pattern, .types = patterns[pattern].types, .delay_count = delay_counts[which]};
    snprintf(terms->name, sizeof(terms->name), "handler%u", number % 1000);
    memcpy(terms->delays_ms, delays[which], sizeof(terms->delays_ms));
    terms->concurrency = random_chance(random, 1, 3) ? 1 : (uint32_t)random_between(random, 1, 8);
    terms->retries = random_chance(random, 1, 4) ? UINT32_MAX : (uint32_t)random_below(random, 4);
    terms->timeout_ms = random_chance(random, 1, 3) ? 0 : timeouts_ms[random_below(random, 4)];
    terms->order_by_key = random_chance(random, 1, 3);
    terms->transient = !terms->order_by_key && random_chance(random, 1, 5);
    if (!terms->transient && random_chance(random, 1, 2))
        snprintf(terms->letter, sizeof(terms->letter), "dead.%u", number);
    draw_habits(terms, random);
}

void handler_plan_make(struct handler_plan *plan, const struct sim_options *options, uint64_t seed)
{
    struct random random;
    memset(plan, 0, sizeof(*plan));
    plan_make(&plan->base, options, seed);
    random_init(&random, seed ^ 0x68616e64);
    /* The library's broker has one worker. */
    plan->base.workers = 1;
    plan->base.rot = plan->base.disk_errors = false;
    plan->base.crash_every += LIFE_OPERATIONS;
    plan->count = (unsigned)random_between(&random, 1, HANDLERS_MAX);
    for (unsigned i = 0; i < plan->count; i++)
        draw_terms(&plan->list[i], i, &random);
    plan->publish = (unsigned)random_between(&random, 100, 1200);
    plan->change = random_chance(&random, 1, 2) ? (unsigned)random_between(&random, 1, 12) : 0;
    plan->ask = random_chance(&random, 1, 2) ? (unsigned)random_between(&random, 5, 60) : 0;
    plan->delayed = random_chance(&random, 1, 2) ? (unsigned)random_between(&random, 1, 4) : 0;
    plan->keyed = (unsigned)random_between(&random, 4, 16);
    plan->transient = random_chance(&random, 1, 2) ? (unsigned)random_between(&random, 1, 6) : 0;
    plan->waited = random_chance(&random, 1, 2) ? (unsigned)random_between(&random, 1, 20) : 0;
    plan->jump = (unsigned)random_between(&random, 5, 60);
    plan->jump_us = random_chance(&random, 1, 3) ? 2 * DAY_US : random_chance(&random, 1, 2) ? 600 * SECOND_US : 2 * SECOND_US;
    plan->delay_ms = random_chance(&random, 1, 2) ? 5000 : 3 * 86400000ull;
}

void handler_plan_note(const struct handler_plan *plan, struct trace *trace)
{
    for (unsigned i = 0; i < plan->count; i++) {
        const struct handler_terms *terms = &plan->list[i];
        trace_note(trace, "handler %u: %s, concurrency %" PRIu32 ", retries %" PRIu32 " after %" PRIu64 ", %" PRIu64 ", %" PRIu64 " ms, timeout %" PRIu64 " ms%s%s%s%s", i,
                   terms->pattern, terms->concurrency, terms->retries, terms->delays_ms[0], terms->delays_ms[1], terms->delays_ms[2], terms->timeout_ms, terms->order_by_key ? ", order by key" : "",
                   terms->transient ? ", transient" : "", terms->letter[0] ? ", letters " : "", terms->letter);
    }
}
