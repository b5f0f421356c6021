/* The verbs of godwit ctl, a row each, in rabbitmqctl's words. */
#include "cli/ctl.h"

static const struct ctl_column queue_columns[] = {
    {"name", NULL, false}, {"messages", NULL, false}, {"durable", NULL, false}, {"auto_delete", NULL, false}, {"arguments", "typed_arguments", false}, {"policy", NULL, false},
    {"operator_policy", NULL, false}, {"effective_policy_definition", NULL, true}, {"pid", NULL, false}, {"owner_pid", NULL, false}, {"exclusive", NULL, false},
    {"exclusive_consumer_pid", "nothing", false}, {"exclusive_consumer_tag", "nothing", false}, {"messages_ready", NULL, false}, {"messages_unacknowledged", NULL, false},
    {"messages_retrying", NULL, false}, {"messages_scheduled", NULL, false},
    {"messages_ready_ram", "messages_ready", false}, {"messages_unacknowledged_ram", "messages_unacknowledged", false}, {"messages_ram", "messages", false},
    {"messages_persistent", "messages", false}, {"message_bytes", NULL, false}, {"message_bytes_ready", NULL, false}, {"message_bytes_unacknowledged", "zero", false},
    {"message_bytes_ram", "message_bytes", false}, {"message_bytes_persistent", "message_bytes", false}, {"head_message_timestamp", "nothing", false}, {"disk_reads", "zero", false},
    {"disk_writes", "zero", false}, {"consumers", NULL, false}, {"consumer_utilisation", NULL, false}, {"consumer_capacity", NULL, false}, {"memory", "zero", false}, {"slave_pids", "nothing", false},
    {"synchronised_slave_pids", "nothing", false}, {"state", NULL, false}, {"type", NULL, false},
    {"messages_deduplicated", NULL, false}, {"dedup_ids", NULL, false}, {"dedup_forgotten", NULL, false}, {"group_keys", NULL, false}, {"group_keys_held", NULL, false},
    {"arrival_rate", NULL, false}, {"settle_rate", NULL, false}, {"service_seconds", NULL, false}, {"utilisation", NULL, false}, {"backlog_end_seconds", NULL, false},
    {"consumers_needed", NULL, false}, {"leader", "nothing", false}, {"members", "nothing", false}, {"online", "nothing", false},
    {"vhost", NULL, false}, {NULL, NULL, false},
};

static const struct ctl_column exchange_columns[] = {
    {"name", NULL, false}, {"type", NULL, false}, {"durable", NULL, false}, {"auto_delete", NULL, false}, {"internal", NULL, false}, {"arguments", "typed_arguments", false}, {"policy", NULL, false},
    {"vhost", NULL, false}, {NULL, NULL, false},
};

static const struct ctl_column binding_columns[] = {
    {"source_name", "source", false}, {"source_kind", NULL, false}, {"destination_name", "destination", false}, {"destination_kind", "destination_type", false}, {"routing_key", NULL, false},
    {"arguments", "typed_arguments", false}, {"vhost", NULL, false}, {NULL, NULL, false},
};

static const struct ctl_column vhost_columns[] = {
    {"name", NULL, false}, {"description", NULL, false}, {"tags", NULL, false}, {"default_queue_type", NULL, false}, {"tracing", NULL, false}, {"cluster_state", NULL, false}, {NULL, NULL, false},
};

static const struct ctl_column user_columns[] = {{"user", NULL, false}, {"tags", NULL, false}, {NULL, NULL, false}};
static const struct ctl_column permission_columns[] = {{"user", NULL, false}, {"configure", NULL, false}, {"write", NULL, false}, {"read", NULL, false}, {NULL, NULL, false}};
static const struct ctl_column user_permission_columns[] = {{"vhost", NULL, false}, {"configure", NULL, false}, {"write", NULL, false}, {"read", NULL, false}, {NULL, NULL, false}};
static const struct ctl_column topic_permission_columns[] = {{"user", NULL, false}, {"exchange", NULL, false}, {"write", NULL, false}, {"read", NULL, false}, {NULL, NULL, false}};
static const struct ctl_column user_topic_permission_columns[] = {{"vhost", NULL, false}, {"exchange", NULL, false}, {"write", NULL, false}, {"read", NULL, false}, {NULL, NULL, false}};
static const struct ctl_column policy_columns[] = {{"vhost", NULL, false}, {"name", NULL, false}, {"pattern", NULL, false}, {"apply-to", NULL, false},
                                                   {"definition", NULL, true}, {"priority", NULL, false},
                                                   {NULL, NULL, false}};
