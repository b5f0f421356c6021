/* godwit bench: measures a broker under load, any that speaks AMQP 0-9-1. */
#include "cli/commands.h"

#include "cli/bench_floor.h"
#include "cli/bench_idle.h"
#include "cli/bench_load.h"
#include "cli/bench_report.h"
#include "cli/bench_scenario.h"
#include "cli/visit.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define ECHO_RATE_DEFAULT 5000u
#define ECHO_MS 2000u
#define ECHO_OVERHEAD 55u              /* bytes that a message's frames add to its body, about */

struct settings {
    struct visit_settings visit;
    const char *scenario, *exchange_type, *prefix, *sync_floor, *arguments;
    uint64_t publishers, consumers, queues, size, confirms, ack_every, prefetch, rate, messages, duration_ms, warmup_ms,
        drain_timeout_ms, count, pid, idle, priorities, expiration_ms, delay_ms, group_keys;
    bool persistent, manual_ack, verify, json, keep, reuse, echo_floor;
};

static const struct settings defaults = {
    .scenario = "load", .exchange_type = "default", .prefix = "bench",
    .publishers = 1, .consumers = 1, .queues = 1, .size = 16, .ack_every = 100, .duration_ms = 5000, .drain_timeout_ms = 10000,
    .count = 1000,
};

#define PLACE(member) offsetof(struct settings, member)

static const struct option options[] = {
    VISIT_OPTIONS(settings, visit),
    {0, OPTION_CHOICE, "scenario", "load|declare|connections|backlog",
     "what to measure: messages flowing (the default), --count pipelined durable declares, --count idle connections, or --messages "
     "that wait in a queue", PLACE(scenario), 0, 0},
    {'x', OPTION_NUMBER, "publishers", "N", "publishers, a connection and a thread each (default: 1)", PLACE(publishers), 0, BENCH_PUBLISHERS_MAX},
    {'y', OPTION_NUMBER, "consumers", "N", "consumers, a connection and a thread each (default: 1)", PLACE(consumers), 0, BENCH_CONSUMERS_MAX},
    {'q', OPTION_NUMBER, "queues", "N", "queues, spread over publishers and consumers (default: 1)", PLACE(queues), 1, BENCH_QUEUES_MAX},
    {0, OPTION_CHOICE, "exchange-type", "default|direct|fanout|topic", "publish through an exchange of this type; fanout copies to all queues",
     PLACE(exchange_type), 0, 0},
    {0, OPTION_TEXT, "arguments", "KEY=VALUE,…", "declare the queues with these: numbers, true and false, or text", PLACE(arguments), 0, 0},
    {0, OPTION_NUMBER, "priorities", "N", "messages have the priorities 0 to N-1 in turn", PLACE(priorities), 1, 256},
    {0, OPTION_DURATION, "expiration", "TIME", "messages expire after so long", PLACE(expiration_ms), 1, 0},
    {0, OPTION_DURATION, "delay", "TIME", "messages are due so long after they were published (x-delay)", PLACE(delay_ms), 1, 0},
    {0, OPTION_NUMBER, "group-keys", "N", "messages name in their header 'group' one of so many keys, in turn", PLACE(group_keys), 1, 1u << 20},
    {'s', OPTION_NUMBER, "size", "BYTES", "of a body (default: 16); latency needs 16, verification 8", PLACE(size), 0, 256u << 20},
    {'p', OPTION_FLAG, "persistent", NULL, "persistent messages in durable queues", PLACE(persistent), 0, 0},
    {'c', OPTION_NUMBER, "confirms", "WINDOW", "wait for confirms, with so many messages under way per publisher", PLACE(confirms), 1, 1u << 24},
    {'a', OPTION_FLAG, "manual-ack", NULL, "acknowledge messages, otherwise the broker forgets them when it sends them", PLACE(manual_ack), 0, 0},
    {0, OPTION_NUMBER, "ack-every", "N", "acknowledge so many messages together (default: 100)", PLACE(ack_every), 1, 65535},
    {0, OPTION_NUMBER, "prefetch", "N", "messages a consumer may have unacknowledged (default: 0, no limit)", PLACE(prefetch), 0, 65535},
    {'r', OPTION_NUMBER, "rate", "N", "messages a second of all publishers together (default: as fast as it goes)", PLACE(rate), 1, 1000000000},
    {'n', OPTION_NUMBER, "messages", "N", "end after N messages of all publishers together", PLACE(messages), 1, UINT64_C(1) << 36},
    {'d', OPTION_DURATION, "duration", "TIME", "publish for so long where --messages does not say (default: 5s)", PLACE(duration_ms), 1, 0},
    {0, OPTION_DURATION, "warmup", "TIME", "leave the latency of the first messages out", PLACE(warmup_ms), 0, 0},
    {0, OPTION_DURATION, "drain-timeout", "TIME", "messages that did not arrive so long after the last are lost (default: 10s)",
     PLACE(drain_timeout_ms), 1, 0},
    {'v', OPTION_FLAG, "verify", NULL, "check that nothing was lost, doubled, reordered or damaged; exit code 1 if anything was", PLACE(verify), 0, 0},
    {'P', OPTION_NUMBER, "pid", "PID", "the broker's process: report its processor time and memory", PLACE(pid), 1, INT32_MAX},
    {0, OPTION_FLAG, "echo-floor", NULL, "first measure a bare epoll echo over loopback at the same rate (5000/s without --rate)", PLACE(echo_floor), 0, 0},
    {0, OPTION_TEXT, "sync-floor", "DIR", "first measure synced writes of 4 KiB in DIR", PLACE(sync_floor), 0, 0},
    {0, OPTION_NUMBER, "count", "N", "how many declares or connections (default: 1000)", PLACE(count), 1, BENCH_QUEUES_MAX},
    {0, OPTION_NUMBER, "idle", "N", "a load with so many more connections open that do nothing (default: 0)", PLACE(idle), 0, 1000000},
    {0, OPTION_TEXT, "prefix", "NAME", "the names of queues and exchange begin so (default: bench); older ones are deleted first", PLACE(prefix), 0, 0},
    {0, OPTION_FLAG, "keep", NULL, "leave queues and messages behind", PLACE(keep), 0, 0},
    {0, OPTION_FLAG, "reuse", NULL, "take queues and messages as an earlier --keep left them; with --publishers 0 this empties them", PLACE(reuse), 0, 0},
    {'j', OPTION_FLAG, "json", NULL, "print one JSON object", PLACE(json), 0, 0},
};

