#include "cli/option.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX 40                                       /* bytes of a word that are compared for nearness */
#define DURATION_MAX_MS (10ull * 365 * 86400 * 1000)
#define HELP_COLUMN 30                                    /* where the sentences of the help text begin */
#define HELP_WIDTH 100

bool option_number(const char *text, uint64_t *value)
{
    static const struct { const char *suffix; uint64_t factor; } suffixes[] = {
        {"", 1}, {"k", 1000}, {"K", 1000}, {"M", 1000000}, {"G", 1000000000},
        {"Ki", 1ull << 10}, {"Mi", 1ull << 20}, {"Gi", 1ull << 30},
    };
    uint64_t sum = 0;
    const char *p = text;
    for (; isdigit((unsigned char)*p); p++) {
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, (uint64_t)(*p - '0'), &sum))
            return false;
    }
    if (p == text)
        return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (strcmp(p, suffixes[i].suffix) == 0)
            return !__builtin_mul_overflow(sum, suffixes[i].factor, value);
    }
    return false;
}

bool option_duration(const char *text, uint64_t *value_ms)
{
    static const struct { const char *suffix; double factor; } suffixes[] = {
        {"", 1e3}, {"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3},
    };
    size_t digits = strspn(text, "0123456789.");
    if (digits == 0 || digits > 20 || strchr(text, '.') != strrchr(text, '.') || strcmp(text, ".") == 0)
        return false;
    double sum = strtod(text, NULL);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (strcmp(text + digits, suffixes[i].suffix) != 0)
            continue;
        sum *= suffixes[i].factor;
        if (sum > (double)DURATION_MAX_MS)
            return false;
        *value_ms = (uint64_t)(sum + 0.5);
        return true;
    }
    return false;
}

/* Damerau and Levenshtein's distance (optimal string alignment) over at most WORD_MAX bytes. */
unsigned option_distance(const char *a, const char *b)
{
    size_t a_size = strnlen(a, WORD_MAX), b_size = strnlen(b, WORD_MAX);
    unsigned rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= b_size; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_size; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two_above[j - 2] + 1 < best)
                best = two_above[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a_size % 3][b_size];
}

bool option_is_near(const char *word, const char *wanted)
{
    size_t size = strnlen(word, WORD_MAX);
    if (size >= 2 && strncmp(word, wanted, size) == 0)
        return true;
    return option_distance(word, wanted) <= (size < 4 ? 1 : size < 9 ? 2 : 3);
}

__attribute__((format(printf, 3, 4)))
static enum gw_err complain(char *complaint, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(complaint, size, format, arguments);
    va_end(arguments);
    return GW_ERR_INVALID;
}

static const struct option *find_name(const struct option_table *table, const char *name, size_t size)
{
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        if (strlen(option->name) == size && memcmp(option->name, name, size) == 0)
            return option;
    }
    return NULL;
}

static const struct option *find_letter(const struct option_table *table, char letter)
{
    for (size_t i = 0; i < table->count; i++) {
        if (table->options[i].letter == letter)
            return &table->options[i];
    }
    return NULL;
}

static const struct option *nearest(const struct option_table *table, const char *name)
{
    const struct option *best = NULL;
    unsigned best_distance = 0;
    for (size_t i = 0; i < table->count; i++) {
        const struct option *option = &table->options[i];
        if (!option_is_near(name, option->name))
            continue;
        unsigned distance = option_distance(name, option->name);
        if (strncmp(name, option->name, strlen(name)) == 0)
            distance = 0;
        if (!best || distance < best_distance) {
            best = option;
            best_distance = distance;
        }
    }
    return best;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t size = strlen(text);
    for (const char *p = choices; ; p++) {
        size_t word = strcspn(p, "|");
        if (word == size && memcmp(p, text, size) == 0)
            return true;
        p += word;
        if (*p == '\0')
            return false;
    }
}

/* `spelling` is the option as the user wrote it, for complaints. */
static enum gw_err assign(const struct option *option, void *settings, const char *spelling, const char *text,
                          char *complaint, size_t complaint_size)
{
    void *place = (char *)settings + option->offset;
    bool is_number = option->kind == OPTION_NUMBER;
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)place = true;
        return GW_OK;
    case OPTION_TEXT:
        *(const char **)place = text;
        return GW_OK;
    case OPTION_CHOICE:
        if (!is_choice(option->argument, text))
            return complain(complaint, complaint_size, "%s is one of %s, not '%s'", spelling, option->argument, text);
        *(const char **)place = text;
        return GW_OK;
    case OPTION_NUMBER:
    case OPTION_DURATION: {
        uint64_t value;
        if (!(is_number ? option_number(text, &value) : option_duration(text, &value)))
            return complain(complaint, complaint_size, "%s takes a %s, not '%s'", spelling,
                            is_number ? "number such as 1000, 10k or 64Ki" : "time such as 2, 1.5s, 250ms or 5m", text);
        if (value < option->minimum || (option->maximum && value > option->maximum)) {
            if (option->maximum)
                return complain(complaint, complaint_size, "%s is from %" PRIu64 " to %" PRIu64 "%s, not '%s'", spelling,
                                option->minimum, option->maximum, is_number ? "" : " ms", text);
            return complain(complaint, complaint_size, "%s is at least %" PRIu64 "%s, not '%s'", spelling,
                            option->minimum, is_number ? "" : " ms", text);
        }
        *(uint64_t *)place = value;
        return GW_OK;
    }
    case OPTION_LIST: {
        struct option_list *list = place;
        if (list->count == OPTION_LIST_MAX)
            return complain(complaint, complaint_size, "%s is given more than %d times", spelling, OPTION_LIST_MAX);
        list->items[list->count++] = text;
        return GW_OK;
    }
    }
    return GW_ERR_INVALID;
}

