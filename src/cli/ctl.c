#include "cli/ctl.h"

#include "cli/commands.h"
#include "client/control.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 64

static const struct option options[] = {
    {0, OPTION_TEXT, "uri", "URI", "the broker, amqp://user:password@host:port/vhost (default: $GODWIT_URI, or amqp://guest:guest@localhost:5672/)",
     offsetof(struct ctl_settings, visit.uri), 0, 0},
    {'p', OPTION_TEXT, "vhost", "VHOST", "the virtual host that the verb is about (default: /)", offsetof(struct ctl_settings, vhost), 0, 0},
    {'q', OPTION_FLAG, "quiet", NULL, "say nothing but the answer", offsetof(struct ctl_settings, quiet), 0, 0},
    {'s', OPTION_FLAG, "silent", NULL, "like --quiet, and lists without their heads", offsetof(struct ctl_settings, silent), 0, 0},
    {0, OPTION_FLAG, "no-table-headers", NULL, "lists without their heads", offsetof(struct ctl_settings, no_headers), 0, 0},
    {0, OPTION_CHOICE, "formatter", "table|json|csv|pretty_table", "how lists are written (default: table, whose cells are separated by tabs)",
     offsetof(struct ctl_settings, formatter), 0, 0},
    {'t', OPTION_NUMBER, "timeout", "SECONDS", "wait so long for the answer (default: 60)", offsetof(struct ctl_settings, timeout_s), 0, 86400},
    {0, OPTION_TEXT, "priority", "N", "set_policy, set_operator_policy: of several that match, the highest is taken (default: 0)",
     offsetof(struct ctl_settings, priority), 0, 0},
    {0, OPTION_TEXT, "apply-to", "WHAT", "set_policy, set_operator_policy: queues, exchanges or all (the default)", offsetof(struct ctl_settings, apply_to), 0, 0},
    {0, OPTION_TEXT, "description", "TEXT", "add_vhost: what it is for", offsetof(struct ctl_settings, description), 0, 0},
    {0, OPTION_TEXT, "tags", "TAGS", "add_vhost: words separated by commas", offsetof(struct ctl_settings, tags), 0, 0},
    {0, OPTION_TEXT, "default-queue-type", "TYPE", "add_vhost: classic, quorum or stream", offsetof(struct ctl_settings, default_queue_type), 0, 0},
    {0, OPTION_TEXT, "user", "USER", "list_user_limits: whose", offsetof(struct ctl_settings, user), 0, 0},
    {0, OPTION_FLAG, "global", NULL, "list_vhost_limits, list_user_limits, close_all_connections: of all virtual hosts or users",
     offsetof(struct ctl_settings, global), 0, 0},
    {'e', OPTION_FLAG, "if-empty", NULL, "delete_queue: only when it has no messages", offsetof(struct ctl_settings, if_empty), 0, 0},
    {'u', OPTION_FLAG, "if-unused", NULL, "delete_queue: only when it has no consumers", offsetof(struct ctl_settings, if_unused), 0, 0},
    {0, OPTION_NUMBER, "limit", "N", "close_all_connections: no more than these", offsetof(struct ctl_settings, limit), 0, 0},
    {0, OPTION_NUMBER, "per-connection-delay", "MS", "close_all_connections: accepted and passed over", offsetof(struct ctl_settings, delay_ms), 0, 0},
    {0, OPTION_CHOICE, "format", "json", "import_definitions, export_definitions: the format of the file", offsetof(struct ctl_settings, format), 0, 0},
    {0, OPTION_FLAG, "skip-if-unchanged", NULL, "import_definitions: accepted; what is there already is left as it is in any case",
     offsetof(struct ctl_settings, skip_if_unchanged), 0, 0},
    {0, OPTION_FLAG, "online", NULL, "list_queues: those that can be used, which all can", offsetof(struct ctl_settings, online), 0, 0},
    {0, OPTION_FLAG, "offline", NULL, "list_queues: those that cannot be used, which none is", offsetof(struct ctl_settings, offline), 0, 0},
    {0, OPTION_FLAG, "local", NULL, "list_queues: those of this machine, which all are", offsetof(struct ctl_settings, local), 0, 0},
    {'n', OPTION_TEXT, "node", "NODE", "passed over: --uri says which broker is meant", offsetof(struct ctl_settings, node), 0, 0},
    {'l', OPTION_FLAG, "longnames", NULL, "passed over", offsetof(struct ctl_settings, longnames), 0, 0},
};

static const struct ctl_settings defaults = {.vhost = "/", .formatter = "table", .apply_to = "all", .priority = "0", .timeout_s = 60};

