/* How godwit ctl writes lists: as rabbitmqctl does, whose output scripts read. */
#include "cli/ctl.h"

#include <stdlib.h>
#include <string.h>

/* A cell's text, growing. */
struct cell {
    char *text;
    size_t size, capacity;
};

static void add(struct cell *cell, const char *text, size_t size)
{
    if (cell->size + size + 1 > cell->capacity) {
        size_t capacity = (cell->size + size + 1) * 2;
        char *grown = realloc(cell->text, capacity);
        if (!grown)
            return;   /* what is missing then is the end of a cell */
        cell->text = grown;
        cell->capacity = capacity;
    }
    memcpy(cell->text + cell->size, text, size);
    cell->size += size;
    cell->text[cell->size] = '\0';
}

static void add_text(struct cell *cell, const char *text) { add(cell, text, strlen(text)); }

/* A name must not steer the terminal, nor break the line. */
static void add_name(struct cell *cell, const json_t *value)
{
    size_t begin = cell->size;
    add(cell, json_string_value(value), json_string_length(value));
    for (size_t i = begin; i < cell->size; i++) {
        if ((unsigned char)cell->text[i] < 0x20 || cell->text[i] == 0x7f)
            cell->text[i] = '?';
    }
}

static void add_json(struct cell *cell, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    add_text(cell, text ? text : "");
    free(text);
}

static void add_term(struct cell *cell, const char *type, const json_t *value);

/* [{"name",value},…]: the terms of an Erlang list, from triples of name, type and value. */
static void add_typed_table(struct cell *cell, const json_t *triples)
{
    add_text(cell, "[");
    for (size_t i = 0; i < json_array_size(triples); i++) {
        const json_t *triple = json_array_get(triples, i);
        const char *type = json_string_value(json_array_get(triple, 1));
        add_text(cell, i ? ",{" : "{");
        add_json(cell, json_array_get(triple, 0));
        add_text(cell, ",");
        add_term(cell, type ? type : "", json_array_get(triple, 2));
        add_text(cell, "}");
    }
    add_text(cell, "]");
}

static void add_term(struct cell *cell, const char *type, const json_t *value)
{
    if (strcmp(type, "table") == 0) {
        add_typed_table(cell, value);
    } else if (strcmp(type, "array") == 0) {
        add_text(cell, "[");
        for (size_t i = 0; i < json_array_size(value); i++) {
            const json_t *pair = json_array_get(value, i);
            const char *item_type = json_string_value(json_array_get(pair, 0));
            add_text(cell, i ? "," : "");
            add_term(cell, item_type ? item_type : "", json_array_get(pair, 1));
        }
        add_text(cell, "]");
    } else if (strcmp(type, "void") == 0) {
        add_text(cell, "undefined");
    } else {
        add_json(cell, value);
    }
}

/* Words as Erlang's atoms: [administrator, monitoring]. */
static void add_words(struct cell *cell, const json_t *words)
{
    add_text(cell, "[");
    for (size_t i = 0; i < json_array_size(words); i++) {
        add_text(cell, i ? ", " : "");
        add_name(cell, json_array_get(words, i));
    }
    add_text(cell, "]");
}

static const json_t *cell_value(const json_t *row, const struct ctl_column *column)
{
    return json_object_get(row, column->field ? column->field : column->name);
}

static void make_cell(struct cell *cell, const json_t *row, const struct ctl_column *column)
{
    const json_t *value = cell_value(row, column);
    cell->size = 0;
    add(cell, "", 0);
    if (column->is_json && value)
        add_json(cell, value);
    else if (json_is_string(value))
        add_name(cell, value);
    else if (json_is_array(value) && (json_array_size(value) == 0 || json_is_array(json_array_get(value, 0))))
        add_typed_table(cell, value);
    else if (json_is_array(value))
        add_words(cell, value);
    else if (value && !json_is_null(value))
        add_json(cell, value);
}

/* ---- the formats --------------------------------------------------------------------------------------------------- */

static void print_separated(const struct ctl *ctl, const json_t *rows, const struct ctl_column *const *columns, size_t count)
{
    struct cell cell = {0};
    bool heads = !ctl->settings->silent && !ctl->settings->no_headers && json_array_size(rows) > 0;
    for (size_t c = 0; heads && c < count; c++)
        printf("%s%c", columns[c]->name, c + 1 == count ? '\n' : '\t');
    for (size_t r = 0; r < json_array_size(rows); r++) {
        for (size_t c = 0; c < count; c++) {
            make_cell(&cell, json_array_get(rows, r), columns[c]);
            printf("%s%c", cell.text ? cell.text : "", c + 1 == count ? '\n' : '\t');
        }
    }
    free(cell.text);
}

static void print_quoted(const char *text, bool is_last)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    fputs(is_last ? "\"\n" : "\",", stdout);
}

static void print_csv(const struct ctl *ctl, const json_t *rows, const struct ctl_column *const *columns, size_t count)
{
    struct cell cell = {0};
    for (size_t c = 0; !ctl->settings->silent && !ctl->settings->no_headers && c < count; c++)
        print_quoted(columns[c]->name, c + 1 == count);
    for (size_t r = 0; r < json_array_size(rows); r++) {
        for (size_t c = 0; c < count; c++) {
            make_cell(&cell, json_array_get(rows, r), columns[c]);
            print_quoted(cell.text ? cell.text : "", c + 1 == count);
        }
    }
    free(cell.text);
}

