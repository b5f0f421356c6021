/* godwit events: events by HTTP, published, listened to, and replayed to a subscription. */
#include "cli/commands.h"

#include "cli/body_source.h"
#include "cli/cell.h"
#include "cli/replay.h"
#include "client/dial.h"
#include "sources/sse_parser.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define HEADERS_MAX 80u
#define HEADER_SIZE 4096u
#define RETRY_MS 3000u

struct settings {
    struct web_settings web;
    struct replay_settings replay;
    const char *source, *subject, *id, *content_type, *filter, *last_event_id;
    struct option_list attributes, files;
    uint64_t count, timeout_ms;
    bool lines, whole, events, json;
};

static const struct option options[] = {
    WEB_OPTIONS(settings, web),
    {0, OPTION_TEXT, "source", "URI", "publish: the events' source (default: /godwit)", offsetof(struct settings, source), 0, 0},
    {0, OPTION_TEXT, "subject", "TEXT", "publish: the events' subject", offsetof(struct settings, subject), 0, 0},
    {0, OPTION_TEXT, "id", "ID", "publish: the event's id, of a single one (default: a new one each)", offsetof(struct settings, id), 0, 0},
    {'a', OPTION_LIST, "attribute", "NAME=VALUE", "publish: a further attribute; may be repeated", offsetof(struct settings, attributes), 0, 0},
    {0, OPTION_TEXT, "content-type", "TYPE", "publish: of the data (default: application/json where it is that, text/plain where it is text)", offsetof(struct settings, content_type), 0, 0},
    {'f', OPTION_LIST, "file", "FILE", "publish: this file is an event's data, - is stdin; may be repeated", offsetof(struct settings, files), 0, 0},
    {'l', OPTION_FLAG, "lines", NULL, "publish: each line of stdin (the default without data) or of the files is an event's data", offsetof(struct settings, lines), 0, 0},
    {'w', OPTION_FLAG, "whole", NULL, "publish: all of stdin is one event's data", offsetof(struct settings, whole), 0, 0},
    {0, OPTION_FLAG, "cloudevents", NULL, "publish: what is given are whole CloudEvents in JSON, without a TYPE; listen --json writes such", offsetof(struct settings, events), 0, 0},
    {0, OPTION_TEXT, "filter", "CONDITION", "listen: events for which this is true: cloudEvents_tenant = 'a'", offsetof(struct settings, filter), 0, 0},
    {0, OPTION_TEXT, "from", "POSITION", "listen: begin there: first, next (default), a time ago such as 1h. replay: first, an offset, a time, a time ago",
     offsetof(struct settings, replay.from), 0, 0},
    {0, OPTION_TEXT, "last-event-id", "OFFSET", "listen: go on after this event", offsetof(struct settings, last_event_id), 0, 0},
    {'n', OPTION_NUMBER, "count", "N", "listen: end after N events; exit code 4 when it ends with fewer", offsetof(struct settings, count), 1, 0},
    {'t', OPTION_DURATION, "timeout", "TIME", "listen: end when no event came for so long", offsetof(struct settings, timeout_ms), 1, 0},
    REPLAY_OPTIONS(settings, replay),
    {'j', OPTION_FLAG, "json", NULL, "write a JSON object a line", offsetof(struct settings, json), 0, 0},
};

static const char *word(size_t index)
{
    static const char *const words[] = {"publish", "listen", "replay"};
    return index < sizeof words / sizeof words[0] ? words[index] : NULL;
}

/* ---- publishing ----------------------------------------------------------------------------------------------------- */

struct publishing {
    struct web *web;
    const struct settings *settings;
    const char *type;
    char texts[HEADERS_MAX][HEADER_SIZE];
    const char *headers[HEADERS_MAX];
    size_t count;
};

/* "name: value", the value percent-encoded as CloudEvents' HTTP binding has it: what is no visible ASCII, the quote and the percent sign. False: too many, or too long. */
static bool put(struct publishing *publishing, const char *prefix, const char *name, size_t name_size, const char *value)
{
    if (publishing->count == HEADERS_MAX)
        return false;
    char *text = publishing->texts[publishing->count];
    size_t at = (size_t)snprintf(text, HEADER_SIZE, "%s%.*s: ", prefix, (int)(name_size < 100 ? name_size : 100), name);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (at + 4 > HEADER_SIZE)
            return false;
        bool plain = *p > ' ' && *p < 127 && *p != '"' && *p != '%';
        at += (size_t)snprintf(text + at, HEADER_SIZE - at, plain ? "%c" : "%%%02X", *p);
    }
    publishing->headers[publishing->count++] = text;
    return true;
}

