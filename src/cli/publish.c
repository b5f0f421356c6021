/* godwit publish: bodies from the command line, lines, files or stdin go to a queue or an exchange, each confirmed. */
#include "cli/commands.h"

#include "cli/body_source.h"
#include "cli/confirm_window.h"
#include "cli/message_options.h"
#include "cli/visit.h"
#include "client/dial.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#define WINDOW 1024u            /* publishes that may wait for their confirms */

struct settings {
    struct visit_settings visit;
    struct message_settings message;
    const char *exchange, *routing_key;
    struct option_list files;
    bool lines, whole, mandatory;
    uint64_t count, rate;
};

static const struct settings defaults = {.count = 1, .message.priority = MESSAGE_NO_PRIORITY};

static const struct option options[] = {
    VISIT_OPTIONS(settings, visit),
    {'e', OPTION_TEXT, "exchange", "NAME", "publish to this exchange; then every operand is a body, and no queue is declared",
     offsetof(struct settings, exchange), 0, 0},
    {'k', OPTION_TEXT, "routing-key", "KEY", "the routing key for --exchange (default: empty)", offsetof(struct settings, routing_key), 0, 0},
    {'f', OPTION_LIST, "file", "FILE", "publish this file as one body, - is stdin; may be repeated", offsetof(struct settings, files), 0, 0},
    {'l', OPTION_FLAG, "lines", NULL, "publish each line of stdin (the default without a body) or of the files as a body",
     offsetof(struct settings, lines), 0, 0},
    {'w', OPTION_FLAG, "whole", NULL, "publish all of stdin as one body", offsetof(struct settings, whole), 0, 0},
    {'n', OPTION_NUMBER, "count", "N", "publish every body N times (default: 1)", offsetof(struct settings, count), 1, 0},
    {'r', OPTION_NUMBER, "rate", "N", "publish at most N messages a second", offsetof(struct settings, rate), 1, 100000000},
    {'m', OPTION_FLAG, "mandatory", NULL, "with --exchange: it is an error when no queue gets the message (always so for a queue)",
     offsetof(struct settings, mandatory), 0, 0},
    MESSAGE_OPTIONS(settings, message),
};