static int usage(struct console *console, const char *complaint)
{
    console_complain(console, "%s", complaint);
    return EXIT_USAGE;
}

/* Combinations that make no sense. */
static int check(struct console *console, const struct settings *settings)
{
    if (settings->publishers + settings->consumers == 0)
        return usage(console, "--publishers 0 and --consumers 0 leave nothing to do");
    if (settings->publishers == 0 && !settings->reuse)
        return usage(console, "--publishers 0 needs --reuse: somebody must have published");
    if (settings->verify && settings->size < BENCH_ID_SIZE)
        return usage(console, "--verify needs --size 8 or more, room for a message's number");
    if (settings->manual_ack && settings->prefetch && settings->prefetch < settings->ack_every)
        return usage(console, "--prefetch below --ack-every would stop the broker before the first acknowledgement");
    if (settings->verify && (settings->priorities > 1 || settings->group_keys > 1))
        return usage(console, "--verify cannot tell what priorities and groups reorder");
    if (strlen(settings->prefix) > BENCH_PREFIX_MAX)
        return usage(console, "--prefix is longer than 200 bytes");
    if (strcmp(settings->exchange_type, "fanout") == 0 && settings->consumers > 0 && settings->publishers == 0)
        return usage(console, "--exchange-type fanout needs publishers");
    return EXIT_DONE;
}

static void make_plan(const struct settings *settings, struct bench_plan *plan)
{
    plan->scenario = settings->scenario;
    plan->prefix = settings->prefix;
    plan->exchange_type = settings->exchange_type;
    plan->publishers = (uint32_t)settings->publishers;
    plan->consumers = (uint32_t)settings->consumers;
    plan->queues = (uint32_t)settings->queues;
    plan->size = settings->size;
    plan->persistent = settings->persistent;
    plan->confirm_window = settings->confirms;
    plan->manual_ack = settings->manual_ack;
    plan->ack_every = settings->ack_every;
    plan->prefetch = settings->prefetch;
    plan->rate = settings->rate;
    plan->messages = settings->messages;
    plan->duration_ms = settings->duration_ms;
    plan->warmup_ms = settings->warmup_ms;
    plan->drain_timeout_ms = settings->drain_timeout_ms;
    plan->count = settings->count;
    plan->verify = settings->verify;
    plan->keeps = settings->keep;
    plan->reuses = settings->reuse;
    plan->pid = (int64_t)settings->pid;
    plan->priorities = (uint32_t)settings->priorities;
    plan->expiration_ms = settings->expiration_ms;
    plan->delay_ms = settings->delay_ms;
    plan->group_keys = (uint32_t)settings->group_keys;
}

static bool measure_floors(struct console *console, const struct settings *settings, struct bench_floors *floors)
{
    if (settings->echo_floor) {
        uint64_t rate = settings->rate ? settings->rate : ECHO_RATE_DEFAULT;
        if (bench_floor_echo(settings->size + ECHO_OVERHEAD, rate, ECHO_MS, &floors->echo)) {
            console_complain(console, "cannot measure the echo over loopback");
            return false;
        }
        floors->has_echo = true;
    }
    if (settings->sync_floor) {
        enum gw_err err = bench_floor_sync(settings->sync_floor, &floors->sync, &floors->sync_method);
        if (err) {
            console_complain(console, "cannot measure synced writes in %s: %s", settings->sync_floor, gw_err_text(err));
            return false;
        }
        floors->has_sync = true;
    }
    return true;
}

