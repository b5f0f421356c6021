/* godwit subscriptions: what is posted to whom, by HTTP. */
#include "cli/commands.h"

#include "cli/cell.h"
#include "cli/replay.h"

#include <stdlib.h>
#include <string.h>

struct settings {
    struct web_settings web;
    struct replay_settings replay;
    const char *id, *sink, *source, *retry, *order, *origin, *mode, *sql;
    struct option_list types, exacts, secrets;
    uint64_t concurrency, timeout_ms, attempts;
    bool no_secret, paused, json;
};

static const struct option options[] = {
    WEB_OPTIONS(settings, web),
    {0, OPTION_TEXT, "id", "ID", "create: the subscription's id (default: a new one)", offsetof(struct settings, id), 0, 0},
    {'s', OPTION_TEXT, "sink", "URL", "change: events are posted there; or published there, where it is amqp://...", offsetof(struct settings, sink), 0, 0},
    {'t', OPTION_LIST, "type", "PATTERN", "create, change: events of these types, such as order.* or #; may be repeated (create's default: #)", offsetof(struct settings, types), 0, 0},
    {0, OPTION_TEXT, "source", "URI", "create, change: events with exactly this source", offsetof(struct settings, source), 0, 0},
    {'x', OPTION_LIST, "exact", "NAME=VALUE", "create, change: events whose attribute is this; may be repeated", offsetof(struct settings, exacts), 0, 0},
    {0, OPTION_TEXT, "sql", "CONDITION", "create, change: events for which this is true: cloudEvents_amount > 100", offsetof(struct settings, sql), 0, 0},
    {0, OPTION_LIST, "secret", "SECRET", "create, change: sign with it (whsec_...); up to two (create's default: a new one)", offsetof(struct settings, secrets), 0, 0},
    {0, OPTION_FLAG, "no-secret", NULL, "create, change: sign nothing", offsetof(struct settings, no_secret), 0, 0},
    {0, OPTION_NUMBER, "concurrency", "N", "create, change: requests at a time", offsetof(struct settings, concurrency), 1, 256},
    {0, OPTION_DURATION, "timeout", "TIME", "create, change: until an answer must be whole, in whole seconds", offsetof(struct settings, timeout_ms), 1000, 300000},
    {0, OPTION_TEXT, "retry", "TIMES", "create, change: how long an event waits after each failed attempt: 5s,5m,1h", offsetof(struct settings, retry), 0, 0},
    {0, OPTION_NUMBER, "attempts", "N", "create, change: then an event is given up", offsetof(struct settings, attempts), 1, 1000},
    {0, OPTION_TEXT, "order", "ATTRIBUTE", "create, change: events with the same value of it come one after the other; *: all do", offsetof(struct settings, order), 0, 0},
    {0, OPTION_TEXT, "origin", "HOST", "create, change: ask the sink first whether this host may post to it", offsetof(struct settings, origin), 0, 0},
    {0, OPTION_TEXT, "mode", "MODE", "create, change: binary: attributes are headers; structured: the event is posted in JSON", offsetof(struct settings, mode), 0, 0},
    {0, OPTION_FLAG, "paused", NULL, "create: events wait", offsetof(struct settings, paused), 0, 0},
    {0, OPTION_TEXT, "from", "POSITION", "replay: begin there: first, an offset, a time, or a time ago such as 1h", offsetof(struct settings, replay.from), 0, 0},
    REPLAY_OPTIONS(settings, replay),
    {'j', OPTION_FLAG, "json", NULL, "print the broker's JSON", offsetof(struct settings, json), 0, 0},
};

enum kind { KIND_LIST, KIND_SHOW, KIND_CREATE, KIND_CHANGE, KIND_DELETE, KIND_PAUSE, KIND_RESUME, KIND_TEST, KIND_ATTEMPTS, KIND_REPLAY, KIND_COUNT };

/* What is asked for each; `operand` is what the command line names, NULL: nothing. */
static const struct row { const char *name, *operand, *method, *path, *body; } rows[KIND_COUNT] = {
    [KIND_LIST] = {"list", NULL, "GET", "/subscriptions", NULL},
    [KIND_SHOW] = {"show", "its id", "GET", "/subscriptions/%s", NULL},
    [KIND_CREATE] = {"create", "the URL that events are posted to", "POST", "/subscriptions", NULL},
    [KIND_CHANGE] = {"change", "its id", "PATCH", "/subscriptions/%s", NULL},
    [KIND_DELETE] = {"delete", "its id", "DELETE", "/subscriptions/%s", NULL},
    [KIND_PAUSE] = {"pause", "its id", "PATCH", "/subscriptions/%s", "{\"paused\":true}"},
    [KIND_RESUME] = {"resume", "its id", "PATCH", "/subscriptions/%s", "{\"paused\":false}"},
    [KIND_TEST] = {"test", "its id", "POST", "/subscriptions/%s/test", NULL},
    [KIND_ATTEMPTS] = {"attempts", "its id", "GET", "/subscriptions/%s/attempts", NULL},
    [KIND_REPLAY] = {"replay", "its id", NULL, NULL, NULL},
};

