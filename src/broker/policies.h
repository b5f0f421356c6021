/* Policies and parameters of one vhost (and the global parameters), as administrators set them.
 *
 * A policy's definition is JSON text with RabbitMQ's keys; settings.h says what it means to a queue. Of the policies that match a name the one of the highest
 * priority counts, of equal ones that whose name is first; the user's and the operator's are found apart. */
#ifndef BROKER_POLICIES_H
#define BROKER_POLICIES_H

#include "broker/pattern.h"
#include "broker/topology_change.h"

struct policy {
    struct policy *next;
    struct bytes name, pattern, definition;
    unsigned apply_to;                     /* enum policy_target */
    unsigned reach;                        /* the same without types of queues that its definition is not for */
    int64_t priority;
    struct pattern *compiled;
};

/* Sorted: the first that matches counts. Zero-initialized is empty. */
struct policies {
    struct policy *first;
    uint32_t count;
};

/* POLICY_PUT. GW_ERR_NOMEM, GW_ERR_INVALID (the pattern does not compile): nothing changed. */
enum gw_err policies_put(struct policies *policies, const struct topology_change *change);
/* False: there was none of that name. */
bool policies_delete(struct policies *policies, struct bytes name);
void policies_deinit(struct policies *policies);
const struct policy *policies_find(const struct policies *policies, struct bytes name);

/* The first from `from` on (policies->first to begin with, policy->next to go on) that is for `target` and matches; NULL: none. */
const struct policy *policies_match(const struct policy *from, struct bytes name, enum policy_target target);

struct parameter {
    struct parameter *next;
    struct bytes component, name, value;   /* component empty: a global one. The value is JSON text */
};

/* PARAMETER_PUT in a list that begins at *first. GW_ERR_NOMEM. */
enum gw_err parameter_put(struct parameter **first, const struct topology_change *change);
bool parameter_delete(struct parameter **first, struct bytes component, struct bytes name);
const struct parameter *parameter_find(const struct parameter *first, struct bytes component, struct bytes name);
void parameters_free(struct parameter *first);

/* "queues", "exchanges", "all", "classic_queues", "quorum_queues", "streams". */
const char *policy_target_name(unsigned apply_to);
bool policy_target_parse(struct bytes name, unsigned *apply_to);

#endif
