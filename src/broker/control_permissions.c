/* Commands about permissions: what a user may do in a virtual host. */
#include "broker/control.h"

struct row {
    const struct vhost *vhost;
    const struct access *access;
    const struct topic_access *topic;      /* NULL: a permission */
};

#define FIELD(field, statement) \
    static void field(struct writer *writer, const void *pointer) \
    { \
        const struct row *row = pointer; \
        statement; \
    }
FIELD(user, writer_string(writer, row->access->user))
FIELD(vhost, writer_string(writer, row->vhost->name))
FIELD(configure, writer_string(writer, row->access->texts[ACCESS_CONFIGURE]))
FIELD(write, writer_string(writer, row->topic ? row->topic->write : row->access->texts[ACCESS_WRITE]))
FIELD(read, writer_string(writer, row->topic ? row->topic->read : row->access->texts[ACCESS_READ]))
FIELD(exchange, writer_string(writer, row->topic ? row->topic->exchange : (struct bytes){0}))

static const struct control_field fields[] = {{"user", user}, {"vhost", vhost}, {"configure", configure}, {"write", write}, {"read", read}, {"exchange", exchange}};
#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

static void write_access(struct control *control, const struct vhost *in, const struct access *access, bool topics, uint64_t columns)
{
    struct row row = {in, access, NULL};
    if (!topics && access->granted)
        control_write_row(control, fields, FIELD_COUNT, columns, &row);
    for (row.topic = access->topics; topics && row.topic; row.topic = row.topic->next)
        control_write_row(control, fields, FIELD_COUNT, columns, &row);
}

/* Of one vhost. */
static void list_in_vhost(struct control *control, bool topics)
{
    const struct vhost *in = control_vhost(control);
    uint64_t columns = control_columns(control, fields, FIELD_COUNT);
    uint32_t cursor = 0;
    writer_open(&control->answer, '[');
    for (const struct access *access; in && (access = map_next(&in->accesses.map, &cursor));)
        write_access(control, in, access, topics, columns);
    writer_close(&control->answer, ']');
}

/* Of one user, in every vhost. */
static void list_of_user(struct control *control, bool topics)
{
    struct bytes name;
    uint64_t columns = control_columns(control, fields, FIELD_COUNT);
    uint32_t cursor = 0;
    if (!control_text(control, "user", &name))
        return;
    if (!topology_user(control->topology, name)) {
        control_fail(control, "refused", "{:no_such_user, \"%.*s\"}", (int)name.size, (const char *)name.data);
        return;
    }
    writer_open(&control->answer, '[');
    for (const struct vhost *in; (in = map_next(&control->topology->vhosts.map, &cursor));) {
        const struct access *access = topology_access(in, name);
        if (access)
            write_access(control, in, access, topics, columns);
    }
    writer_close(&control->answer, ']');
}

void control_list_permissions(struct control *control) { list_in_vhost(control, false); }
void control_list_topic_permissions(struct control *control) { list_in_vhost(control, true); }
void control_list_user_permissions(struct control *control) { list_of_user(control, false); }
void control_list_user_topic_permissions(struct control *control) { list_of_user(control, true); }

/* ---- changes ------------------------------------------------------------------------------------------------------- */

/* The user and the vhost of a change. */
static bool begin(struct control *control, struct topology_change *change)
{
    const struct vhost *in = control_vhost(control);
    if (!in || !control_text(control, "user", &change->name))
        return false;
    change->vhost = in->id;
    return true;
}

void control_set_permissions(struct control *control)
{
    struct topology_change change = {.kind = CHANGE_PERMISSION_PUT};
    if (begin(control, &change) && control_text(control, "configure", &change.source) && control_text(control, "write", &change.routing_key) &&
        control_text(control, "read", &change.arguments))
        control_change(control, &change);
}

void control_clear_permissions(struct control *control)
{
    struct topology_change change = {.kind = CHANGE_PERMISSION_DELETE};
    if (begin(control, &change))
        control_change(control, &change);
}

void control_set_topic_permissions(struct control *control)
{
    struct topology_change change = {.kind = CHANGE_TOPIC_PERMISSION_PUT};
    if (begin(control, &change) && control_text(control, "exchange", &change.source) && control_text(control, "write", &change.routing_key) &&
        control_text(control, "read", &change.arguments))
        control_change(control, &change);
}

void control_clear_topic_permissions(struct control *control)
{
    struct topology_change change = {.kind = CHANGE_TOPIC_PERMISSION_DELETE, .source = control_optional(control, "exchange")};
    if (begin(control, &change))
        control_change(control, &change);
}