static int run_load(const struct settings *settings, const struct bench_plan *plan, struct console *console, int wake_fd)
{
    struct bench_floors *floors = calloc(1, sizeof *floors);
    struct bench_result *result = calloc(1, sizeof *result);
    struct bench_idle idle = {0};
    int code = EXIT_FAILED;
    if (!floors || !result) {
        console_complain(console, "out of memory");
        goto done;
    }
    if (!bench_idle_open(&idle, plan, settings->idle, console)) {
        console_complain(console, "%s", idle.error);
        goto done;
    }
    if (!measure_floors(console, settings, floors))
        goto done;
    double own_cpu_s = bench_own_cpu_s();
    bool finished = bench_load_run(plan, console, wake_fd, result);
    own_cpu_s = bench_own_cpu_s() - own_cpu_s;
    /* A load that broke off still tells how far it came, unless it never began. */
    if (finished || result->published || result->consumed) {
        if (settings->json) {
            json_t *json = bench_report_json(plan, result, floors, own_cpu_s);
            json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
            putchar('\n');
            json_decref(json);
        } else {
            bench_report_print(plan, result, floors, own_cpu_s, stdout);
        }
        fflush(stdout);
    }
    code = EXIT_DONE;
    if (!finished || result->error[0]) {
        console_complain(console, "%s", result->error);
        code = EXIT_FAILED;
    } else if (plan->verify && plan->consumers && !bench_verdict_is_good(&result->verdict)) {
        console_complain(console, "messages were lost, doubled, reordered or damaged");
        code = EXIT_FAILED;
    } else if (result->refused) {
        console_complain(console, "the broker refused %" PRIu64 " messages", result->refused);
        code = EXIT_UNROUTABLE;
    }
done:
    bench_idle_close(&idle);
    free(floors);
    free(result);
    return code;
}

static int run_scenario(const struct settings *settings, struct bench_plan *plan, struct console *console, int wake_fd)
{
    if (strcmp(settings->scenario, "declare") == 0) {
        plan->queues = (uint32_t)settings->count;
        plan->persistent = true;
        return bench_scenario_declare(plan, console, settings->json);
    }
    if (strcmp(settings->scenario, "connections") == 0)
        return bench_scenario_connections(plan, console, settings->json);
    if (strcmp(settings->scenario, "backlog") == 0) {
        if (!plan->messages)
            return usage(console, "--scenario backlog needs --messages");
        if (plan->publishers == 0 || plan->consumers == 0 || plan->reuses)
            return usage(console, "--scenario backlog needs a publisher and a consumer, and queues of its own");
        return bench_scenario_backlog(plan, console, wake_fd, settings->json);
    }
    return run_load(settings, plan, console, wake_fd);
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct bench_plan plan = {0};
    struct console console;
    sigset_t signals;
    (void)operands, (void)operand_count;
    console_init(&console, command->name);
    int code = check(&console, settings);
    if (code == EXIT_DONE)
        code = visit_uri(&console, &settings->visit, &plan.uri);
    if (!code && plan.uri.tls) {
        console_complain(&console, "what is measured here is spoken in the open: use amqp, not amqps");
        code = EXIT_USAGE;
    }
    if (code)
        return code;
    make_plan(settings, &plan);
    if (settings->arguments && !bench_plan_arguments(&plan, settings->arguments))
        return usage(&console, "--arguments wants KEY=VALUE, separated by commas, in all at most 1,000 bytes");
    if (plan.is_stream) {   /* which take no consumers without either */
        plan.manual_ack = true;
        plan.prefetch = plan.prefetch ? plan.prefetch : 1000;
    }
    struct bench_usage usage_now;
    if (plan.pid && !bench_process_read(plan.pid, &usage_now)) {
        console_complain(&console, "--pid: there is no process %" PRIu64, settings->pid);
        return EXIT_FAILED;
    }
    uint8_t *pattern = malloc(BENCH_PATTERN_SIZE);
    if (!pattern) {
        console_complain(&console, "out of memory");
        return EXIT_FAILED;
    }
    bench_pattern_fill(pattern);
    plan.pattern = pattern;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    /* Scenarios that wait in one place only are ended by the signals themselves. */
    bool watches = strcmp(settings->scenario, "load") == 0 || strcmp(settings->scenario, "backlog") == 0;
    int wake_fd = -1;
    if (watches) {
        pthread_sigmask(SIG_BLOCK, &signals, NULL);
        wake_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    }
    code = run_scenario(settings, &plan, &console, wake_fd);
    if (wake_fd >= 0)
        close(wake_fd);
    free(pattern);
    return code;
}

const struct command bench_command = {
    .name = "bench",
    .operands = "",
    .summary = "measure a broker under load, any that speaks AMQP 0-9-1",
    .text = "  godwit bench --duration 10 --pid $(pidof godwit)\n"
            "  godwit bench --size 1Ki --persistent --confirms 1000 --manual-ack --verify\n"
            "  godwit bench --rate 5000 --echo-floor --sync-floor /var/lib/godwit --persistent --confirms 1000\n"
            "  godwit bench --exchange-type fanout --queues 10 --consumers 10\n"
            "  godwit bench --scenario declare --count 10000",
    .table = {options, sizeof options / sizeof options[0]},
    .defaults = &defaults,
    .settings_size = sizeof(struct settings),
    .run = run,
};
