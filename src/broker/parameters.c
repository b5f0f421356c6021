/* What those above the broker keep in it: parameters of a component of theirs, as this worker knows them. */
#include "broker/worker_internal.h"

uint64_t worker_parameters_version(const struct worker *worker) { return worker->topology.parameters_version; }

void worker_parameters(const struct worker *worker, struct bytes component, void (*each)(void *owner, struct bytes vhost, struct bytes name, struct bytes value), void *owner)
{
    uint32_t cursor = 0;
    for (const struct vhost *vhost; (vhost = map_next(&worker->topology.vhosts.map, &cursor));)
        for (const struct parameter *parameter = vhost->parameters; parameter; parameter = parameter->next)
            if (bytes_equal(parameter->component, component))
                each(owner, vhost->name, parameter->name, parameter->value);
}

bool worker_parameter(const struct worker *worker, struct bytes vhost_name, struct bytes component, struct bytes name, struct bytes *value)
{
    const struct vhost *vhost = topology_vhost(&worker->topology, vhost_name);
    const struct parameter *parameter = vhost ? parameter_find(vhost->parameters, component, name) : NULL;
    if (parameter)
        *value = parameter->value;
    return parameter;
}

bool worker_queue_arguments(const struct worker *worker, struct bytes vhost_name, struct bytes name, struct bytes *arguments)
{
    const struct vhost *vhost = topology_vhost(&worker->topology, vhost_name);
    const struct queue_entry *queue = vhost ? topology_queue(vhost, name) : NULL;
    if (queue)
        *arguments = queue->arguments;
    return queue;
}
