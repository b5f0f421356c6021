/* What a handler's options mean for its queue. */
#include "lib/handler.h"

#include "base/bugs.h"
#include "lib/bus.h"
#include "lib/loop.h"
#include "protocol/amqp/table.h"
#include "protocol/amqp/wire.h"

#include <stdio.h>

#define CONCURRENCY_MAX 65535u
#define DELAY_MAX_MS (10ull * 365 * 86400 * 1000)   /* what a backoff may say (docs/retries.md) */
#define DELAYS_MAX 32u

static const uint64_t default_delays_ms[] = {1000, 5000, 30000, 120000, 600000};

/* What is no UTF-8 would have a broker elsewhere close the connection, again and again. */
static bool is_text(const char *text)
{
    return text && text[0] && strlen(text) < HANDLER_NAME_MAX && amqp_utf8_valid(bytes_of_text(text));
}

bool handler_name_is_possible(const char *name) { return is_text(name); }

static int judge_pattern(struct gw_bus *bus, const char *pattern)
{
    return is_text(pattern) ? GW_DONE : loop_fail(bus->loop, GW_E_INVALID, "a pattern has 1 to 255 bytes of UTF-8: words between dots, * for one word, # for any number of them");
}

static int judge(struct gw_bus *bus, const gw_handler_options *options)
{
    if (options->retry_delay_count && !options->retry_delays_ms)
        return loop_fail(bus->loop, GW_E_INVALID, "a handler's retry delays are NULL, and said to be %zu", options->retry_delay_count);
    if (options->retry_delay_count > DELAYS_MAX)
        return loop_fail(bus->loop, GW_E_LIMIT, "a handler has at most %u retry delays", DELAYS_MAX);
    for (size_t i = 0; i < options->retry_delay_count; i++)
        if (options->retry_delays_ms[i] > DELAY_MAX_MS)
            return loop_fail(bus->loop, GW_E_LIMIT, "a retry delay is at most ten years");
    if (options->concurrency > CONCURRENCY_MAX || options->prefetch > CONCURRENCY_MAX)
        return loop_fail(bus->loop, GW_E_LIMIT, "concurrency and prefetch are at most %u", CONCURRENCY_MAX);
    if (options->retries < GW_NO_RETRIES)
        return loop_fail(bus->loop, GW_E_INVALID, "%d is no number of retries", options->retries);
    if (options->order_by_key && options->priorities)
        return loop_fail(bus->loop, GW_E_INVALID, "a handler cannot both order by key and have priorities");
    if (options->dead_letter && !is_text(options->dead_letter))
        return loop_fail(bus->loop, GW_E_LIMIT, "the type of dead letters has 1 to 255 bytes of UTF-8");
    return GW_DONE;
}

static int name_queues(struct gw_handler *handler, const char *pattern, const gw_handler_options *options)
{
    struct gw_bus *bus = handler->bus;
    struct plan *plan = &handler->plan;
    char own[BUS_ID_MAX] = "";
    const char *name = options->name ? options->name : pattern;
    if (options->transient)
        bus_new_id(bus, own);
    int size = snprintf(plan->queue, sizeof(plan->queue), "%s%s%s%s", options->name ? "" : "on.", name, own[0] ? "." : "", own);
    /* ".dead" has to fit in, too. */
    if (!is_text(name) || size < 0 || (size_t)size + 5 >= sizeof(plan->queue))
        return loop_fail(bus->loop, GW_E_LIMIT, "a handler's name has 1 to 250 bytes of UTF-8; give a handler of a long pattern one of its own");
    if (strncmp(plan->queue, "amq.", 4) == 0)
        return loop_fail(bus->loop, GW_E_INVALID, "a handler's name does not begin with 'amq.': such queues are the broker's own");
    if (!options->dead_letter && !options->transient)
        snprintf(plan->dead_queue, sizeof(plan->dead_queue), "%.250s.dead", plan->queue);
    snprintf(handler->dead_letter, sizeof(handler->dead_letter), "%s", options->dead_letter ? options->dead_letter : "");
    snprintf(plan->pattern, sizeof(plan->pattern), "%s", pattern);
    return GW_DONE;
}

