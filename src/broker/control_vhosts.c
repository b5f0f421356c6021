/* Commands about virtual hosts. */
#include "broker/control.h"

/* ---- lists --------------------------------------------------------------------------------------------------------- */

static void name(struct writer *writer, const void *row) { writer_string(writer, ((const struct vhost *)row)->name); }
static void description(struct writer *writer, const void *row) { writer_string(writer, ((const struct vhost *)row)->description); }
static void tags(struct writer *writer, const void *row) { control_write_words(writer, ((const struct vhost *)row)->tags); }
static void tracing(struct writer *writer, const void *row) { writer_boolean(writer, ((const struct vhost *)row)->flags & TOPOLOGY_TRACING); }

static void default_queue_type(struct writer *writer, const void *row)
{
    const struct vhost *vhost = row;
    writer_string(writer, vhost->default_queue_type.size ? vhost->default_queue_type : bytes_of_text("undefined"));
}

static void cluster_state(struct writer *writer, const void *row)
{
    (void)row;
    writer_string(writer, bytes_of_text("running"));
}

static const struct control_field fields[] = {{"name", name},       {"description", description}, {"tags", tags}, {"default_queue_type", default_queue_type},
                                              {"tracing", tracing}, {"cluster_state", cluster_state}};
#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

void control_list_vhosts(struct control *control)
{
    uint64_t columns = control_columns(control, fields, FIELD_COUNT);
    uint32_t cursor = 0;
    writer_open(&control->answer, '[');
    for (const struct vhost *vhost; (vhost = map_next(&control->topology->vhosts.map, &cursor));)
        control_write_row(control, fields, FIELD_COUNT, columns, vhost);
    writer_close(&control->answer, ']');
}

/* ---- changes ------------------------------------------------------------------------------------------------------- */

void control_add_vhost(struct control *control)
{
    struct bytes vhost_name;
    if (!control_text(control, "name", &vhost_name) || topology_vhost(control->topology, vhost_name))
        return;   /* one that is there stays as it is */
    struct topology_change change = {.kind = CHANGE_VHOST_PUT, .name = vhost_name, .source = control_optional(control, "description"),
                                     .routing_key = control_optional(control, "default_queue_type"), .arguments = control_optional(control, "tags")};
    control_change(control, &change);
}

void control_delete_vhost(struct control *control)
{
    struct bytes vhost_name;
    if (!control_text(control, "name", &vhost_name))
        return;
    if (!topology_vhost(control->topology, vhost_name)) {
        control_fail(control, "no_such_vhost", "Virtual host '%.*s' does not exist", (int)vhost_name.size, (const char *)vhost_name.data);
        return;
    }
    struct topology_change change = {.kind = CHANGE_VHOST_DELETE, .name = vhost_name};
    control_change(control, &change);
}

static void set_tracing(struct control *control, unsigned flags)
{
    const struct vhost *vhost = control_vhost(control);
    if (!vhost)
        return;
    struct topology_change change = {.kind = CHANGE_VHOST_PUT, .name = vhost->name, .source = vhost->description, .routing_key = vhost->default_queue_type,
                                     .arguments = vhost->tags, .flags = flags};
    control_change(control, &change);
}

void control_trace_on(struct control *control) { set_tracing(control, TOPOLOGY_TRACING); }
void control_trace_off(struct control *control) { set_tracing(control, 0); }