/* ---- saying -------------------------------------------------------------------------------------------------------- */

int ctl_fail(int code, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *p = text; *p; p++) {
        if (((unsigned char)*p < 0x20 && *p != '\n') || *p == 0x7f)
            *p = '?';   /* A name must not steer the terminal. */
    }
    fflush(stdout);
    fprintf(stderr, "Error:\n%s\n", text);
    return code;
}

static bool is_plain(const struct ctl *ctl)
{
    return strcmp(ctl->settings->formatter, "table") == 0 || strcmp(ctl->settings->formatter, "pretty_table") == 0;
}

void ctl_say(const struct ctl *ctl, const char *pattern)
{
    if (!pattern || ctl->settings->quiet || ctl->settings->silent || !is_plain(ctl))
        return;
    for (const char *p = pattern; *p; p++) {
        if (*p != '%') {
            putchar(*p);
            continue;
        }
        p++;
        if (*p >= '1' && *p <= '9')
            fputs(*p - '1' < ctl->operand_count ? ctl->operands[*p - '1'] : "", stdout);
        else if (*p == 'p')
            fputs(ctl->settings->vhost, stdout);
        else if (*p == 'r')
            fputs(ctl->settings->priority, stdout);
        else if (*p == 'u')
            fputs(ctl->settings->user ? ctl->settings->user : "", stdout);
        else
            for (int i = 1; i < ctl->operand_count; i++)
                printf("%s%s", i > 1 ? ", " : "", ctl->operands[i]);
    }
    putchar('\n');
}

static void print_usage(const struct ctl_verb *verb, FILE *out)
{
    fprintf(out, "\nUsage\n\ngodwit ctl [OPTION...] %s%s%s\n", verb->name, *verb->operands ? " " : "", verb->operands);
}

static int refuse_arguments(const struct ctl_verb *verb, const char *why)
{
    fprintf(stderr, "Error (argument validation): %s\n", why);
    print_usage(verb, stderr);
    return CTL_USAGE;
}

/* ---- asking -------------------------------------------------------------------------------------------------------- */

/* Puts one operand, or all that are left, where the field says. */
static int put_operand(const struct ctl *ctl, json_t *request, const char *field, size_t size, int index)
{
    char name[64];
    char kind = field[size - 1];
    bool plain = kind != '{' && kind != '*';
    json_t *value;
    snprintf(name, sizeof name, "%.*s", (int)(plain ? size : size - 1), field);
    if (kind == '*') {
        value = json_array();
        for (; index < ctl->operand_count; index++)
            json_array_append_new(value, json_string(ctl->operands[index]));
    } else if (index >= ctl->operand_count) {
        return EXIT_DONE;
    } else if (kind == '{') {
        value = json_loads(ctl->operands[index], JSON_DECODE_ANY, NULL);
        if (!value)
            return ctl_fail(CTL_REFUSED, "JSON decoding error. Reason: badarg");
    } else {
        value = json_string(ctl->operands[index]);
        if (!value)
            return ctl_fail(CTL_DATA, "an argument is not UTF-8");
    }
    json_object_set_new(request, name, value);
    return EXIT_DONE;
}

static void put_settings(const struct ctl *ctl, json_t *request)
{
    const struct ctl_settings *settings = ctl->settings;
    unsigned carries = ctl->verb->carries;
    if (carries & CTL_VHOST)
        json_object_set_new(request, "vhost", json_string(settings->vhost));
    if (carries & CTL_PRIORITY)
        json_object_set_new(request, "priority", json_integer(strtoll(settings->priority, NULL, 10)));
    if (carries & CTL_APPLY_TO)
        json_object_set_new(request, "apply-to", json_string(settings->apply_to));
    if ((carries & CTL_METADATA) && settings->description)
        json_object_set_new(request, "description", json_string(settings->description));
    if ((carries & CTL_METADATA) && settings->tags)
        json_object_set_new(request, "tags", json_string(settings->tags));
    if ((carries & CTL_METADATA) && settings->default_queue_type)
        json_object_set_new(request, "default_queue_type", json_string(settings->default_queue_type));
    if ((carries & CTL_USER) && settings->user)
        json_object_set_new(request, "user", json_string(settings->user));
    if (carries & CTL_GLOBAL)
        json_object_set_new(request, "global", json_boolean(settings->global));
    if (carries & CTL_CONDITIONS) {
        json_object_set_new(request, "if_empty", json_boolean(settings->if_empty));
        json_object_set_new(request, "if_unused", json_boolean(settings->if_unused));
    }
    if (carries & CTL_PACE)
        json_object_set_new(request, "limit", json_integer((json_int_t)settings->limit));
}

