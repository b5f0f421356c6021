#include "broker/policies.h"

#include "broker/settings.h"

#include <stdlib.h>

/* Copies `from` to *at and moves it on. */
static struct bytes keep(uint8_t **at, struct bytes from)
{
    struct bytes kept = {*at, from.size};
    if (from.size)
        memcpy(*at, from.data, from.size);
    *at += from.size;
    return kept;
}

static int compare(struct bytes a, struct bytes b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* ---- policies ------------------------------------------------------------------------------------------------------ */

static void policy_free(struct policy *policy)
{
    pattern_free(policy->compiled);
    free(policy);
}

static unsigned reach_of(const struct policy *policy)
{
    static const struct { enum queue_type type; enum policy_target target; } rows[] = {
        {QUEUE_CLASSIC, POLICY_CLASSIC_QUEUES}, {QUEUE_QUORUM, POLICY_QUORUM_QUEUES}, {QUEUE_STREAM, POLICY_STREAMS}};
    unsigned reach = policy->apply_to;
    for (unsigned i = 0; i < 3; i++)
        if ((reach & rows[i].target) && !settings_policy_applies(policy->definition, rows[i].type))
            reach &= ~(unsigned)rows[i].target;
    return reach;
}

static bool comes_before(const struct policy *a, const struct policy *b)
{
    return a->priority != b->priority ? a->priority > b->priority : compare(a->name, b->name) < 0;
}

enum gw_err policies_put(struct policies *policies, const struct topology_change *change)
{
    struct policy *policy = calloc(1, sizeof(*policy) + change->name.size + change->source.size + change->arguments.size);
    if (!policy)
        return GW_ERR_NOMEM;
    enum gw_err err = pattern_new(change->source, &policy->compiled, NULL, 0, NULL);
    if (err) {
        policy_free(policy);
        return err;
    }
    uint8_t *at = (uint8_t *)(policy + 1);
    policy->name = keep(&at, change->name);
    policy->pattern = keep(&at, change->source);
    policy->definition = keep(&at, change->arguments);
    policy->apply_to = (unsigned)change->id;
    policy->reach = reach_of(policy);
    policy->priority = (int64_t)change->owner;
    policies_delete(policies, policy->name);
    struct policy **place = &policies->first;
    while (*place && comes_before(*place, policy))
        place = &(*place)->next;
    policy->next = *place;
    *place = policy;
    policies->count++;
    return GW_OK;
}

bool policies_delete(struct policies *policies, struct bytes name)
{
    for (struct policy **at = &policies->first; *at; at = &(*at)->next) {
        struct policy *policy = *at;
        if (!bytes_equal(policy->name, name))
            continue;
        *at = policy->next;
        policies->count--;
        policy_free(policy);
        return true;
    }
    return false;
}

void policies_deinit(struct policies *policies)
{
    while (policies->first) {
        struct policy *policy = policies->first;
        policies->first = policy->next;
        policy_free(policy);
    }
    policies->count = 0;
}

const struct policy *policies_find(const struct policies *policies, struct bytes name)
{
    const struct policy *policy = policies->first;
    while (policy && !bytes_equal(policy->name, name))
        policy = policy->next;
    return policy;
}

const struct policy *policies_match(const struct policy *from, struct bytes name, enum policy_target target)
{
    while (from && (!(from->reach & target) || !pattern_matches(from->compiled, name)))
        from = from->next;
    return from;
}

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

enum gw_err parameter_put(struct parameter **first, const struct topology_change *change)
{
    struct parameter *parameter = calloc(1, sizeof(*parameter) + change->name.size + change->source.size + change->arguments.size);
    if (!parameter)
        return GW_ERR_NOMEM;
    uint8_t *at = (uint8_t *)(parameter + 1);
    parameter->component = keep(&at, change->source);
    parameter->name = keep(&at, change->name);
    parameter->value = keep(&at, change->arguments);
    parameter_delete(first, parameter->component, parameter->name);
    parameter->next = *first;
    *first = parameter;
    return GW_OK;
}

static struct parameter **place_of(struct parameter **first, struct bytes component, struct bytes name)
{
    while (*first && (!bytes_equal((*first)->component, component) || !bytes_equal((*first)->name, name)))
        first = &(*first)->next;
    return first;
}

bool parameter_delete(struct parameter **first, struct bytes component, struct bytes name)
{
    struct parameter **place = place_of(first, component, name), *parameter = *place;
    if (!parameter)
        return false;
    *place = parameter->next;
    free(parameter);
    return true;
}

const struct parameter *parameter_find(const struct parameter *first, struct bytes component, struct bytes name)
{
    while (first && (!bytes_equal(first->component, component) || !bytes_equal(first->name, name)))
        first = first->next;
    return first;
}

void parameters_free(struct parameter *first)
{
    while (first) {
        struct parameter *parameter = first;
        first = parameter->next;
        free(parameter);
    }
}

/* ---- names --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned apply_to;
} targets[] = {
    {"all", POLICY_ALL}, {"queues", POLICY_QUEUES}, {"exchanges", POLICY_EXCHANGES}, {"classic_queues", POLICY_CLASSIC_QUEUES},
    {"quorum_queues", POLICY_QUORUM_QUEUES}, {"streams", POLICY_STREAMS},
};

const char *policy_target_name(unsigned apply_to)
{
    for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++)
        if (targets[i].apply_to == apply_to)
            return targets[i].name;
    return "all";
}

bool policy_target_parse(struct bytes name, unsigned *apply_to)
{
    for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++)
        if (bytes_equal(name, bytes_of_text(targets[i].name))) {
            *apply_to = targets[i].apply_to;
            return true;
        }
    return false;
}
