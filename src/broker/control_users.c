/* Commands about users: who they are, and how much they may take. */
#include "broker/control.h"

#include "broker/users.h"


/* ---- lists --------------------------------------------------------------------------------------------------------- */

static void name(struct writer *writer, const void *row) { writer_string(writer, ((const struct user *)row)->name); }
static void tags(struct writer *writer, const void *row) { control_write_words(writer, ((const struct user *)row)->tags); }
static void limits(struct writer *writer, const void *row) { control_write_limits(writer, row); }

static const struct control_field fields[] = {{"user", name}, {"tags", tags}, {"limits", limits}};
#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

void control_write_limits(struct writer *writer, const struct user *user)
{
    writer_open(writer, '{');
    if (user->max_channels != TOPOLOGY_UNLIMITED)
        writer_put_integer(writer, "max-channels", (int64_t)user->max_channels);
    if (user->max_connections != TOPOLOGY_UNLIMITED)
        writer_put_integer(writer, "max-connections", (int64_t)user->max_connections);
    writer_close(writer, '}');
}

void control_list_users(struct control *control)
{
    uint64_t columns = control_columns(control, fields, FIELD_COUNT);
    uint32_t cursor = 0;
    writer_open(&control->answer, '[');
    for (const struct user *user; (user = map_next(&control->topology->users.map, &cursor));)
        control_write_row(control, fields, FIELD_COUNT, columns, user);
    writer_close(&control->answer, ']');
}

/* The user that an argument names; NULL: there is none, and the command has failed. */
static const struct user *user_named(struct control *control, const char *argument)
{
    struct bytes user_name;
    if (!control_text(control, argument, &user_name))
        return NULL;
    const struct user *user = topology_user(control->topology, user_name);
    if (!user)
        control_fail(control, "no_such_user", "User \"%.*s\" does not exist", (int)user_name.size, (const char *)user_name.data);
    return user;
}

/* ---- changes ------------------------------------------------------------------------------------------------------- */

/* Puts a user with a password; `flags` say what else is to be so. */
static void put_user(struct control *control, unsigned flags)
{
    struct topology_change change = {.kind = CHANGE_USER_PUT, .flags = flags | TOPOLOGY_PASSWORD};
    if (control_text(control, "name", &change.name) && control_text(control, "password", &change.secret))
        control_change(control, &change);
}

void control_add_user(struct control *control) { put_user(control, TOPOLOGY_NEW); }
void control_change_password(struct control *control) { put_user(control, TOPOLOGY_KEEP_TAGS); }

void control_clear_password(struct control *control)
{
    struct topology_change change = {.kind = CHANGE_USER_PUT, .flags = TOPOLOGY_KEEP_TAGS};
    if (control_text(control, "name", &change.name))
        control_change(control, &change);
}

void control_delete_user(struct control *control)
{
    struct topology_change change = {.kind = CHANGE_USER_DELETE};
    if (control_text(control, "name", &change.name))
        control_change(control, &change);
}

bool control_join_words(struct control *control, const json_t *words, struct writer *joined)
{
    writer_init(joined);
    for (size_t i = 0; i < json_array_size(words); i++) {
        const json_t *word = json_array_get(words, i);
        if (!json_is_string(word) || memchr(json_string_value(word), ',', json_string_length(word))) {
            control_fail(control, "bad_argument", "a tag is a text without commas");
            return false;
        }
        writer_json(joined, bytes_of(json_string_value(word), json_string_length(word)));
    }
    return true;
}

void control_set_user_tags(struct control *control)
{
    struct writer joined;
    struct topology_change change = {.kind = CHANGE_USER_PUT, .flags = TOPOLOGY_KEEP_SECRET};
    if (control_text(control, "name", &change.name) && control_join_words(control, json_object_get(control->arguments, "tags"), &joined) &&
        writer_text(&joined, &change.arguments))
        control_change(control, &change);
    writer_deinit(&joined);
}

void control_authenticate_user(struct control *control)
{
    struct bytes user_name, password;
    if (!control_text(control, "name", &user_name) || !control_text(control, "password", &password))
        return;
    if (!secret_matches(topology_user(control->topology, user_name), password))
        control_fail(control, "bad_password", "Error: failed to authenticate user \"%.*s\"\nuser '%.*s' - invalid credentials", (int)user_name.size,
                     (const char *)user_name.data, (int)user_name.size, (const char *)user_name.data);
}

/* ---- limits -------------------------------------------------------------------------------------------------------- */

/* Reads what is there of one limit; a negative one is none. False: it is no number. */
static bool read_limit(struct control *control, const json_t *object, const char *key, uint64_t *limit)
{
    const json_t *value = json_object_get(object, key);
    if (!value)
        return true;
    if (!json_is_integer(value)) {
        control_fail(control, "refused", "%s should be a number", key);
        return false;
    }
    *limit = json_integer_value(value) < 0 ? TOPOLOGY_UNLIMITED : (uint64_t)json_integer_value(value);
    return true;
}

bool control_change_user_limits(struct control *control, const struct user *user, json_t *object)
{
    static const char *const known[] = {"max-connections", "max-channels"};
    const char *key;
    json_t *value;
    struct topology_change change = {.kind = CHANGE_USER_LIMITS, .name = user->name, .id = user->max_connections, .owner = user->max_channels};
    json_object_foreach(object, key, value) {
        if (strcmp(key, known[0]) != 0 && strcmp(key, known[1]) != 0) {
            control_fail(control, "refused", "Unrecognised terms [{<<\"%.100s\">>,…}] in user-limits", key);
            return false;
        }
    }
    return read_limit(control, object, known[0], &change.id) && read_limit(control, object, known[1], &change.owner) && control_change(control, &change);
}

void control_set_user_limits(struct control *control)
{
    json_t *object = json_object_get(control->arguments, "definition");
    const struct user *user = user_named(control, "user");
    if (!user)
        return;
    if (!json_is_object(object))
        control_fail(control, "bad_argument", "limits are a JSON object");
    else
        control_change_user_limits(control, user, object);
}

void control_clear_user_limits(struct control *control)
{
    struct bytes limit;
    const struct user *user = user_named(control, "user");
    if (!user || !control_text(control, "limit", &limit))
        return;
    bool all = bytes_equal(limit, bytes_of_text("all"));
    struct topology_change change = {.kind = CHANGE_USER_LIMITS, .name = user->name, .id = user->max_connections, .owner = user->max_channels};
    if (all || bytes_equal(limit, bytes_of_text("max-connections")))
        change.id = TOPOLOGY_UNLIMITED;
    if (all || bytes_equal(limit, bytes_of_text("max-channels")))
        change.owner = TOPOLOGY_UNLIMITED;
    control_change(control, &change);
}

void control_list_user_limits(struct control *control)
{
    bool global = control_flag(control, "global") || !control_optional(control, "user").size;
    const struct user *only = global ? NULL : user_named(control, "user");
    uint32_t cursor = 0;
    uint64_t columns = control_columns(control, fields, FIELD_COUNT);
    writer_open(&control->answer, '[');
    for (const struct user *user; (user = map_next(&control->topology->users.map, &cursor));)
        if ((!only || user == only) && (user->max_connections != TOPOLOGY_UNLIMITED || user->max_channels != TOPOLOGY_UNLIMITED))
            control_write_row(control, fields, FIELD_COUNT, columns, user);
    writer_close(&control->answer, ']');
}
