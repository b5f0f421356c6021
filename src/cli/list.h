/* What the broker lists, as a table or as its JSON. */
#ifndef CLI_LIST_H
#define CLI_LIST_H

#include "cli/visit.h"

#define LIST_COLUMNS_MAX 8

struct list_settings {
    struct visit_settings visit;
    bool json;
};

/* The rows of an option table that fill struct `type`, a struct list_settings. */
#define LIST_OPTIONS(type) \
    VISIT_OPTIONS(type, visit), {'j', OPTION_FLAG, "json", NULL, "print the broker's JSON instead of a table", offsetof(struct type, json), 0, 0}

struct column {
    const char *title, *field;
};

struct listing {
    const char *command;            /* what the broker is asked */
    const char *fields;             /* of a row in JSON, separated by spaces */
    struct column columns[LIST_COLUMNS_MAX];
    size_t count;
};

/* Visits the broker and prints the listing, sorted by its first two columns. Answers the exit code. */
int list_run(const struct command *command, const void *settings, const struct listing *listing);

#endif
