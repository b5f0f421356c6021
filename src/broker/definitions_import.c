/* import_definitions, and the definitions that a broker loads at its start: each thing is put, in RabbitMQ's order (what others need first). Queues and exchanges that are there stay
 * as they are, and so do those whose names begin with amq.; users, vhosts, permissions, policies and parameters become what the definitions say. The first thing
 * that cannot be ends it; what was put before stays. A binding whose ends are missing is passed over, since RabbitMQ exports those of exclusive queues too. */
#include "broker/control.h"

#include "broker/table_json.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define SECRET_TEXT_MAX 400u
#define NAME_SIZE_MAX 255u        /* what AMQP can carry */

/* One thing of the definitions. */
struct thing {
    struct control *control;
    const json_t *object;
    const struct vhost *vhost;       /* NULL: it is in none */
};

static struct bytes text_in(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? bytes_of(json_string_value(value), json_string_length(value)) : (struct bytes){0};
}

/* A text that must be there. */
static bool take(const struct thing *thing, const char *key, struct bytes *text)
{
    *text = text_in(thing->object, key);
    if (!json_is_string(json_object_get(thing->object, key)))
        control_fail(thing->control, "bad_definitions", "'%s' is missing or no text", key);
    return !thing->control->error;
}

/* A boolean that may be left out. */
static bool flag_in(const json_t *object, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

/* Tags are an array, or words separated by commas. */
static bool take_tags(const struct thing *thing, const json_t *value, struct writer *joined, struct bytes *tags)
{
    writer_init(joined);
    *tags = (struct bytes){0};
    if (json_is_array(value))
        return control_join_words(thing->control, value, joined) && writer_text(joined, tags);
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    while (*text) {
        size_t size = strcspn(text, ", ");
        writer_json(joined, bytes_of(text, size));
        text += size + (text[size] != 0);
    }
    return writer_text(joined, tags);
}

/* RabbitMQ exports some objects as lists of pairs: [["max-length", 3]]. A new reference. */
static json_t *object_of(const json_t *value)
{
    if (!json_is_array(value))
        return json_incref((json_t *)(uintptr_t)value);
    json_t *object = json_object();
    for (size_t i = 0; object && i < json_array_size(value); i++) {
        const json_t *pair = json_array_get(value, i);
        const char *key = json_string_value(json_array_get(pair, 0));
        if (json_array_size(pair) == 2 && key)
            json_object_set(object, key, json_array_get(pair, 1));
    }
    return object;
}

/* ---- users and vhosts ---------------------------------------------------------------------------------------------- */

static bool take_hash(const struct thing *thing, uint64_t *hash)
{
    static const struct { const char *name; enum password_hash hash; } known[] = {
        {"rabbit_password_hashing_sha256", HASH_SHA256}, {"rabbit_password_hashing_sha512", HASH_SHA512}, {"rabbit_password_hashing_md5", HASH_MD5}};
    struct bytes name = text_in(thing->object, "hashing_algorithm");
    *hash = HASH_SHA256;
    if (!name.size)
        return true;   /* null, or of a broker that knew no other */
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (bytes_equal(name, bytes_of_text(known[i].name))) {
            *hash = known[i].hash;
            return true;
        }
    control_fail(thing->control, "bad_definitions", "unknown hashing algorithm '%.*s'", name.size > 100 ? 100 : (int)name.size, (const char *)name.data);
    return false;
}

/* The bytes of a password hash, from base64. */
static bool take_secret(const struct thing *thing, struct bytes text, uint8_t room[SECRET_TEXT_MAX], struct bytes *secret)
{
    int size = text.size && text.size < SECRET_TEXT_MAX && text.size % 4 == 0 ? EVP_DecodeBlock(room, text.data, (int)text.size) : text.size ? -1 : 0;
    for (size_t i = text.size; size > 0 && i > text.size - 2 && text.data[i - 1] == '='; i--)
        size--;
    if (size < 0)
        control_fail(thing->control, "bad_definitions", "'password_hash' is not base64");
    *secret = bytes_of(room, size > 0 ? (size_t)size : 0);
    return size >= 0;
}

static void put_limits(const struct thing *thing, struct bytes name)
{
    json_t *limits = object_of(json_object_get(thing->object, "limits"));
    const struct user *user = topology_user(thing->control->topology, name);
    if (user && json_object_size(limits))
        control_change_user_limits(thing->control, user, limits);
    json_decref(limits);
}

static void put_user(const struct thing *thing)
{
    uint8_t room[SECRET_TEXT_MAX];
    struct writer joined;
    struct topology_change change = {.kind = CHANGE_USER_PUT};
    const json_t *password = json_object_get(thing->object, "password"), *hashed = json_object_get(thing->object, "password_hash");
    bool good = take(thing, "name", &change.name);
    if (json_is_string(hashed)) {
        good = good && take_hash(thing, &change.id) && take_secret(thing, text_in(thing->object, "password_hash"), room, &change.secret);
    } else if (json_is_string(password)) {
        change.secret = text_in(thing->object, "password");
        change.flags = TOPOLOGY_PASSWORD;
    }
    if (take_tags(thing, json_object_get(thing->object, "tags"), &joined, &change.arguments) && good && control_change(thing->control, &change))
        put_limits(thing, change.name);
    writer_deinit(&joined);
}

static void put_vhost(const struct thing *thing)
{
    struct writer joined;
    const json_t *metadata = json_object_get(thing->object, "metadata"), *tags = json_object_get(thing->object, "tags");
    struct topology_change change = {.kind = CHANGE_VHOST_PUT};
    bool good = take(thing, "name", &change.name);
    change.source = text_in(thing->object, "description");
    if (!change.source.size)
        change.source = text_in(metadata, "description");
    change.routing_key = text_in(thing->object, "default_queue_type");
    if (!change.routing_key.size)
        change.routing_key = text_in(metadata, "default_queue_type");
    const struct vhost *vhost = topology_vhost(thing->control->topology, change.name);
    bool traced = flag_in(thing->object, "tracing", vhost && (vhost->flags & TOPOLOGY_TRACING));
    change.flags = traced ? TOPOLOGY_TRACING : 0;
    if (take_tags(thing, tags ? tags : json_object_get(metadata, "tags"), &joined, &change.arguments) && good)
        control_change(thing->control, &change);
    writer_deinit(&joined);
}

static void put_permission(const struct thing *thing)
{
    struct topology_change change = {.kind = CHANGE_PERMISSION_PUT, .vhost = thing->vhost->id};
    if (take(thing, "user", &change.name) && take(thing, "configure", &change.source) && take(thing, "write", &change.routing_key) &&
        take(thing, "read", &change.arguments))
        control_change(thing->control, &change);
}

static void put_topic_permission(const struct thing *thing)
{
    struct topology_change change = {.kind = CHANGE_TOPIC_PERMISSION_PUT, .vhost = thing->vhost->id};
    if (take(thing, "user", &change.name) && take(thing, "exchange", &change.source) && take(thing, "write", &change.routing_key) &&
        take(thing, "read", &change.arguments))
        control_change(thing->control, &change);
}

/* ---- policies and parameters --------------------------------------------------------------------------------------- */

static void put_policy_of(const struct thing *thing, const json_t *object, struct bytes name, unsigned flags)
{
    json_t *policy = json_object(), *definition = object_of(json_object_get(object, "definition"));
    json_object_update(policy, (json_t *)(uintptr_t)object);
    json_object_set_new(policy, "definition", definition ? definition : json_null());
    if (name.size)
        json_object_set_new(policy, "name", json_stringn((const char *)name.data, name.size));
    control_put_policy(thing->control, thing->vhost, policy, flags);
    json_decref(policy);
}

static void put_policy(const struct thing *thing) { put_policy_of(thing, thing->object, (struct bytes){0}, 0); }

static void put_parameter(const struct thing *thing)
{
    struct bytes component, name;
    if (!take(thing, "component", &component) || !take(thing, "name", &name))
        return;
    const json_t *value = json_object_get(thing->object, "value");
    if (!component.size || !value) {
        control_fail(thing->control, "bad_definitions", "a parameter has a component and a value");
    } else if (bytes_equal(component, bytes_of_text("operator_policy"))) {
        json_t *object = object_of(value);
        put_policy_of(thing, object, name, TOPOLOGY_OPERATOR);
        json_decref(object);
    } else if (bytes_equal(component, bytes_of_text("vhost-limits"))) {
        json_t *object = object_of(value);
        control_put_parameter(thing->control, thing->vhost, component, name, object);
        json_decref(object);
    } else {
        control_put_parameter(thing->control, thing->vhost, component, name, value);
    }
}

static void put_global_parameter(const struct thing *thing)
{
    struct bytes name;
    const json_t *value = json_object_get(thing->object, "value");
    if (!take(thing, "name", &name))
        return;
    if (value)
        control_put_parameter(thing->control, NULL, (struct bytes){0}, name, value);
    else
        control_fail(thing->control, "bad_definitions", "a parameter has a value");
}

/* ---- exchanges, queues, bindings ----------------------------------------------------------------------------------- */

static bool is_reserved(struct bytes name) { return !name.size || (name.size >= 4 && memcmp(name.data, "amq.", 4) == 0); }

/* Has the master do it, with the thing's arguments as a table. */
static bool request_thing(const struct thing *thing, struct request *request)
{
    char why[200];
    const json_t *arguments = json_object_get(thing->object, "arguments");
    struct bytes table = {0};
    if (request->name.size > NAME_SIZE_MAX || request->source.size > NAME_SIZE_MAX || request->routing_key.size > NAME_SIZE_MAX) {
        control_fail(thing->control, "bad_definitions", "a name or routing key is longer than %u bytes", NAME_SIZE_MAX);
        return false;
    }
    if (arguments && !json_is_null(arguments) && !table_from_json(arguments, &table, why, sizeof(why))) {
        control_fail(thing->control, "bad_definitions", "'arguments' cannot be a table: %s", why);
        return false;
    }
    request->arguments = table;
    bool done = control_request_of_master(thing->control, request, thing->vhost->id);
    free((void *)(uintptr_t)table.data);
    return done;
}

static unsigned lasting_flags(const json_t *object)
{
    return (flag_in(object, "durable", true) ? REQUEST_DURABLE : 0u) | (flag_in(object, "auto_delete", false) ? REQUEST_AUTO_DELETE : 0u);
}

static void put_exchange(const struct thing *thing)
{
    struct request request = {.kind = REQUEST_EXCHANGE_DECLARE, .flags = lasting_flags(thing->object) | (flag_in(thing->object, "internal", false) ? REQUEST_INTERNAL : 0u)};
    if (take(thing, "name", &request.name) && take(thing, "type", &request.type) && !is_reserved(request.name) && !topology_exchange(thing->vhost, request.name))
        request_thing(thing, &request);
}

static void put_queue(const struct thing *thing)
{
    struct request request = {.kind = REQUEST_QUEUE_DECLARE, .flags = lasting_flags(thing->object)};
    if (take(thing, "name", &request.name) && !is_reserved(request.name) && !topology_queue(thing->vhost, request.name))
        request_thing(thing, &request);
}

static void put_binding(const struct thing *thing)
{
    struct bytes type;
    struct request request = {.kind = REQUEST_QUEUE_BIND};
    if (!take(thing, "source", &request.source) || !take(thing, "destination", &request.name) || !take(thing, "destination_type", &type) ||
        !take(thing, "routing_key", &request.routing_key))
        return;
    bool to_queue = bytes_equal(type, bytes_of_text("queue"));
    if (!to_queue)
        request.kind = REQUEST_EXCHANGE_BIND;
    bool possible = topology_exchange(thing->vhost, request.source) &&
                    (to_queue ? topology_queue(thing->vhost, request.name) != NULL : topology_exchange(thing->vhost, request.name) != NULL);
    if (possible && request.source.size)
        request_thing(thing, &request);
}

/* ---- all of it ----------------------------------------------------------------------------------------------------- */

static const struct kind {
    const char *key, *what, *called;       /* `called`: the field that says which one, for complaints */
    bool in_vhost;
    void (*put)(const struct thing *thing);
} kinds[] = {
    {"users", "user", "name", false, put_user},
    {"vhosts", "vhost", "name", false, put_vhost},
    {"permissions", "permission of user", "user", true, put_permission},
    {"topic_permissions", "topic permission of user", "user", true, put_topic_permission},
    {"exchanges", "exchange", "name", true, put_exchange},
    {"global_parameters", "global parameter", "name", false, put_global_parameter},
    {"policies", "policy", "name", true, put_policy},
    {"parameters", "parameter", "name", true, put_parameter},
    {"queues", "queue", "name", true, put_queue},
    {"bindings", "binding from", "source", true, put_binding},
};

static void put_thing(struct control *control, const struct kind *kind, const json_t *object)
{
    struct thing thing = {.control = control, .object = object};
    struct bytes name = text_in(object, "vhost");
    if (!json_is_object(object)) {
        control_fail(control, "bad_definitions", "it is no object");
        return;
    }
    if (kind->in_vhost && !(thing.vhost = topology_vhost(control->topology, name)))
        control_fail(control, "no_such_vhost", name.size ? "Please create virtual host \"%.*s\" prior to importing definitions."
                                                         : "Virtual host does not exist and is not specified in definitions file.%.*s",
                     (int)name.size, name.size ? (const char *)name.data : "");
    else
        kind->put(&thing);
}

/* Says which thing it was that failed. */
static void blame(struct control *control, const struct kind *kind, const json_t *object)
{
    struct bytes name = text_in(object, kind->called), vhost = text_in(object, "vhost");
    size_t size = strlen(control->text);
    while (size && control->text[size - 1] == '\n')
        control->text[--size] = 0;
    snprintf(control->text + size, sizeof(control->text) - size, kind->in_vhost ? " (%s '%.*s' in vhost '%.*s')" : " (%s '%.*s')", kind->what, (int)name.size,
             name.size ? (const char *)name.data : "", (int)vhost.size, vhost.size ? (const char *)vhost.data : "");
}

bool definitions_put(struct control *control, const json_t *definitions)
{
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        const json_t *list = json_object_get(definitions, kinds[k].key);
        if (list && !json_is_array(list) && !json_is_null(list)) {
            control_fail(control, "bad_definitions", "'%s' is no list", kinds[k].key);
            return false;
        }
        for (size_t i = 0; i < json_array_size(list); i++) {
            put_thing(control, &kinds[k], json_array_get(list, i));
            if (control->error) {
                blame(control, &kinds[k], json_array_get(list, i));
                return false;
            }
        }
    }
    return true;
}

void control_import_definitions(struct control *control)
{
    const json_t *definitions = json_object_get(control->arguments, "definitions");
    if (!json_is_object(definitions)) {
        control_fail(control, "bad_argument", "definitions are a JSON object");
        return;
    }
    if (!definitions_put(control, definitions))
        return;
    writer_open(&control->answer, '{');
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
        writer_put_integer(&control->answer, kinds[k].key, (int64_t)json_array_size(json_object_get(definitions, kinds[k].key)));
    writer_close(&control->answer, '}');
}
