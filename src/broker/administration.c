/* What administrators change: virtual hosts, users, permissions, policies, parameters, limits. The master checks it here, fills in what only it knows (ids,
 * salts, what is to stay as it is), and does it like any other change of the topology. topology_change.h says which field means what.
 *
 * The vhost is the one that the request names, else the one of the change, else the asker's. The answer of a change that is not possible has a code (400: it is
 * malformed, 404: what it is about is not there, 409: it is there already, 412: it is not what it
 * was) and a text that says so. */
#include "broker/worker_internal.h"

#include "broker/settings.h"
#include "broker/users.h"
#include "protocol/token/token.h"

#include <jansson.h>
#include <stdio.h>

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data
#define NAME_MAX_SIZE 255u              /* what AMQP can carry */
#define ASKED_FLAGS (TOPOLOGY_NEW | TOPOLOGY_KEEP_SECRET | TOPOLOGY_KEEP_TAGS | TOPOLOGY_PASSWORD | TOPOLOGY_IF_SAME)
#define VHOST_LIMITS "vhost-limits"

/* One change as it is being looked at. */
struct asked {
    struct master *master;
    const struct command_request *request;
    struct topology_change change;
    unsigned flags;                     /* ASKED_FLAGS of the change, which itself has none of them any more */
    const struct topology *topology;
    struct vhost *vhost;                /* NULL: there is none */
};

#define REFUSE(asked, code, ...) request_refuse(master_worker((asked)->master), (asked)->request, code, __VA_ARGS__)

static void apply(const struct asked *asked)
{
    master_apply(asked->master, &asked->change, asked->request);
}

static bool name_is_possible(const struct asked *asked, const char *what)
{
    bool possible = asked->change.name.size > 0 && asked->change.name.size <= NAME_MAX_SIZE;
    if (!possible)
        REFUSE(asked, 400, "the name of a %s has 1 to %u bytes", what, NAME_MAX_SIZE);
    return possible;
}

static bool has_vhost(const struct asked *asked)
{
    if (!asked->vhost)
        REFUSE(asked, 404, "Virtual host does not exist");
    return asked->vhost;
}

static struct user *user_asked_for(const struct asked *asked)
{
    struct user *user = topology_user(asked->topology, asked->change.name);
    if (!user)
        REFUSE(asked, 404, "User \"%.*s\" does not exist", TEXT(asked->change.name));
    return user;
}

/* ---- vhosts -------------------------------------------------------------------------------------------------------- */

static void put_vhost(struct asked *asked)
{
    const struct vhost *vhost = topology_vhost(asked->topology, asked->change.name);
    if (!name_is_possible(asked, "virtual host"))
        return;
    if (vhost && (asked->flags & TOPOLOGY_NEW)) {
        REFUSE(asked, 409, "Virtual host \"%.*s\" already exists", TEXT(asked->change.name));
        return;
    }
    asked->change.vhost = vhost ? vhost->id : asked->topology->next_vhost;
    apply(asked);
}

static void delete_vhost(struct asked *asked)
{
    const struct vhost *vhost = topology_vhost(asked->topology, asked->change.name);
    if (!vhost) {
        REFUSE(asked, 404, "Virtual host \"%.*s\" does not exist", TEXT(asked->change.name));
        return;
    }
    asked->change.vhost = vhost->id;
    apply(asked);
}

static void limit_vhost(struct asked *asked)
{
    if (has_vhost(asked))
        apply(asked);
}

/* ---- users --------------------------------------------------------------------------------------------------------- */

/* The password becomes its hash; an empty one a secret that nothing matches. */
static bool hash_password(struct asked *asked, uint8_t secret[SECRET_SIZE])
{
    uint8_t salt[4];
    store_le32(salt, (uint32_t)(worker_random(master_worker(asked->master)) >> 32));
    asked->change.id = HASH_SHA256;
    if (!asked->change.secret.size)
        return true;
    if (!secret_make(salt, asked->change.secret, secret)) {
        REFUSE(asked, 400, "the password is too long");
        return false;
    }
    asked->change.secret = bytes_of(secret, SECRET_SIZE);
    return true;
}

static void put_user(struct asked *asked)
{
    const struct user *user = topology_user(asked->topology, asked->change.name);
    uint8_t secret[SECRET_SIZE];
    if (!name_is_possible(asked, "user"))
        return;
    if (user && (asked->flags & TOPOLOGY_NEW)) {
        REFUSE(asked, 409, "User \"%.*s\" already exists", TEXT(asked->change.name));
        return;
    }
    if ((asked->flags & (TOPOLOGY_KEEP_SECRET | TOPOLOGY_KEEP_TAGS)) && !user_asked_for(asked))
        return;
    if (asked->flags & TOPOLOGY_KEEP_TAGS)
        asked->change.arguments = user->tags;
    if (asked->flags & TOPOLOGY_KEEP_SECRET) {
        asked->change.secret = user->secret;
        asked->change.id = user->hash;
    } else if ((asked->flags & TOPOLOGY_PASSWORD) && !hash_password(asked, secret)) {
        return;
    }
    if (asked->change.id > HASH_MD5)
        REFUSE(asked, 400, "unknown password hash");
    else
        apply(asked);
}

