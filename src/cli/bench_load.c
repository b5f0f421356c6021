#include "cli/bench_load.h"

#include "cli/bench_consumer.h"
#include "cli/bench_publisher.h"
#include "cli/bench_topology.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>

#define LOOK_EVERY_MS 20
#define CONTROL_CAPACITY (192u * 1024u)
#define THREAD_STACK_SIZE (256u * 1024u)
#define STRAY_MS 100                   /* after the last expected message, for what comes twice */

bool bench_verdict_is_good(const struct bench_verdict *verdict)
{
    return !verdict->lost && !verdict->doubled && !verdict->reordered && !verdict->foreign && !verdict->damaged;
}

__attribute__((format(printf, 2, 3)))
static bool fail(struct bench_result *result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result->error, sizeof result->error, format, arguments);
    va_end(arguments);
    return false;
}

/* Everything before the starting shot. */
static bool open_all(struct bench_load *load, struct bench_result *result)
{
    const struct bench_plan *plan = load->plan;
    load->publishers = calloc(plan->publishers ? plan->publishers : 1, sizeof *load->publishers);
    load->consumers = calloc(plan->consumers ? plan->consumers : 1, sizeof *load->consumers);
    if (plan->verify)
        load->ledgers = calloc(plan->queues, sizeof *load->ledgers);
    if (!load->publishers || !load->consumers || (plan->verify && !load->ledgers))
        return fail(result, "out of memory");
    /* A run that only consumes meets what publishers of an earlier run have sent. */
    uint32_t publishers = plan->publishers ? plan->publishers : BENCH_PUBLISHERS_MAX;
    for (uint32_t i = 0; load->ledgers && i < plan->queues; i++) {
        if (bench_ledger_init(&load->ledgers[i], publishers, plan->consumers > plan->queues))
            return fail(result, "out of memory");
    }
    for (uint32_t i = 0; i < plan->publishers; i++) {
        if (!bench_publisher_open(&load->publishers[i], load, i))
            return fail(result, "%s", load->publishers[i].link.error);
    }
    for (uint32_t i = 0; i < plan->consumers; i++) {
        if (!bench_consumer_open(&load->consumers[i], load, i))
            return fail(result, "%s", load->consumers[i].link.error);
    }
    return true;
}

static void close_all(struct bench_load *load)
{
    const struct bench_plan *plan = load->plan;
    for (uint32_t i = 0; load->publishers && i < plan->publishers; i++)
        bench_publisher_close(&load->publishers[i]);
    for (uint32_t i = 0; load->consumers && i < plan->consumers; i++)
        bench_consumer_close(&load->consumers[i]);
    for (uint32_t i = 0; load->ledgers && i < plan->queues; i++)
        bench_ledger_deinit(&load->ledgers[i]);
    free(load->publishers);
    free(load->consumers);
    free(load->ledgers);
}

static uint64_t consumed_now(const struct bench_load *load)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < load->plan->consumers; i++)
        sum += atomic_load_explicit(&load->consumers[i].consumed, memory_order_acquire);
    return sum;
}

static uint64_t issued_now(const struct bench_load *load)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < load->plan->publishers; i++)
        sum += atomic_load_explicit(&load->publishers[i].issued, memory_order_acquire);
    return sum;
}

static void look_at_broker(const struct bench_plan *plan, struct bench_result *result)
{
    struct bench_usage usage;
    if (!plan->pid || !bench_process_read(plan->pid, &usage))
        return;
    if (usage.rss_bytes > result->peak.rss_bytes)
        result->peak.rss_bytes = usage.rss_bytes;
    if (usage.anonymous_bytes > result->peak.anonymous_bytes)
        result->peak.anonymous_bytes = usage.anonymous_bytes;
}

