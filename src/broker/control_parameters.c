/* Commands about policies and parameters, a vhost's limits among them. */
#include "broker/control.h"

#include <stdlib.h>

/* ---- policies ------------------------------------------------------------------------------------------------------ */

struct policy_row {
    const struct vhost *vhost;
    const struct policy *policy;
};

#define POLICY_FIELD(field, statement) \
    static void policy_##field(struct writer *writer, const void *pointer) \
    { \
        const struct policy_row *row = pointer; \
        statement; \
    }
POLICY_FIELD(vhost, writer_string(writer, row->vhost->name))
POLICY_FIELD(name, writer_string(writer, row->policy->name))
POLICY_FIELD(pattern, writer_string(writer, row->policy->pattern))
POLICY_FIELD(apply_to, writer_string(writer, bytes_of_text(policy_target_name(row->policy->apply_to))))
POLICY_FIELD(definition, writer_json(writer, row->policy->definition))
POLICY_FIELD(priority, writer_integer(writer, row->policy->priority))

static const struct control_field policy_fields[] = {{"vhost", policy_vhost},       {"name", policy_name},         {"pattern", policy_pattern},
                                                     {"apply-to", policy_apply_to}, {"definition", policy_definition}, {"priority", policy_priority}};
#define POLICY_FIELD_COUNT (sizeof(policy_fields) / sizeof(policy_fields[0]))

void control_write_policy(struct control *control, const struct vhost *vhost, const struct policy *policy, uint64_t columns)
{
    const struct policy_row row = {vhost, policy};
    control_write_row(control, policy_fields, POLICY_FIELD_COUNT, columns, &row);
}

static void list_policies(struct control *control, bool operators)
{
    const struct vhost *vhost = control_vhost(control);
    uint64_t columns = control_columns(control, policy_fields, POLICY_FIELD_COUNT);
    writer_open(&control->answer, '[');
    for (const struct policy *policy = !vhost ? NULL : operators ? vhost->operator_policies.first : vhost->policies.first; policy; policy = policy->next)
        control_write_policy(control, vhost, policy, columns);
    writer_close(&control->answer, ']');
}

void control_list_policies(struct control *control) { list_policies(control, false); }
void control_list_operator_policies(struct control *control) { list_policies(control, true); }

char *control_json_text(struct control *control, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (!text)
        control_fail(control, "internal_error", "out of memory");
    return text;
}

bool control_put_policy(struct control *control, const struct vhost *vhost, const json_t *policy, unsigned flags)
{
    const json_t *name = json_object_get(policy, "name"), *pattern = json_object_get(policy, "pattern"), *target = json_object_get(policy, "apply-to");
    const json_t *definition = json_object_get(policy, "definition"), *priority = json_object_get(policy, "priority");
    struct topology_change change = {.kind = CHANGE_POLICY_PUT, .flags = flags, .vhost = vhost->id};
    unsigned apply_to = POLICY_ALL;
    if (!json_is_string(name) || !json_is_string(pattern) || !json_is_object(definition) || (priority && !json_is_integer(priority))) {
        control_fail(control, "refused", "Validation failed\n\n%s\n", !json_is_string(name)      ? "a policy has no name"
                                                                    : !json_is_string(pattern) ? "pattern should be regular expression"
                                                                    : !json_is_object(definition) ? "definition must be a dictionary"
                                                                                                  : "priority should be a number");
        return false;
    }
    if (json_is_string(target) && !policy_target_parse(bytes_of(json_string_value(target), json_string_length(target)), &apply_to)) {
        control_fail(control, "refused", "Validation failed\n\napply-to '%.100s' unrecognised; should be 'queues', 'exchanges' or 'all'\n", json_string_value(target));
        return false;
    }
    char *text = control_json_text(control, definition);
    if (!text)
        return false;
    change.name = bytes_of(json_string_value(name), json_string_length(name));
    change.source = bytes_of(json_string_value(pattern), json_string_length(pattern));
    change.arguments = bytes_of_text(text);
    change.id = apply_to;
    change.owner = (uint64_t)json_integer_value(priority);
    bool done = control_change(control, &change);
    free(text);
    return done;
}

