/* Options of a command as one table, which feeds parsing, the help text, shell completion and the manual page's check. */
#ifndef CLI_OPTION_H
#define CLI_OPTION_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define OPTION_LIST_MAX 256   /* how often an option of kind OPTION_LIST may be given */

/* What an option's argument is, and what its place in the settings holds. */
enum option_kind {
    OPTION_FLAG,      /* none: bool */
    OPTION_TEXT,      /* any text: const char *, borrowed from argv */
    OPTION_CHOICE,    /* one of `argument`'s words, which | separates: const char * */
    OPTION_NUMBER,    /* digits with k, M, G (thousands) or Ki, Mi, Gi: uint64_t from minimum to maximum */
    OPTION_DURATION,  /* digits with a fraction and ms, s (the default), m or h: uint64_t, milliseconds */
    OPTION_LIST,      /* any text, may be repeated: struct option_list */
};

struct option_list {
    const char *items[OPTION_LIST_MAX];   /* borrowed from argv */
    size_t count;
};

struct option {
    char letter;              /* '\0': none */
    enum option_kind kind;
    const char *name;         /* without the two dashes */
    const char *argument;     /* what help calls the argument; NULL for a flag */
    const char *help;         /* one sentence without a full stop */
    size_t offset;            /* of its place in the command's settings */
    uint64_t minimum, maximum;   /* numbers and durations; a maximum of 0 means no bound */
};

struct option_table {
    const struct option *options;
    size_t count;
};

/* Sorts argv[0..argc) into settings and operands. Options and operands may be mixed; "--" ends the options.
 * Operands are moved to the front of argv, *operand_count says how many. --help and -h are known to every table: *help.
 * Errors: GW_ERR_INVALID, and then `complaint` (of `complaint_size` bytes) names the option and the nearest valid one. */
enum gw_err option_parse(const struct option_table *table, void *settings, int argc, char **argv, int *operand_count,
                         bool *help, char *complaint, size_t complaint_size);

/* Prints one line or more for every option, as `godwit help COMMAND` shows them. */
void option_print_help(const struct option_table *table, FILE *out);

/* The single-character edits between two words, a swap of neighbours counted as one; for saying which word was meant. */
unsigned option_distance(const char *a, const char *b);

/* Whether `word` is so near to `wanted` that the one may have been meant by the other. */
bool option_is_near(const char *word, const char *wanted);

/* Reads "10", "64Ki", "5M"; false: malformed, or above 2^64-1. */
bool option_number(const char *text, uint64_t *value);

/* Reads "1.5", "250ms", "2m" into milliseconds; false: malformed, or above 10 years. */
bool option_duration(const char *text, uint64_t *value_ms);

#endif