static const struct ctl_column parameter_columns[] = {{"component", NULL, false}, {"name", NULL, false}, {"value", NULL, true}, {NULL, NULL, false}};
static const struct ctl_column global_parameter_columns[] = {{"name", NULL, false}, {"value", NULL, true}, {NULL, NULL, false}};

static const struct ctl_column connection_columns[] = {
    {"user", NULL, false}, {"peer_host", NULL, false}, {"peer_port", NULL, false}, {"state", NULL, false}, {"pid", NULL, false}, {"name", NULL, false},
    {"port", NULL, false}, {"host", NULL, false}, {"ssl", NULL, false}, {"ssl_protocol", NULL, false}, {"ssl_key_exchange", "nothing", false},
    {"ssl_cipher", NULL, false}, {"ssl_hash", "nothing", false}, {"peer_cert_subject", NULL, false}, {"peer_cert_issuer", "nothing", false},
    {"peer_cert_validity", "nothing", false}, {"channels", NULL, false}, {"protocol", "protocol_term", false}, {"auth_mechanism", NULL, false}, {"vhost", NULL, false},
    {"timeout", NULL, false}, {"frame_max", NULL, false}, {"channel_max", NULL, false}, {"client_properties", NULL, false}, {"recv_oct", "zero", false},
    {"recv_cnt", "zero", false}, {"send_oct", "zero", false}, {"send_cnt", "zero", false}, {"send_pend", "zero", false}, {"connected_at", NULL, false},
    {NULL, NULL, false},
};

static const struct ctl_column channel_columns[] = {
    {"pid", NULL, false}, {"user", NULL, false}, {"consumer_count", NULL, false}, {"messages_unacknowledged", NULL, false}, {"connection", NULL, false},
    {"name", NULL, false}, {"number", NULL, false}, {"vhost", NULL, false}, {"transactional", NULL, false}, {"confirm", NULL, false},
    {"messages_uncommitted", NULL, false}, {"acks_uncommitted", NULL, false}, {"messages_unconfirmed", NULL, false}, {"prefetch_count", NULL, false},
    {"global_prefetch_count", NULL, false}, {NULL, NULL, false},
};

static const struct ctl_column consumer_columns[] = {
    {"queue_name", NULL, false}, {"channel_pid", NULL, false}, {"consumer_tag", NULL, false}, {"ack_required", NULL, false}, {"prefetch_count", NULL, false},
    {"active", NULL, false}, {"arguments", NULL, false}, {"activity_status", NULL, false}, {NULL, NULL, false},
};

static const struct ctl_column transaction_columns[] = {
    {"id", NULL, false}, {"state", NULL, false}, {"messages", NULL, false}, {"age_ms", NULL, false}, {"check_queue", NULL, false}, {"checks", NULL, false},
    {"check_limit", NULL, false}, {"next_check_ms", NULL, false}, {NULL, NULL, false},
};

#define ANY 64
#define POLICY_OPERANDS "NAME PATTERN DEFINITION"
#define POLICY_FIELDS "name pattern definition{"