static void set_policy(struct control *control, unsigned flags)
{
    const struct vhost *vhost = control_vhost(control);
    if (vhost)
        control_put_policy(control, vhost, control->arguments, flags);
}

static void clear_policy(struct control *control, unsigned flags)
{
    const struct vhost *vhost = control_vhost(control);
    struct topology_change change = {.kind = CHANGE_POLICY_DELETE, .flags = flags, .vhost = vhost ? vhost->id : 0};
    if (vhost && control_text(control, "name", &change.name))
        control_change(control, &change);
}

void control_set_policy(struct control *control) { set_policy(control, 0); }
void control_set_operator_policy(struct control *control) { set_policy(control, TOPOLOGY_OPERATOR); }
void control_clear_policy(struct control *control) { clear_policy(control, 0); }
void control_clear_operator_policy(struct control *control) { clear_policy(control, TOPOLOGY_OPERATOR); }

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

/* The fields of a row that every kind of parameter has. */
static void begin_parameter(struct writer *writer, const struct vhost *vhost, struct bytes component, struct bytes name)
{
    writer_open(writer, '{');
    if (vhost)
        writer_put_string(writer, "vhost", vhost->name);
    if (component.size)
        writer_put_string(writer, "component", component);
    writer_put_string(writer, "name", name);
    writer_key(writer, bytes_of_text("value"));
}

static void write_operator_policy(struct writer *writer, const struct vhost *vhost, const struct policy *policy)
{
    begin_parameter(writer, vhost, bytes_of_text("operator_policy"), policy->name);
    writer_open(writer, '{');
    writer_put_text(writer, "apply-to", policy_target_name(policy->apply_to));
    writer_put_json(writer, "definition", policy->definition);
    writer_put_string(writer, "pattern", policy->pattern);
    writer_put_integer(writer, "priority", policy->priority);
    writer_close(writer, '}');
    writer_close(writer, '}');
}

static bool has_limits(const struct vhost *vhost)
{
    return vhost->max_connections != TOPOLOGY_UNLIMITED || vhost->max_queues != TOPOLOGY_UNLIMITED;
}

static void write_vhost_limits(struct writer *writer, const struct vhost *vhost)
{
    writer_open(writer, '{');
    if (vhost->max_connections != TOPOLOGY_UNLIMITED)
        writer_put_integer(writer, "max-connections", (int64_t)vhost->max_connections);
    if (vhost->max_queues != TOPOLOGY_UNLIMITED)
        writer_put_integer(writer, "max-queues", (int64_t)vhost->max_queues);
    writer_close(writer, '}');
}

void control_write_parameters(struct writer *writer, const struct vhost *vhost)
{
    for (const struct policy *policy = vhost->operator_policies.first; policy; policy = policy->next)
        write_operator_policy(writer, vhost, policy);
    if (has_limits(vhost)) {
        begin_parameter(writer, vhost, bytes_of_text("vhost-limits"), bytes_of_text("limits"));
        write_vhost_limits(writer, vhost);
        writer_close(writer, '}');
    }
    for (const struct parameter *parameter = vhost->parameters; parameter; parameter = parameter->next) {
        begin_parameter(writer, vhost, parameter->component, parameter->name);
        writer_json(writer, parameter->value);
        writer_close(writer, '}');
    }
}

void control_write_global_parameters(struct writer *writer, const struct topology *topology)
{
    for (const struct parameter *parameter = topology->parameters; parameter; parameter = parameter->next) {
        begin_parameter(writer, NULL, (struct bytes){0}, parameter->name);
        writer_json(writer, parameter->value);
        writer_close(writer, '}');
    }
}

void control_list_parameters(struct control *control)
{
    const struct vhost *vhost = control_vhost(control);
    writer_open(&control->answer, '[');
    if (vhost)
        control_write_parameters(&control->answer, vhost);
    writer_close(&control->answer, ']');
}

void control_list_global_parameters(struct control *control)
{
    writer_open(&control->answer, '[');
    control_write_global_parameters(&control->answer, control->topology);
    writer_close(&control->answer, ']');
}

