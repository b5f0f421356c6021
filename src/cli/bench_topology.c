#include "cli/bench_topology.h"

#include "client/verbs.h"

#include <poll.h>
#include <stdlib.h>

#define OUT_SIZE (256u * 1024u)
#define CALL_MAX 2048u             /* bytes of one call's frame */
#define SILENCE_MAX_NS 120000000000u

/* A stream of `count` calls of one kind: `make` writes the frame of call `index`. */
struct calls {
    const struct bench_plan *plan;
    uint32_t count;
    size_t (*make)(const struct bench_plan *plan, uint32_t index, uint8_t *at, size_t room);
    uint32_t reply;
};

/* Counts the replies among what was read. */
static enum bench_progress take_replies(struct bench_link *link, uint32_t reply, uint32_t *replies)
{
    struct amqp_frame frame;
    for (;;) {
        enum wire_answer answer = amqp_frame_read(bench_link_held(link), link->frame_max, &frame);
        if (answer == WIRE_MORE)
            return BENCH_SOME;
        if (answer == WIRE_BAD)
            return bench_link_break(link, "the broker sent a malformed frame");
        link->begin += frame.size;
        if (frame.type == AMQP_FRAME_METHOD && frame.payload.size >= 4 && amqp_method_id_read(frame.payload.data) == reply)
            ++*replies;
        else if (bench_link_other(link, &frame) == BENCH_BROKEN)
            return BENCH_BROKEN;
    }
}

static enum bench_progress pipeline(struct bench_link *link, const struct calls *calls)
{
    uint8_t *out = malloc(OUT_SIZE);
    const uint8_t *at = out;
    size_t size = 0;
    uint32_t made = 0, replies = 0;
    uint64_t heard_ns = bench_now_ns();
    enum bench_progress progress = out ? BENCH_SOME : bench_link_break(link, "out of memory");
    while (progress != BENCH_BROKEN && replies < calls->count) {
        if (size == 0) {
            at = out;
            for (; made < calls->count && OUT_SIZE - size >= CALL_MAX; made++)
                size += calls->make(calls->plan, made, out + size, OUT_SIZE - size);
        }
        if (size > 0)
            progress = bench_link_write(link, &at, &size);
        if (progress == BENCH_BROKEN)
            break;
        uint32_t before = replies;
        progress = bench_link_read(link);
        if (progress == BENCH_SOME)
            progress = take_replies(link, calls->reply, &replies);
        else if (progress == BENCH_NONE)
            bench_link_wait(link, (short)(POLLIN | (size ? POLLOUT : 0)), 1000000000u);
        if (replies != before)
            heard_ns = bench_now_ns();
        else if (progress == BENCH_NONE && bench_now_ns() - heard_ns > SILENCE_MAX_NS)
            progress = bench_link_break(link, "the broker answered %u of %u calls, then no more", replies, calls->count);
    }
    free(out);
    return progress == BENCH_BROKEN ? BENCH_BROKEN : BENCH_SOME;
}

static size_t make_declare(const struct bench_plan *plan, uint32_t index, uint8_t *at, size_t room)
{
    char name[256];
    bench_queue_name(plan, index, name);
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(name),
        [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(plan->persistent),
        [AMQP_QUEUE_DECLARE_ARGUMENTS] = amqp_bytes(bytes_of(plan->arguments, plan->arguments_size)),
    };
    return amqp_method_frame(at, room, BENCH_CHANNEL, AMQP_QUEUE_DECLARE, values);
}

static size_t make_delete(const struct bench_plan *plan, uint32_t index, uint8_t *at, size_t room)
{
    char name[256];
    bench_queue_name(plan, index, name);
    struct amqp_value values[AMQP_QUEUE_DELETE_COUNT] = {[AMQP_QUEUE_DELETE_QUEUE] = amqp_text(name)};
    return amqp_method_frame(at, room, BENCH_CHANNEL, AMQP_QUEUE_DELETE, values);
}