/* Looks on until the load is over. False: it ended early. */
static bool watch(struct bench_load *load, struct console *console, int wake_fd, uint64_t known, struct bench_result *result)
{
    const struct bench_plan *plan = load->plan;
    uint64_t readers = plan->is_stream && plan->consumers ? plan->consumers : 1;
    uint64_t copies = plan->is_stream ? readers : bench_copies(plan) ? plan->queues : 1, last_consumed = 0, moved_ns = bench_now_ns();
    for (;;) {
        struct pollfd wait = {.fd = wake_fd, .events = POLLIN};
        if (poll(&wait, 1, LOOK_EVERY_MS) > 0)
            return fail(result, "interrupted");
        uint64_t consumed = consumed_now(load), issued = issued_now(load), now = bench_now_ns();
        look_at_broker(plan, result);
        console_progress(console, plan->consumers ? consumed : issued, plan->consumers ? "messages consumed" : "messages published");
        if (atomic_load(&load->failures) > 0)
            return false;
        if (consumed != last_consumed || atomic_load(&load->publishing) > 0)
            moved_ns = now;
        last_consumed = consumed;
        if (atomic_load(&load->publishing) > 0)
            continue;
        result->expected = plan->publishers ? issued_now(load) * copies : known * readers;
        if (plan->consumers == 0 || consumed >= result->expected)
            return true;
        /* What is missing after a while is lost; with --verify the verdict says so. */
        if (now - moved_ns > plan->drain_timeout_ms * 1000000)
            return plan->verify ? true : fail(result, "%" PRIu64 " of %" PRIu64 " messages did not arrive", result->expected - consumed, result->expected);
    }
}

static void start(struct bench_load *load, struct bench_result *result)
{
    const struct bench_plan *plan = load->plan;
    struct bench_usage usage;
    result->cpu_s = -1;
    if (plan->pid && bench_process_read(plan->pid, &usage)) {
        result->before = result->peak = usage;
        result->cpu_s = usage.cpu_s;
    }
}

void bench_load_await_start(struct bench_load *load)
{
    pthread_mutex_lock(&load->lock);
    while (!load->started)
        pthread_cond_wait(&load->shot, &load->lock);
    pthread_mutex_unlock(&load->lock);
}

static void fire(struct bench_load *load)
{
    pthread_mutex_lock(&load->lock);
    load->started = true;
    pthread_cond_broadcast(&load->shot);
    pthread_mutex_unlock(&load->lock);
}

/* The time from the start to `end_ns` where that is longer than `longest_s`. */
static double longer_s(double longest_s, uint64_t start_ns, uint64_t end_ns)
{
    double s = end_ns > start_ns ? (double)(end_ns - start_ns) * 1e-9 : 0;
    return s > longest_s ? s : longest_s;
}

/* What the threads say about their ends. */
static void note_ends(const struct bench_load *load, uint64_t start_ns, struct bench_result *result)
{
    bool failed = atomic_load(&load->failures) > 0;
    for (uint32_t i = 0; i < load->plan->publishers; i++) {
        const struct bench_publisher *publisher = &load->publishers[i];
        result->publish_s = longer_s(result->publish_s, start_ns, publisher->end_ns);
        if (publisher->link.error[0] && failed && !result->error[0])
            fail(result, "%s", publisher->link.error);
    }
    for (uint32_t i = 0; i < load->plan->consumers; i++) {
        const struct bench_consumer *consumer = &load->consumers[i];
        result->consume_s = longer_s(result->consume_s, start_ns, consumer->last_ns);
        if (consumer->link.error[0] && failed && !result->error[0])
            fail(result, "%s", consumer->link.error);
    }
}

/* Starts the threads, looks on, joins them. */
static bool run_threads(struct bench_load *load, struct console *console, int wake_fd, uint64_t known, struct bench_result *result)
{
    const struct bench_plan *plan = load->plan;
    struct bench_usage usage;
    uint32_t publishers = 0, consumers = 0;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
    pthread_mutex_init(&load->lock, NULL);
    pthread_cond_init(&load->shot, NULL);
    atomic_store(&load->publishing, plan->publishers);
    while (consumers < plan->consumers &&
           pthread_create(&load->consumers[consumers].thread, &attributes, bench_consumer_run, &load->consumers[consumers]) == 0)
        consumers++;
    while (publishers < plan->publishers &&
           pthread_create(&load->publishers[publishers].thread, &attributes, bench_publisher_run, &load->publishers[publishers]) == 0)
        publishers++;
    pthread_attr_destroy(&attributes);
    bool done = consumers == plan->consumers && publishers == plan->publishers;
    if (!done) {
        fail(result, "cannot start %u threads", plan->consumers + plan->publishers);
        atomic_store(&load->stop, true);
    }
    start(load, result);
    uint64_t start_ns = bench_now_ns();
    fire(load);
    done = done && watch(load, console, wake_fd, known, result);
    if (done && plan->verify)
        poll(NULL, 0, STRAY_MS);
    atomic_store(&load->stop, true);
    if (result->cpu_s >= 0 && bench_process_read(plan->pid, &usage))
        result->cpu_s = usage.cpu_s - result->cpu_s;
    for (uint32_t i = 0; i < publishers; i++)
        pthread_join(load->publishers[i].thread, NULL);
    for (uint32_t i = 0; i < consumers; i++)
        pthread_join(load->consumers[i].thread, NULL);
    pthread_mutex_destroy(&load->lock);
    pthread_cond_destroy(&load->shot);
    note_ends(load, start_ns, result);
    return done;
}

