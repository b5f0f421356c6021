/* A command's visit to a broker: the options that say which one, the connection, the signals that end it. */
#ifndef CLI_VISIT_H
#define CLI_VISIT_H

#include "cli/command.h"
#include "cli/console.h"
#include "client/verbs.h"

struct visit_settings {
    const char *uri;          /* NULL: $GODWIT_URI, or the local broker */
};

/* The rows of an option table that fill `member`, a struct visit_settings inside struct `type`. */
#define VISIT_OPTIONS(type, member) \
    {'u', OPTION_TEXT, "uri", "URI", \
     "the broker, amqp://user:password@host:port/vhost (default: $GODWIT_URI, or amqp://guest:guest@localhost:5672/)", \
     offsetof(struct type, member.uri), 0, 0}

struct visit {
    struct console console;
    struct remote *remote;
    int signal_fd;            /* readable after SIGINT or SIGTERM */
};

/* Reads the URI of the settings, of $GODWIT_URI or the default. Complains and returns EXIT_USAGE when it is malformed. */
int visit_uri(struct console *console, const struct visit_settings *settings, struct uri *uri);

/* Connects. `events` is borrowed until it returns, its owner until visit_close. Returns EXIT_DONE, or complains and returns
 * another exit code, and then nothing is open. */
int visit_open(struct visit *visit, const struct command *command, const struct visit_settings *settings,
               const struct remote_events *events);

/* Says what went wrong last and returns EXIT_FAILED. */
int visit_failed(struct visit *visit);

/* Whether SIGINT or SIGTERM came since the last call. */
bool visit_interrupted(struct visit *visit);

void visit_close(struct visit *visit);

#endif
