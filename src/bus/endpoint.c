#include "bus/endpoint.h"

#include "base/bugs.h"
#include "bus/drain.h"

#include <stdio.h>
#include <stdlib.h>

#define SECOND_US 1000000u
#define LONGEST_S 60u

static struct bytes name_of(const void *value) { return bytes_of_text(((const struct endpoint *)value)->name); }

void endpoints_init(struct endpoints *all, uint64_t seed) { name_map_init(&all->by_name, name_of, seed); }
void endpoints_deinit(struct endpoints *all) { name_map_deinit(&all->by_name); }

struct endpoint *endpoint_take(struct endpoints *all, const struct sink_url *url, bool is_broker)
{
    char name[ENDPOINT_NAME_SIZE];
    snprintf(name, sizeof(name), url->is_address && url->address.size > 4 ? "%s%s://[%s]:%u" : "%s%s://%s:%u", is_broker ? "amqp" : "http", url->is_tls ? "s" : "", url->host, url->port);
    struct endpoint *endpoint = name_map_get(&all->by_name, bytes_of_text(name));
    if (!endpoint) {
        endpoint = calloc(1, sizeof(*endpoint));
        if (!endpoint)
            return NULL;
        endpoint->all = all;
        memcpy(endpoint->name, name, sizeof(name));
        if (name_map_put(&all->by_name, endpoint) != GW_OK) {
            free(endpoint);
            return NULL;
        }
    }
    endpoint->users++;
    return endpoint;
}

void endpoint_leave(struct endpoint *endpoint)
{
    if (!endpoint || --endpoint->users)
        return;
    name_map_remove(&endpoint->all->by_name, bytes_of_text(endpoint->name));
    free(endpoint);
}

bool endpoint_is_open(const struct endpoint *endpoint, uint64_t now_us) { return endpoint && now_us < endpoint->open_until_us; }

bool endpoint_has_room(const struct endpoint *endpoint, uint64_t now_us)
{
    if (!endpoint)
        return true;
    bool probes = endpoint->failures >= ENDPOINT_FAILURES && !bug_enabled(BUG_HOOK_PLACE_ALL);
    return !endpoint_is_open(endpoint, now_us) && endpoint->under_way < (probes ? 1 : ENDPOINT_ROOM);
}

void endpoint_begin(struct endpoint *endpoint)
{
    if (!endpoint)
        return;
    endpoint->users++;
    endpoint->under_way++;
}

void endpoint_end(struct endpoint *endpoint, uint64_t now_us)
{
    if (!endpoint)
        return;
    endpoint->under_way--;
    endpoint_pass_on(endpoint, now_us);
    endpoint_leave(endpoint);
}

void endpoint_learn(struct endpoint *endpoint, const struct outgoing_result *result, uint64_t now_us)
{
    if (!endpoint || result->outcome == OUTGOING_FORBIDDEN)   /* nobody was asked */
        return;
    bool by_gateway = result->status == 502 || result->status == 504 || (result->status == 503 && result->retry_after_s == OUTGOING_NO_TIME);
    bool is_there = result->outcome == OUTGOING_ANSWERED || result->outcome == OUTGOING_REFUSED || result->outcome == OUTGOING_BUSY;
    if (is_there && !by_gateway) {
        endpoint->failures = 0;
        endpoint->opened = 0;
        return;
    }
    if (++endpoint->failures < ENDPOINT_FAILURES || endpoint_is_open(endpoint, now_us))
        return;
    uint64_t wait_s = endpoint->opened < 6 ? 1ull << endpoint->opened : LONGEST_S;
    endpoint->opened++;
    endpoint->open_until_us = now_us + wait_s * SECOND_US / (bug_enabled(BUG_HOOK_PLACE_SHORT) ? 2 : 1);
}

void endpoint_try(struct endpoint *endpoint)
{
    if (endpoint)
        endpoint->open_until_us = 0;
}

/* ---- the line ------------------------------------------------------------------------------------------------------------- */

void endpoint_wait(struct endpoint *endpoint, struct drain *drain, uint64_t now_us)
{
    if (endpoint_is_open(endpoint, now_us)) {
        bus_due(drain, endpoint->open_until_us);
        return;
    }
    if (drain->in_line)
        return;
    drain->in_line = true;
    drain->line_next = NULL;
    drain->line_previous = endpoint->last;
    if (endpoint->last)
        endpoint->last->line_next = drain;
    else
        endpoint->first = drain;
    endpoint->last = drain;
}

void endpoint_unwait(struct endpoint *endpoint, struct drain *drain)
{
    if (!endpoint || !drain->in_line)
        return;
    drain->in_line = false;
    if (drain->line_next)
        drain->line_next->line_previous = drain->line_previous;
    else
        endpoint->last = drain->line_previous;
    if (drain->line_previous)
        drain->line_previous->line_next = drain->line_next;
    else
        endpoint->first = drain->line_next;
}

void endpoint_pass_on(struct endpoint *endpoint, uint64_t now_us)
{
    struct drain *next = endpoint ? endpoint->first : NULL;
    bool is_open = endpoint_is_open(endpoint, now_us);
    if (!next || (!is_open && !endpoint_has_room(endpoint, now_us)))
        return;
    endpoint_unwait(endpoint, next);
    bus_due(next, is_open ? endpoint->open_until_us : 0);
}
