/* godwit ctl: the verbs of rabbitmqctl, with its arguments, columns, words and exit codes, so that scripts that were written for it go on. A verb is a row; what a row
 * cannot say is a function of its own. */
#ifndef CLI_CTL_H
#define CLI_CTL_H

#include "cli/visit.h"

#include <jansson.h>

/* rabbitmqctl's, which are those of sysexits. */
enum ctl_exit { CTL_USAGE = 64, CTL_DATA = 65, CTL_NO_USER = 67, CTL_REFUSED = 69, CTL_SOFTWARE = 70, CTL_LATER = 75 };

struct ctl_settings {
    struct visit_settings visit;
    const char *vhost, *node, *formatter, *apply_to, *description, *tags, *default_queue_type, *user, *format;
    uint64_t timeout_s, limit, delay_ms;
    const char *priority;
    bool quiet, silent, no_headers, global, if_empty, if_unused, online, offline, local, longnames, skip_if_unchanged, hide_passwords;
};

/* A column of a list: what rabbitmqctl calls it, and the field of the broker's rows that it shows (NULL: of that name). */
struct ctl_column {
    const char *name, *field;
    bool is_json;                /* it shows a value as JSON, whatever that is */
};

/* Which settings a verb's request carries. */
enum ctl_carries {
    CTL_VHOST = 1, CTL_PRIORITY = 2, CTL_APPLY_TO = 4, CTL_METADATA = 8, CTL_USER = 16, CTL_CONDITIONS = 32, CTL_PACE = 64, CTL_GLOBAL = 128,
    CTL_COLUMNS = 256,           /* its operands are the names of columns */
    CTL_TIMEOUT_LINE = 512,      /* its banner is preceded by one about the timeout */
};

struct ctl;

struct ctl_verb {
    const char *name;
    const char *operands;        /* as the usage shows them */
    const char *summary;
    unsigned carries;
    int operands_min, operands_max;
    /* The request's fields that the operands become, in their order, separated by spaces: "name", "definition{" is parsed as JSON, "tags*" takes the rest as an array. */
    const char *fields;
    /* What is said before: %1 … %9 an operand, %* all from the second on, %p the vhost, %r the priority, %u the user. NULL: nothing. */
    const char *banner;
    const char *done;            /* what is said after, in the same way; NULL: nothing */
    const struct ctl_column *columns;   /* of a list, ended by a NULL name; the first `shown` are those that are shown when none are asked for */
    unsigned shown;
    int (*run)(struct ctl *ctl);        /* instead of asking and showing; NULL: none */
};

/* One run. */
struct ctl {
    const struct command *command;
    const struct ctl_settings *settings;
    const struct ctl_verb *verb;
    char **operands;             /* without the verb */
    int operand_count;
    struct visit visit;
    bool open;
};

/* All verbs in the order in which help lists them. */
const struct ctl_verb *ctl_verbs(size_t *count);

/* ---- ctl.c ---- */

/* Prints "Error:" and the sentence; returns `code`. */
__attribute__((format(printf, 2, 3)))
int ctl_fail(int code, const char *format, ...);

/* Prints a verb's banner or end, unless the run is a quiet one. */
void ctl_say(const struct ctl *ctl, const char *pattern);

/* The request of the verb and what it carries; json_decref it. NULL: *code says why, and a complaint was made. */
json_t *ctl_request(const struct ctl *ctl, int *code);

/* Asks what the verb's row says and forgets the answer; returns an exit code. */
int ctl_do(struct ctl *ctl);

/* Connects when it has not been done, asks, and takes the answer apart: *ok is what was answered, json_decref it. Returns an exit code; then a complaint was made. */
int ctl_ask(struct ctl *ctl, const json_t *request, json_t **ok);

/* ---- ctl_output.c ---- */

/* Prints an array of objects in the run's format, with these columns. */
int ctl_print_rows(const struct ctl *ctl, const json_t *rows, const struct ctl_column *const *columns, size_t count);

/* ---- ctl_special.c ---- */

int ctl_run_password(struct ctl *ctl);
int ctl_run_clear_topic_permissions(struct ctl *ctl);
int ctl_run_list_limits(struct ctl *ctl);
int ctl_run_clear_user_limits(struct ctl *ctl);
int ctl_run_hash_password(struct ctl *ctl);
int ctl_run_delete_queue(struct ctl *ctl);
int ctl_run_close_all(struct ctl *ctl);
int ctl_run_import(struct ctl *ctl);
int ctl_run_export(struct ctl *ctl);
int ctl_run_status(struct ctl *ctl);
int ctl_run_ping(struct ctl *ctl);
int ctl_run_await(struct ctl *ctl);
int ctl_run_alarms(struct ctl *ctl);
int ctl_run_version(struct ctl *ctl);

#endif
