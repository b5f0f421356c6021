#include "cli/bench_scenario.h"

#include "cli/bench_idle.h"
#include "cli/bench_load.h"
#include "cli/bench_report.h"
#include "cli/bench_topology.h"
#include "cli/command.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#define CONTROL_CAPACITY (192u * 1024u)
#define SETTLE_MS 2000                /* before memory is looked at, for what the broker does in the background */

static int failed(struct console *console, const char *complaint)
{
    console_complain(console, "%s", complaint);
    return EXIT_FAILED;
}

/* Prints `json`, which is taken, in one line. */
static int print_json(struct console *console, json_t *json)
{
    if (!json)
        return failed(console, "out of memory");
    json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(json);
    return fflush(stdout) == EOF ? failed(console, "cannot write to stdout") : EXIT_DONE;
}

/* The broker's usage, all zero when it is not known. */
static struct bench_usage usage_of(const struct bench_plan *plan)
{
    struct bench_usage usage = {0};
    if (!plan->pid || !bench_process_read(plan->pid, &usage))
        return (struct bench_usage){0};
    return usage;
}

/* Bytes each of `count` things added. */
static double growth_each(uint64_t before, uint64_t after, uint64_t count)
{
    return count ? ((double)after - (double)before) / (double)count : 0;
}

static json_t *memory_json(const struct bench_usage *before, const struct bench_usage *after, uint64_t count)
{
    return json_pack("{s:f, s:f, s:I, s:I}", "anonymous_bytes_each", growth_each(before->anonymous_bytes, after->anonymous_bytes, count),
                     "rss_bytes_each", growth_each(before->rss_bytes, after->rss_bytes, count), "anonymous_before_bytes",
                     (json_int_t)before->anonymous_bytes, "anonymous_bytes", (json_int_t)after->anonymous_bytes);
}

static void print_memory(const struct bench_plan *plan, const struct bench_usage *before, const struct bench_usage *after, uint64_t count)
{
    if (plan->pid)
        printf("%-12s %.0f bytes anonymous, %.0f resident each; %.1f MiB anonymous (%.1f before); %.3f CPU s\n", "process",
               growth_each(before->anonymous_bytes, after->anonymous_bytes, count), growth_each(before->rss_bytes, after->rss_bytes, count),
               (double)after->anonymous_bytes / 1048576, (double)before->anonymous_bytes / 1048576, after->cpu_s - before->cpu_s);
}

int bench_scenario_declare(const struct bench_plan *plan, struct console *console, bool json)
{
    struct bench_link link = {.fd = -1};
    struct bench_usage before, after;
    double declare_s = 0, delete_s = 0;
    bool done = false;
    if (bench_link_open(&link, plan, "godwit bench", CONTROL_CAPACITY) || bench_topology_delete_queues(&link, plan) == BENCH_BROKEN)
        goto report;
    poll(NULL, 0, plan->pid ? SETTLE_MS : 0);
    before = usage_of(plan);
    uint64_t start_ns = bench_now_ns();
    if (bench_topology_declare_queues(&link, plan) == BENCH_BROKEN)
        goto report;
    declare_s = (double)(bench_now_ns() - start_ns) * 1e-9;
    poll(NULL, 0, plan->pid ? SETTLE_MS : 0);
    after = usage_of(plan);
    start_ns = bench_now_ns();
    if (!plan->keeps && bench_topology_delete_queues(&link, plan) == BENCH_BROKEN)
        goto report;
    delete_s = plan->keeps ? 0 : (double)(bench_now_ns() - start_ns) * 1e-9;
    done = true;
report:;
    int code = EXIT_DONE;
    if (!done) {
        code = failed(console, link.error);
    } else if (json) {
        code = print_json(console, json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:o}", "scenario", "declare", "broker", remote_product(link.remote),
                                             "queues", (int)plan->queues, "declare_s", declare_s, "delete_s", delete_s, "cpu_s",
                                             after.cpu_s - before.cpu_s, "memory", memory_json(&before, &after, plan->queues)));
    } else {
        printf("%-12s %s\n%-12s %u %s queues in %.3f s\n", "broker", remote_product(link.remote), "declared", plan->queues,
               plan->persistent ? "durable" : "transient", declare_s);
        if (!plan->keeps)
            printf("%-12s in %.3f s\n", "deleted", delete_s);
        print_memory(plan, &before, &after, plan->queues);
    }
    bench_link_close(&link);
    return code;
}

