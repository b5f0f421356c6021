/* godwit queues, exchanges, bindings: what a virtual host has, as a table or as JSON whose fields are named as in RabbitMQ's management API. */
#include "cli/commands.h"

#include "cli/list.h"
#include "client/control.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MAX 512          /* bytes of a cell; longer ones end in an ellipsis */

static const struct option options[] = {LIST_OPTIONS(list_settings)};

/* Writes a field's value as a cell's text; returns whether it is a number. */
static bool cell_text(const json_t *object, const char *field, char *text)
{
    const json_t *value = json_object_get(object, field);
    text[0] = '\0';
    if (json_is_string(value)) {
        bool is_default_exchange = *json_string_value(value) == '\0' && (strcmp(field, "source") == 0 || strcmp(field, "name") == 0);
        snprintf(text, CELL_MAX, "%s", is_default_exchange ? "(default)" : json_string_value(value));
        for (char *p = text; *p; p++) {
            if ((unsigned char)*p < 0x20 || *p == 0x7f)
                *p = '?';   /* A name must not steer the terminal. */
        }
    } else if (json_is_boolean(value)) {
        snprintf(text, CELL_MAX, "%s", json_is_true(value) ? "yes" : "no");
    } else if (json_is_integer(value)) {
        snprintf(text, CELL_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_object(value) && json_object_size(value) > 0) {
        char *dumped = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII);
        snprintf(text, CELL_MAX, "%s", dumped ? dumped : "");
        free(dumped);
    }
    return json_is_integer(value);
}

/* Characters on the screen, one for each that UTF-8 begins. */
static int text_width(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += (*text & 0xC0) != 0x80;
    return width;
}

static void print_cell(const char *text, int width, bool to_the_right, bool is_last)
{
    int gap = width - text_width(text);
    printf("%*s%s%*s", to_the_right ? gap : 0, "", text, to_the_right || is_last ? 0 : gap, "");
    fputs(is_last ? "\n" : "  ", stdout);
}

/* The order of a listing: by the first two columns. */
static int compare_rows(const void *a, const void *b, void *listing_pointer)
{
    const struct listing *listing = listing_pointer;
    char a_text[CELL_MAX], b_text[CELL_MAX];
    for (size_t c = 0; c < 2; c++) {
        cell_text(*(json_t *const *)a, listing->columns[c].field, a_text);
        cell_text(*(json_t *const *)b, listing->columns[c].field, b_text);
        int order = strcmp(a_text, b_text);
        if (order)
            return order;
    }
    return 0;
}

/* The rows in their order, borrowed from the array; NULL: out of memory. */
static const json_t **sorted(const struct listing *listing, const json_t *array)
{
    size_t count = json_array_size(array);
    const json_t **rows = calloc(count + 1, sizeof *rows);
    for (size_t r = 0; rows && r < count; r++)
        rows[r] = json_array_get(array, r);
    if (rows)
        qsort_r(rows, count, sizeof *rows, compare_rows, (void *)(uintptr_t)listing);
    return rows;
}

static void print_table(const struct console *console, const struct listing *listing, const json_t **rows, size_t count)
{
    int widths[LIST_COLUMNS_MAX];
    bool are_numbers[LIST_COLUMNS_MAX] = {false};
    char text[CELL_MAX];
    for (size_t c = 0; c < listing->count; c++) {
        widths[c] = text_width(listing->columns[c].title);
        for (size_t r = 0; r < count; r++) {
            are_numbers[c] |= cell_text(rows[r], listing->columns[c].field, text);
            if (text_width(text) > widths[c])
                widths[c] = text_width(text);
        }
    }
    fputs(console->colour_out ? "\033[1m" : "", stdout);
    for (size_t c = 0; c < listing->count; c++)
        print_cell(listing->columns[c].title, widths[c], are_numbers[c], c + 1 == listing->count);
    fputs(console->colour_out ? "\033[0m" : "", stdout);
    for (size_t r = 0; r < count; r++) {
        for (size_t c = 0; c < listing->count; c++) {
            cell_text(rows[r], listing->columns[c].field, text);
            print_cell(text, widths[c], are_numbers[c], c + 1 == listing->count);
        }
    }
}