json_t *ctl_request(const struct ctl *ctl, int *code)
{
    json_t *request = json_object();
    json_object_set_new(request, "command", json_string(ctl->verb->name));
    const char *field = ctl->verb->fields ? ctl->verb->fields : "";
    *code = EXIT_DONE;
    for (int index = 0; *field && *code == EXIT_DONE; index++) {
        size_t size = strcspn(field, " ");
        *code = put_operand(ctl, request, field, size, index);
        field += size + (field[size] == ' ');
    }
    if (*code) {
        json_decref(request);
        return NULL;
    }
    put_settings(ctl, request);
    return request;
}

static int exit_code_of(const char *code)
{
    static const struct { const char *code; int exit; } rows[] = {
        {"no_such_user", CTL_NO_USER}, {"no_such_vhost", CTL_DATA}, {"bad_argument", CTL_DATA}, {"bad_password", CTL_DATA}, {"exists", CTL_SOFTWARE},
        {"no_such_queue", CTL_USAGE}, {"busy", CTL_LATER},
    };
    for (size_t i = 0; code && i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].code, code) == 0)
            return rows[i].exit;
    }
    return CTL_REFUSED;
}

int ctl_ask(struct ctl *ctl, const json_t *request, json_t **ok)
{
    struct bytes answer;
    if (!ctl->open) {
        int code = visit_open(&ctl->visit, ctl->command, &ctl->settings->visit, &(struct remote_events){0});
        if (code)
            return code == EXIT_USAGE ? CTL_USAGE : CTL_REFUSED;
        ctl->open = true;
    }
    char *text = json_dumps(request, JSON_COMPACT);
    if (!text)
        return ctl_fail(CTL_SOFTWARE, "out of memory");
    enum gw_err err = remote_control(ctl->visit.remote, bytes_of_text(text), ctl->settings->timeout_s * 1000, &answer);
    free(text);
    if (err)
        return ctl_fail(err == GW_ERR_IO ? CTL_LATER : CTL_REFUSED, "%s", remote_error(ctl->visit.remote));
    json_t *json = json_loadb((const char *)answer.data, answer.size, JSON_ALLOW_NUL, NULL), *error = json_object_get(json, "error");
    *ok = json_incref(json_object_get(json, "ok"));
    int code = EXIT_DONE;
    if (error) {
        const char *sentence = json_string_value(json_object_get(error, "text"));
        code = ctl_fail(exit_code_of(json_string_value(json_object_get(error, "code"))), "%s", sentence ? sentence : "refused");
    } else if (!*ok) {
        code = ctl_fail(CTL_SOFTWARE, "the broker's answer makes no sense");
    }
    json_decref(json);
    return code;
}

int ctl_do(struct ctl *ctl)
{
    int code;
    json_t *request = ctl_request(ctl, &code), *ok = NULL;
    if (request)
        code = ctl_ask(ctl, request, &ok);
    json_decref(ok);
    json_decref(request);
    return code;
}

/* ---- a verb -------------------------------------------------------------------------------------------------------- */

/* The columns that were asked for, or those that are shown otherwise. */
static int choose_columns(const struct ctl *ctl, const struct ctl_column **chosen, size_t *count)
{
    const struct ctl_verb *verb = ctl->verb;
    int asked = verb->carries & CTL_COLUMNS ? ctl->operand_count : 0;
    *count = 0;
    for (unsigned i = 0; !asked && i < verb->shown; i++)
        chosen[(*count)++] = &verb->columns[i];
    for (int i = 0; i < asked && *count < COLUMNS_MAX; i++) {
        const struct ctl_column *column = verb->columns;
        while (column->name && strcmp(column->name, ctl->operands[i]) != 0)
            column++;
        if (!column->name) {
            char why[256];
            snprintf(why, sizeof why, "Info key(s) %.200s are not supported", ctl->operands[i]);
            return refuse_arguments(verb, why);
        }
        chosen[(*count)++] = column;
    }
    return EXIT_DONE;
}

