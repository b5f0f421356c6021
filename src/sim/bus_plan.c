#include "sim/bus_plan.h"

#include "base/err.h"

#include <stdio.h>
#include <string.h>

#define SECOND_US 1000000ull
#define LIFE_OPERATIONS 80u          /* of the disk between deaths, at the least: with fewer, hardly any request is ever answered */
#define DAY_US (86400 * SECOND_US)

const char *const bus_types[BUS_TYPES] = {"a.x", "a.y", "b.x", "b.x.z", "c", "a"};
const char *const bus_patterns[BUS_PATTERNS] = {"a.*", "*.x", "#", "b.#", "a.x", "c", "#.z"};

/* What grades a filter lets through, a bit each. */
static const struct {
    const char *json;
    unsigned grades;
} filters[BUS_FILTERS] = {
    {NULL, 15},
    {"[{\"exact\":{\"grade\":\"g1\"}}]", 2},
    {"[{\"not\":{\"exact\":{\"grade\":\"g1\"}}}]", 13},
    {"[{\"any\":[{\"exact\":{\"grade\":\"g0\"}},{\"suffix\":{\"grade\":\"3\"}}]}]", 9},
    {"[{\"sql\":\"cloudEvents_grade IN ('g1','g2')\"}]", 6},
    {"[{\"prefix\":{\"grade\":\"g\"}},{\"all\":[{\"not\":{\"exact\":{\"grade\":\"g2\"}}}]}]", 11},
};

/* The first is the default, and not said. `times_s` end with 0; the last one repeats. */
static const struct {
    const char *text;
    double times_s[10];
} retries[BUS_RETRIES] = {
    {NULL, {5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400}},
    {"1s,10s", {1, 10}},
    {"100ms", {0.1}},
    {"initial=1s multiplier=3 max=1m jitter=0.4", {0.6, 1.8, 5.4, 16.2, 36}},
    {"2h,1d", {7200, 86400}},
};

uint64_t bus_retry_least_us(const struct bus_terms *terms, unsigned failed)
{
    unsigned at = 0;
    while (at + 1 < failed && at + 1 < 10 && retries[terms->retry].times_s[at + 1] > 0)
        at++;
    return failed ? (uint64_t)(retries[terms->retry].times_s[at] * 1e6) : 0;
}

/* Topics, word by word. */
static bool matches(const char *pattern, const char *type)
{
    size_t size = strcspn(pattern, ".");
    const char *rest = pattern + size + (pattern[size] == '.');
    bool last = !pattern[size];
    if (size == 1 && *pattern == '#') {
        for (;;) {
            if (last ? !*type : matches(rest, type))
                return true;
            if (!*type)
                return false;
            type += strcspn(type, ".");
            type += *type == '.';
        }
    }
    size_t word = strcspn(type, ".");
    if (!*type || (!(size == 1 && *pattern == '*') && (size != word || memcmp(pattern, type, size) != 0)))
        return false;
    type += word + (type[word] == '.');
    return last ? !*type : *type || (rest[0] == '#' && !rest[1]) ? matches(rest, type) : false;
}

bool bus_wish_has(const struct bus_wish *wish, unsigned type, unsigned grade)
{
    for (unsigned i = 0; i < BUS_PATTERNS; i++)
        if ((wish->patterns >> i & 1) && matches(bus_patterns[i], bus_types[type]))
            return filters[wish->filter].grades >> grade & 1;
    return false;
}

void bus_terms_draw(struct bus_terms *terms, struct random *random)
{
    *terms = (struct bus_terms){.concurrency = (unsigned)random_between(random, 1, random_chance(random, 1, 2) ? 3 : 12), .attempts = (unsigned)random_between(random, 1, 10),
                                .timeout_s = (unsigned)random_between(random, 1, 40), .retry = (uint8_t)random_below(random, BUS_RETRIES),
                                .origin = random_chance(random, 1, 4), .is_signed = random_chance(random, 1, 4)};
    terms->order = random_chance(random, 1, 2) ? ORDER_NONE : random_chance(random, 2, 3) ? ORDER_SUBJECT : ORDER_ALL;
    if (terms->retry == 0)
        terms->attempts = 10;
}

void bus_wish_draw(struct bus_wish *wish, const struct bus_plan *plan, struct random *random)
{
    *wish = (struct bus_wish){.patterns = (uint8_t)random_between(random, 1, (1u << BUS_PATTERNS) - 1), .sink = (uint8_t)random_below(random, plan->sinks)};
    wish->is_broker = plan->brokers >> wish->sink & 1;
    if (random_chance(random, 1, 2))
        wish->patterns = (uint8_t)(1u << random_below(random, BUS_PATTERNS));
    wish->filter = (uint8_t)(random_chance(random, 1, 2) ? random_below(random, BUS_FILTERS) : 0);
    wish->paused = random_chance(random, 1, 6);
}

/* ---- as JSON --------------------------------------------------------------------------------------------------------------- */

static json_t *types_json(const struct bus_wish *wish)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < BUS_PATTERNS; i++)
        if (wish->patterns >> i & 1)
            json_array_append_new(list, json_string(bus_patterns[i]));
    return list;
}