static const char *word(size_t index) { return index < KIND_COUNT ? rows[index].name : NULL; }

/* ---- what is asked -------------------------------------------------------------------------------------------------- */

static void put_text(json_t *object, const char *name, const char *text)
{
    if (text)
        json_object_set_new(object, name, json_string(text));
}

static void put_number(json_t *object, const char *name, uint64_t number)
{
    if (number)
        json_object_set_new(object, name, json_integer((json_int_t)number));
}

static json_t *list_of(const struct option_list *list)
{
    json_t *made = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(made, json_string(list->items[i]));
    return made;
}

/* False: one is no NAME=VALUE. */
static bool put_filters(json_t *object, const struct settings *settings)
{
    json_t *filters = settings->sql || settings->exacts.count ? json_array() : NULL;
    bool good = true;
    for (size_t i = 0; i < settings->exacts.count; i++) {
        const char *item = settings->exacts.items[i], *equals = strchr(item, '=');
        char name[100];
        good &= equals && equals > item && (size_t)(equals - item) < sizeof name;
        if (good) {
            snprintf(name, sizeof name, "%.*s", (int)(equals - item), item);
            json_array_append_new(filters, json_pack("{s:{s:s}}", "exact", name, equals + 1));
        }
    }
    if (settings->sql)
        json_array_append_new(filters, json_pack("{s:s}", "sql", settings->sql));
    if (filters)
        json_object_set_new(object, "filters", filters);
    return good;
}

/* The object of create, or the patch of change; NULL: a complaint was made. */
static json_t *make_object(struct web *web, const struct settings *settings, const char *sink)
{
    json_t *object = json_object(), *config = json_object();
    put_text(object, "id", settings->id);
    put_text(object, "sink", sink);
    put_text(object, "source", settings->source);
    if (settings->types.count)
        json_object_set_new(object, "types", list_of(&settings->types));
    if (settings->paused)
        json_object_set_new(object, "paused", json_true());
    if (settings->secrets.count || settings->no_secret)
        json_object_set_new(config, "secrets", list_of(&settings->secrets));
    put_number(config, "concurrency", settings->concurrency);
    put_number(config, "timeout", settings->timeout_ms / 1000);
    put_text(config, "retry", settings->retry);
    put_number(config, "attempts", settings->attempts);
    put_text(config, "order", settings->order);
    put_text(config, "origin", settings->origin);
    put_text(config, "mode", settings->mode);
    bool has_config = json_object_size(config) > 0;
    if (has_config)
        json_object_set(object, "config", config);
    json_decref(config);
    if (put_filters(object, settings))
        return object;
    console_complain(&web->console, "--exact: NAME=VALUE is meant");
    json_decref(object);
    return NULL;
}

/* ---- what is shown -------------------------------------------------------------------------------------------------- */

static void print_all(const json_t *list)
{
    char id[CELL], state[CELL], types[CELL], sink[CELL], owner[CELL];
    printf("%-26s %-8s %-16s %-30s %s\n", "ID", "STATE", "OWNER", "TYPES", "SINK");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i), *all = json_object_get(one, "types");
        const json_t *shown = json_array_size(all) == 1 ? json_array_get(all, 0) : all;
        snprintf(state, sizeof state, "%s", json_object_get(one, "ended") ? "ended" : json_is_true(json_object_get(one, "paused")) ? "paused" : "on");
        printf("%-26s %-8s %-16s %-30s %s\n", cell(json_object_get(one, "id"), id), state, cell(json_object_get(one, "owner"), owner), cell(shown, types),
               cell(json_object_get(one, "sink"), sink));
    }
}

static void print_members(const json_t *object, const char *prefix)
{
    const char *name;
    json_t *value;
    char text[CELL], label[100];
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        snprintf(label, sizeof label, "%s%.60s", prefix, name);
        if (json_is_object(value) && (strcmp(name, "config") == 0 || strcmp(name, "status") == 0))
            print_members(value, strcmp(name, "config") == 0 ? "config." : "status.");
        else
            printf("%-22s %s\n", label, cell(value, text));
    }
}

