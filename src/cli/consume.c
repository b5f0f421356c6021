/* godwit consume: writes messages as they come, and acknowledges what has been written. */
#include "cli/commands.h"

#include "cli/sink.h"
#include "cli/visit.h"
#include "client/dial.h"
#include "protocol/amqp/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define TAG "godwit"

struct settings {
    struct visit_settings visit;
    bool json, no_ack, exclusive;
    const char *directory;
    uint64_t count, timeout_ms, prefetch;
    const char *offset, *filter;
};

static const struct settings defaults = {.prefetch = 200};

static const struct option options[] = {
    VISIT_OPTIONS(settings, visit),
    {'n', OPTION_NUMBER, "count", "N", "end after N messages; exit code 4 when it ends with fewer", offsetof(struct settings, count), 1, 0},
    {'t', OPTION_DURATION, "timeout", "TIME", "end when no message came for so long, e.g. 5 or 500ms", offsetof(struct settings, timeout_ms), 1, 0},
    {'p', OPTION_NUMBER, "prefetch", "N", "messages the broker sends ahead of their acknowledgement (default: 200; 0: no limit)",
     offsetof(struct settings, prefetch), 0, 65535},
    {'o', OPTION_TEXT, "offset", "OFFSET", "of a stream: begin at first, last, next (the default), a number, or what is not older than an age, e.g. 5m",
     offsetof(struct settings, offset), 0, 0},
    {'f', OPTION_TEXT, "filter", "CONDITION", "only messages whose headers meet an SQL condition, e.g. \"region = 'eu' AND weight > 10\"",
     offsetof(struct settings, filter), 0, 0},
    {'j', OPTION_FLAG, "json", NULL, "write a JSON object a line: body, properties, headers, …", offsetof(struct settings, json), 0, 0},
    {'d', OPTION_TEXT, "directory", "DIR", "write every body to its own numbered file in DIR instead", offsetof(struct settings, directory), 0, 0},
    {0, OPTION_FLAG, "no-ack", NULL, "at most once: the broker forgets a message when it is sent, not when it is written",
     offsetof(struct settings, no_ack), 0, 0},
    {'x', OPTION_FLAG, "exclusive", NULL, "be the queue's only consumer, or fail", offsetof(struct settings, exclusive), 0, 0},
};

struct consumer {
    struct visit visit;
    const struct settings *settings;
    struct sink sink;
    bool acks;                     /* what was written is acknowledged */
    uint64_t received;             /* messages taken into the sink */
    uint64_t last_tag;             /* the last of them */
    uint64_t acked_tag;
    bool sink_failed, cancelled, idle_reset;
};

static bool has_all(const struct consumer *consumer)
{
    return consumer->settings->count && consumer->received == consumer->settings->count;
}

static void on_delivered(void *owner, const struct remote_message *message)
{
    struct consumer *consumer = owner;
    /* What goes beyond --count is left unacknowledged, and goes back to the queue. */
    if (consumer->sink_failed || has_all(consumer))
        return;
    if (sink_put(&consumer->sink, message)) {
        consumer->sink_failed = true;
        return;
    }
    consumer->received++;
    consumer->last_tag = message->delivery_tag;
    consumer->idle_reset = true;
}

static void on_cancelled(void *owner, struct bytes consumer_tag)
{
    struct consumer *consumer = owner;
    (void)consumer_tag;
    consumer->cancelled = true;
}

/* Writes what was delivered, then acknowledges it. */
static bool settle(struct consumer *consumer, int *code)
{
    struct visit *visit = &consumer->visit;
    if (consumer->sink_failed || sink_flush(&consumer->sink, visit->remote)) {
        console_complain(&visit->console, "%s", consumer->sink.complaint);
        *code = EXIT_FAILED;
        return false;
    }
    if (consumer->acks && consumer->last_tag > consumer->acked_tag && remote_channel_is_open(visit->remote)) {
        if (remote_ack(visit->remote, consumer->last_tag, true)) {
            *code = visit_failed(visit);
            return false;
        }
        consumer->acked_tag = consumer->last_tag;
    }
    if (isatty(STDOUT_FILENO) == 0)
        console_progress(&visit->console, consumer->received, "messages");
    return true;
}

