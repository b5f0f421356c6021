#include "lib/bus.h"
#include "lib/direct.h"
#include "lib/loop.h"
#include "lib/outgoing.h"

int gw_publish(gw_bus *bus, const char *type, const void *data, size_t size, const gw_publish_options *options, gw_published_fn published, void *context)
{
    int result = bus_check(bus);
    if (UNLIKELY(result != GW_DONE))
        return result;
    if (UNLIKELY(!type))
        return loop_fail(bus->loop, GW_E_INVALID, "an event needs a type");
    struct outgoing outgoing = {.exchange = bytes_of(EVENTS_EXCHANGE, sizeof(EVENTS_EXCHANGE) - 1), .type = bytes_of_text(type), .body = bytes_of(data, size), .options = options};
    if (options && options->transient && direct_publish(bus, &outgoing, published, context, &result))
        return result;
    return outgoing_publish(bus, &outgoing, published, context, NULL);
}

int gw_publish_wait(gw_bus *bus, const char *type, const void *data, size_t size, const gw_publish_options *options, int timeout_ms)
{
    unsigned rounds = 0;
    uint64_t ticket;
    int result = bus_check(bus);
    if (result != GW_DONE)
        return result;
    uint64_t until_us = timeout_ms < 0 ? LOOP_NEVER : loop_clock(bus->loop) + (uint64_t)timeout_ms * 1000;
    if (!type)
        return loop_fail(bus->loop, GW_E_INVALID, "an event needs a type");
    struct outgoing outgoing = {.exchange = bytes_of(EVENTS_EXCHANGE, sizeof(EVENTS_EXCHANGE) - 1), .type = bytes_of_text(type), .body = bytes_of(data, size), .options = options};
    if (options && options->transient && direct_publish(bus, &outgoing, NULL, NULL, &result))
        return result;
    bus->until_us = until_us == LOOP_NEVER ? 0 : until_us;
    result = outgoing_publish(bus, &outgoing, NULL, NULL, &ticket);
    bus->until_us = 0;
    if (result != GW_DONE)
        return result;
    for (uint64_t now_us = loop_clock(bus->loop);; now_us = loop_clock(bus->loop)) {
        uint64_t due_us = LOOP_NEVER;
        bool more = bus->ops->turn(bus, now_us, &due_us);
        result = ticket_result(&bus->tickets, ticket);
        if (result == GW_E_REFUSED || result == GW_E_STORAGE || result == GW_E_FULL || result == GW_E_PERMISSION)
            return loop_fail(bus->loop, result, "the event was not taken: %s", gw_result_text(result));
        if (result != GW_E_AGAIN)
            return result;
        if (now_us >= until_us)
            return loop_fail(bus->loop, GW_E_TIMEOUT, "the event was not confirmed within %d ms", timeout_ms);
        uint64_t wait_us = until_us < due_us ? until_us - now_us : due_us > now_us ? due_us - now_us : 0;
        /* An engine that never runs out of work has to look at what comes in, too. */
        if (!more || ++rounds % 64 == 0)
            bus->ops->wait(bus, wait_us > 1000000 ? 1000 : (int)((wait_us + 999) / 1000));
    }
}