static bool put_attribute(struct publishing *publishing, const char *name, const char *value) { return !value || put(publishing, "ce-", name, strlen(name), value); }

/* A media type goes as it is. */
static void put_content_type(struct publishing *publishing, const char *type)
{
    char *text = publishing->texts[publishing->count];
    snprintf(text, HEADER_SIZE, "content-type: %s", type);
    publishing->headers[publishing->count++] = text;
}

static bool is_text(struct bytes data)
{
    json_t *text = json_stringn((const char *)data.data, data.size);
    json_decref(text);
    return text;
}

static const char *type_of(struct bytes data)
{
    json_t *json = json_loadb((const char *)data.data, data.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_decref(json);
    return json ? "application/json" : is_text(data) ? "text/plain; charset=utf-8" : "application/octet-stream";
}

/* Everything but the data. EXIT_USAGE: a complaint was made. */
static int put_all(struct publishing *publishing, struct bytes data, const char *id)
{
    const struct settings *settings = publishing->settings;
    bool fits = true;
    publishing->count = 0;
    if (settings->events) {
        put_content_type(publishing, "application/cloudevents+json");
        return EXIT_DONE;
    }
    put_content_type(publishing, settings->content_type ? settings->content_type : type_of(data));
    fits = put_attribute(publishing, "specversion", "1.0") && put_attribute(publishing, "type", publishing->type) && put_attribute(publishing, "id", id) &&
           put_attribute(publishing, "source", settings->source ? settings->source : "/godwit") && put_attribute(publishing, "subject", settings->subject);
    for (size_t i = 0; fits && i < settings->attributes.count; i++) {
        const char *item = settings->attributes.items[i], *equals = strchr(item, '=');
        size_t size = equals ? (size_t)(equals - item) : 0;
        if (!size || strspn(item, "abcdefghijklmnopqrstuvwxyz0123456789") != size) {
            console_complain(&publishing->web->console, "--attribute: '%s' is not of the form NAME=VALUE, with a name of lower-case letters and digits", item);
            return EXIT_USAGE;
        }
        fits = put(publishing, "ce-", item, size, equals + 1);
    }
    if (!fits)
        console_complain(&publishing->web->console, "there are too many attributes, or too long ones");
    return fits ? EXIT_DONE : EXIT_USAGE;
}

static int publish_one(struct publishing *publishing, struct bytes data)
{
    const struct settings *settings = publishing->settings;
    char id[WEB_ID_SIZE], key[WEB_ID_SIZE + 32];
    json_t *answer;
    web_new_id(id);
    int code = put_all(publishing, data, settings->id ? settings->id : id);
    if (code)
        return code;
    snprintf(key, sizeof key, "idempotency-key: %s", id);
    publishing->headers[publishing->count++] = key;
    code = web_ask(publishing->web, &(struct web_request){.method = "POST", .path = "/events", .headers = publishing->headers, .header_count = publishing->count,
                                                          .body = data.data ? data : bytes_of_text(""), .is_repeated = true}, &answer);
    if (!code && settings->json) {
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
    }
    json_decref(answer);
    return code;
}

static int publish_all(struct publishing *publishing, struct body_source *source)
{
    struct bytes data;
    uint64_t count = 0;
    for (int code;;) {
        switch (body_source_next(source, &data)) {
        case BODY_READY:
            if (count++ && publishing->settings->id) {
                console_complain(&publishing->web->console, "--id is of a single event");
                return EXIT_USAGE;
            }
            if ((code = publish_one(publishing, data)))
                return code;
            console_progress(&publishing->web->console, count, "events published");
            break;
        case BODY_WAIT:
            poll((struct pollfd[]){{.fd = body_source_fd(source), .events = POLLIN}, {.fd = publishing->web->signal_fd, .events = POLLIN}}, 2, -1);
            if (!web_wait(publishing->web, 0))
                return EXIT_DONE;
            break;
        case BODY_END:
            return fflush(stdout) == EOF ? EXIT_FAILED : EXIT_DONE;
        case BODY_FAILED:
            console_complain(&publishing->web->console, "%s", body_source_complaint(source));
            return EXIT_FAILED;
        }
    }
}

static int publish(struct web *web, const struct settings *settings, char **operands, int count)
{
    char standard_input[] = "-";
    char *const input[] = {standard_input};
    bool has_type = !settings->events;
    if (has_type && count < 1) {
        console_complain(&web->console, "publish: of which type? godwit events publish TYPE [DATA...]");
        return EXIT_USAGE;
    }
    char **data = operands + has_type;
    int words = count - has_type;
    if ((words > 0) + (settings->files.count > 0) + (settings->whole && !settings->files.count) > 1) {
        console_complain(&web->console, "publish: data comes from words, from --file, or from stdin");
        return EXIT_USAGE;
    }
    struct publishing *publishing = calloc(1, sizeof *publishing);
    if (!publishing) {
        console_complain(&web->console, "out of memory");
        return EXIT_FAILED;
    }
    *publishing = (struct publishing){.web = web, .settings = settings, .type = has_type ? operands[0] : NULL};
    struct body_source source;
    if (words > 0)
        body_source_init(&source, BODY_WORDS, data, (size_t)words);
    else if (settings->files.count)
        body_source_init(&source, settings->lines ? BODY_LINES : BODY_WHOLE, (char *const *)(uintptr_t)settings->files.items, settings->files.count);
    else
        body_source_init(&source, settings->whole ? BODY_WHOLE : BODY_LINES, input, 1);
    int code = publish_all(publishing, &source);
    body_source_deinit(&source);
    free(publishing);
    return code;
}

/* ---- listening ------------------------------------------------------------------------------------------------------ */

struct listener {
    struct web *web;
    const struct settings *settings;
    struct sse_parser parser;
    uint64_t received, heard_ms;      /* events; when the last one came */
    bool is_broken, is_wrong;         /* the event stream has to begin anew; stdout cannot be written */
};

static void print_event(const struct listener *listener, const struct sse_event *event)
{
    if (listener->settings->json) {
        printf("%.*s\n", (int)event->data.size, (const char *)event->data.data);
        return;
    }
    char id[CELL], type[CELL], subject[CELL];
    json_t *json = json_loadb((const char *)event->data.data, event->data.size, JSON_ALLOW_NUL, NULL);
    const json_t *data = json_object_get(json, "data") ? json_object_get(json, "data") : json_object_get(json, "data_base64");
    char *text = data ? json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    printf("%.*s  %s  id %s", (int)event->last_id.size, (const char *)event->last_id.data, cell(json_object_get(json, "type"), type), cell(json_object_get(json, "id"), id));
    if (json_object_get(json, "subject"))
        printf("  subject %s", cell(json_object_get(json, "subject"), subject));
    printf("\n  %s\n", text ? text : "-");
    free(text);
    json_decref(json);
}

static bool has_all(const struct listener *listener) { return listener->settings->count && listener->received >= listener->settings->count; }

static bool take(void *owner, struct bytes piece)
{
    struct listener *listener = owner;
    struct sse_event event;
    for (enum sse_result result; (result = sse_next(&listener->parser, &piece, &event)) != SSE_MORE;) {
        if (result == SSE_NO_MEMORY || result == SSE_TOO_LONG) {
            console_complain(&listener->web->console, result == SSE_NO_MEMORY ? "out of memory" : "an event of more than a mebibyte was passed over");
            listener->is_broken = result == SSE_NO_MEMORY;
            if (listener->is_broken)
                return false;
        }
        if (result != SSE_EVENT)
            continue;
        listener->heard_ms = dial_now_ms();
        if (bytes_equal(event.type, bytes_of_text("gap"))) {
            console_complain(&listener->web->console, "some events are no more there: %.*s", (int)event.data.size, (const char *)event.data.data);
            continue;
        }
        print_event(listener, &event);
        listener->received++;
        if (has_all(listener))
            break;
    }
    listener->is_wrong = fflush(stdout) == EOF;
    return !listener->is_wrong && !has_all(listener);
}

static bool goes_on(void *owner)
{
    const struct listener *listener = owner;
    return !listener->settings->timeout_ms || dial_now_ms() - listener->heard_ms < listener->settings->timeout_ms;
}

static bool make_path(struct web *web, const struct settings *settings, char **types, int count, char *path, size_t room)
{
    bool fits = snprintf(path, room, "/events") > 0;
    for (int i = 0; fits && i < count; i++)
        fits = web_path(web, path, room, strchr(path, '?') ? "&type=%s" : "?type=%s", types[i]);
    if (fits && settings->filter)
        fits = web_path(web, path, room, strchr(path, '?') ? "&filter=%s" : "?filter=%s", settings->filter);
    if (fits && settings->replay.from)
        fits = web_path(web, path, room, strchr(path, '?') ? "&from=%s" : "?from=%s", settings->replay.from);
    if (!fits)
        console_complain(&web->console, "listen: the types and the filter are too long");
    return fits;
}

/* Goes on after the last event whenever the connection is lost. */
static int listen_for_ever(struct listener *listener, const char *path)
{
    struct web_stream stream = {.take = take, .goes_on = goes_on, .owner = listener};
    bool complained = false, has_begun = false;
    for (;;) {
        char last[SSE_ID_MAX + 32];
        const char *const headers[] = {"accept: text/event-stream", last};
        struct bytes id = text_bytes(&listener->parser.last_id);
        snprintf(last, sizeof last, "last-event-id: %.*s", (int)id.size, (const char *)id.data);
        stream.has_begun = false;
        int code = web_listen(listener->web, &(struct web_request){.method = "GET", .path = path, .headers = headers, .header_count = id.size ? 2 : 1}, &stream);
        if (code || !(stream.is_lost || listener->is_broken))
            return code;
        complained &= !stream.has_begun;
        has_begun |= stream.has_begun;
        if (!complained)
            console_complain(&listener->web->console, has_begun ? "%s; trying again" : "%s", listener->web->error);
        if (!has_begun)
            return EXIT_FAILED;
        complained = true;
        sse_parser_reset(&listener->parser);
        listener->is_broken = false;
        if (!web_wait(listener->web, listener->parser.retry_ms ? listener->parser.retry_ms : RETRY_MS) || !goes_on(listener))
            return EXIT_DONE;
    }
}

static int listen_to(struct web *web, const struct settings *settings, char **types, int count)
{
    struct listener listener = {.web = web, .settings = settings, .heard_ms = dial_now_ms()};
    char path[WEB_URL_MAX];
    if (!make_path(web, settings, types, count, path, sizeof path))
        return EXIT_USAGE;
    if (!sse_parser_init(&listener.parser, SSE_SIZE_MAX, bytes_of_text(settings->last_event_id ? settings->last_event_id : ""))) {
        console_complain(&web->console, "out of memory");
        return EXIT_FAILED;
    }
    int code = listen_for_ever(&listener, path);
    if (listener.is_wrong) {
        console_complain(&web->console, "cannot write to stdout");
        code = EXIT_FAILED;
    }
    sse_parser_deinit(&listener.parser);
    return code ? code : settings->count && !has_all(&listener) ? EXIT_EMPTY : EXIT_DONE;
}

/* ---- the command ---------------------------------------------------------------------------------------------------- */

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct web web;
    int code = web_open(&web, command, &settings->web);
    if (code)
        return code;
    if (strcmp(operands[0], "publish") == 0) {
        code = publish(&web, settings, operands + 1, operand_count - 1);
    } else if (strcmp(operands[0], "listen") == 0) {
        code = listen_to(&web, settings, operands + 1, operand_count - 1);
    } else if (strcmp(operands[0], "replay") != 0) {
        console_complain(&web.console, "'%s' is nothing that can be done with events: publish, listen or replay", operands[0]);
        code = EXIT_USAGE;
    } else if (operand_count != 2) {
        console_complain(&web.console, "replay: to which subscription? One, by its id");
        code = EXIT_USAGE;
    } else {
        code = replay_subscription(&web, &settings->replay, operands[1], settings->json);
    }
    web_close(&web);
    return code;
}

const struct command events_command = {
    .name = "events",
    .operands = "publish TYPE [DATA...] | listen [TYPE...] | replay SUBSCRIPTION",
    .summary = "publish events by HTTP, listen to them, and have them come to a subscription once more",
    .text = "  godwit events publish order.created '{\"id\": 7}' --subject 7\n"
            "  godwit events listen 'order.*' --from 1h\n"
            "  godwit events listen --json | godwit events publish --cloudevents --url http://elsewhere:15672\n"
            "  godwit events replay shop --from 2h",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = OPERANDS_ANY,
    .settings_size = sizeof(struct settings),
    .word = word,
    .run = run,
};
