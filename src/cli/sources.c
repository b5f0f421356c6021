/* godwit sources: what the broker itself turns into events, by HTTP. */
#include "cli/commands.h"

#include "cli/cell.h"
#include "cli/web.h"

#include <stdlib.h>
#include <string.h>

struct settings {
    struct web_settings web;
    const char *id;
    struct option_list headers;
    bool json;
};

static const struct option options[] = {
    WEB_OPTIONS(settings, web),
    {0, OPTION_TEXT, "id", "ID", "create: the source's id (default: a new one)", offsetof(struct settings, id), 0, 0},
    {'H', OPTION_LIST, "header", "NAME: VALUE", "create, change: a header of its requests by HTTP; may be repeated", offsetof(struct settings, headers), 0, 0},
    {'j', OPTION_FLAG, "json", NULL, "print the broker's JSON", offsetof(struct settings, json), 0, 0},
};

enum kind { KIND_LIST, KIND_SHOW, KIND_CREATE, KIND_CHANGE, KIND_DELETE, KIND_PAUSE, KIND_RESUME, KIND_COUNT };

/* What is asked for each; `operand` is what the command line names, NULL: nothing. */
static const struct row { const char *name, *operand, *method, *path, *body; bool takes_members; } rows[KIND_COUNT] = {
    [KIND_LIST] = {"list", NULL, "GET", "/sources", NULL, false},
    [KIND_SHOW] = {"show", "its id", "GET", "/sources/%s", NULL, false},
    [KIND_CREATE] = {"create", "its kind: sse, poll, timer, cron, amqp, ...", "POST", "/sources", NULL, true},
    [KIND_CHANGE] = {"change", "its id", "PATCH", "/sources/%s", NULL, true},
    [KIND_DELETE] = {"delete", "its id", "DELETE", "/sources/%s", NULL, false},
    [KIND_PAUSE] = {"pause", "its id", "PATCH", "/sources/%s", "{\"paused\":true}", false},
    [KIND_RESUME] = {"resume", "its id", "PATCH", "/sources/%s", "{\"paused\":false}", false},
};

static const char *word(size_t index) { return index < KIND_COUNT ? rows[index].name : NULL; }

/* ---- what is asked -------------------------------------------------------------------------------------------------- */

/* Whole numbers, booleans, null and arrays are JSON; anything else is a text. */
static json_t *value_of(const char *text)
{
    bool is_json = text[0] == '[' || strcmp(text, "true") == 0 || strcmp(text, "false") == 0 || strcmp(text, "null") == 0 || (text[0] && strspn(text, "0123456789") == strlen(text));
    json_t *made = is_json ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    return made ? made : json_string(text);
}

static bool put_member(json_t *object, const char *word)
{
    const char *equals = strchr(word, '=');
    char name[64];
    if (!equals || equals == word || (size_t)(equals - word) >= sizeof name)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)(equals - word), word);
    return json_object_set_new(object, name, value_of(equals + 1)) == 0;
}

static bool put_header(json_t *headers, const char *header)
{
    const char *colon = strchr(header, ':');
    char name[256];
    if (!colon || colon == header || (size_t)(colon - header) >= sizeof name)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)(colon - header), header);
    return json_object_set_new(headers, name, json_string(colon + 1 + strspn(colon + 1, " \t"))) == 0;
}

/* NULL: a complaint was made. */
static json_t *make_object(struct web *web, const struct settings *settings, const char *kind, char **members, int count)
{
    json_t *object = json_object(), *headers = json_object();
    const char *wrong = NULL;
    if (kind)
        json_object_set_new(object, "kind", json_string(kind));
    if (settings->id)
        json_object_set_new(object, "id", json_string(settings->id));
    for (int i = 0; i < count && !wrong; i++)
        if (!put_member(object, members[i]))
            wrong = members[i];
    if (wrong)
        console_complain(&web->console, "'%s': NAME=VALUE is meant, such as url=https://example.com/events", wrong);
    for (size_t i = 0; i < settings->headers.count && !wrong; i++)
        if (!put_header(headers, settings->headers.items[i]))
            console_complain(&web->console, "--header '%s': NAME: VALUE is meant", wrong = settings->headers.items[i]);
    if (json_object_size(headers))
        json_object_set(object, "headers", headers);
    json_decref(headers);
    if (!wrong)
        return object;
    json_decref(object);
    return NULL;
}