int bench_scenario_connections(const struct bench_plan *plan, struct console *console, bool json)
{
    struct bench_idle idle;
    int code = EXIT_DONE;
    struct bench_usage before = usage_of(plan);
    uint64_t start_ns = bench_now_ns();
    bool done = bench_idle_open(&idle, plan, plan->count, console);
    double open_s = (double)(bench_now_ns() - start_ns) * 1e-9;
    poll(NULL, 0, plan->pid ? SETTLE_MS : 0);
    struct bench_usage after = usage_of(plan);
    if (json) {
        code = print_json(console, json_pack("{s:s, s:s, s:I, s:f, s:f, s:o}", "scenario", "connections", "broker", idle.broker, "connections",
                                             (json_int_t)idle.count, "open_s", open_s, "cpu_s", after.cpu_s - before.cpu_s, "memory",
                                             memory_json(&before, &after, idle.count)));
    } else {
        printf("%-12s %s\n%-12s %" PRIu64 " connections with a channel in %.3f s\n", "broker", idle.broker, "opened", idle.count, open_s);
        print_memory(plan, &before, &after, idle.count);
    }
    if (!done)
        code = failed(console, idle.error);
    bench_idle_close(&idle);
    return code;
}

int bench_scenario_backlog(const struct bench_plan *plan, struct console *console, int wake_fd, bool json)
{
    struct bench_plan fill = *plan, drain = *plan;
    struct bench_result *results = calloc(2, sizeof *results);
    struct bench_usage idle = usage_of(plan), full = {0};
    int code = EXIT_DONE;
    if (!results)
        return failed(console, "out of memory");
    fill.consumers = 0;
    fill.keeps = true;
    drain.publishers = 0;
    drain.reuses = true;
    drain.verify = true;
    bool done = bench_load_run(&fill, console, wake_fd, &results[0]);
    if (done) {
        poll(NULL, 0, SETTLE_MS);
        full = usage_of(plan);
    }
    if (done && !plan->keeps)
        done = bench_load_run(&drain, console, wake_fd, &results[1]);
    const struct bench_verdict *verdict = &results[1].verdict;
    if (!done) {
        code = failed(console, *results[1].error ? results[1].error : results[0].error);
    } else if (json) {
        code = print_json(console, json_pack("{s:s, s:s, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:b}", "scenario", "backlog", "broker",
                                             results[0].broker, "messages", (json_int_t)results[0].published, "size", (json_int_t)plan->size,
                                             "fill_s", results[0].publish_s, "drain_s", results[1].consume_s, "anonymous_before_bytes",
                                             (json_int_t)idle.anonymous_bytes, "anonymous_bytes", (json_int_t)full.anonymous_bytes,
                                             "rss_bytes", (json_int_t)full.rss_bytes, "verified", !plan->keeps && bench_verdict_is_good(verdict)));
    } else {
        printf("%-12s %s\n%-12s %" PRIu64 " messages of %" PRIu64 " bytes in %.3f s\n", "broker", results[0].broker, "filled",
               results[0].published, plan->size, results[0].publish_s);
        if (plan->pid)
            printf("%-12s anonymous %.1f MiB (%.1f before), resident %.1f MiB\n", "process", (double)full.anonymous_bytes / 1048576,
                   (double)idle.anonymous_bytes / 1048576, (double)full.rss_bytes / 1048576);
        if (!plan->keeps)
            printf("%-12s %" PRIu64 " in %.3f s, %s\n", "drained", results[1].consumed, results[1].consume_s,
                   bench_verdict_is_good(verdict) ? "verified" : "NOT as they were sent");
    }
    if (done && !plan->keeps && (!bench_verdict_is_good(verdict) || results[1].consumed < results[0].published))
        code = failed(console, "messages were lost, doubled, reordered or damaged");
    free(results);
    return code;
}
