#include "bus/bus.h"

#include "base/map.h"
#include "bus/drain.h"

#include <stdlib.h>

struct bus {
    struct worker *worker;
    unsigned workers;
    struct outgoing_sender *sender, *local_sender;
    struct drain *drains;
    uint64_t version;                /* of the parameters that are followed */
    uint64_t now_us, due_us;
    bool stopped;
};

struct outgoing_sender *bus_sender(const struct bus *bus, bool local) { return local ? bus->local_sender : bus->sender; }
struct worker *bus_worker(const struct bus *bus) { return bus->worker; }
uint64_t bus_deadline(const struct bus *bus) { return bus->due_us; }

/* Between turns some time has passed since the last one's, of which nobody has told. */
uint64_t bus_now(const struct bus *bus) { return bus->now_us > worker_now(bus->worker) ? bus->now_us : worker_now(bus->worker); }

void bus_due(struct bus *bus, uint64_t at_us)
{
    if (at_us < bus->due_us)
        bus->due_us = at_us;
}

unsigned bus_place(struct bytes vhost, struct bytes id, unsigned workers)
{
    return (unsigned)((bytes_hash(vhost, 1) ^ bytes_hash(id, 2)) % workers);
}

struct bus *bus_new(struct worker *worker, unsigned workers, struct outgoing_sender *sender, struct outgoing_sender *local_sender)
{
    struct bus *bus = calloc(1, sizeof(*bus));
    if (bus)
        *bus = (struct bus){.worker = worker, .workers = workers, .sender = sender, .local_sender = local_sender, .version = UINT64_MAX};
    return bus;
}

static struct drain *find(const struct bus *bus, struct bytes vhost, struct bytes id)
{
    for (struct drain *drain = bus->drains; drain; drain = drain->next)
        if (bytes_equal(drain->id, id) && bytes_equal(drain->vhost, vhost))
            return drain;
    return NULL;
}

/* ---- following the parameters -------------------------------------------------------------------------------------------- */

static void follow_one(void *owner, struct bytes vhost, struct bytes id, struct bytes value)
{
    struct bus *bus = owner;
    if (bus_place(vhost, id, bus->workers) != worker_index(bus->worker))
        return;
    struct drain *drain = find(bus, vhost, id);
    if (!drain && (drain = drain_new(bus, vhost, id))) {
        drain->next = bus->drains;
        bus->drains = drain;
    }
    if (!drain) {
        bus->version = UINT64_MAX;   /* memory was short: it is tried again */
        return;
    }
    drain->is_seen = true;
    drain_follow(drain, value);
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
        drain_free(drain);
    }
}

void bus_tick(struct bus *bus, uint64_t now_us)
{
    bool changed = bus->version != worker_parameters_version(bus->worker);
    bus->now_us = now_us;
    if (bus->stopped || (!changed && now_us < bus->due_us))
        return;
    if (changed)
        follow(bus);
    bus->due_us = DRAIN_NEVER;
    for (struct drain *drain = bus->drains; drain; drain = drain->next)
        bus_due(bus, drain_tick(drain, now_us));
}

/* ---- the end --------------------------------------------------------------------------------------------------------------- */

void bus_stop(struct bus *bus)
{
    bus->stopped = true;
    for (struct drain *drain; (drain = bus->drains);) {
        bus->drains = drain->next;
        drain_free(drain);
    }
    bus->due_us = DRAIN_NEVER;
}

void bus_free(struct bus *bus)
{
    if (bus)
        bus_stop(bus);
    free(bus);
}

char *bus_describe(struct bus *bus, struct bytes vhost, struct bytes id, bool attempts)
{
    const struct drain *drain = find(bus, vhost, id);
    return drain ? drain_describe(drain, attempts, bus_now(bus)) : NULL;
}