static void change_user(struct asked *asked)
{
    if (user_asked_for(asked))
        apply(asked);
}

/* ---- permissions --------------------------------------------------------------------------------------------------- */

static bool pattern_is_possible(const struct asked *asked, struct bytes text)
{
    struct pattern *pattern;
    char why[256];
    size_t offset;
    enum gw_err err = pattern_new(text, &pattern, why, sizeof(why), &offset);
    if (!err)
        pattern_free(pattern);
    else if (err == GW_ERR_INVALID)
        REFUSE(asked, 400, "Invalid regular expression \"%.*s\": {\"%s\",%zu}", TEXT(text), why, offset);
    else
        REFUSE(asked, 506, "%s", gw_err_text(err));
    return !err;
}

static void put_permission(struct asked *asked)
{
    const struct topology_change *change = &asked->change;
    bool of_topic = change->kind == CHANGE_TOPIC_PERMISSION_PUT;
    if (!user_asked_for(asked) || !has_vhost(asked) || (!of_topic && !pattern_is_possible(asked, change->source)) ||
        !pattern_is_possible(asked, change->routing_key) || !pattern_is_possible(asked, change->arguments))
        return;
    apply(asked);
}

static void delete_permission(struct asked *asked)
{
    if (user_asked_for(asked) && has_vhost(asked))
        apply(asked);
}

/* ---- policies ------------------------------------------------------------------------------------------------------ */

static void put_policy(struct asked *asked)
{
    const struct topology_change *change = &asked->change;
    struct pattern *pattern;
    char why[512];
    size_t offset;
    if (!has_vhost(asked) || !name_is_possible(asked, "policy"))
        return;
    enum gw_err err = pattern_new(change->source, &pattern, why, sizeof(why), &offset);
    if (!err)
        pattern_free(pattern);
    if (err == GW_ERR_INVALID)
        REFUSE(asked, 400, "Validation failed\n\npattern should be regular expression but is invalid: {\"%s\",%zu}\n", why, offset);
    else if (err)
        REFUSE(asked, 506, "%s", gw_err_text(err));
    else if (!change->id || (change->id & ~(uint64_t)POLICY_ALL))
        REFUSE(asked, 400, "Validation failed\n\napply-to should be one of all, exchanges, queues, classic_queues, quorum_queues, streams\n");
    else if (!settings_policy_valid(change->arguments, asked->change.flags & TOPOLOGY_OPERATOR, why, sizeof(why)))
        REFUSE(asked, 400, "Validation failed\n\n%s\n", why);
    else
        apply(asked);
}

static void delete_policy(struct asked *asked)
{
    if (!has_vhost(asked))
        return;
    const struct policies *policies = asked->change.flags & TOPOLOGY_OPERATOR ? &asked->vhost->operator_policies : &asked->vhost->policies;
    if (policies_find(policies, asked->change.name))
        apply(asked);
    else
        REFUSE(asked, 404, "Parameter does not exist");
}

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

static uint64_t limit_in(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? (uint64_t)json_integer_value(value) : TOPOLOGY_UNLIMITED;
}

/* A vhost's limits are a parameter of it, as RabbitMQ sees it. `object` NULL: none. */
static void set_limits(struct asked *asked, const json_t *object)
{
    asked->change = (struct topology_change){.kind = CHANGE_VHOST_LIMITS, .vhost = asked->vhost->id, .id = limit_in(object, "max-connections"),
                                             .owner = limit_in(object, "max-queues")};
    apply(asked);
}

/* Who changes what is there may say what that was, so that nobody else's change is lost. */
static bool is_as_expected(struct asked *asked)
{
    struct bytes component = asked->change.source, expected = asked->change.secret;
    asked->change.secret = (struct bytes){0};
    if (!(asked->flags & TOPOLOGY_IF_SAME))
        return true;
    const struct parameter *parameter = parameter_find(component.size ? asked->vhost->parameters : asked->topology->parameters, component, asked->change.name);
    if (parameter ? bytes_equal(parameter->value, expected) : !expected.size)
        return true;
    REFUSE(asked, 412, "Parameter \"%.*s\" has been changed meanwhile", TEXT(asked->change.name));
    return false;
}

