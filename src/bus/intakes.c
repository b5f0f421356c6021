#include "bus/intakes.h"

#include "bus/bus.h"
#include "bus/intake.h"
#include "bus/scoped_key.h"

#include <stdlib.h>

struct intakes {
    struct intakes_config config;
    struct intake *first, *ready;
    struct name_map by_key;
    uint64_t version;                /* of the parameters that are followed */
    uint64_t now_us, due_us, random;
    bool stopped;
};

const struct intakes_config *intakes_config(const struct intakes *intakes) { return &intakes->config; }
uint64_t intakes_deadline(const struct intakes *intakes) { return intakes->stopped ? INTAKE_NEVER : intakes->ready ? 0 : intakes->due_us; }
unsigned intakes_place(struct bytes vhost, struct bytes id, unsigned workers) { return bus_place(vhost, id, workers); }
bool intakes_allow_local(const struct intakes *intakes) { return intakes->config.allows_local; }
struct zones *intakes_zones(const struct intakes *intakes) { return intakes->config.zones; }

const struct intake_fixed *intakes_fixed(const struct intakes *intakes, unsigned *count)
{
    *count = intakes->config.fixed_count;
    return intakes->config.fixed;
}

uint64_t intakes_random(struct intakes *intakes) { return intakes->random += 0x9e3779b97f4a7c15u; }

void intakes_due(struct intake *intake, uint64_t at_us)
{
    struct intakes *intakes = intake->intakes;
    if (at_us > intakes->now_us) {
        intake->due_us = at_us < intake->due_us ? at_us : intake->due_us;
        intakes->due_us = at_us < intakes->due_us ? at_us : intakes->due_us;
    } else if (!intake->is_ready) {
        intake->is_ready = true;
        intake->ready_next = intakes->ready;
        intakes->ready = intake;
    }
}

static struct bytes key_of(const void *value) { return ((const struct intake *)value)->key; }

struct intakes *intakes_new(const struct intakes_config *config)
{
    struct intakes *intakes = calloc(1, sizeof(*intakes));
    if (!intakes)
        return NULL;
    *intakes = (struct intakes){.config = *config, .version = UINT64_MAX, .due_us = INTAKE_NEVER, .random = config->random};
    name_map_init(&intakes->by_key, key_of, (uintptr_t)intakes);
    return intakes;
}

static struct intake *find(const struct intakes *intakes, struct bytes vhost, struct bytes id)
{
    uint8_t room[SCOPED_KEY_MAX];
    struct bytes key = scoped_key(vhost, id, room);
    return key.size ? name_map_get(&intakes->by_key, key) : NULL;
}

static struct intake *add(struct intakes *intakes, struct bytes vhost, struct bytes id)
{
    struct intake *intake = vhost.size <= UINT8_MAX && id.size <= UINT8_MAX ? intake_new(intakes, vhost, id) : NULL;
    if (intake && name_map_put(&intakes->by_key, intake) != GW_OK) {
        intake_free(intake);
        return NULL;
    }
    if (intake) {
        intake->next = intakes->first;
        intakes->first = intake;
    }
    return intake;
}

static void forget(struct intakes *intakes, struct intake *intake)
{
    name_map_remove(&intakes->by_key, intake->key);
    intake->is_ready = true;         /* nobody is to look at it any more */
    intake_free(intake);
}

/* ---- following ------------------------------------------------------------------------------------------------------------- */

static void follow_one(struct intakes *intakes, struct bytes vhost, struct bytes id, struct bytes value, bool is_fixed)
{
    if (intakes_place(vhost, id, intakes->config.workers) != worker_index(intakes->config.worker))
        return;
    struct intake *intake = find(intakes, vhost, id);
    /* What the configuration says goes first. */
    if (intake && intake->is_seen)
        return;
    if (!intake)
        intake = add(intakes, vhost, id);
    if (!intake) {
        intakes->version = UINT64_MAX;   /* memory was short: it is tried again */
        return;
    }
    intake->is_seen = true;
    if (intake->is_fixed != is_fixed || !intake->value) {
        free(intake->value);
        intake->value = NULL;
        intake->is_fixed = is_fixed;
    }
    if (intake_follow(intake, value))
        intakes_due(intake, 0);
}

static void follow_parameter(void *owner, struct bytes vhost, struct bytes id, struct bytes value) { follow_one(owner, vhost, id, value, false); }

static void follow(struct intakes *intakes)
{
    const struct intakes_config *config = &intakes->config;
    intakes->version = worker_parameters_version(config->worker);
    for (struct intake *intake = intakes->first; intake; intake = intake->next)
        intake->is_seen = false;
    for (unsigned i = 0; i < config->fixed_count; i++)
        follow_one(intakes, bytes_of_text(config->fixed[i].vhost), bytes_of_text(config->fixed[i].id), bytes_of_text(config->fixed[i].text), true);
    worker_parameters(config->worker, bytes_of_text(SOURCE_COMPONENT), follow_parameter, intakes);
    for (struct intake **at = &intakes->first; *at;) {
        struct intake *intake = *at;
        if (intake->is_seen) {
            at = &intake->next;
            continue;
        }
        *at = intake->next;
        for (struct intake **ready = &intakes->ready; intake->is_ready && *ready; ready = &(*ready)->ready_next)
            if (*ready == intake) {
                *ready = intake->ready_next;
                break;
            }
        forget(intakes, intake);
    }
}

static void tick(struct intake *intake, uint64_t now_us)
{
    intake->due_us = INTAKE_NEVER;
    intakes_due(intake, intake_tick(intake, now_us));
    intake_tell(intake);
}

void intakes_tick(struct intakes *intakes, uint64_t now_us)
{
    if (intakes->stopped)
        return;
    intakes->now_us = now_us;
    if (intakes->version != worker_parameters_version(intakes->config.worker))
        follow(intakes);
    if (now_us >= intakes->due_us) {
        intakes->due_us = INTAKE_NEVER;
        for (struct intake *intake = intakes->first; intake; intake = intake->next)
            if (intake->due_us <= now_us || intake->due_us < intakes->due_us) {
                uint64_t due_us = intake->due_us;
                intake->due_us = INTAKE_NEVER;
                intakes_due(intake, due_us);
            }
    }
    struct intake *ready = intakes->ready;
    intakes->ready = NULL;
    for (struct intake *next; ready; ready = next) {
        next = ready->ready_next;
        ready->is_ready = false;
        tick(ready, now_us);
    }
}

/* ---- the end --------------------------------------------------------------------------------------------------------------- */

void intakes_stop(struct intakes *intakes)
{
    for (struct intake *intake = intakes->first; intake; intake = intake->next)
        intake_stop(intake);
    intakes->stopped = true;
}

void intakes_free(struct intakes *intakes)
{
    if (!intakes)
        return;
    for (struct intake *intake; (intake = intakes->first);) {
        intakes->first = intake->next;
        forget(intakes, intake);
    }
    name_map_deinit(&intakes->by_key);
    free(intakes);
}

char *intakes_describe(struct intakes *intakes, struct bytes vhost, struct bytes id)
{
    const struct intake *intake = find(intakes, vhost, id);
    return intake ? intake_describe(intake) : NULL;
}