bool control_put_parameter(struct control *control, const struct vhost *vhost, struct bytes component, struct bytes name, const json_t *value)
{
    char *text = value ? control_json_text(control, value) : NULL;
    struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .vhost = vhost ? vhost->id : 0, .source = component, .name = name,
                                     .arguments = bytes_of_text(text ? text : "")};
    bool done = text && control_change(control, &change);
    free(text);
    return done;
}

/* Sets one, or takes one away. */
static void change_parameter(struct control *control, const struct vhost *vhost, struct bytes component, struct bytes name, bool sets)
{
    const json_t *value = json_object_get(control->arguments, "value");
    struct topology_change change = {.kind = CHANGE_PARAMETER_DELETE, .vhost = vhost ? vhost->id : 0, .source = component, .name = name};
    if (sets && !value)
        control_fail(control, "bad_argument", "the argument 'value' is missing");
    else if (sets)
        control_put_parameter(control, vhost, component, name, value);
    else
        control_change(control, &change);
}

static void change_vhost_parameter(struct control *control, bool sets)
{
    const struct vhost *vhost = control_vhost(control);
    struct bytes component, name;
    if (!vhost || !control_text(control, "component", &component) || !control_text(control, "name", &name))
        return;
    if (!component.size)
        control_fail(control, "bad_argument", "a parameter has a component");
    else
        change_parameter(control, vhost, component, name, sets);
}

static void change_global_parameter(struct control *control, bool sets)
{
    struct bytes name;
    if (control_text(control, "name", &name))
        change_parameter(control, NULL, (struct bytes){0}, name, sets);
}

void control_set_parameter(struct control *control) { change_vhost_parameter(control, true); }
void control_clear_parameter(struct control *control) { change_vhost_parameter(control, false); }
void control_set_global_parameter(struct control *control) { change_global_parameter(control, true); }
void control_clear_global_parameter(struct control *control) { change_global_parameter(control, false); }

/* ---- limits of a vhost --------------------------------------------------------------------------------------------- */

void control_set_vhost_limits(struct control *control)
{
    const struct vhost *vhost = control_vhost(control);
    json_t *limits = json_object_get(control->arguments, "definition"), *value;
    const char *key;
    if (!vhost)
        return;
    if (!json_is_object(limits))
        control_fail(control, "bad_argument", "limits are a JSON object");
    json_object_foreach(limits, key, value) {
        if (strcmp(key, "max-connections") != 0 && strcmp(key, "max-queues") != 0)
            control_fail(control, "refused", "Validation failed\n\nUnrecognised terms [{<<\"%.100s\">>,…}] in limits\n", key);
        else if (!json_is_integer(value))
            control_fail(control, "refused", "Validation failed\n\n%s should be a number\n", key);
    }
    if (!control->error)
        control_put_parameter(control, vhost, bytes_of_text("vhost-limits"), bytes_of_text("limits"), limits);
}

void control_clear_vhost_limits(struct control *control)
{
    const struct vhost *vhost = control_vhost(control);
    if (!vhost)
        return;
    struct topology_change change = {.kind = CHANGE_PARAMETER_DELETE, .vhost = vhost->id, .source = bytes_of_text("vhost-limits"), .name = bytes_of_text("limits")};
    if (has_limits(vhost))
        control_change(control, &change);
    else
        control_fail(control, "refused", "Parameter does not exist");
}

static void write_limits_row(struct writer *writer, const struct vhost *vhost)
{
    if (!has_limits(vhost))
        return;
    writer_open(writer, '{');
    writer_put_string(writer, "vhost", vhost->name);
    writer_key(writer, bytes_of_text("limits"));
    write_vhost_limits(writer, vhost);
    writer_close(writer, '}');
}

void control_list_vhost_limits(struct control *control)
{
    bool global = control_flag(control, "global");
    const struct vhost *only = global ? NULL : control_vhost(control);
    uint32_t cursor = 0;
    writer_open(&control->answer, '[');
    for (const struct vhost *vhost; global && (vhost = map_next(&control->topology->vhosts.map, &cursor));)
        write_limits_row(&control->answer, vhost);
    if (only)
        write_limits_row(&control->answer, only);
    writer_close(&control->answer, ']');
}