static void print_attempts(const json_t *list)
{
    char time[CELL], event[CELL], number[CELL], outcome[CELL], status[CELL], why[CELL];
    printf("%-24s %-34s %8s %-12s %6s %10s  %s\n", "TIME", "EVENT", "ATTEMPT", "OUTCOME", "STATUS", "MS", "WHY");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        json_t *at = cell_time(json_object_get(one, "time_ms"));
        printf("%-24s %-34s %8s %-12s %6s %10.1f  %s\n", cell(at, time), cell(json_object_get(one, "event"), event), cell(json_object_get(one, "attempt"), number),
               cell(json_object_get(one, "outcome"), outcome), cell(json_object_get(one, "status"), status), (double)json_integer_value(json_object_get(one, "duration_us")) / 1000,
               cell(json_object_get(one, "why"), why));
        json_decref(at);
    }
}

static void print_made(const json_t *made)
{
    const json_t *secrets = json_object_get(json_object_get(made, "config"), "secrets");
    char text[CELL];
    printf("%-22s %s\n", "id", cell(json_object_get(made, "id"), text));
    for (size_t i = 0; i < json_array_size(secrets); i++)
        printf("%-22s %s\n", "secret", cell(json_array_get(secrets, i), text));
}

static int print(struct web *web, enum kind kind, const json_t *answer, bool json)
{
    if (json && answer) {
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (kind == KIND_LIST) {
        print_all(answer);
    } else if (kind == KIND_ATTEMPTS) {
        print_attempts(answer);
    } else if (kind == KIND_CREATE) {
        print_made(answer);
    } else if (kind == KIND_SHOW || kind == KIND_TEST) {
        print_members(answer, "");
    }
    if (fflush(stdout) != EOF)
        return EXIT_DONE;
    console_complain(&web->console, "cannot write to stdout");
    return EXIT_FAILED;
}

/* ---- the command ---------------------------------------------------------------------------------------------------- */

static int ask(struct web *web, const struct settings *settings, enum kind kind, const char *operand)
{
    const struct row *row = &rows[kind];
    json_t *object = NULL, *answer = NULL;
    if ((kind == KIND_CREATE || kind == KIND_CHANGE) && !(object = make_object(web, settings, kind == KIND_CREATE ? operand : settings->sink)))
        return EXIT_USAGE;
    if (kind == KIND_CREATE && !settings->types.count)
        json_object_set_new(object, "types", json_pack("[s]", "#"));
    int code = web_ask_of(web, row->method, row->path, operand ? operand : "", object, row->body, &answer);
    if (!code)
        code = print(web, kind, answer, settings->json);
    json_decref(answer);
    return code;
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct web web;
    unsigned kind = 0;
    int code = web_open(&web, command, &settings->web);
    if (code)
        return code;
    while (kind < KIND_COUNT && strcmp(operands[0], rows[kind].name) != 0)
        kind++;
    code = EXIT_USAGE;
    if (kind == KIND_COUNT)
        console_complain(&web.console, "'%s' is nothing that can be done with subscriptions: list, show, create, change, delete, pause, resume, test, attempts or replay", operands[0]);
    else if (rows[kind].operand && operand_count < 2)
        console_complain(&web.console, "%s: something is missing: %s", rows[kind].name, rows[kind].operand);
    else if (operand_count > (rows[kind].operand ? 2 : 1))
        console_complain(&web.console, "one word too many: '%s'", operands[rows[kind].operand ? 2 : 1]);
    else if (settings->secrets.count && settings->no_secret)
        console_complain(&web.console, "--secret and --no-secret contradict each other");
    else if (kind == KIND_REPLAY)
        code = replay_subscription(&web, &settings->replay, operands[1], settings->json);
    else
        code = ask(&web, settings, kind, operand_count > 1 ? operands[1] : NULL);
    web_close(&web);
    return code;
}

const struct command subscriptions_command = {
    .name = "subscriptions",
    .operands = "WHAT [ID|SINK]",
    .summary = "have events posted to URLs, and see what becomes of them",
    .text = "WHAT is one of\n"
            "  list        list the subscriptions\n"
            "  show        show one, and how it goes with it\n"
            "  create      have events posted to SINK, a URL, or published at another broker, amqp://user:password@host/vhost?exchange=NAME;\n"
            "              prints the id and the secret, which is never shown again\n"
            "  change      change what the options say\n"
            "  delete      remove it, with the events that wait\n"
            "  pause       let events wait\n"
            "  resume      let them go on; one that has ended begins anew\n"
            "  test        post an event of the type godwit.test to its sink\n"
            "  attempts    list the last attempts, newest first\n"
            "  replay      have events of before come once more; without --from and --event show how far that is\n\n"
            "  godwit subscriptions create http://127.0.0.1:9000/hook --type 'order.*' --id shop\n"
            "  godwit subscriptions replay shop --from 2h",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = OPERANDS_ANY,
    .settings_size = sizeof(struct settings),
    .word = word,
    .run = run,
};