/* Reads argv[*index], which begins with two dashes, and its argument. */
static enum gw_err parse_long(const struct option_table *table, void *settings, int argc, char **argv, int *index, bool *help,
                              char *complaint, size_t complaint_size)
{
    const char *name = argv[*index] + 2;
    const char *value = strchr(name, '=');
    size_t size = value ? (size_t)(value - name) : strlen(name);
    if (size == 4 && memcmp(name, "help", 4) == 0 && !value) {
        *help = true;
        return GW_OK;
    }
    char spelling[WORD_MAX + 3];
    snprintf(spelling, sizeof spelling, "--%.*s", (int)(size < WORD_MAX ? size : WORD_MAX), name);
    const struct option *option = find_name(table, name, size);
    if (!option) {
        const struct option *meant = nearest(table, spelling + 2);
        return complain(complaint, complaint_size, meant ? "unknown option %s; did you mean --%s?" : "unknown option %s",
                        spelling, meant ? meant->name : "");
    }
    if (option->kind == OPTION_FLAG) {
        if (value)
            return complain(complaint, complaint_size, "%s takes no argument", spelling);
    } else if (value) {
        value++;
    } else if (*index + 1 < argc) {
        value = argv[++*index];
    } else {
        return complain(complaint, complaint_size, "%s needs its argument %s", spelling, option->argument);
    }
    return assign(option, settings, spelling, value, complaint, complaint_size);
}

/* Reads argv[*index], one dash and one letter or several flags' letters, and its argument. */
static enum gw_err parse_short(const struct option_table *table, void *settings, int argc, char **argv, int *index, bool *help,
                               char *complaint, size_t complaint_size)
{
    for (const char *letter = argv[*index] + 1; *letter; letter++) {
        if (*letter == 'h' && !find_letter(table, 'h')) {
            *help = true;
            continue;
        }
        char spelling[3] = {'-', *letter, '\0'};
        const struct option *option = find_letter(table, *letter);
        if (!option) {
            const struct option *meant = letter == argv[*index] + 1 ? nearest(table, letter) : NULL;
            return complain(complaint, complaint_size, meant ? "unknown option %s; did you mean --%s?" : "unknown option %s",
                            meant ? argv[*index] : spelling, meant ? meant->name : "");
        }
        const char *value = NULL;
        if (option->kind != OPTION_FLAG) {
            if (letter[1] != '\0')
                value = letter + 1;
            else if (*index + 1 < argc)
                value = argv[++*index];
            else
                return complain(complaint, complaint_size, "%s needs its argument %s", spelling, option->argument);
        }
        enum gw_err err = assign(option, settings, spelling, value, complaint, complaint_size);
        if (err || value)
            return err;
    }
    return GW_OK;
}

enum gw_err option_parse(const struct option_table *table, void *settings, int argc, char **argv, int *operand_count,
                         bool *help, char *complaint, size_t complaint_size)
{
    int operands = 0;
    *help = false;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        if (strcmp(word, "--") == 0) {
            for (i++; i < argc; i++)
                argv[operands++] = argv[i];
            break;
        }
        enum gw_err err = GW_OK;
        if (strncmp(word, "--", 2) == 0)
            err = parse_long(table, settings, argc, argv, &i, help, complaint, complaint_size);
        else if (word[0] == '-' && word[1] != '\0')
            err = parse_short(table, settings, argc, argv, &i, help, complaint, complaint_size);
        else
            argv[operands++] = word;
        if (err)
            return err;
    }
    *operand_count = operands;
    return GW_OK;
}

/* Prints `text` from column HELP_COLUMN on, broken between words. */
static void print_wrapped(const char *text, FILE *out)
{
    int column = HELP_COLUMN;
    while (*text) {
        int size = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + size > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        column += fprintf(out, "%s%.*s", column > HELP_COLUMN ? " " : "", size, text);
        text += size;
        while (*text == ' ')
            text++;
    }
    fputc('\n', out);
}

void option_print_help(const struct option_table *table, FILE *out)
{
    for (size_t i = 0; i <= table->count; i++) {
        static const struct option help = {.letter = 'h', .name = "help", .help = "show this text"};
        const struct option *option = i < table->count ? &table->options[i] : &help;
        int column = option->letter ? fprintf(out, "  -%c, --%s", option->letter, option->name)
                                    : fprintf(out, "      --%s", option->name);
        if (option->argument)
            column += fprintf(out, " %s", option->argument);
        if (column + 2 > HELP_COLUMN)
            column = fprintf(out, "\n") - 1;
        fprintf(out, "%*s", HELP_COLUMN - column, "");
        print_wrapped(option->help, out);
    }
}
