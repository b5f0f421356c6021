/* godwit outlook: how fast a queue fills and empties, when its backlog ends, and how many consumers it needs. */
#include "cli/commands.h"

#include "cli/visit.h"
#include "client/control.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct settings {
    struct visit_settings visit;
    uint64_t target_ms;
    const char *utilisation;
    bool json;
};

static const struct settings defaults = {.target_ms = 60000, .utilisation = "0.8"};

static const struct option options[] = {
    VISIT_OPTIONS(settings, visit),
    {'t', OPTION_DURATION, "target", "TIME", "by when the backlog is to be done with (default: 60s)", offsetof(struct settings, target_ms), 1, 0},
    {0, OPTION_TEXT, "utilisation", "SHARE", "how busy the consumers are to be then, above 0 and up to 1 (default: 0.8)", offsetof(struct settings, utilisation), 0, 0},
    {'j', OPTION_FLAG, "json", NULL, "print the broker's JSON", offsetof(struct settings, json), 0, 0},
};

static double number_of(const json_t *outlook, const char *field) { return json_number_value(json_object_get(outlook, field)); }
static bool is_known(const json_t *outlook, const char *field) { return json_is_number(json_object_get(outlook, field)); }

/* "3.2 ms", "4 min 10 s": as somebody would say it. */
static void say_time(double seconds, char *text, size_t room)
{
    if (seconds < 1)
        snprintf(text, room, "%.3g ms", seconds * 1000);
    else if (seconds < 100)
        snprintf(text, room, "%.3g s", seconds);
    else if (seconds < 7200)
        snprintf(text, room, "%.0f min", seconds / 60);
    else
        snprintf(text, room, "%.1f h", seconds / 3600);
}

static void print_line(const char *what, const char *value) { printf("%-22s %s\n", what, value); }

static void print_number(const json_t *outlook, const char *what, const char *field, double factor, const char *unit)
{
    char text[64] = "not known yet";
    double value = number_of(outlook, field) * factor;
    if (is_known(outlook, field))
        snprintf(text, sizeof(text), value < 100 ? "%.3g%s" : "%.0f%s", value, unit);
    print_line(what, text);
}

static void print_time(const json_t *outlook, const char *what, const char *field, const char *at_least)
{
    char text[64] = "not known yet", time[48];
    if (is_known(outlook, field)) {
        say_time(number_of(outlook, field), time, sizeof(time));
        snprintf(text, sizeof(text), "%s%s", at_least && json_is_true(json_object_get(outlook, at_least)) ? "at least " : "", time);
    }
    print_line(what, text);
}

static void print_end(const json_t *outlook)
{
    char text[128], time[48];
    double backlog = number_of(outlook, "messages_ready") + number_of(outlook, "messages_unacknowledged");
    if (json_is_true(json_object_get(outlook, "backlog_grows"))) {
        print_line("backlog's end", "never: it grows");
    } else if (backlog == 0) {
        print_line("backlog's end", "there is none");
    } else if (is_known(outlook, "backlog_end_seconds")) {
        say_time(number_of(outlook, "backlog_end_seconds"), time, sizeof(time));
        snprintf(text, sizeof(text), "in %s, give or take %.0f %%", time, number_of(outlook, "backlog_error") * 100);
        print_line("backlog's end", text);
    } else {
        print_line("backlog's end", "not known yet");
    }
}

static void print_outlook(const json_t *outlook)
{
    char needed[64], time[48];
    print_number(outlook, "ready", "messages_ready", 1, "");
    print_number(outlook, "unacknowledged", "messages_unacknowledged", 1, "");
    print_number(outlook, "arrivals", "arrival_rate", 1, " a second");
    print_number(outlook, "done", "settle_rate", 1, " a second");
    print_time(outlook, "a message takes", "service_seconds", NULL);
    print_number(outlook, "consumers", "consumers", 1, "");
    print_number(outlook, "utilisation", "utilisation", 100, " %");
    print_end(outlook);
    say_time(number_of(outlook, "target_seconds"), time, sizeof(time));
    snprintf(needed, sizeof(needed), "needed for %s", time);
    print_number(outlook, needed, "consumers_needed", 1, " consumers");
    if (number_of(outlook, "messages_ready") > 0)
        print_time(outlook, "oldest ready", "oldest_ready_seconds", "oldest_ready_at_least");
    if (number_of(outlook, "messages_unacknowledged") > 0)
        print_time(outlook, "oldest unacknowledged", "oldest_unacknowledged_seconds", "oldest_unacknowledged_at_least");
}

static int ask(struct visit *visit, const struct settings *settings, const char *vhost, const char *queue, double utilisation)
{
    struct bytes answer;
    json_t *request = json_pack("{s:s, s:s, s:s, s:f, s:f}", "command", "queue_outlook", "vhost", vhost, "name", queue, "target_seconds",
                                (double)settings->target_ms / 1000, "utilisation", utilisation);
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (!text) {
        console_complain(&visit->console, "'%s' is no name of a queue", queue);
        return EXIT_FAILED;
    }
    enum gw_err err = remote_control(visit->remote, bytes_of_text(text), CONTROL_TIMEOUT_MS, &answer);
    free(text);
    if (err)
        return visit_failed(visit);
    json_t *json = json_loadb((const char *)answer.data, answer.size, JSON_ALLOW_NUL, NULL), *outlook = json_object_get(json, "ok");
    const char *refusal = json_string_value(json_object_get(json_object_get(json, "error"), "text"));
    int code = json_is_object(outlook) ? EXIT_DONE : EXIT_FAILED;
    if (code)
        console_complain(&visit->console, "%s", refusal ? refusal : "the broker's answer makes no sense");
    else if (settings->json)
        json_dumpf(outlook, stdout, JSON_INDENT(2)), putchar('\n');
    else
        print_outlook(outlook);
    json_decref(json);
    return code;
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct visit visit;
    struct uri uri;
    char *end;
    (void)operand_count;
    double utilisation = strtod(settings->utilisation, &end);
    console_init(&visit.console, command->name);
    if (*end || end == settings->utilisation || !(utilisation > 0 && utilisation <= 1)) {
        console_complain(&visit.console, "--utilisation: '%s' is no number above 0 and up to 1", settings->utilisation);
        return EXIT_USAGE;
    }
    int code = visit_open(&visit, command, &settings->visit, &(struct remote_events){0});
    if (code)
        return code;
    code = visit_uri(&visit.console, &settings->visit, &uri);
    if (!code)
        code = ask(&visit, settings, uri.vhost, operands[0], utilisation);
    visit_close(&visit);
    return code;
}

const struct command outlook_command = {
    .name = "outlook",
    .operands = "QUEUE",
    .summary = "say when a queue's backlog ends and how many consumers it needs",
    .text = "The broker looks at its queues ten times a second. What rests on too little is said to be not known yet.",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = 1,
    .settings_size = sizeof(struct settings),
    .defaults = &defaults,
    .run = run,
};
