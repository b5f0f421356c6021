/* Every command that an administrator can give, a row each. */
#include "broker/control.h"

static const struct control_verb verbs[] = {
    {"status", CONTROL_MONITOR, CONTROL_WORKERS, control_status, control_status_join, false},
    {"list_queues", CONTROL_MANAGER, CONTROL_WORKERS, control_list_queues, NULL, false},
    {"queue_outlook", CONTROL_MANAGER, CONTROL_WORKERS, control_queue_outlook, control_queue_outlook_join, false},
    {"list_exchanges", CONTROL_MANAGER, CONTROL_HERE, control_list_exchanges, NULL, false},
    {"list_bindings", CONTROL_MANAGER, CONTROL_HERE, control_list_bindings, NULL, false},
    {"list_connections", CONTROL_MONITOR, CONTROL_MASTER, control_list_connections, NULL, false},
    {"list_channels", CONTROL_MONITOR, CONTROL_WORKERS, control_list_channels, NULL, false},
    {"list_consumers", CONTROL_MANAGER, CONTROL_WORKERS, control_list_consumers, NULL, false},
    {"list_transactions", CONTROL_MANAGER, CONTROL_WORKERS, control_list_transactions, NULL, false},
    {"close_connection", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_close_connection, NULL, false},
    {"close_all_connections", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_close_all_connections, NULL, false},
    {"close_all_user_connections", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_close_all_user_connections, NULL, false},
    {"purge_queue", CONTROL_ADMINISTRATOR, CONTROL_QUEUE, NULL, NULL, false},
    {"delete_queue", CONTROL_ADMINISTRATOR, CONTROL_QUEUE, NULL, NULL, false},
    {"add_vhost", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_add_vhost, NULL, false},
    {"delete_vhost", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_delete_vhost, NULL, false},
    {"list_vhosts", CONTROL_MONITOR, CONTROL_HERE, control_list_vhosts, NULL, false},
    {"trace_on", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_trace_on, NULL, false},
    {"trace_off", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_trace_off, NULL, false},
    {"export_definitions", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_export_definitions, NULL, false},
    {"import_definitions", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_import_definitions, NULL, true},
    {"add_user", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_add_user, NULL, false},
    {"delete_user", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_delete_user, NULL, false},
    {"change_password", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_change_password, NULL, false},
    {"clear_password", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_password, NULL, false},
    {"set_user_tags", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_user_tags, NULL, false},
    {"authenticate_user", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_authenticate_user, NULL, false},
    {"list_users", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_list_users, NULL, false},
    {"set_user_limits", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_user_limits, NULL, false},
    {"clear_user_limits", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_user_limits, NULL, false},
    {"list_user_limits", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_list_user_limits, NULL, false},
    {"set_permissions", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_permissions, NULL, false},
    {"clear_permissions", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_permissions, NULL, false},
    {"list_permissions", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_list_permissions, NULL, false},
    {"list_user_permissions", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_list_user_permissions, NULL, false},
    {"set_topic_permissions", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_topic_permissions, NULL, false},
    {"clear_topic_permissions", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_topic_permissions, NULL, false},
    {"list_topic_permissions", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_list_topic_permissions, NULL, false},
    {"list_user_topic_permissions", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_list_user_topic_permissions, NULL, false},
    {"set_policy", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_policy, NULL, false},
    {"clear_policy", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_policy, NULL, false},
    {"list_policies", CONTROL_MANAGER, CONTROL_HERE, control_list_policies, NULL, false},
    {"set_operator_policy", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_operator_policy, NULL, false},
    {"clear_operator_policy", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_operator_policy, NULL, false},
    {"list_operator_policies", CONTROL_MANAGER, CONTROL_HERE, control_list_operator_policies, NULL, false},
    {"set_parameter", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_parameter, NULL, false},
    {"clear_parameter", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_parameter, NULL, false},
    {"list_parameters", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_list_parameters, NULL, false},
    {"set_global_parameter", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_global_parameter, NULL, false},
    {"clear_global_parameter", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_global_parameter, NULL, false},
    {"list_global_parameters", CONTROL_ADMINISTRATOR, CONTROL_HERE, control_list_global_parameters, NULL, false},
    {"set_vhost_limits", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_set_vhost_limits, NULL, false},
    {"clear_vhost_limits", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_clear_vhost_limits, NULL, false},
    {"list_vhost_limits", CONTROL_MONITOR, CONTROL_HERE, control_list_vhost_limits, NULL, false},
};

const struct control_verb *control_verb(struct bytes name)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (bytes_equal(name, bytes_of_text(verbs[i].name)))
            return &verbs[i];
    return NULL;
}