static int print_listing(struct visit *visit, const struct listing *listing, const struct list_settings *settings, json_t *rows)
{
    if (settings->json) {
        json_dumpf(rows, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        const json_t **in_order = sorted(listing, rows);
        if (in_order)
            print_table(&visit->console, listing, in_order, json_array_size(rows));
        free(in_order);
    }
    if (fflush(stdout) == EOF) {
        console_complain(&visit->console, "cannot write to stdout");
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

/* The request's text; free() it. */
static char *make_request(const struct listing *listing, const char *vhost)
{
    json_t *columns = json_array(), *request;
    for (const char *field = listing->fields; *field;) {
        size_t size = strcspn(field, " ");
        json_array_append_new(columns, json_stringn(field, size));
        field += size + (field[size] == ' ');
    }
    request = json_pack("{s:s, s:s, s:o}", "command", listing->command, "vhost", vhost, "columns", columns);
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    return text;
}

static int ask(struct visit *visit, const struct listing *listing, const struct list_settings *settings, const char *vhost)
{
    struct bytes answer;
    char *request = make_request(listing, vhost);
    if (!request) {
        console_complain(&visit->console, "out of memory");
        return EXIT_FAILED;
    }
    enum gw_err err = remote_control(visit->remote, bytes_of_text(request), CONTROL_TIMEOUT_MS, &answer);
    free(request);
    if (err)
        return visit_failed(visit);
    json_t *json = json_loadb((const char *)answer.data, answer.size, JSON_ALLOW_NUL, NULL), *rows = json_object_get(json, "ok");
    const char *refusal = json_string_value(json_object_get(json_object_get(json, "error"), "text"));
    int code = EXIT_FAILED;
    if (json_is_array(rows))
        code = print_listing(visit, listing, settings, rows);
    else
        console_complain(&visit->console, "%s", refusal ? refusal : "the broker's answer is no list");
    json_decref(json);
    return code;
}

int list_run(const struct command *command, const void *given, const struct listing *listing)
{
    const struct list_settings *settings = given;
    struct visit visit;
    struct uri uri;
    int code = visit_open(&visit, command, &settings->visit, &(struct remote_events){0});
    if (code)
        return code;
    code = visit_uri(&visit.console, &settings->visit, &uri);
    if (!code)
        code = ask(&visit, listing, settings, uri.vhost);
    visit_close(&visit);
    return code;
}

static int run_queues(const struct command *command, const void *settings, char **operands, int operand_count)
{
    static const struct listing listing = {
        "list_queues", "name vhost durable auto_delete exclusive arguments messages messages_ready messages_unacknowledged consumers",
        {{"NAME", "name"}, {"READY", "messages_ready"}, {"UNACKED", "messages_unacknowledged"}, {"CONSUMERS", "consumers"},
         {"DURABLE", "durable"}, {"EXCLUSIVE", "exclusive"}, {"AUTO-DELETE", "auto_delete"}, {"ARGUMENTS", "arguments"}}, 8,
    };
    (void)operands, (void)operand_count;
    return list_run(command, settings, &listing);
}

static int run_exchanges(const struct command *command, const void *settings, char **operands, int operand_count)
{
    static const struct listing listing = {
        "list_exchanges", "name vhost type durable auto_delete internal arguments",
        {{"NAME", "name"}, {"TYPE", "type"}, {"DURABLE", "durable"}, {"AUTO-DELETE", "auto_delete"}, {"INTERNAL", "internal"},
         {"ARGUMENTS", "arguments"}}, 6,
    };
    (void)operands, (void)operand_count;
    return list_run(command, settings, &listing);
}

static int run_bindings(const struct command *command, const void *settings, char **operands, int operand_count)
{
    static const struct listing listing = {
        "list_bindings", "source vhost destination destination_type routing_key arguments",
        {{"SOURCE", "source"}, {"DESTINATION", "destination"}, {"TYPE", "destination_type"}, {"ROUTING KEY", "routing_key"},
         {"ARGUMENTS", "arguments"}}, 5,
    };
    (void)operands, (void)operand_count;
    return list_run(command, settings, &listing);
}

const struct command queues_command = {
    .name = "queues",
    .operands = "",
    .summary = "list the queues with their messages and consumers",
    .table = {options, sizeof options / sizeof options[0]},
    .settings_size = sizeof(struct list_settings),
    .run = run_queues,
};

const struct command exchanges_command = {
    .name = "exchanges",
    .operands = "",
    .summary = "list the exchanges",
    .table = {options, sizeof options / sizeof options[0]},
    .settings_size = sizeof(struct list_settings),
    .run = run_exchanges,
};

const struct command bindings_command = {
    .name = "bindings",
    .operands = "",
    .summary = "list the bindings",
    .table = {options, sizeof options / sizeof options[0]},
    .settings_size = sizeof(struct list_settings),
    .run = run_bindings,
};