/* An access token is one of somebody who is there, with patterns that are some. */
static bool is_good_token(const struct asked *asked, struct bytes value)
{
    struct token_grant grant;
    if (!token_grant_read(value, &grant)) {
        REFUSE(asked, 400, "a token has a user, a hash and perhaps expires, description, and permissions, which are three regular expressions");
        return false;
    }
    bool known = topology_user(asked->topology, grant.user);
    if (!known)
        REFUSE(asked, 404, "User \"%.*s\" does not exist", TEXT(grant.user));
    bool good = known && pattern_is_possible(asked, grant.configure) && pattern_is_possible(asked, grant.write) && pattern_is_possible(asked, grant.read);
    token_grant_deinit(&grant);
    return good;
}

static void put_parameter(struct asked *asked)
{
    struct bytes component = asked->change.source, value = asked->change.arguments;
    json_error_t error;
    if (!name_is_possible(asked, "parameter") || (component.size && !has_vhost(asked)) || !is_as_expected(asked))
        return;
    if (bytes_equal(component, bytes_of_text("policy")) || bytes_equal(component, bytes_of_text("operator_policy"))) {
        REFUSE(asked, 400, "policies may not be set using this method");
        return;
    }
    json_t *json = json_loadb((const char *)value.data, value.size, JSON_DECODE_ANY, &error);
    if (!json)
        REFUSE(asked, 400, "JSON decoding error. Reason: %s", error.text);
    else if (bytes_equal(component, bytes_of_text(VHOST_LIMITS)))
        set_limits(asked, json);
    else if (!bytes_equal(component, bytes_of_text(TOKEN_COMPONENT)) || is_good_token(asked, value))
        apply(asked);
    json_decref(json);
}

static void delete_parameter(struct asked *asked)
{
    struct bytes component = asked->change.source;
    if ((component.size && !has_vhost(asked)) || !is_as_expected(asked))
        return;
    if (bytes_equal(component, bytes_of_text(VHOST_LIMITS)))
        set_limits(asked, NULL);
    else if (parameter_find(component.size ? asked->vhost->parameters : asked->topology->parameters, component, asked->change.name))
        apply(asked);
    else
        REFUSE(asked, 404, "Parameter does not exist");
}

/* ---- queues ---------------------------------------------------------------------------------------------------------- */

static void change_queue(struct asked *asked)
{
    const struct queue_entry *queue = has_vhost(asked) ? topology_queue(asked->vhost, asked->change.name) : NULL;
    if (!asked->vhost)
        return;
    if (!queue)
        REFUSE(asked, 404, "NOT_FOUND - no queue '%.*s' in vhost '%.*s'", TEXT(asked->change.name), TEXT(asked->vhost->name));
    else if (settings_queue_type(queue->arguments) != settings_queue_type(asked->change.arguments))
        REFUSE(asked, 406, "PRECONDITION_FAILED - queue '%.*s' in vhost '%.*s' is of another type", TEXT(asked->change.name), TEXT(asked->vhost->name));
    else
        apply(asked);
}

/* ---- sending on ---------------------------------------------------------------------------------------------------- */

void master_change(struct master *master, const struct command_request *request)
{
    struct asked asked = {.master = master, .request = request, .topology = master_topology(master)};
    CHECK(topology_change_read(request_arguments(request), &asked.change));
    struct topology_change *change = &asked.change;
    asked.vhost = change->vhost && !request->vhost_size ? topology_vhost_by_id(asked.topology, change->vhost) : request_vhost(asked.topology, request);
    asked.flags = change->flags & ASKED_FLAGS;
    change->flags &= ~ASKED_FLAGS;
    bool is_global = (change->kind == CHANGE_PARAMETER_PUT || change->kind == CHANGE_PARAMETER_DELETE) && !change->source.size;
    change->vhost = asked.vhost && !is_global ? asked.vhost->id : 0;
    switch (change->kind) {
    case CHANGE_VHOST_PUT: put_vhost(&asked); break;
    case CHANGE_VHOST_DELETE: delete_vhost(&asked); break;
    case CHANGE_VHOST_LIMITS: limit_vhost(&asked); break;
    case CHANGE_USER_PUT: put_user(&asked); break;
    case CHANGE_USER_DELETE:
    case CHANGE_USER_LIMITS: change_user(&asked); break;
    case CHANGE_PERMISSION_PUT:
    case CHANGE_TOPIC_PERMISSION_PUT: put_permission(&asked); break;
    case CHANGE_PERMISSION_DELETE:
    case CHANGE_TOPIC_PERMISSION_DELETE: delete_permission(&asked); break;
    case CHANGE_POLICY_PUT: put_policy(&asked); break;
    case CHANGE_POLICY_DELETE: delete_policy(&asked); break;
    case CHANGE_PARAMETER_PUT: put_parameter(&asked); break;
    case CHANGE_PARAMETER_DELETE: delete_parameter(&asked); break;
    case CHANGE_QUEUE_ARGUMENTS: change_queue(&asked); break;
    default: REFUSE(&asked, 400, "no change for an administrator"); break;
    }
}