static const struct ctl_verb verbs[] = {
    {"list_queues", "[COLUMN...]", "list the queues of a virtual host", CTL_VHOST | CTL_COLUMNS | CTL_TIMEOUT_LINE, 0, ANY, NULL, "Listing queues for vhost %p ...",
     NULL, queue_columns, 2, NULL},
    {"list_exchanges", "[COLUMN...]", "list the exchanges of a virtual host", CTL_VHOST | CTL_COLUMNS, 0, ANY, NULL, "Listing exchanges for vhost %p ...", NULL,
     exchange_columns, 2, NULL},
    {"list_bindings", "[COLUMN...]", "list the bindings of a virtual host", CTL_VHOST | CTL_COLUMNS, 0, ANY, NULL, "Listing bindings for vhost %p...", NULL,
     binding_columns, 6, NULL},
    {"list_connections", "[COLUMN...]", "list the connections", CTL_COLUMNS, 0, ANY, NULL, "Listing connections ...", NULL, connection_columns, 4, NULL},
    {"list_channels", "[COLUMN...]", "list the channels", CTL_COLUMNS, 0, ANY, NULL, "Listing channels ...", NULL, channel_columns, 4, NULL},
    {"list_consumers", "[COLUMN...]", "list the consumers of a virtual host", CTL_VHOST | CTL_COLUMNS, 0, ANY, NULL, "Listing consumers in vhost %p ...", NULL,
     consumer_columns, 7, NULL},
    {"list_transactions", "[COLUMN...]", "list the transactions in two steps of a virtual host", CTL_VHOST | CTL_COLUMNS, 0, ANY, NULL,
     "Listing transactions for vhost %p ...", NULL, transaction_columns, 4, NULL},
    {"close_connection", "CONNECTION REASON", "close a connection, by its pid or name", 0, 2, 2, "id reason", "Closing connection %1, reason: %2...", NULL, NULL, 0, NULL},
    {"close_all_connections", "REASON", "close the connections to a virtual host, or with --global all", CTL_VHOST | CTL_GLOBAL | CTL_PACE, 1, 1, "reason", NULL, NULL, NULL,
     0, ctl_run_close_all},
    {"close_all_user_connections", "USER REASON", "close a user's connections", 0, 2, 2, "user reason", "Closing connections of user %1, reason: %2...", NULL, NULL, 0,
     ctl_run_close_all},
    {"purge_queue", "QUEUE", "remove all ready messages from a queue", CTL_VHOST, 1, 1, "name", "Purging queue '%1' in vhost '%p' ...", NULL, NULL, 0, NULL},
    {"delete_queue", "QUEUE", "delete a queue", CTL_VHOST | CTL_CONDITIONS, 1, 1, "name", NULL, NULL, NULL, 0, ctl_run_delete_queue},
    {"add_vhost", "VHOST", "make a virtual host", CTL_METADATA, 1, 1, "name", "Adding vhost \"%1\" ...", NULL, NULL, 0, NULL},
    {"delete_vhost", "VHOST", "delete a virtual host and everything in it", 0, 1, 1, "name", "Deleting vhost \"%1\" ...", NULL, NULL, 0, NULL},
    {"list_vhosts", "[COLUMN...]", "list the virtual hosts", CTL_COLUMNS, 0, ANY, NULL, "Listing vhosts ...", NULL, vhost_columns, 1, NULL},
    {"trace_on", "", "publish what passes through a virtual host to amq.rabbitmq.trace", CTL_VHOST, 0, 0, NULL, "Starting tracing for vhost \"%p\" ...",
     "Trace enabled for vhost %p", NULL, 0, NULL},
    {"trace_off", "", "end that", CTL_VHOST, 0, 0, NULL, "Stopping tracing for vhost \"%p\" ...", "Trace disabled for vhost %p", NULL, 0, NULL},
    {"add_user", "USER [PASSWORD]", "make a user; without PASSWORD it is read from standard input", 0, 1, 2, NULL, "Adding user \"%1\" ...",
     "Done. Don't forget to grant the user permissions to some virtual hosts! See 'godwit ctl help set_permissions' to learn more.", NULL, 0, ctl_run_password},
    {"delete_user", "USER", "delete a user", 0, 1, 1, "name", "Deleting user \"%1\" ...", NULL, NULL, 0, NULL},
    {"change_password", "USER [PASSWORD]", "give a user another password", 0, 1, 2, NULL, "Changing password for user \"%1\" ...", NULL, NULL, 0, ctl_run_password},
    {"clear_password", "USER", "have a user not log in with a password any more", 0, 1, 1, "name", "Clearing password for user \"%1\" ...", NULL, NULL, 0, NULL},
    {"authenticate_user", "USER [PASSWORD]", "say whether this is the user's password", 0, 1, 2, NULL, "Authenticating user \"%1\" ...", "Success", NULL, 0,
     ctl_run_password},
    {"set_user_tags", "USER [TAG...]", "give a user these tags and no others", 0, 1, ANY, "name tags*", "Setting tags for user \"%1\" to [%*] ...", NULL, NULL, 0,
     NULL},
    {"list_users", "", "list the users and their tags", 0, 0, 0, NULL, "Listing users ...", NULL, user_columns, 2, NULL},
    {"set_permissions", "USER CONFIGURE WRITE READ", "say what a user may do in a virtual host, by regular expressions", CTL_VHOST, 4, 4,
     "user configure write read", "Setting permissions for user \"%1\" in vhost \"%p\" ...", NULL, NULL, 0, NULL},
    {"clear_permissions", "USER", "let a user into a virtual host no more", CTL_VHOST, 1, 1, "user", "Clearing permissions for user \"%1\" in vhost \"%p\" ...", NULL,
     NULL, 0, NULL},
    {"list_permissions", "", "list what users may do in a virtual host", CTL_VHOST, 0, 0, NULL, "Listing permissions for vhost \"%p\" ...", NULL, permission_columns, 4,
     NULL},
    {"list_user_permissions", "USER", "list what a user may do in all virtual hosts", 0, 1, 1, "user", "Listing permissions for user \"%1\" ...", NULL,
     user_permission_columns, 4, NULL},
    {"set_topic_permissions", "USER EXCHANGE WRITE READ", "say with which routing keys a user may use a topic exchange", CTL_VHOST, 4, 4, "user exchange write read",
     "Setting topic permissions on \"%2\" for user \"%1\" in vhost \"%p\" ...", NULL, NULL, 0, NULL},
    {"clear_topic_permissions", "USER [EXCHANGE]", "take that back", CTL_VHOST, 1, 2, "user exchange", NULL, NULL, NULL, 0, ctl_run_clear_topic_permissions},
    {"list_topic_permissions", "", "list topic permissions in a virtual host", CTL_VHOST, 0, 0, NULL, "Listing topic permissions for vhost \"%p\" ...", NULL,
     topic_permission_columns, 4, NULL},
    {"list_user_topic_permissions", "USER", "list a user's topic permissions", 0, 1, 1, "user", "Listing topic permissions for user \"%1\" ...", NULL,
     user_topic_permission_columns, 4, NULL},
    {"set_policy", POLICY_OPERANDS, "set a policy, whose definition is JSON", CTL_VHOST | CTL_PRIORITY | CTL_APPLY_TO, 3, 3, POLICY_FIELDS,
     "Setting policy \"%1\" for pattern \"%2\" to \"%3\" with priority \"%r\" for vhost \"%p\" ...", NULL, NULL, 0, NULL},
    {"clear_policy", "NAME", "take a policy away", CTL_VHOST, 1, 1, "name", "Clearing policy \"%1\" on vhost \"%p\" ...", NULL, NULL, 0, NULL},
    {"list_policies", "", "list the policies of a virtual host", CTL_VHOST, 0, 0, NULL, "Listing policies for vhost \"%p\" ...", NULL, policy_columns, 6, NULL},
    {"set_operator_policy", POLICY_OPERANDS, "set a policy that limits what users' policies may say", CTL_VHOST | CTL_PRIORITY | CTL_APPLY_TO, 3, 3, POLICY_FIELDS,
     "Setting operator policy override \"%1\" for pattern \"%2\" to \"%3\" with priority \"%r\" for vhost \"%p\" ...", NULL, NULL, 0, NULL},
    {"clear_operator_policy", "NAME", "take an operator policy away", CTL_VHOST, 1, 1, "name", "Clearing operator policy \"%1\" on vhost \"%p\" ...", NULL, NULL, 0,
     NULL},
    {"list_operator_policies", "", "list the operator policies of a virtual host", CTL_VHOST, 0, 0, NULL, "Listing operator policy overrides for vhost \"%p\" ...",
     NULL, policy_columns, 6, NULL},
    {"set_parameter", "COMPONENT NAME VALUE", "set a parameter, whose value is JSON", CTL_VHOST, 3, 3, "component name value{",
     "Setting runtime parameter \"%2\" for component \"%1\" to \"%3\" in vhost \"%p\" ...", NULL, NULL, 0, NULL},
    {"clear_parameter", "COMPONENT NAME", "take a parameter away", CTL_VHOST, 2, 2, "component name",
     "Clearing runtime parameter \"%2\" for component \"%1\" on vhost \"%p\" ...", NULL, NULL, 0, NULL},
    {"list_parameters", "", "list the parameters of a virtual host", CTL_VHOST, 0, 0, NULL, "Listing runtime parameters for vhost \"%p\" ...", NULL, parameter_columns, 3,
     NULL},
    {"set_global_parameter", "NAME VALUE", "set a parameter of the broker, whose value is JSON", 0, 2, 2, "name value{",
     "Setting global runtime parameter \"%1\" to \"%2\" ...", NULL, NULL, 0, NULL},
    {"clear_global_parameter", "NAME", "take a parameter of the broker away", 0, 1, 1, "name", "Clearing global runtime parameter \"%1\" ...", NULL, NULL, 0, NULL},
    {"list_global_parameters", "", "list the parameters of the broker", 0, 0, 0, NULL, "Listing global runtime parameters ...", NULL, global_parameter_columns, 2, NULL},
    {"set_vhost_limits", "DEFINITION", "limit a virtual host: {\"max-connections\": N, \"max-queues\": N}", CTL_VHOST, 1, 1, "definition{",
     "Setting vhost limits to \"%1\" for vhost \"%p\" ...", NULL, NULL, 0, NULL},
    {"clear_vhost_limits", "", "take these limits away", CTL_VHOST, 0, 0, NULL, "Clearing vhost \"%p\" limits ...", NULL, NULL, 0, NULL},
    {"list_vhost_limits", "", "list them, of one virtual host or with --global of all", CTL_VHOST | CTL_GLOBAL, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_list_limits},
    {"set_user_limits", "USER DEFINITION", "limit a user: {\"max-connections\": N, \"max-channels\": N}", 0, 2, 2, "user definition{",
     "Setting user limits to \"%2\" for user \"%1\" ...", NULL, NULL, 0, NULL},
    {"clear_user_limits", "USER LIMIT|all", "take a user's limits away", 0, 2, 2, "user limit", NULL, NULL, NULL, 0, ctl_run_clear_user_limits},
    {"list_user_limits", "", "list them, of --user or with --global of all", CTL_USER | CTL_GLOBAL, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_list_limits},
    {"export_definitions", "FILE|-", "write everything that was declared to a file, as RabbitMQ does", 0, 1, 1, NULL, NULL, NULL, NULL, 0, ctl_run_export},
    {"import_definitions", "[FILE|-]", "declare what such a file says", 0, 0, 1, NULL, NULL, NULL, NULL, 0, ctl_run_import},
    {"hash_password", "[PASSWORD]", "print the hash of a password, as definitions hold it", 0, 0, 1, NULL, NULL, NULL, NULL, 0, ctl_run_hash_password},
    {"status", "", "say how the broker is", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_status},
    {"ping", "", "say whether the broker answers", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_ping},
    {"check_running", "", "the same, for scripts that ask so", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_ping},
    {"node_health_check", "", "the same", 0, 0, 0, NULL, NULL, "Health check passed", NULL, 0, ctl_run_ping},
    {"await_startup", "", "wait until the broker answers, as long as --timeout says", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_await},
    {"wait", "[PID_FILE]", "the same; a file is passed over", 0, 0, 1, NULL, NULL, NULL, NULL, 0, ctl_run_await},
    {"check_local_alarms", "", "say whether the broker lacks memory or room on its disk", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_alarms},
    {"check_alarms", "", "the same", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_alarms},
    {"environment", "", "say how the broker is, as status does", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_status},
    {"cluster_status", "", "the same: a broker is a cluster of one", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_status},
    {"version", "", "print this program's version", 0, 0, 0, NULL, NULL, NULL, NULL, 0, ctl_run_version},
};

const struct ctl_verb *ctl_verbs(size_t *count)
{
    *count = sizeof verbs / sizeof verbs[0];
    return verbs;
}
