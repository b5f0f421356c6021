/* godwit tokens: makes, lists and deletes access tokens. A token is made here; the broker gets no more than its hash. */
#include "cli/commands.h"

#include "cli/visit.h"
#include "client/control.h"
#include "protocol/token/token.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

struct settings {
    struct visit_settings visit;
    const char *user, *configure, *write, *read, *description;
    uint64_t expires_ms;
    bool json;
};

static const struct option options[] = {
    VISIT_OPTIONS(settings, visit),
    {0, OPTION_TEXT, "user", "NAME", "whom it stands for (default: the user of the URI)", offsetof(struct settings, user), 0, 0},
    {0, OPTION_DURATION, "expires", "TIME", "after how long it is good for nothing any more, such as 24h (default: never)", offsetof(struct settings, expires_ms), 1000, 0},
    {0, OPTION_TEXT, "configure", "PATTERN", "it may configure what matches this, and not all that its user may; with one of these three the others match nothing unless they are said",
     offsetof(struct settings, configure), 0, 0},
    {0, OPTION_TEXT, "write", "PATTERN", "it may write to what matches this", offsetof(struct settings, write), 0, 0},
    {0, OPTION_TEXT, "read", "PATTERN", "it may read from what matches this", offsetof(struct settings, read), 0, 0},
    {0, OPTION_TEXT, "description", "TEXT", "what it is for, as lists show it", offsetof(struct settings, description), 0, 0},
    {'j', OPTION_FLAG, "json", NULL, "print JSON", offsetof(struct settings, json), 0, 0},
};

static const char *word(size_t index)
{
    static const char *const words[] = {"create", "list", "delete"};
    return index < sizeof words / sizeof words[0] ? words[index] : NULL;
}

/* What the broker answers to it, whose reference is taken. NULL: a complaint was made. */
static json_t *ask(struct visit *visit, json_t *request)
{
    struct bytes answer;
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    if (!text) {
        console_complain(&visit->console, "the names must be UTF-8");
        return NULL;
    }
    enum gw_err err = remote_control(visit->remote, bytes_of_text(text), CONTROL_TIMEOUT_MS, &answer);
    free(text);
    if (err) {
        visit_failed(visit);
        return NULL;
    }
    json_t *json = json_loadb((const char *)answer.data, answer.size, JSON_ALLOW_NUL, NULL), *good = json_object_get(json, "ok");
    const char *refusal = json_string_value(json_object_get(json_object_get(json, "error"), "text"));
    if (!good)
        console_complain(&visit->console, "%s", refusal ? refusal : "the broker's answer makes no sense");
    json_incref(good);
    json_decref(json);
    return good;
}

static struct bytes pattern(const char *text) { return bytes_of_text(text ? text : ""); }

static int create(struct visit *visit, const struct settings *settings, const struct uri *uri)
{
    uint8_t random[TOKEN_RANDOM_SIZE];
    char text[TOKEN_SIZE + 1], hash[TOKEN_HASH_SIZE + 1], id[TOKEN_ID_SIZE + 1], time_text[TOKEN_TIME_SIZE];
    struct bytes id_bytes;
    struct token_grant grant = {.user = bytes_of_text(settings->user ? settings->user : uri->user), .configure = pattern(settings->configure),
                                .write = pattern(settings->write), .read = pattern(settings->read), .description = pattern(settings->description),
                                .restricted = settings->configure || settings->write || settings->read};
    if (settings->expires_ms)
        grant.expires_ms = (uint64_t)time(NULL) * 1000 + settings->expires_ms;
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        console_complain(&visit->console, "the system gives no random numbers");
        return EXIT_FAILED;
    }
    token_make(random, text);
    token_hash(bytes_of_text(text), hash);
    token_read(bytes_of_text(text), &id_bytes);
    snprintf(id, sizeof id, "%.*s", (int)id_bytes.size, (const char *)id_bytes.data);
    grant.hash = bytes_of_text(hash);
    char *value = token_grant_write(&grant);
    json_t *answer = ask(visit, json_pack("{s:s, s:s, s:s, s:s, s:o}", "command", "set_parameter", "vhost", uri->vhost, "component", TOKEN_COMPONENT, "name", id,
                                          "value", value ? json_loads(value, 0, NULL) : NULL));
    free(value);
    if (!answer)
        return EXIT_FAILED;
    json_decref(answer);
    if (settings->json) {
        json_t *made = json_pack("{s:s, s:s, s:s}", "id", id, "user", (const char *)grant.user.data, "token", text);
        if (grant.expires_ms)
            json_object_set_new(made, "expires", json_string(token_time(grant.expires_ms, time_text)));
        json_dumpf(made, stdout, JSON_INDENT(2)), putchar('\n');
        json_decref(made);
    } else {
        puts(text);
        if (visit->console.shows_progress)
            fprintf(stderr, "It is shown this once only; whoever has it is %s.\n", (const char *)grant.user.data);
    }
    return EXIT_DONE;
}