static int run_verb(struct ctl *ctl)
{
    const struct ctl_column *chosen[COLUMNS_MAX];
    size_t count = 0;
    int code = ctl->verb->columns ? choose_columns(ctl, chosen, &count) : EXIT_DONE;
    if (code)
        return code;
    if ((ctl->verb->carries & CTL_TIMEOUT_LINE) && ctl->verb->banner) {
        char line[64];
        snprintf(line, sizeof line, "Timeout: %llu.0 seconds ...", (unsigned long long)ctl->settings->timeout_s);
        ctl_say(ctl, line);
    }
    ctl_say(ctl, ctl->verb->banner);
    if (ctl->verb->run) {
        code = ctl->verb->run(ctl);
        if (!code)
            ctl_say(ctl, ctl->verb->done);
        return code;
    }
    json_t *request = ctl_request(ctl, &code), *ok = NULL;
    if (request && ctl->verb->columns) {
        json_t *fields = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(fields, json_string(chosen[i]->field ? chosen[i]->field : chosen[i]->name));
        json_object_set_new(request, "columns", fields);
    }
    if (request)
        code = ctl_ask(ctl, request, &ok);
    if (!code && ctl->verb->columns)
        code = ctl_print_rows(ctl, ok, chosen, count);
    if (!code)
        ctl_say(ctl, ctl->verb->done);
    json_decref(ok);
    json_decref(request);
    return code;
}

static const struct ctl_verb *find_verb(const char *name)
{
    size_t count;
    const struct ctl_verb *verbs = ctl_verbs(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

static int refuse_verb(const char *name)
{
    size_t count;
    const struct ctl_verb *verbs = ctl_verbs(&count), *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        if (option_is_near(name, verbs[i].name) && (!nearest || option_distance(name, verbs[i].name) < option_distance(name, nearest->name)))
            nearest = &verbs[i];
    }
    fprintf(stderr, "\nCommand '%.100s' not found. \n", name);
    if (nearest)
        fprintf(stderr, "Did you mean '%s'? \n", nearest->name);
    return CTL_USAGE;
}

static int print_verbs(void)
{
    size_t count;
    const struct ctl_verb *verbs = ctl_verbs(&count);
    for (size_t i = 0; i < count; i++)
        printf("  %-28s %s\n", verbs[i].name, verbs[i].summary);
    return EXIT_DONE;
}

static int help(char **operands, int operand_count)
{
    if (operand_count < 2)
        return print_verbs();
    const struct ctl_verb *verb = find_verb(operands[1]);
    if (!verb)
        return refuse_verb(operands[1]);
    printf("%c%s.\n", verb->summary[0] - 'a' + 'A', verb->summary + 1);
    print_usage(verb, stdout);
    for (const struct ctl_column *column = verb->columns; column && column->name; column++)
        printf("%s%s", column == verb->columns ? "\nColumns: " : ", ", column->name);
    if (verb->columns)
        putchar('\n');
    return EXIT_DONE;
}

static bool is_number(const char *text)
{
    char *end;
    strtoll(text, &end, 10);
    return *text && !*end;
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    if (strcmp(operands[0], "help") == 0)
        return help(operands, operand_count);
    struct ctl ctl = {.command = command, .settings = given, .verb = find_verb(operands[0]), .operands = operands + 1, .operand_count = operand_count - 1};
    if (!ctl.verb)
        return refuse_verb(operands[0]);
    if (ctl.operand_count < ctl.verb->operands_min)
        return refuse_arguments(ctl.verb, "not enough arguments.");
    if (ctl.operand_count > ctl.verb->operands_max)
        return refuse_arguments(ctl.verb, "too many arguments.");
    if (!is_number(ctl.settings->priority))
        return refuse_arguments(ctl.verb, "Invalid options for this command:\n--priority is no number");
    if (ctl.settings->node && !ctl.settings->quiet && !ctl.settings->silent)
        fprintf(stderr, "godwit ctl: --node is passed over; --uri says which broker is meant\n");
    int code = run_verb(&ctl);
    if (ctl.open)
        visit_close(&ctl.visit);
    if (fflush(stdout) == EOF && !code)
        return ctl_fail(CTL_SOFTWARE, "cannot write to stdout");
    return code;
}

static const char *verb_name(size_t index)
{
    size_t count;
    const struct ctl_verb *verbs = ctl_verbs(&count);
    return index < count ? verbs[index].name : NULL;
}

const struct command ctl_command = {
    .name = "ctl",
    .operands = "VERB [ARGUMENT...]",
    .summary = "administer a broker with the verbs of rabbitmqctl",
    .text = "'godwit ctl help' lists the verbs, 'godwit ctl help VERB' explains one. The user needs the tag administrator; monitoring is enough for "
            "lists and status, management for the lists of a virtual host that the user may enter. "
            "Exit codes are rabbitmqctl's: 0 done, 64 wrong command line, 65 wrong argument, 67 no such user, 69 refused or not reachable, 70 failed, 75 no answer in time.",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = OPERANDS_ANY,
    .defaults = &defaults,
    .settings_size = sizeof(struct ctl_settings),
    .run = run,
    .word = verb_name,
};