static int consume(struct consumer *consumer)
{
    struct visit *visit = &consumer->visit;
    uint64_t timeout_ms = consumer->settings->timeout_ms ? consumer->settings->timeout_ms : REMOTE_FOREVER;
    uint64_t idle_since_ms = dial_now_ms();
    int code = EXIT_DONE;
    while (!has_all(consumer)) {
        unsigned ready;
        uint64_t idle_ms = dial_now_ms() - idle_since_ms;
        if (idle_ms >= timeout_ms)
            break;
        if (remote_wait(visit->remote, -1, timeout_ms == REMOTE_FOREVER ? REMOTE_FOREVER : timeout_ms - idle_ms, &ready)) {
            code = visit_failed(visit);
            settle(consumer, &code);
            return code;
        }
        if (!settle(consumer, &code))
            return code;
        if (consumer->idle_reset)
            idle_since_ms = dial_now_ms();
        consumer->idle_reset = false;
        if ((ready & REMOTE_READY_WAKE) && visit_interrupted(visit))
            break;
        if (consumer->cancelled) {
            console_complain(&visit->console, "the broker ended the consumer: the queue was deleted");
            return EXIT_FAILED;
        }
    }
    /* Without acknowledgements, what is under way already is lost unless it is written. */
    if (!has_all(consumer) && remote_cancel(visit->remote, TAG))
        return visit_failed(visit);
    if (!settle(consumer, &code))
        return code;
    return consumer->settings->count && !has_all(consumer) ? EXIT_EMPTY : EXIT_DONE;
}

/* Where to begin in a stream, and what is wanted of a queue, as the consumer's arguments. */
static bool make_arguments(const struct settings *settings, uint8_t *room, size_t size, struct bytes *arguments)
{
    struct amqp_table_writer writer;
    if (!settings->offset && !settings->filter)
        return true;
    amqp_table_begin(&writer, room, size);
    if (settings->offset) {
        char *end;
        unsigned long long number = strtoull(settings->offset, &end, 10);
        if (*end == '\0' && end != settings->offset)
            amqp_table_put_long(&writer, "x-stream-offset", (int64_t)number);
        else
            amqp_table_put_text(&writer, "x-stream-offset", bytes_of_text(settings->offset));
    }
    if (settings->filter)
        amqp_table_put_text(&writer, "x-filter", bytes_of_text(settings->filter));
    return amqp_table_finish(&writer, arguments);
}

/* Before the first delivery. */
static bool subscribe(struct consumer *consumer, const char *queue)
{
    const struct settings *settings = consumer->settings;
    struct remote *remote = consumer->visit.remote;
    uint64_t prefetch = settings->prefetch;
    if (settings->count && (prefetch == 0 || prefetch > settings->count))
        prefetch = settings->count > 65535 ? 65535 : settings->count;
    uint8_t room[8192];
    struct bytes arguments = {0};
    if (!make_arguments(settings, room, sizeof(room), &arguments))
        return false;
    unsigned flags = (consumer->acks ? 0 : CONSUME_NO_ACK) | (settings->exclusive ? CONSUME_EXCLUSIVE : 0);
    return remote_queue_ensure(remote, queue) == GW_OK && remote_qos(remote, (uint16_t)prefetch) == GW_OK &&
           remote_consume_with(remote, queue, TAG, flags, arguments) == GW_OK;
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct consumer consumer = {.settings = settings};
    (void)operand_count;
    console_init(&consumer.visit.console, command->name);
    if (settings->json && settings->directory) {
        console_complain(&consumer.visit.console, "--json and --directory contradict each other");
        return EXIT_USAGE;
    }
    /* With --count the broker must keep what was sent beyond it, so messages are acknowledged even then. */
    consumer.acks = !settings->no_ack || settings->count;
    enum sink_kind kind = settings->directory ? SINK_DIRECTORY : settings->json ? SINK_JSON : SINK_LINES;
    if (sink_init(&consumer.sink, kind, settings->directory)) {
        console_complain(&consumer.visit.console, "%s", consumer.sink.complaint);
        return EXIT_FAILED;
    }
    struct remote_events events = {.owner = &consumer, .delivered = on_delivered, .cancelled = on_cancelled};
    int code = visit_open(&consumer.visit, command, &settings->visit, &events);
    if (code == EXIT_DONE) {
        code = subscribe(&consumer, operands[0]) ? consume(&consumer) : visit_failed(&consumer.visit);
        visit_close(&consumer.visit);
    }
    sink_deinit(&consumer.sink);
    return code;
}

const struct command consume_command = {
    .name = "consume",
    .operands = "QUEUE",
    .summary = "write messages as they arrive, and acknowledge them",
    .text = "Every body is written as a line. A message is acknowledged once it is written, so that none is lost when this command\n"
            "dies. A queue that does not exist is declared durable. Interrupting (Ctrl-C, SIGTERM) ends it cleanly; what was\n"
            "not written goes back to the queue.\n\n"
            "  godwit consume hello\n"
            "  godwit consume events --offset first\n"
            "  godwit consume orders --filter \"region = 'eu' AND weight > 10\"\n"
            "  godwit consume jobs --json --count 10 | jq .properties\n"
            "  godwit consume pictures --directory inbox --timeout 5",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = 1,
    .defaults = &defaults,
    .settings_size = sizeof(struct settings),
    .run = run,
};