/* ---- what is shown -------------------------------------------------------------------------------------------------- */

static const char *what_of(const json_t *one, char text[CELL])
{
    static const char *const names[] = {"url", "path", "address", "command", "expression", "every", "signal"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (json_object_get(one, names[i]))
            return cell(json_object_get(one, names[i]), text);
    return cell(NULL, text);
}

static void print_all(const json_t *list)
{
    char id[CELL], kind[CELL], owner[CELL], what[CELL];
    printf("%-26s %-10s %-8s %-16s %s\n", "ID", "KIND", "STATE", "OWNER", "WHAT");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        printf("%-26s %-10s %-8s %-16s %s\n", cell(json_object_get(one, "id"), id), cell(json_object_get(one, "kind"), kind), json_is_true(json_object_get(one, "paused")) ? "paused" : "on",
               json_is_true(json_object_get(one, "configured")) ? "(configuration)" : cell(json_object_get(one, "owner"), owner), what_of(one, what));
    }
}

static void print_members(const json_t *object, const char *prefix)
{
    const char *name;
    json_t *value;
    char text[CELL], label[100];
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        snprintf(label, sizeof label, "%s%.60s", prefix, name);
        if (json_is_object(value) && strcmp(name, "status") == 0)
            print_members(value, "status.");
        else
            printf("%-22s %s\n", label, cell(value, text));
    }
}

static int print(struct web *web, enum kind kind, const json_t *answer, bool json)
{
    char text[CELL];
    if (json && answer) {
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
    } else if (kind == KIND_LIST) {
        print_all(answer);
    } else if (kind == KIND_CREATE) {
        printf("%-22s %s\n", "id", cell(json_object_get(answer, "id"), text));
    } else if (kind == KIND_SHOW) {
        print_members(answer, "");
    }
    if (fflush(stdout) != EOF)
        return EXIT_DONE;
    console_complain(&web->console, "cannot write to stdout");
    return EXIT_FAILED;
}

/* ---- the command ---------------------------------------------------------------------------------------------------- */

static int ask(struct web *web, const struct settings *settings, enum kind kind, char **operands, int count)
{
    const struct row *row = &rows[kind];
    json_t *object = NULL, *answer = NULL;
    if (row->takes_members && !(object = make_object(web, settings, kind == KIND_CREATE ? operands[0] : NULL, operands + 1, count - 1)))
        return EXIT_USAGE;
    int code = web_ask_of(web, row->method, row->path, count ? operands[0] : "", object, row->body, &answer);
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
        console_complain(&web.console, "'%s' is nothing that can be done with sources: list, show, create, change, delete, pause or resume", operands[0]);
    else if (rows[kind].operand && operand_count < 2)
        console_complain(&web.console, "%s: something is missing: %s", rows[kind].name, rows[kind].operand);
    else if (!rows[kind].takes_members && operand_count > (rows[kind].operand ? 2 : 1))
        console_complain(&web.console, "one word too many: '%s'", operands[rows[kind].operand ? 2 : 1]);
    else
        code = ask(&web, settings, kind, operands + 1, operand_count - 1);
    web_close(&web);
    return code;
}

const struct command sources_command = {
    .name = "sources",
    .operands = "WHAT [ID|KIND] [NAME=VALUE...]",
    .summary = "have the broker turn what it reads elsewhere into events, and see how that goes",
    .text = "WHAT is one of\n"
            "  list        list the sources, those of the broker's configuration among them\n"
            "  show        show one, and how it goes with it\n"
            "  create      make one of a kind (sse, poll, timer, cron, amqp, ...), of which NAME=VALUE says what there is to say; prints the id\n"
            "  change      change what NAME=VALUE says; NAME=null: what it was by itself\n"
            "  delete      remove it, and forget its position\n"
            "  pause       read no more\n"
            "  resume      go on from where it was; one that has ended begins anew\n\n"
            "  godwit sources create sse url=https://example.com/events 'type=price.{{json:/symbol}}' --id prices\n"
            "  godwit sources create cron 'expression=30 7 * * mon-fri' zone=Europe/Berlin type=day.begins",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = OPERANDS_ANY,
    .settings_size = sizeof(struct settings),
    .word = word,
    .run = run,
};