struct publisher {
    struct visit visit;
    const struct settings *settings;
    struct confirm_window window;
    uint64_t published, confirmed, refused, returned;
    uint64_t started_ns;
    char why[320];                  /* the first returned message's reason */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void on_confirmed(void *owner, uint64_t number, bool multiple, bool accepted)
{
    struct publisher *publisher = owner;
    uint64_t count = confirm_window_settle(&publisher->window, number, multiple, 0, NULL);
    if (accepted)
        publisher->confirmed += count;
    else
        publisher->refused += count;
}

static void on_returned(void *owner, const struct remote_message *message)
{
    struct publisher *publisher = owner;
    if (publisher->returned++ == 0)
        snprintf(publisher->why, sizeof publisher->why, "%u %.*s", message->reply_code, (int)message->reply_text.size,
                 (const char *)message->reply_text.data);
}

static void on_blocked(void *owner, bool blocked, struct bytes reason)
{
    struct publisher *publisher = owner;
    if (blocked)
        console_complain(&publisher->visit.console, "the broker takes no messages for now (%.*s); waiting", (int)reason.size,
                         (const char *)reason.data);
}

/* When the next message is due by --rate. */
static uint64_t due_in_ms(const struct publisher *publisher)
{
    if (publisher->settings->rate == 0)
        return 0;
    double due_ns = (double)publisher->published * 1e9 / (double)publisher->settings->rate;
    double elapsed_ns = (double)(now_ns() - publisher->started_ns);
    return due_ns > elapsed_ns ? (uint64_t)((due_ns - elapsed_ns) / 1e6) + 1 : 0;
}

/* Waits for confirms, for time to pass, or for `extra_fd`; false: interrupted or failed, and *code says how. */
static bool wait_once(struct publisher *publisher, int extra_fd, uint64_t timeout_ms, int *code)
{
    struct visit *visit = &publisher->visit;
    unsigned ready;
    console_progress(&visit->console, publisher->confirmed, "messages confirmed");
    /* The progress line moves on even when nothing arrives. */
    if (visit->console.shows_progress && timeout_ms > 500)
        timeout_ms = 500;
    if (remote_wait(visit->remote, extra_fd, timeout_ms, &ready)) {
        *code = visit_failed(visit);
        return false;
    }
    if ((ready & REMOTE_READY_WAKE) && visit_interrupted(visit)) {
        console_complain(&visit->console, "interrupted; %" PRIu64 " of %" PRIu64 " messages confirmed", publisher->confirmed, publisher->published);
        *code = EXIT_FAILED;
        return false;
    }
    return true;
}

static bool publish_one(struct publisher *publisher, struct bytes exchange, struct bytes routing_key, bool mandatory,
                        struct bytes properties, struct bytes body, int *code)
{
    struct visit *visit = &publisher->visit;
    while (confirm_window_room(&publisher->window) == 0) {
        if (!wait_once(publisher, -1, REMOTE_FOREVER, code))
            return false;
    }
    for (uint64_t due_ms = due_in_ms(publisher); due_ms > 0; due_ms = due_in_ms(publisher)) {
        if (!wait_once(publisher, -1, due_ms, code))
            return false;
    }
    confirm_window_add(&publisher->window, 1, 1);
    publisher->published++;
    if (remote_publish(visit->remote, exchange, routing_key, mandatory, properties, body)) {
        *code = visit_interrupted(visit) ? EXIT_FAILED : visit_failed(visit);
        return false;
    }
    return true;
}

static int publish_all(struct publisher *publisher, struct body_source *source, struct bytes exchange, struct bytes routing_key,
                       bool mandatory, struct bytes properties)
{
    struct visit *visit = &publisher->visit;
    int code = EXIT_DONE;
    for (;;) {
        struct bytes body;
        enum body_answer answer = body_source_next(source, &body);
        if (answer == BODY_END)
            break;
        if (answer == BODY_FAILED) {
            console_complain(&visit->console, "%s", body_source_complaint(source));
            return EXIT_FAILED;
        }
        if (answer == BODY_WAIT) {
            if (!wait_once(publisher, body_source_fd(source), REMOTE_FOREVER, &code))
                return code;
            continue;
        }
        for (uint64_t i = 0; i < publisher->settings->count; i++) {
            if (!publish_one(publisher, exchange, routing_key, mandatory, properties, body, &code))
                return code;
        }
    }
    while (confirm_window_pending(&publisher->window) > 0) {
        if (!wait_once(publisher, -1, REMOTE_FOREVER, &code))
            return code;
    }
    if (publisher->returned > 0)
        console_complain(&visit->console, "%" PRIu64 " of %" PRIu64 " messages reached no queue: %s", publisher->returned,
                         publisher->published, publisher->why);
    if (publisher->refused > 0)
        console_complain(&visit->console, "the broker refused %" PRIu64 " of %" PRIu64 " messages", publisher->refused, publisher->published);
    return publisher->returned || publisher->refused ? EXIT_UNROUTABLE : EXIT_DONE;
}

static int usage(struct console *console, const char *complaint)
{
    console_complain(console, "%s", complaint);
    return EXIT_USAGE;
}

/* Sorts out which of the four kinds of bodies is wanted. */
static int choose_source(struct console *console, const struct settings *settings, char **operands, int count, struct body_source *source)
{
    static const char dash[] = "-";
    static char *const standard_input[] = {(char *)(uintptr_t)dash};
    bool has_files = settings->files.count > 0;
    if (settings->whole && (settings->lines || has_files))
        return usage(console, "--whole takes all of stdin as one body, which --lines and --file contradict");
    if (count > 0 && (settings->whole || settings->lines || has_files))
        return usage(console, "bodies come from the command line or from --file, --lines, --whole, not from both");
    if (count > 0)
        body_source_init(source, BODY_WORDS, operands, (size_t)count);
    else if (has_files)
        body_source_init(source, settings->lines ? BODY_LINES : BODY_WHOLE, (char *const *)(uintptr_t)settings->files.items, settings->files.count);
    else
        body_source_init(source, settings->whole ? BODY_WHOLE : BODY_LINES, standard_input, 1);
    return EXIT_DONE;
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct publisher publisher = {.settings = settings};
    struct body_source source;
    struct bytes properties;
    static const char no_queue[] = "say which queue, or which --exchange";
    uint8_t room[MESSAGE_PROPERTIES_MAX];
    char complaint[320];
    console_init(&publisher.visit.console, command->name);
    struct console *console = &publisher.visit.console;
    if (!settings->exchange && (settings->routing_key || settings->mandatory))
        return usage(console, "--routing-key and --mandatory go with --exchange; a queue's name is its routing key");
    const char *queue = NULL;
    if (!settings->exchange) {
        if (operand_count == 0)
            return usage(console, no_queue);
        queue = *operands++;
        operand_count--;
    }
    int code = choose_source(console, settings, operands, operand_count, &source);
    if (code)
        return code;
    if (message_options_encode(&settings->message, room, &properties, complaint, sizeof complaint))
        return usage(console, complaint);

    if (confirm_window_init(&publisher.window, WINDOW)) {
        console_complain(console, "out of memory");
        return EXIT_FAILED;
    }
    struct remote_events events = {.owner = &publisher, .confirmed = on_confirmed, .returned = on_returned, .blocked = on_blocked};
    code = visit_open(&publisher.visit, command, &settings->visit, &events);
    if (code)
        goto done;
    publisher.started_ns = now_ns();
    if ((queue && remote_queue_ensure(publisher.visit.remote, queue)) || remote_confirm_select(publisher.visit.remote)) {
        code = visit_failed(&publisher.visit);
    } else {
        const char *key = queue ? queue : settings->routing_key ? settings->routing_key : "";
        code = publish_all(&publisher, &source, bytes_of_text(queue ? "" : settings->exchange), bytes_of_text(key),
                           queue || settings->mandatory, properties);
    }
    body_source_deinit(&source);
    visit_close(&publisher.visit);
done:
    confirm_window_deinit(&publisher.window);
    return code;
}

const struct command publish_command = {
    .name = "publish",
    .operands = "QUEUE [BODY...]",
    .summary = "send messages to a queue or an exchange",
    .text = "Without a body every line of standard input is a message. A queue that does not exist is declared durable. Messages are\n"
            "persistent, and the command ends when the broker has confirmed every one of them.\n\n"
            "  godwit publish hello 'Hello World!'\n"
            "  tail -f app.log | godwit publish --exchange logs --routing-key app.info\n"
            "  godwit publish pictures --file a.png --file b.png --content-type image/png",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_max = OPERANDS_ANY,
    .defaults = &defaults,
    .settings_size = sizeof(struct settings),
    .run = run,
};