static size_t make_bind(const struct bench_plan *plan, uint32_t index, uint8_t *at, size_t room)
{
    char name[256], exchange[256];
    bench_queue_name(plan, index, name);
    bench_exchange_name(plan, exchange);
    struct amqp_value values[AMQP_QUEUE_BIND_COUNT] = {
        [AMQP_QUEUE_BIND_QUEUE] = amqp_text(name),
        [AMQP_QUEUE_BIND_EXCHANGE] = amqp_text(exchange),
        [AMQP_QUEUE_BIND_ROUTING_KEY] = amqp_text(name),
    };
    return amqp_method_frame(at, room, BENCH_CHANNEL, AMQP_QUEUE_BIND, values);
}

static size_t make_exchange(const struct bench_plan *plan, uint32_t index, uint8_t *at, size_t room)
{
    char exchange[256];
    (void)index;
    bench_exchange_name(plan, exchange);
    struct amqp_value values[AMQP_EXCHANGE_DECLARE_COUNT] = {
        [AMQP_EXCHANGE_DECLARE_EXCHANGE] = amqp_text(exchange),
        [AMQP_EXCHANGE_DECLARE_TYPE] = amqp_text(plan->exchange_type),
        [AMQP_EXCHANGE_DECLARE_DURABLE] = amqp_number(plan->persistent),
    };
    return amqp_method_frame(at, room, BENCH_CHANNEL, AMQP_EXCHANGE_DECLARE, values);
}

static size_t make_exchange_delete(const struct bench_plan *plan, uint32_t index, uint8_t *at, size_t room)
{
    char exchange[256];
    (void)index;
    bench_exchange_name(plan, exchange);
    struct amqp_value values[AMQP_EXCHANGE_DELETE_COUNT] = {[AMQP_EXCHANGE_DELETE_EXCHANGE] = amqp_text(exchange)};
    return amqp_method_frame(at, room, BENCH_CHANNEL, AMQP_EXCHANGE_DELETE, values);
}

enum bench_progress bench_topology_declare_queues(struct bench_link *link, const struct bench_plan *plan)
{
    return pipeline(link, &(struct calls){plan, plan->queues, make_declare, AMQP_QUEUE_DECLARE_OK});
}

enum bench_progress bench_topology_delete_queues(struct bench_link *link, const struct bench_plan *plan)
{
    return pipeline(link, &(struct calls){plan, plan->queues, make_delete, AMQP_QUEUE_DELETE_OK});
}

static bool has_exchange(const struct bench_plan *plan)
{
    return strcmp(plan->exchange_type, "default") != 0;
}

enum bench_progress bench_topology_make(struct bench_link *link, const struct bench_plan *plan)
{
    if (plan->reuses)
        return BENCH_SOME;
    if (bench_topology_remove(link, plan) == BENCH_BROKEN || bench_topology_declare_queues(link, plan) == BENCH_BROKEN)
        return BENCH_BROKEN;
    if (!has_exchange(plan))
        return BENCH_SOME;
    if (pipeline(link, &(struct calls){plan, 1, make_exchange, AMQP_EXCHANGE_DECLARE_OK}) == BENCH_BROKEN)
        return BENCH_BROKEN;
    return pipeline(link, &(struct calls){plan, plan->queues, make_bind, AMQP_QUEUE_BIND_OK});
}

enum bench_progress bench_topology_remove(struct bench_link *link, const struct bench_plan *plan)
{
    if (bench_topology_delete_queues(link, plan) == BENCH_BROKEN)
        return BENCH_BROKEN;
    if (!has_exchange(plan))
        return BENCH_SOME;
    return pipeline(link, &(struct calls){plan, 1, make_exchange_delete, AMQP_EXCHANGE_DELETE_OK});
}

enum gw_err bench_topology_count(struct bench_link *link, const struct bench_plan *plan, uint64_t *messages)
{
    *messages = 0;
    for (uint32_t i = 0; i < plan->queues; i++) {
        char name[256];
        uint32_t count;
        bench_queue_name(plan, i, name);
        enum gw_err err = remote_queue_declare(link->remote, name, DECLARE_PASSIVE, &count);
        if (err) {
            bench_link_break(link, "%s", remote_error(link->remote));
            return err;
        }
        *messages += count;
    }
    return GW_OK;
}