/* As it is said, or shown: without the password. */
static json_t *sink_json(const struct bus_wish *wish, unsigned life, const char *password)
{
    if (wish->is_broker)
        return json_sprintf("amqp://ann:%s@sink%u.example/?exchange=%u", password, wish->sink, life);
    return json_sprintf("http://sink%u.example/%u", wish->sink, life);
}

static json_t *filter_json(const struct bus_wish *wish) { return filters[wish->filter].json ? json_loads(filters[wish->filter].json, 0, NULL) : NULL; }

json_t *bus_wish_json(const struct bus_wish *wish, const struct bus_wish *before, unsigned life)
{
    json_t *root = json_object();
    if (!before || wish->patterns != before->patterns)
        json_object_set_new(root, "types", types_json(wish));
    if (!before || wish->sink != before->sink)
        json_object_set_new(root, "sink", sink_json(wish, life, BUS_PASSWORD));
    if (!before ? wish->paused : wish->paused != before->paused)
        json_object_set_new(root, "paused", json_boolean(wish->paused));
    if (!before ? wish->filter != 0 : wish->filter != before->filter)
        json_object_set_new(root, "filters", wish->filter ? filter_json(wish) : json_null());
    return root;
}

json_t *bus_subscription_json(const struct bus_terms *terms, const struct bus_wish *wish, unsigned slot, unsigned life)
{
    json_t *root = bus_wish_json(wish, NULL, life);
    json_t *config = json_pack("{s:i, s:i}", "concurrency", (int)terms->concurrency, "timeout", (int)terms->timeout_s);
    json_object_set_new(root, "id", json_sprintf("s%u", slot));
    json_object_set_new(config, "secrets", terms->is_signed ? json_pack("[s]", BUS_SECRET) : json_array());
    if (retries[terms->retry].text) {
        json_object_set_new(config, "retry", json_string(retries[terms->retry].text));
        json_object_set_new(config, "attempts", json_integer((json_int_t)terms->attempts));
    }
    if (terms->order)
        json_object_set_new(config, "order", json_string(terms->order == ORDER_ALL ? "*" : "subject"));
    if (terms->origin)
        json_object_set_new(config, "origin", json_string(BUS_ORIGIN));
    json_object_set_new(root, "config", config);
    return root;
}

bool bus_wish_is(const struct bus_wish *wish, const json_t *shown, unsigned life)
{
    json_t *types = types_json(wish), *sink = sink_json(wish, life, "(hidden)"), *filter = filter_json(wish);
    json_t *has = json_object_get(shown, "filters");
    bool same = json_equal(types, json_object_get(shown, "types")) && json_equal(sink, json_object_get(shown, "sink")) && (filter ? json_equal(filter, has) : !has) &&
                json_is_true(json_object_get(shown, "paused")) == wish->paused;
    json_decref(types);
    json_decref(sink);
    json_decref(filter);
    return same;
}

/* ---- a seed ------------------------------------------------------------------------------------------------------------------ */

void bus_plan_make(struct bus_plan *plan, const struct sim_options *options, uint64_t seed)
{
    struct random random;
    memset(plan, 0, sizeof(*plan));
    plan_make(&plan->base, options, seed);
    random_init(&random, seed ^ 0x627573);
    plan->base.disk_errors = plan->base.rot = plan->base.full_disk = false;
    plan->base.capacity = UINT64_MAX;
    plan->base.crash_every = plan->base.crash_every < LIFE_OPERATIONS ? LIFE_OPERATIONS : plan->base.crash_every;
    plan->sinks = (unsigned)random_between(&random, 1, BUS_SINKS_MAX);
    plan->slots = (unsigned)random_between(&random, 1, BUS_SLOTS_MAX);
    plan->publishers = (unsigned)random_between(&random, 1, BUS_PUBLISHERS_MAX);
    plan->moods = (unsigned)random_below(&random, 1u << BUS_MOODS) & (unsigned)random_next(&random);
    if (random_chance(&random, 1, 3))
        plan->moods |= 1u << MOOD_GONE;
    else
        plan->moods &= ~(1u << MOOD_GONE);
    plan->moods |= random_chance(&random, 3, 4) ? 1u << MOOD_GOOD : 1u << MOOD_FLAKY;
    plan->mood_us = random_between(&random, SECOND_US / 100, random_chance(&random, 1, 2) ? 10 * SECOND_US : DAY_US / 8);
    plan->jump_us = random_chance(&random, 1, 2) ? 20 * SECOND_US : random_chance(&random, 1, 2) ? 3600 * SECOND_US : DAY_US;
    plan->jump = (unsigned)random_between(&random, 4, 200);
    plan->change = random_chance(&random, 3, 4) ? (unsigned)random_between(&random, 1, 60) : 1;
    plan->workers = random_chance(&random, 1, 2) ? (unsigned)random_between(&random, 1, 3) : 0;
    plan->listeners = random_chance(&random, 1, 2) ? (unsigned)random_between(&random, 1, 2) : 0;
    if (seed % 5 == 3) {
        plan->brokers = (unsigned)random_between(&random, 1, (1u << BUS_SINKS_MAX) - 1);
        plan->moods |= 1u << MOOD_REFUSES;
    }
    plan->body_size = random_chance(&random, 1, 4) ? BUS_BODY_MAX : 300;
}
