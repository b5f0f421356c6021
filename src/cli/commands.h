/* The commands, one file each. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/command.h"

extern const struct command serve_command, publish_command, consume_command, get_command, queues_command, exchanges_command,
    bindings_command, purge_command, transactions_command, tokens_command, outlook_command, queue_command, events_command, subscriptions_command, sources_command,
    ctl_command, bench_command, sink_command, sim_command, completion_command;

#endif
