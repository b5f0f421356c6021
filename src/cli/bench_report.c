#include "cli/bench_report.h"

#include <inttypes.h>

static double per_million(double seconds, uint64_t count)
{
    return count ? seconds * 1e6 / (double)count : 0;
}

static double rate(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

static double us(uint64_t ns)
{
    return (double)ns / 1000;
}

json_t *bench_histogram_json(const struct histogram *h)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:I}", "p50", us(histogram_quantile(h, 0.5)), "p90", us(histogram_quantile(h, 0.9)),
                     "p99", us(histogram_quantile(h, 0.99)), "p99_9", us(histogram_quantile(h, 0.999)), "max", us(h->maximum),
                     "mean", histogram_mean(h) / 1000, "count", (json_int_t)h->count);
}

static int set(json_t *json, const char *name, json_t *value)
{
    return json_object_set_new(json, name, value);
}

static json_t *plan_json(const struct bench_plan *plan)
{
    return json_pack("{s:i, s:i, s:i, s:s, s:I, s:b, s:I, s:b, s:I, s:I, s:I}",
                     "publishers", (int)plan->publishers, "consumers", (int)plan->consumers, "queues", (int)plan->queues,
                     "exchange_type", plan->exchange_type, "size", (json_int_t)plan->size, "persistent", plan->persistent,
                     "confirms", (json_int_t)plan->confirm_window, "manual_ack", plan->manual_ack, "ack_every",
                     (json_int_t)plan->ack_every, "prefetch", (json_int_t)plan->prefetch, "rate", (json_int_t)plan->rate);
}

static json_t *verdict_json(const struct bench_verdict *verdict)
{
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "good", bench_verdict_is_good(verdict), "lost", (json_int_t)verdict->lost,
                     "doubled", (json_int_t)verdict->doubled, "reordered", (json_int_t)verdict->reordered, "foreign",
                     (json_int_t)verdict->foreign, "damaged", (json_int_t)verdict->damaged, "redelivered", (json_int_t)verdict->redelivered);
}

/* What the broker's process used; null without --pid. */
static json_t *broker_json(const struct bench_result *result)
{
    if (result->cpu_s < 0)
        return json_null();
    return json_pack("{s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "cpu_s", result->cpu_s, "cpu_s_per_million_published",
                     per_million(result->cpu_s, result->published), "cpu_s_per_million_delivered", per_million(result->cpu_s, result->consumed),
                     "rss_before_bytes", (json_int_t)result->before.rss_bytes, "rss_peak_bytes", (json_int_t)result->peak.rss_bytes,
                     "anonymous_before_bytes", (json_int_t)result->before.anonymous_bytes, "anonymous_peak_bytes",
                     (json_int_t)result->peak.anonymous_bytes);
}

json_t *bench_report_json(const struct bench_plan *plan, const struct bench_result *result, const struct bench_floors *floors,
                          double own_cpu_s)
{
    json_t *json = json_object();
    int failed = json == NULL;
    if (!failed) {
        failed |= set(json, "scenario", json_string(plan->scenario));
        failed |= set(json, "broker", json_string(result->broker));
        failed |= set(json, "plan", plan_json(plan));
        failed |= set(json, "published", json_integer((json_int_t)result->published));
        failed |= set(json, "publish_s", json_real(result->publish_s));
        failed |= set(json, "publish_rate", json_real(rate(result->published, result->publish_s)));
        failed |= set(json, "confirmed", json_integer((json_int_t)result->confirmed));
        failed |= set(json, "refused", json_integer((json_int_t)result->refused));
        failed |= set(json, "consumed", json_integer((json_int_t)result->consumed));
        failed |= set(json, "consume_s", json_real(result->consume_s));
        failed |= set(json, "consume_rate", json_real(rate(result->consumed, result->consume_s)));
        failed |= set(json, "blocked_s", json_real(result->blocked_s));
        failed |= set(json, "latency_us", bench_histogram_json(&result->latency));
        failed |= set(json, "confirm_us", bench_histogram_json(&result->confirm));
        failed |= set(json, "verify", plan->verify ? verdict_json(&result->verdict) : json_null());
        failed |= set(json, "broker_process", broker_json(result));
        failed |= set(json, "generator_cpu_s", json_real(own_cpu_s));
        failed |= set(json, "publisher_cpu_s_per_million", json_real(per_million(result->publisher_cpu_s, result->published)));
        failed |= set(json, "consumer_cpu_s_per_million", json_real(per_million(result->consumer_cpu_s, result->consumed)));
        failed |= set(json, "echo_us", floors->has_echo ? bench_histogram_json(&floors->echo) : json_null());
        failed |= set(json, "sync_us", floors->has_sync ? bench_histogram_json(&floors->sync) : json_null());
        if (floors->has_sync)
            failed |= set(json, "sync_method", json_string(floors->sync_method));
        failed |= set(json, "error", result->error[0] ? json_string(result->error) : json_null());
    }
    if (!failed)
        return json;
    json_decref(json);
    return NULL;
}