/* An object a line. A value that is JSON itself, such as a policy's definition, is a text here, as in rabbitmqctl. */
static void print_json(const json_t *rows, const struct ctl_column *const *columns, size_t count)
{
    puts("[");
    for (size_t r = 0; r < json_array_size(rows); r++) {
        json_t *object = json_object();
        for (size_t c = 0; c < count; c++) {
            const json_t *value = cell_value(json_array_get(rows, r), columns[c]);
            char *text = columns[c]->is_json && value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
            json_object_set_new(object, columns[c]->name, text ? json_string(text) : value ? json_incref((json_t *)(uintptr_t)value) : json_null());
            free(text);
        }
        fputs(r ? "," : "", stdout);
        json_dumpf(object, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(object);
    }
    puts("]");
}

/* Characters on the screen. */
static size_t width_of(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += (*text & 0xC0) != 0x80;
    return width;
}

static void print_line(const char *left, const char *middle, const char *right, const size_t *widths, size_t count)
{
    for (size_t c = 0; c < count; c++) {
        fputs(c ? middle : left, stdout);
        for (size_t i = 0; i < widths[c] + 2; i++)
            fputs("─", stdout);
    }
    puts(right);
}

static void print_boxed(const char *text, size_t width, bool is_last)
{
    printf("│ %s%*s%s", text, (int)(width - width_of(text)) + 1, " ", is_last ? "│\n" : "");
}

static void print_pretty(const json_t *rows, const struct ctl_column *const *columns, size_t count)
{
    struct cell cell = {0};
    size_t *widths = calloc(count + 1, sizeof *widths);
    for (size_t c = 0; widths && c < count; c++) {
        widths[c] = width_of(columns[c]->name);
        for (size_t r = 0; r < json_array_size(rows); r++) {
            make_cell(&cell, json_array_get(rows, r), columns[c]);
            size_t width = width_of(cell.text ? cell.text : "");
            widths[c] = width > widths[c] ? width : widths[c];
        }
    }
    if (widths) {
        print_line("┌", "┬", "┐", widths, count);
        for (size_t c = 0; c < count; c++)
            print_boxed(columns[c]->name, widths[c], c + 1 == count);
        for (size_t r = 0; r < json_array_size(rows); r++) {
            print_line("├", "┼", "┤", widths, count);
            for (size_t c = 0; c < count; c++) {
                make_cell(&cell, json_array_get(rows, r), columns[c]);
                print_boxed(cell.text ? cell.text : "", widths[c], c + 1 == count);
            }
        }
        print_line("└", "┴", "┘", widths, count);
    }
    free(widths);
    free(cell.text);
}

/* ---- the order ----------------------------------------------------------------------------------------------------- */

struct order {
    const struct ctl_column *const *columns;
    size_t count;
};

struct sorted_row {
    json_t *row;
    char *first;                 /* its first cell, which tells most rows apart */
};

/* By the cells from the left to the right. */
static int compare(const void *a, const void *b, void *order_pointer)
{
    const struct order *order = order_pointer;
    const struct sorted_row *left = a, *right = b;
    struct cell x = {0}, y = {0};
    int result = strcmp(left->first ? left->first : "", right->first ? right->first : "");
    for (size_t c = 1; c < order->count && !result; c++) {
        make_cell(&x, left->row, order->columns[c]);
        make_cell(&y, right->row, order->columns[c]);
        result = strcmp(x.text ? x.text : "", y.text ? y.text : "");
    }
    free(x.text);
    free(y.text);
    return result;
}

/* The rows in order: the broker's own means nothing. NULL: out of memory. */
static json_t *sorted(const json_t *rows, struct order order)
{
    size_t count = json_array_size(rows);
    struct sorted_row *items = calloc(count + 1, sizeof *items);
    json_t *array = json_array();
    for (size_t i = 0; items && i < count; i++) {
        struct cell cell = {0};
        items[i].row = json_array_get(rows, i);
        make_cell(&cell, items[i].row, order.columns[0]);
        items[i].first = cell.text;
    }
    if (items)
        qsort_r(items, count, sizeof *items, compare, &order);
    for (size_t i = 0; items && i < count; i++) {
        json_array_append(array, items[i].row);
        free(items[i].first);
    }
    free(items);
    return array;
}

int ctl_print_rows(const struct ctl *ctl, const json_t *rows, const struct ctl_column *const *columns, size_t count)
{
    const char *formatter = ctl->settings->formatter;
    if (!json_is_array(rows))
        return ctl_fail(CTL_SOFTWARE, "the broker's answer is no list");
    json_t *in_order = sorted(rows, (struct order){columns, count});
    if (strcmp(formatter, "json") == 0)
        print_json(in_order, columns, count);
    else if (strcmp(formatter, "csv") == 0)
        print_csv(ctl, in_order, columns, count);
    else if (strcmp(formatter, "pretty_table") == 0)
        print_pretty(in_order, columns, count);
    else
        print_separated(ctl, in_order, columns, count);
    json_decref(in_order);
    return EXIT_DONE;
}
