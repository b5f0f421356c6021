/* godwit get: takes one message or a few that are there now. */
#include "cli/commands.h"

#include "cli/sink.h"
#include "cli/visit.h"

struct settings {
    struct visit_settings visit;
    bool json, requeue;
    const char *directory;
    uint64_t count;
};

static const struct settings defaults = {.count = 1};

static const struct option options[] = {
    VISIT_OPTIONS(settings, visit),
    {'n', OPTION_NUMBER, "count", "N", "take up to N messages (default: 1)", offsetof(struct settings, count), 1, 0},
    {'j', OPTION_FLAG, "json", NULL, "write a JSON object a line: body, properties, headers, …", offsetof(struct settings, json), 0, 0},
    {'d', OPTION_TEXT, "directory", "DIR", "write every body to its own numbered file in DIR instead", offsetof(struct settings, directory), 0, 0},
    {'r', OPTION_FLAG, "requeue", NULL, "look only: put the messages back where they were", offsetof(struct settings, requeue), 0, 0},
};

/* Writes up to `count` messages; those that were written are taken off the queue, or put back with --requeue. */
static int get_all(struct visit *visit, const struct settings *settings, struct sink *sink, const char *queue)
{
    uint64_t taken = 0, tag = 0;
    while (taken < settings->count) {
        struct remote_message message;
        bool found;
        if (remote_get(visit->remote, queue, false, &message, &found))
            return visit_failed(visit);
        if (!found)
            break;
        taken++;
        tag = message.delivery_tag;
        if (sink_put(sink, &message) || sink_flush(sink, visit->remote)) {
            console_complain(&visit->console, "%s", sink->complaint);
            return EXIT_FAILED;
        }
        if (!settings->requeue && remote_ack(visit->remote, tag, false))
            return visit_failed(visit);
        console_progress(&visit->console, taken, "messages");
    }
    if (settings->requeue && taken && remote_nack(visit->remote, tag, true, true))
        return visit_failed(visit);
    if (remote_flush(visit->remote))
        return visit_failed(visit);
    return taken ? EXIT_DONE : EXIT_EMPTY;
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct visit visit;
    struct sink sink;
    (void)operand_count;
    console_init(&visit.console, command->name);
    if (settings->json && settings->directory) {
        console_complain(&visit.console, "--json and --directory contradict each other");
        return EXIT_USAGE;
    }
    enum sink_kind kind = settings->directory ? SINK_DIRECTORY : settings->json ? SINK_JSON : SINK_LINES;
    if (sink_init(&sink, kind, settings->directory)) {
        console_complain(&visit.console, "%s", sink.complaint);
        return EXIT_FAILED;
    }
    int code = visit_open(&visit, command, &settings->visit, &(struct remote_events){0});
    if (code == EXIT_DONE) {
        code = get_all(&visit, settings, &sink, operands[0]);
        visit_close(&visit);
    }
    sink_deinit(&sink);
    return code;
}

const struct command get_command = {
    .name = "get",
    .operands = "QUEUE",
    .summary = "take one message or a few, without waiting",
    .text = "Exit code 4 says that the queue was empty.\n\n"
            "  godwit get hello\n"
            "  godwit get hello --count 5 --requeue --json",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = 1,
    .defaults = &defaults,
    .settings_size = sizeof(struct settings),
    .run = run,
};