void bench_histogram_print(const char *title, const struct histogram *h, FILE *out)
{
    if (h->count)
        fprintf(out, "%-12s p50 %.1f  p90 %.1f  p99 %.1f  p99.9 %.1f  max %.1f us  (%" PRIu64 ")\n", title, us(histogram_quantile(h, 0.5)),
                us(histogram_quantile(h, 0.9)), us(histogram_quantile(h, 0.99)), us(histogram_quantile(h, 0.999)), us(h->maximum), h->count);
}

static void print_verdict(const struct bench_verdict *verdict, FILE *out)
{
    fprintf(out, "%-12s %s: %" PRIu64 " lost, %" PRIu64 " doubled, %" PRIu64 " reordered, %" PRIu64 " foreign, %" PRIu64 " damaged, %" PRIu64 " redelivered\n",
            "verified", bench_verdict_is_good(verdict) ? "good" : "BAD", verdict->lost, verdict->doubled, verdict->reordered,
            verdict->foreign, verdict->damaged, verdict->redelivered);
}

void bench_report_print(const struct bench_plan *plan, const struct bench_result *result, const struct bench_floors *floors,
                        double own_cpu_s, FILE *out)
{
    fprintf(out, "%-12s %s\n", "broker", result->broker);
    fprintf(out, "%-12s %" PRIu64 " B, %s, %u publishers, %u consumers, %u queues", "load", plan->size,
            plan->persistent ? "persistent" : "transient", plan->publishers, plan->consumers, plan->queues);
    if (plan->confirm_window)
        fprintf(out, ", confirms within %" PRIu64, plan->confirm_window);
    if (plan->manual_ack)
        fprintf(out, ", ack every %" PRIu64, plan->ack_every);
    fputc('\n', out);
    if (plan->publishers)
        fprintf(out, "%-12s %" PRIu64 " in %.3f s: %.0f/s\n", "published", result->published, result->publish_s,
                rate(result->published, result->publish_s));
    if (plan->confirm_window)
        fprintf(out, "%-12s %" PRIu64 ", refused %" PRIu64 "\n", "confirmed", result->confirmed, result->refused);
    if (plan->consumers)
        fprintf(out, "%-12s %" PRIu64 " in %.3f s: %.0f/s\n", "consumed", result->consumed, result->consume_s,
                rate(result->consumed, result->consume_s));
    if (result->blocked_s > 0)
        fprintf(out, "%-12s %.3f s\n", "blocked", result->blocked_s);
    bench_histogram_print("latency", &result->latency, out);
    bench_histogram_print("confirms", &result->confirm, out);
    if (floors->has_echo)
        bench_histogram_print("bare echo", &floors->echo, out);
    if (floors->has_sync)
        bench_histogram_print("4 KiB sync", &floors->sync, out);
    if (plan->verify && plan->consumers)
        print_verdict(&result->verdict, out);
    uint64_t moved = result->consumed > result->published ? result->consumed : result->published;
    if (result->cpu_s >= 0)
        fprintf(out, "%-12s %.3f CPU s, %.4f per million; anonymous %.1f MiB (%.1f before), resident %.1f MiB\n", "process", result->cpu_s,
                per_million(result->cpu_s, moved), (double)result->peak.anonymous_bytes / 1048576,
                (double)result->before.anonymous_bytes / 1048576, (double)result->peak.rss_bytes / 1048576);
    fprintf(out, "%-12s %.3f CPU s; per million %.4f publishing, %.4f consuming\n", "generator", own_cpu_s,
            per_million(result->publisher_cpu_s, result->published), per_million(result->consumer_cpu_s, result->consumed));
}
