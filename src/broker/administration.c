/* What administrators change: virtual hosts. The master checks it here, fills in what only it knows (ids), and does it like any other
 * change of the topology. The answer of one that is not possible has a code (404, 400) and a text.
 *
 *   VHOST_PUT      name, source (description), routing_key (default queue type), arguments (tags), flags (TOPOLOGY_TRACING); of one that is there: changes these
 *   VHOST_DELETE   name: with everything in it; its connections are closed
 */
#include "broker/worker_internal.h"

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data

/* Names that AMQP can carry. */
static bool name_is_possible(struct bytes name)
{
    return name.size > 0 && name.size <= 255;
}

static void put_vhost(struct master *master, struct topology_change *change, const struct command_request *request)
{
    const struct topology *topology = master_topology(master);
    const struct vhost *vhost = topology_vhost(topology, change->name);
    if (!name_is_possible(change->name)) {
        request_refuse(master_worker(master), request, 400, "a vhost's name has 1 to 255 bytes");
        return;
    }
    change->vhost = vhost ? vhost->id : topology->next_vhost;
    master_apply(master, change, request);
}

static void delete_vhost(struct master *master, struct topology_change *change, const struct command_request *request)
{
    const struct vhost *vhost = topology_vhost(master_topology(master), change->name);
    if (!vhost) {
        request_refuse(master_worker(master), request, 404, "no vhost '%.*s'", TEXT(change->name));
        return;
    }
    change->vhost = vhost->id;
    master_apply(master, change, request);
}

void master_change(struct master *master, const struct command_request *request)
{
    struct topology_change change;
    CHECK(topology_change_read(request_arguments(request), &change));
    switch (change.kind) {
    case CHANGE_VHOST_PUT: put_vhost(master, &change, request); break;
    case CHANGE_VHOST_DELETE: delete_vhost(master, &change, request); break;
    default: request_refuse(master_worker(master), request, 400, "no change for an administrator"); break;
    }
}
