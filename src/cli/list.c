/* godwit queues, exchanges, bindings: what a broker has, as a table or as JSON.
 *
 * Godwit answers basic.get on the reserved names amq.godwit.queues, amq.godwit.exchanges and amq.godwit.bindings with one
 * message: a JSON array of objects whose fields are named as in RabbitMQ's management API. */
#include "cli/commands.h"

#include "cli/visit.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 8
#define CELL_MAX 512          /* bytes of a cell; longer ones end in an ellipsis */

struct settings {
    struct visit_settings visit;
    bool json;
};

static const struct option options[] = {
    VISIT_OPTIONS(settings, visit),
    {'j', OPTION_FLAG, "json", NULL, "print the broker's JSON instead of a table", offsetof(struct settings, json), 0, 0},
};

struct column {
    const char *title, *field;
};

struct listing {
    const char *what, *source;      /* "queues", the name to get */
    struct column columns[COLUMNS_MAX];
    size_t count;
};

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
    int widths[COLUMNS_MAX];
    bool are_numbers[COLUMNS_MAX] = {false};
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

static int print_listing(struct visit *visit, const struct listing *listing, const struct settings *settings, struct bytes body)
{
    json_error_t error;
    json_t *rows = json_loadb((const char *)body.data, body.size, 0, &error);
    if (!json_is_array(rows)) {
        console_complain(&visit->console, "the broker's answer is no list: %s", rows ? "not an array" : error.text);
        json_decref(rows);
        return EXIT_FAILED;
    }
    if (settings->json) {
        json_dumpf(rows, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        const json_t **in_order = sorted(listing, rows);
        if (in_order)
            print_table(&visit->console, listing, in_order, json_array_size(rows));
        free(in_order);
    }
    json_decref(rows);
    if (fflush(stdout) == EOF) {
        console_complain(&visit->console, "cannot write to stdout");
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static int list(const struct command *command, const void *given, const struct listing *listing)
{
    const struct settings *settings = given;
    struct visit visit;
    struct remote_message message;
    bool found;
    int code = visit_open(&visit, command, &settings->visit, &(struct remote_events){0});
    if (code)
        return code;
    if (remote_get(visit.remote, listing->source, true, &message, &found)) {
        if (remote_reply_code(visit.remote) == 404) {
            console_complain(&visit.console, "this broker (%s) does not list its %s over AMQP", remote_product(visit.remote), listing->what);
            code = EXIT_FAILED;
        } else {
            code = visit_failed(&visit);
        }
    } else {
        code = print_listing(&visit, listing, settings, found ? message.body : bytes_of_text("[]"));
    }
    visit_close(&visit);
    return code;
}

static int run_queues(const struct command *command, const void *settings, char **operands, int operand_count)
{
    static const struct listing listing = {
        "queues", "amq.godwit.queues",
        {{"NAME", "name"}, {"READY", "messages_ready"}, {"UNACKED", "messages_unacknowledged"}, {"CONSUMERS", "consumers"},
         {"DURABLE", "durable"}, {"EXCLUSIVE", "exclusive"}, {"AUTO-DELETE", "auto_delete"}, {"ARGUMENTS", "arguments"}}, 8,
    };
    (void)operands, (void)operand_count;
    return list(command, settings, &listing);
}

static int run_exchanges(const struct command *command, const void *settings, char **operands, int operand_count)
{
    static const struct listing listing = {
        "exchanges", "amq.godwit.exchanges",
        {{"NAME", "name"}, {"TYPE", "type"}, {"DURABLE", "durable"}, {"AUTO-DELETE", "auto_delete"}, {"INTERNAL", "internal"},
         {"ARGUMENTS", "arguments"}}, 6,
    };
    (void)operands, (void)operand_count;
    return list(command, settings, &listing);
}

static int run_bindings(const struct command *command, const void *settings, char **operands, int operand_count)
{
    static const struct listing listing = {
        "bindings", "amq.godwit.bindings",
        {{"SOURCE", "source"}, {"DESTINATION", "destination"}, {"TYPE", "destination_type"}, {"ROUTING KEY", "routing_key"},
         {"ARGUMENTS", "arguments"}}, 5,
    };
    (void)operands, (void)operand_count;
    return list(command, settings, &listing);
}

const struct command queues_command = {
    .name = "queues",
    .operands = "",
    .summary = "list the queues with their messages and consumers",
    .table = {options, sizeof options / sizeof options[0]},
    .settings_size = sizeof(struct settings),
    .run = run_queues,
};

const struct command exchanges_command = {
    .name = "exchanges",
    .operands = "",
    .summary = "list the exchanges",
    .table = {options, sizeof options / sizeof options[0]},
    .settings_size = sizeof(struct settings),
    .run = run_exchanges,
};

const struct command bindings_command = {
    .name = "bindings",
    .operands = "",
    .summary = "list the bindings",
    .table = {options, sizeof options / sizeof options[0]},
    .settings_size = sizeof(struct settings),
    .run = run_bindings,
};
