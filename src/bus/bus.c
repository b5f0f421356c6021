#include "bus/bus.h"

#include "base/map.h"
#include "bus/drain.h"
#include "bus/rerun.h"
#include "bus/scoped_key.h"

#include <stdlib.h>

#define RERUNS_AT_ONCE 8u            /* replays; others wait for them */
#define CLOSED_AGAIN_US 1000000u

struct bus {
    struct worker *worker;
    unsigned workers;
    struct bus_senders senders;
    struct drain *drains;
    struct name_map by_key;
    struct drain *ready;             /* to be looked at in the next tick */
    struct rerun *reruns;
    struct endpoints endpoints;
    uint64_t version;                /* of the parameters that are followed */
    uint64_t now_us, due_us;         /* due: no drain's is earlier */
    bool stopped;
};

struct outgoing_sender *bus_sender(const struct bus *bus, const struct subscription *s) { return s->broker ? bus->senders.amqp[s->local] : bus->senders.http[s->local]; }
struct endpoints *bus_endpoints(struct bus *bus) { return &bus->endpoints; }
struct worker *bus_worker(const struct bus *bus) { return bus->worker; }
/* UINT64_MAX: memory was short, and all of them are looked at again when there is a turn anyway. */
bool bus_has_news(const struct bus *bus) { return bus->version != UINT64_MAX && bus->version != worker_parameters_version(bus->worker); }

uint64_t bus_deadline(const struct bus *bus) { return bus->ready || (bus_has_news(bus) && !bus->stopped) ? 0 : bus->due_us; }

/* Between turns some time has passed since the last one's, of which nobody has told. */
uint64_t bus_now(const struct bus *bus) { return bus->now_us > worker_now(bus->worker) ? bus->now_us : worker_now(bus->worker); }

void bus_due(struct drain *drain, uint64_t at_us)
{
    struct bus *bus = drain->bus;
    if (at_us > bus->now_us) {
        drain->due_us = at_us < drain->due_us ? at_us : drain->due_us;
        bus->due_us = at_us < bus->due_us ? at_us : bus->due_us;
    } else if (!drain->is_ready) {
        drain->is_ready = true;
        drain->ready_next = bus->ready;
        bus->ready = drain;
    }
}

void bus_rerun_due(struct rerun *rerun, uint64_t at_us)
{
    rerun->due_us = at_us < rerun->due_us ? at_us : rerun->due_us;
    rerun->bus->due_us = at_us < rerun->bus->due_us ? at_us : rerun->bus->due_us;
}

unsigned bus_place(struct bytes vhost, struct bytes id, unsigned workers)
{
    return (unsigned)((bytes_hash(vhost, 1) ^ bytes_hash(id, 2)) % workers);
}

static struct bytes key_of_drain(const void *value) { return ((const struct drain *)value)->key; }

struct bus *bus_new(struct worker *worker, unsigned workers, const struct bus_senders *senders)
{
    struct bus *bus = calloc(1, sizeof(*bus));
    if (!bus)
        return NULL;
    *bus = (struct bus){.worker = worker, .workers = workers, .senders = *senders, .version = UINT64_MAX, .due_us = DRAIN_NEVER};
    name_map_init(&bus->by_key, key_of_drain, (uintptr_t)bus);
    endpoints_init(&bus->endpoints, (uintptr_t)bus);
    return bus;
}

static struct drain *find(const struct bus *bus, struct bytes vhost, struct bytes id)
{
    uint8_t room[SCOPED_KEY_MAX];
    struct bytes key = scoped_key(vhost, id, room);
    return key.size ? name_map_get(&bus->by_key, key) : NULL;
}

static struct drain *add(struct bus *bus, struct bytes vhost, struct bytes id)
{
    struct drain *drain = vhost.size <= UINT8_MAX && id.size <= UINT8_MAX ? drain_new(bus, vhost, id) : NULL;
    if (drain && name_map_put(&bus->by_key, drain) != GW_OK) {
        drain_free(drain);
        return NULL;
    }
    if (drain) {
        drain->next = bus->drains;
        bus->drains = drain;
    }
    return drain;
}

static void forget(struct bus *bus, struct drain *drain)
{
    for (struct drain **at = &bus->ready; drain->is_ready && *at; at = &(*at)->ready_next)
        if (*at == drain) {
            *at = drain->ready_next;
            break;
        }
    name_map_remove(&bus->by_key, drain->key);
    drain->is_ready = true;   /* nobody is to look at it any more */
    drain_free(drain);
}

/* ---- following the parameters -------------------------------------------------------------------------------------------- */

static void follow_one(void *owner, struct bytes vhost, struct bytes id, struct bytes value)
{
    struct bus *bus = owner;
    if (bus_place(vhost, id, bus->workers) != worker_index(bus->worker))
        return;
    struct drain *drain = find(bus, vhost, id);
    if (!drain)
        drain = add(bus, vhost, id);
    if (!drain) {
        bus->version = UINT64_MAX;   /* memory was short: it is tried again */
        return;
    }
    drain->is_seen = true;
    if (drain_follow(drain, value))
        bus_due(drain, 0);
}

