#include "sim/bus_endpoint.h"

#include "bus/bus.h"

#include <inttypes.h>
#include <stdio.h>

#define SECOND_US 1000000ull
#define ENDPOINT_AFTER 5u
#define ENDPOINT_LONGEST_S 60u

static unsigned worker_of(const struct bus_endpoints *all, unsigned slot)
{
    char id[16];
    snprintf(id, sizeof(id), "s%u", slot);
    return bus_place(bytes_of_text("/"), bytes_of_text(id), all->model->plan->base.workers);
}

static uint64_t changes_of(const struct bus_endpoints *all, unsigned worker)
{
    uint64_t changes = 0;
    for (unsigned i = 0; i < BUS_SLOTS_MAX; i++)
        changes += worker_of(all, i) == worker ? all->model->changes[i] : 0;
    return changes;
}

/* Has the bus of the worker a change before it, or may it have? */
static bool is_unsettled(const struct bus_endpoints *all, unsigned worker)
{
    for (unsigned i = 0; i < all->model->life_count; i++) {
        const struct bus_life *life = all->model->lives[i];
        bool ends = life->ended && life->ended_epoch;
        if (((!life->is_gone && (life->doing || life->is_leaving || ends)) || life->is_blurred) && worker_of(all, life->slot) == worker)
            return true;
    }
    return false;
}

/* What is counted begins anew with the broker, and is not known with every change. What is under way stays so, but for the broker's end. */
static struct bus_endpoint *endpoint_of(struct bus_endpoints *all, const struct bus_post *post, bool *is_settled)
{
    struct bus_model *model = all->model;
    unsigned worker = worker_of(all, post->life->slot);
    if (all->epoch != model->epoch) {
        *all = (struct bus_endpoints){.model = model, .epoch = model->epoch};
        for (unsigned i = 0; i < SIM_WORKERS_MAX * BUS_SINKS_MAX; i++)
            all->list[i / BUS_SINKS_MAX][i % BUS_SINKS_MAX].is_counted = true;
        for (unsigned i = 0; i < SIM_WORKERS_MAX; i++)
            all->changes[i] = changes_of(all, i);
    }
    uint64_t changes = changes_of(all, worker);
    *is_settled = !is_unsettled(all, worker);
    if (!*is_settled || all->changes[worker] != changes)
        for (unsigned i = 0; i < BUS_SINKS_MAX; i++)
            all->list[worker][i] = (struct bus_endpoint){.under_way = all->list[worker][i].under_way};
    all->changes[worker] = changes;
    return &all->list[worker][post->sink];
}

void bus_endpoint_posted(struct bus_endpoints *all, const struct bus_post *post)
{
    bool is_settled;
    struct bus_endpoint *endpoint = endpoint_of(all, post, &is_settled);
    uint64_t now_us = all->model->trace->now_us;
    if (endpoint->is_counted && now_us < endpoint->open_until_us)
        trace_fail(all->model->trace, "a place that does not answer is left alone", "event %" PRIu64 " of subscription s%u (life %u) was posted to sink %u, which is left alone until %" PRIu64,
                   post->event, post->life->slot, post->life->number, post->sink, endpoint->open_until_us);
    else if (endpoint->is_counted && endpoint->failures >= ENDPOINT_AFTER && endpoint->under_way)
        trace_fail(all->model->trace, "one shows how it goes", "event %" PRIu64 " of subscription s%u (life %u) was posted to sink %u, which has failed %u times, and %u are under way there",
                   post->event, post->life->slot, post->life->number, post->sink, endpoint->failures, endpoint->under_way);
    endpoint->under_way++;
}

void bus_endpoint_cancelled(struct bus_endpoints *all, const struct bus_post *post)
{
    bool is_settled;
    struct bus_endpoint *endpoint = endpoint_of(all, post, &is_settled);
    endpoint->under_way -= endpoint->under_way > 0;
}

void bus_endpoint_answered(struct bus_endpoints *all, const struct bus_post *post, const struct outgoing_result *result)
{
    bool is_settled;
    struct bus_endpoint *endpoint = endpoint_of(all, post, &is_settled);
    uint64_t now_us = all->model->trace->now_us;
    bool answers = result->outcome == OUTGOING_ANSWERED || result->outcome == OUTGOING_REFUSED || result->outcome == OUTGOING_BUSY;
    bool is_gateway = result->status == 502 || result->status == 504 || (result->status == 503 && result->retry_after_s == OUTGOING_NO_TIME);
    endpoint->under_way -= endpoint->under_way > 0;
    if (result->outcome == OUTGOING_FORBIDDEN)
        return;
    if (answers && !is_gateway) {
        endpoint->is_counted = is_settled;
        endpoint->failures = endpoint->opened = 0;
        return;
    }
    if (!endpoint->is_counted || ++endpoint->failures < ENDPOINT_AFTER || now_us < endpoint->open_until_us)
        return;
    uint64_t wait_s = endpoint->opened < 6 ? 1ull << endpoint->opened : ENDPOINT_LONGEST_S;
    endpoint->opened++;
    endpoint->open_until_us = now_us + wait_s * SECOND_US;
}
