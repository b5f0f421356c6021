/* Every command that an administrator can give, a row each. */
#include "broker/control.h"

static const struct control_verb verbs[] = {
    {"status", CONTROL_MONITOR, CONTROL_WORKERS, control_status, control_status_join, false},
    {"list_queues", CONTROL_MONITOR, CONTROL_WORKERS, control_list_queues, NULL, false},
    {"list_exchanges", CONTROL_MONITOR, CONTROL_HERE, control_list_exchanges, NULL, false},
    {"list_bindings", CONTROL_MONITOR, CONTROL_HERE, control_list_bindings, NULL, false},
    {"purge_queue", CONTROL_ADMINISTRATOR, CONTROL_QUEUE, NULL, NULL, false},
    {"delete_queue", CONTROL_ADMINISTRATOR, CONTROL_QUEUE, NULL, NULL, false},
    {"add_vhost", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_add_vhost, NULL, false},
    {"delete_vhost", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_delete_vhost, NULL, false},
    {"list_vhosts", CONTROL_MONITOR, CONTROL_HERE, control_list_vhosts, NULL, false},
    {"trace_on", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_trace_on, NULL, false},
    {"trace_off", CONTROL_ADMINISTRATOR, CONTROL_MASTER, control_trace_off, NULL, false},
};

const struct control_verb *control_verb(struct bytes name)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (bytes_equal(name, bytes_of_text(verbs[i].name)))
            return &verbs[i];
    return NULL;
}