static void follow_rerun(void *owner, struct bytes vhost, struct bytes id, struct bytes value)
{
    struct bus *bus = owner;
    struct rerun *rerun = bus->reruns;
    if (bus_place(vhost, id, bus->workers) != worker_index(bus->worker))
        return;
    while (rerun && !(bytes_equal(rerun->id, id) && bytes_equal(rerun->vhost, vhost)))
        rerun = rerun->next;
    if (rerun && rerun_is(rerun, value)) {
        rerun->is_seen = true;
    } else if ((rerun = rerun_new(bus, vhost, id, value))) {   /* in the place of another one, which is not seen any more */
        rerun->is_seen = true;
        rerun->next = bus->reruns;
        bus->reruns = rerun;
        bus_rerun_due(rerun, 0);
    }
}

static void follow_reruns(struct bus *bus)
{
    for (struct rerun *rerun = bus->reruns; rerun; rerun = rerun->next)
        rerun->is_seen = false;
    worker_parameters(bus->worker, bytes_of_text(SUBSCRIPTION_REPLAY_COMPONENT), follow_rerun, bus);
    for (struct rerun **at = &bus->reruns; *at;) {
        struct rerun *rerun = *at;
        if (rerun->is_seen) {
            at = &rerun->next;
            continue;
        }
        *at = rerun->next;
        rerun_free(rerun);
    }
}

static void follow(struct bus *bus)
{
    bus->version = worker_parameters_version(bus->worker);
    for (struct drain *drain = bus->drains; drain; drain = drain->next)
        drain->is_seen = false;
    worker_parameters(bus->worker, bytes_of_text(SUBSCRIPTION_COMPONENT), follow_one, bus);
    for (struct drain **at = &bus->drains; *at;) {
        struct drain *drain = *at;
        if (drain->is_seen) {
            at = &drain->next;
            continue;
        }
        *at = drain->next;
        forget(bus, drain);
    }
    follow_reruns(bus);
}

static void tick(struct drain *drain, uint64_t now_us)
{
    drain->due_us = DRAIN_NEVER;
    bus_due(drain, drain_tick(drain, now_us));
}

static void tick_reruns(struct bus *bus, uint64_t now_us)
{
    unsigned begun = 0;
    for (const struct rerun *rerun = bus->reruns; rerun; rerun = rerun->next)
        begun += rerun->stage != RERUN_WAITING;
    for (struct rerun **at = &bus->reruns; *at;) {
        struct rerun *rerun = *at;
        uint64_t due_us = rerun->due_us;
        bool was_waiting = rerun->stage == RERUN_WAITING;
        if (due_us <= now_us)
            rerun->due_us = DRAIN_NEVER;
        if (due_us > now_us || rerun_tick(rerun, now_us, begun < RERUNS_AT_ONCE)) {
            bus_rerun_due(rerun, rerun->due_us);
            begun += was_waiting && rerun->stage != RERUN_WAITING;
            at = &rerun->next;
            continue;
        }
        *at = rerun->next;
        if (!rerun->is_final) {   /* it was closed: it goes on at what is written down */
            bus->version = UINT64_MAX;
            bus->due_us = now_us + CLOSED_AGAIN_US < bus->due_us ? now_us + CLOSED_AGAIN_US : bus->due_us;
        }
        rerun_free(rerun);
        for (rerun = bus->reruns; rerun; rerun = rerun->next)
            if (rerun->stage == RERUN_WAITING)
                bus_rerun_due(rerun, now_us);   /* there is room for it */
    }
}

void bus_tick(struct bus *bus, uint64_t now_us)
{
    bus->now_us = now_us;
    if (bus->stopped)
        return;
    if (bus->version != worker_parameters_version(bus->worker))
        follow(bus);
    struct drain *ready = bus->ready;
    bus->ready = NULL;
    for (struct drain *drain; (drain = ready);) {
        ready = drain->ready_next;
        drain->is_ready = false;
        tick(drain, now_us);
    }
    if (now_us < bus->due_us)
        return;
    bus->due_us = DRAIN_NEVER;
    for (struct drain *drain = bus->drains; drain; drain = drain->next) {
        if (drain->due_us <= now_us)
            tick(drain, now_us);
        else
            bus_due(drain, drain->due_us);
    }
    tick_reruns(bus, now_us);
}

/* ---- the end --------------------------------------------------------------------------------------------------------------- */

void bus_stop(struct bus *bus)
{
    bus->stopped = true;
    for (struct drain *drain; (drain = bus->drains);) {
        bus->drains = drain->next;
        forget(bus, drain);
    }
    for (struct rerun *rerun; (rerun = bus->reruns);) {
        bus->reruns = rerun->next;
        rerun_stop(rerun);
        rerun_free(rerun);
    }
    bus->due_us = DRAIN_NEVER;
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    bus_stop(bus);
    name_map_deinit(&bus->by_key);
    endpoints_deinit(&bus->endpoints);
    free(bus);
}

char *bus_describe(struct bus *bus, struct bytes vhost, struct bytes id, bool attempts)
{
    const struct drain *drain = find(bus, vhost, id);
    return drain ? drain_describe(drain, attempts, bus_now(bus)) : NULL;
}

char *bus_describe_replay(const struct bus *bus, struct bytes vhost, struct bytes id)
{
    for (const struct rerun *rerun = bus->reruns; rerun; rerun = rerun->next)
        if (bytes_equal(rerun->id, id) && bytes_equal(rerun->vhost, vhost))
            return rerun_describe(rerun);
    return NULL;
}
