/* The verbs of godwit ctl, a row each, in rabbitmqctl's words. */
#include "cli/ctl.h"

static const struct ctl_column queue_columns[] = {
    {"name", NULL}, {"messages", NULL}, {"durable", NULL}, {"auto_delete", NULL}, {"arguments", "typed_arguments"}, {"policy", NULL},
    {"operator_policy", NULL}, {"effective_policy_definition", NULL}, {"pid", NULL}, {"owner_pid", NULL}, {"exclusive", NULL},
    {"exclusive_consumer_pid", "nothing"}, {"exclusive_consumer_tag", "nothing"}, {"messages_ready", NULL}, {"messages_unacknowledged", NULL},
    {"messages_ready_ram", "messages_ready"}, {"messages_unacknowledged_ram", "messages_unacknowledged"}, {"messages_ram", "messages"},
    {"messages_persistent", "messages"}, {"message_bytes", NULL}, {"message_bytes_ready", NULL}, {"message_bytes_unacknowledged", "zero"},
    {"message_bytes_ram", "message_bytes"}, {"message_bytes_persistent", "message_bytes"}, {"head_message_timestamp", "nothing"}, {"disk_reads", "zero"},
    {"disk_writes", "zero"}, {"consumers", NULL}, {"consumer_utilisation", NULL}, {"consumer_capacity", NULL}, {"memory", "zero"}, {"slave_pids", "nothing"},
    {"synchronised_slave_pids", "nothing"}, {"state", NULL}, {"type", NULL}, {"leader", "nothing"}, {"members", "nothing"}, {"online", "nothing"},
    {"vhost", NULL}, {NULL, NULL},
};

static const struct ctl_column exchange_columns[] = {
    {"name", NULL}, {"type", NULL}, {"durable", NULL}, {"auto_delete", NULL}, {"internal", NULL}, {"arguments", "typed_arguments"}, {"policy", NULL},
    {"vhost", NULL}, {NULL, NULL},
};

static const struct ctl_column binding_columns[] = {
    {"source_name", "source"}, {"source_kind", NULL}, {"destination_name", "destination"}, {"destination_kind", "destination_type"}, {"routing_key", NULL},
    {"arguments", "typed_arguments"}, {"vhost", NULL}, {NULL, NULL},
};

static const struct ctl_column vhost_columns[] = {
    {"name", NULL}, {"description", NULL}, {"tags", NULL}, {"default_queue_type", NULL}, {"tracing", NULL}, {"cluster_state", NULL}, {NULL, NULL},
};

#define ANY 64

static const struct ctl_verb verbs[] = {
    {"list_queues", "[COLUMN...]", "list the queues of a virtual host", CTL_VHOST | CTL_COLUMNS | CTL_TIMEOUT_LINE, 0, ANY, NULL, "Listing queues for vhost %p ...",
     NULL, queue_columns, 2, NULL},
    {"list_exchanges", "[COLUMN...]", "list the exchanges of a virtual host", CTL_VHOST | CTL_COLUMNS, 0, ANY, NULL, "Listing exchanges for vhost %p ...", NULL,
     exchange_columns, 2, NULL},
    {"list_bindings", "[COLUMN...]", "list the bindings of a virtual host", CTL_VHOST | CTL_COLUMNS, 0, ANY, NULL, "Listing bindings for vhost %p...", NULL,
     binding_columns, 6, NULL},
    {"purge_queue", "QUEUE", "remove all ready messages from a queue", CTL_VHOST, 1, 1, "name", "Purging queue '%1' in vhost '%p' ...", NULL, NULL, 0, NULL},
    {"delete_queue", "QUEUE", "delete a queue", CTL_VHOST | CTL_CONDITIONS, 1, 1, "name", NULL, NULL, NULL, 0, ctl_run_delete_queue},
    {"add_vhost", "VHOST", "make a virtual host", CTL_METADATA, 1, 1, "name", "Adding vhost \"%1\" ...", NULL, NULL, 0, NULL},
    {"delete_vhost", "VHOST", "delete a virtual host and everything in it", 0, 1, 1, "name", "Deleting vhost \"%1\" ...", NULL, NULL, 0, NULL},
    {"list_vhosts", "[COLUMN...]", "list the virtual hosts", CTL_COLUMNS, 0, ANY, NULL, "Listing vhosts ...", NULL, vhost_columns, 1, NULL},
    {"trace_on", "", "publish what passes through a virtual host to amq.rabbitmq.trace", CTL_VHOST, 0, 0, NULL, "Starting tracing for vhost \"%p\" ...",
     "Trace enabled for vhost %p", NULL, 0, NULL},
    {"trace_off", "", "end that", CTL_VHOST, 0, 0, NULL, "Stopping tracing for vhost \"%p\" ...", "Trace disabled for vhost %p", NULL, 0, NULL},
    {"hash_password", "[PASSWORD]", "print the hash of a password, as definitions hold it", 0, 0, 1, NULL, NULL, NULL, NULL, 0, ctl_run_hash_password},
    {"status", "", "say how the broker is", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_status},
    {"ping", "", "say whether the broker answers", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_ping},
    {"check_running", "", "the same, for scripts that ask so", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_ping},
    {"version", "", "print this program's version", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_version},
};

const struct ctl_verb *ctl_verbs(size_t *count)
{
    *count = sizeof verbs / sizeof verbs[0];
    return verbs;
}
