/* What every command is: a row that says its name, its options, its help and its function. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "cli/option.h"

/* What a command's process answers; written in the manual page. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,       /* the broker cannot be reached or refused, a file cannot be read or written, … */
    EXIT_USAGE = 2,        /* the command line is wrong */
    EXIT_UNROUTABLE = 3,   /* publish: the broker returned or refused messages */
    EXIT_EMPTY = 4,        /* get, consume --count, events listen --count: there were no messages, or fewer */
};

#define OPERANDS_ANY 1000000

struct command {
    const char *name;
    const char *operands;            /* as the synopsis shows them, e.g. "QUEUE [BODY...]" */
    const char *summary;             /* half a line for the list of commands */
    const char *text;                /* paragraphs for `godwit help NAME`; NULL: none */
    struct option_table table;
    int operands_min, operands_max;
    const void *defaults;            /* what the settings are before the options; NULL: zeros */
    size_t settings_size;
    int (*run)(const struct command *command, const void *settings, char **operands, int operand_count);
    const char *(*word)(size_t index);   /* what the first operand may be, for completion: the index-th word, NULL after the last; NULL: anything */
    bool is_entry;                   /* run by the program's entries (program.h) instead; its table is for help only */
};

/* All commands in the order in which help lists them. */
const struct command *const *command_list(size_t *count);

/* NULL: there is none of that name. */
const struct command *command_find(const char *name);

/* The command whose name is near to `name`; NULL: none is. */
const struct command *command_nearest(const char *name);

/* Parses argv[1..argc) by the command's table and runs it; argv[0] is its name. Returns the exit code. */
int command_run(const struct command *command, int argc, char **argv);

void command_print_help(const struct command *command, FILE *out);

#endif