static void print_row(const char *id, const struct token_grant *grant)
{
    char time_text[TOKEN_TIME_SIZE];
    printf("%-16s  %-16.*s  %-20s  %-10s  %.*s\n", id, (int)grant->user.size, (const char *)grant->user.data, grant->expires_ms ? token_time(grant->expires_ms, time_text) : "never",
           grant->restricted ? "restricted" : "all", (int)grant->description.size, grant->description.size ? (const char *)grant->description.data : "");
}

static int list(struct visit *visit, const struct settings *settings, const struct uri *uri)
{
    json_t *rows = ask(visit, json_pack("{s:s, s:s}", "command", "list_parameters", "vhost", uri->vhost)), *kept = json_array(), *row;
    size_t index;
    if (!settings->json && rows)
        printf("%-16s  %-16s  %-20s  %-10s  %s\n", "ID", "USER", "EXPIRES", "MAY DO", "DESCRIPTION");
    json_array_foreach(rows, index, row) {
        const char *component = json_string_value(json_object_get(row, "component")), *id = json_string_value(json_object_get(row, "name"));
        char *text = component && id && strcmp(component, TOKEN_COMPONENT) == 0 ? json_dumps(json_object_get(row, "value"), JSON_COMPACT) : NULL;
        struct token_grant grant;
        if (text && token_grant_read(bytes_of_text(text), &grant)) {
            if (settings->json) {
                json_object_set_new(grant.root, "id", json_string(id));
                json_object_del(grant.root, "hash");
                json_array_append(kept, grant.root);
            } else {
                print_row(id, &grant);
            }
            token_grant_deinit(&grant);
        }
        free(text);
    }
    if (settings->json && rows)
        json_dumpf(kept, stdout, JSON_INDENT(2)), putchar('\n');
    int code = rows ? EXIT_DONE : EXIT_FAILED;
    json_decref(rows);
    json_decref(kept);
    return code;
}

static int delete(struct visit *visit, const struct uri *uri, const char *id)
{
    json_t *answer = ask(visit, json_pack("{s:s, s:s, s:s, s:s}", "command", "clear_parameter", "vhost", uri->vhost, "component", TOKEN_COMPONENT, "name", id));
    if (!answer)
        return EXIT_FAILED;
    json_decref(answer);
    return EXIT_DONE;
}

static int run(const struct command *command, const void *given, char **operands, int operand_count)
{
    const struct settings *settings = given;
    struct visit visit;
    struct uri uri;
    bool creates = strcmp(operands[0], "create") == 0 && operand_count == 1, lists = strcmp(operands[0], "list") == 0 && operand_count == 1;
    bool deletes = strcmp(operands[0], "delete") == 0 && operand_count > 1;
    console_init(&visit.console, command->name);
    if (!creates && !lists && !deletes) {
        console_complain(&visit.console, "say create, list or delete ID...");
        return EXIT_USAGE;
    }
    int code = visit_open(&visit, command, &settings->visit, &(struct remote_events){0});
    if (code)
        return code;
    code = visit_uri(&visit.console, &settings->visit, &uri);
    if (!code && creates)
        code = create(&visit, settings, &uri);
    else if (!code && lists)
        code = list(&visit, settings, &uri);
    for (int i = 1; !code && deletes && i < operand_count; i++)
        code = delete(&visit, &uri, operands[i]);
    visit_close(&visit);
    return code;
}

const struct command tokens_command = {
    .name = "tokens",
    .operands = "create|list|delete [ID...]",
    .summary = "make, list and delete access tokens for HTTP",
    .text = "A token stands for a user in the URI's virtual host: Authorization: Bearer TOKEN. It is shown when it is made, and never again: the broker keeps a hash of it.",
    .table = {options, sizeof options / sizeof options[0]},
    .operands_min = 1,
    .operands_max = OPERANDS_ANY,
    .settings_size = sizeof(struct settings),
    .run = run,
    .word = word,
};