static void put_delays(struct amqp_table_writer *writer, const struct gw_handler *handler)
{
    uint8_t array[4 + 9 * DELAYS_MAX];
    uint8_t *at = array + 4;
    for (unsigned i = 0; i < handler->delay_count; i++, at += 9) {
        at[0] = 'l';
        store_be64(at + 1, handler->delays_ms[i]);
    }
    store_be32(array, (uint32_t)(at - array) - 4);
    amqp_table_put_raw(writer, bytes_of_text("x-retry-backoff"), 'A', bytes_of(array, (size_t)(at - array)));
}

static void make_arguments(struct gw_handler *handler, const gw_handler_options *options)
{
    struct amqp_table_writer writer;
    struct bytes arguments;
    uint8_t room[PLAN_ARGUMENTS_MAX + 4];
    amqp_table_begin(&writer, room, sizeof(room));
    put_delays(&writer, handler);
    if (handler->retries != GW_RETRY_FOREVER)
        amqp_table_put_long(&writer, "x-delivery-limit", handler->retries - (handler->retries > 0 && bug_enabled(BUG_HANDLER_LIMIT_SHORT)));
    if ((handler->plan.dead_queue[0] || handler->dead_letter[0]) && !bug_enabled(BUG_HANDLER_LETTER_LOST)) {
        amqp_table_put_text(&writer, "x-dead-letter-exchange", bytes_of_text(handler->dead_letter[0] ? EVENTS_EXCHANGE : ""));
        amqp_table_put_text(&writer, "x-dead-letter-routing-key", bytes_of_text(handler->dead_letter[0] ? handler->dead_letter : handler->plan.dead_queue));
    }
    if (options->order_by_key && !bug_enabled(BUG_HANDLER_KEY_LEFT_OUT))
        amqp_table_put_text(&writer, "x-group-key", bytes_of_text("cloudEvents_partitionkey"));
    if (options->priorities)
        amqp_table_put_long(&writer, "x-max-priority", options->priorities);
    CHECK(amqp_table_finish(&writer, &arguments));
    memcpy(handler->plan.arguments, arguments.data, arguments.size);
    handler->plan.arguments_size = (uint32_t)arguments.size;
}

int handler_plan(struct gw_handler *handler, const char *pattern, const gw_handler_options *options)
{
    struct gw_bus *bus = handler->bus;
    struct plan *plan = &handler->plan;
    if (judge_pattern(bus, pattern) != GW_DONE)
        return GW_E_INVALID;
    int result = judge(bus, options);
    if (result != GW_DONE || (result = name_queues(handler, pattern, options)) != GW_DONE)
        return result;
    handler->concurrency = options->concurrency ? options->concurrency : 1;
    handler->retries = options->retries == 0 ? 5 : options->retries == GW_NO_RETRIES ? 0 : options->retries;
    handler->timeout_us = options->timeout_ms == 0 ? 300000000u : options->timeout_ms > LOOP_NEVER / 2000 ? LOOP_NEVER : options->timeout_ms * 1000;
    handler->transient = options->transient;
    handler->delay_count = options->retry_delay_count ? (unsigned)options->retry_delay_count : sizeof(default_delays_ms) / sizeof(default_delays_ms[0]);
    memcpy(handler->delays_ms, options->retry_delay_count ? options->retry_delays_ms : default_delays_ms, handler->delay_count * sizeof(uint64_t));
    handler->takes_direct = options->transient && !options->order_by_key && !options->priorities;
    plan->durable = !options->transient;
    /* With one message at a time for each of several consumers the queue itself keeps the order of each key. */
    plan->consumers = options->order_by_key ? handler->concurrency : 1;
    plan->prefetch = options->order_by_key ? bug_enabled(BUG_HANDLER_KEY_AHEAD) ? 8 : 1 : options->prefetch > handler->concurrency ? options->prefetch : 0;
    make_arguments(handler, options);
    return GW_DONE;
}
