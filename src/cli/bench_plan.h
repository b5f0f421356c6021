/* What a measurement is to do, and how its messages look.
 *
 * A body of 16 bytes or more begins with the message's id and the time it was sent; of 8 to 15 bytes, with its id alone:
 *
 *    0               6           8                    16
 *   ┌───────────────┬───────────┬────────────────────┬─────────────┐
 *   │ sequence      │ publisher │ nanoseconds        │ pattern …   │   little-endian
 *   └───────────────┴───────────┴────────────────────┴─────────────┘
 *
 * Sequences count from 0 for every pair of publisher and queue (for every publisher where an exchange copies to all queues).
 * The pattern at offset n of a body is the same in every message, so that damage is seen. */
#ifndef CLI_BENCH_PLAN_H
#define CLI_BENCH_PLAN_H

#include "base/bytes.h"
#include "protocol/amqp/uri.h"

#include <time.h>

#define BENCH_ID_SIZE 8u
#define BENCH_STAMP_SIZE 16u          /* a body that holds a time is at least so large */
#define BENCH_SEQUENCE_BITS 48u
#define BENCH_PUBLISHERS_MAX 1024u
#define BENCH_CONSUMERS_MAX 1024u
#define BENCH_QUEUES_MAX 99999u
#define BENCH_QUEUE_DIGITS 5u         /* names are of one length, so that a frame's routing key can be patched */
#define BENCH_PREFIX_MAX 200u
#define BENCH_PATTERN_PERIOD 65536u

struct bench_plan {
    struct uri uri;
    const char *scenario;
    const char *prefix;               /* of the names of queues and the exchange */
    const char *exchange_type;        /* "default": none is declared */
    uint32_t publishers, consumers, queues;
    uint64_t size;                    /* bytes of a body */
    bool persistent;
    uint64_t confirm_window;          /* 0: no confirms */
    bool manual_ack;
    uint64_t ack_every, prefetch;     /* prefetch 0: no limit */
    uint64_t rate;                    /* of all publishers together, messages a second; 0: no limit */
    uint64_t messages;                /* of all publishers together; 0: until the duration is over */
    uint64_t duration_ms, warmup_ms, drain_timeout_ms;
    uint64_t count;                   /* of declares or connections */
    bool verify, keeps, reuses;
    int64_t pid;                      /* of the broker; 0: not known */
    uint32_t priorities;              /* 0: messages have none */
    uint64_t expiration_ms;           /* 0: they do not expire */
    uint64_t delay_ms;                /* x-delay; 0: they do not say it */
    uint32_t group_keys;              /* values of the header 'group'; 0: there is none */
    uint8_t arguments[1024];          /* of the queues, a table's bytes without their size … */
    uint32_t arguments_size;          /* … which is this */
    bool is_stream;                   /* x-queue-type is stream: each consumer gets everything, from the first message on */
    const uint8_t *pattern;           /* BENCH_PATTERN_PERIOD bytes repeated up to what a frame may need more */
};

static inline uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Where `offset` of a body's pattern is. */
static inline const uint8_t *bench_pattern(const struct bench_plan *plan, uint64_t offset)
{
    return plan->pattern + (offset & (BENCH_PATTERN_PERIOD - 1));
}

/* Bytes of plan->pattern: a period, and a largest frame beyond it. */
#define BENCH_PATTERN_SIZE (BENCH_PATTERN_PERIOD + 131072u)
void bench_pattern_fill(uint8_t *pattern);

/* "x-max-priority=10,x-queue-mode=lazy" → plan->arguments; false: not of that form, or too long. */
bool bench_plan_arguments(struct bench_plan *plan, const char *text);

/* Bytes at a body's beginning that are no pattern. */
static inline uint64_t bench_head_size(uint64_t size)
{
    return size >= BENCH_STAMP_SIZE ? BENCH_STAMP_SIZE : size >= BENCH_ID_SIZE ? BENCH_ID_SIZE : 0;
}

static inline bool bench_copies(const struct bench_plan *plan)
{
    return strcmp(plan->exchange_type, "fanout") == 0;
}

/* Writes "prefix-00017"; `name` has room for 256 bytes. */
void bench_queue_name(const struct bench_plan *plan, uint32_t queue, char *name);

/* "" for the default exchange. */
void bench_exchange_name(const struct bench_plan *plan, char *name);

/* Which queues a publisher of `publishers`, or a consumer, has to do with: first, first + step, …; all of them are covered,
 * and queues are shared where there are fewer than workers. */
struct bench_share {
    uint32_t first, step, count;
};
struct bench_share bench_share(uint32_t worker, uint32_t workers, uint32_t queues);

#endif