/* What a queue was sent by one publisher. */
static uint64_t sent_to(const struct bench_load *load, uint32_t queue, uint32_t publisher)
{
    const struct bench_plan *plan = load->plan;
    const struct bench_block *block = &load->publishers[publisher].block;
    if (bench_copies(plan))
        return bench_block_sent(block, 0);
    for (uint32_t i = 0; i < block->share.count; i++) {
        if (block->share.first + i * block->share.step == queue)
            return bench_block_sent(block, i);
    }
    return 0;
}

static void judge(const struct bench_load *load, struct bench_verdict *verdict)
{
    const struct bench_plan *plan = load->plan;
    for (uint32_t q = 0; load->ledgers && q < plan->queues; q++) {
        const struct bench_ledger *ledger = &load->ledgers[q];
        verdict->foreign += ledger->foreign;
        for (uint32_t p = 0; p < ledger->publishers; p++) {
            const struct bench_stream *stream = &ledger->streams[p];
            uint64_t sent = plan->publishers ? sent_to(load, q, p) : stream->next;
            verdict->lost += sent > stream->distinct ? sent - stream->distinct : 0;
            verdict->doubled += stream->doubled;
            verdict->reordered += stream->reordered;
        }
    }
}

static void add_up(const struct bench_load *load, struct bench_result *result)
{
    const struct bench_plan *plan = load->plan;
    for (uint32_t i = 0; i < plan->publishers; i++) {
        const struct bench_publisher *publisher = &load->publishers[i];
        result->published += atomic_load(&publisher->issued);
        result->confirmed += publisher->confirmed;
        result->refused += publisher->refused;
        result->publisher_cpu_s += publisher->cpu_s;
        result->blocked_s += (double)publisher->link.blocked_ns * 1e-9;
        histogram_merge(&result->confirm, &publisher->ages);
    }
    for (uint32_t i = 0; i < plan->consumers; i++) {
        const struct bench_consumer *consumer = &load->consumers[i];
        result->consumed += consumer->count;
        result->consumer_cpu_s += consumer->cpu_s;
        result->verdict.redelivered += consumer->redelivered;
        result->verdict.damaged += consumer->damaged;
        histogram_merge(&result->latency, &consumer->ages);
    }
    if (plan->consumers)
        judge(load, &result->verdict);
}

bool bench_load_run(const struct bench_plan *plan, struct console *console, int wake_fd, struct bench_result *result)
{
    struct bench_load *load = calloc(1, sizeof *load);
    struct bench_link control = {.fd = -1};
    uint64_t known = plan->messages;
    bool done = false;
    memset(result, 0, sizeof *result);
    result->cpu_s = -1;
    if (!load)
        return fail(result, "out of memory");
    load->plan = plan;
    if (bench_link_open(&control, plan, "godwit bench", CONTROL_CAPACITY) || bench_topology_make(&control, plan) == BENCH_BROKEN ||
        (plan->publishers == 0 && bench_topology_count(&control, plan, &known))) {
        fail(result, "%s", control.error);
        goto done;
    }
    if (plan->publishers == 0 && plan->messages && known > plan->messages)
        known = plan->messages;
    snprintf(result->broker, sizeof result->broker, "%s", remote_product(control.remote));
    if (open_all(load, result)) {
        done = run_threads(load, console, wake_fd, known, result);
        add_up(load, result);
    }
    close_all(load);
    if (!plan->keeps && bench_topology_remove(&control, plan) == BENCH_BROKEN && done)
        done = fail(result, "%s", control.error);
done:
    bench_link_close(&control);
    console_clear(console);
    free(load);
    return done;
}
