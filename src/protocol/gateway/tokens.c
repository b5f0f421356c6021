#include "protocol/gateway/tokens.h"

#include "broker/topology_change.h"
#include "broker/worker.h"
#include "protocol/gateway/work.h"
#include "protocol/http/request.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#define BODY_MAX 16384u
#define YEARS_MAX_S (100ll * 366 * 86400)

static struct bytes component(void) { return bytes_of_text(TOKEN_COMPONENT); }
static uint64_t wall_ms(const struct gateway *gateway) { return worker_wall_at(gateway->hall->worker, gateway->now_us) / 1000; }

/* ---- who has one ------------------------------------------------------------------------------------------------------ */

bool bearer_read(struct bytes authorization, struct bytes *text)
{
    if (authorization.size < 6 || !http_name_is(bytes_of(authorization.data, 6), "bearer") || (authorization.size > 6 && authorization.data[6] != ' '))
        return false;
    *text = bytes_of(authorization.data + 6, authorization.size - 6);
    while (text->size && text->data[0] == ' ')
        *text = bytes_of(text->data + 1, text->size - 1);
    return true;
}

bool bearer_judge(const struct gateway *gateway, struct bytes vhost, struct bytes text, struct token_grant *grant, const char **why)
{
    struct bytes id, value;
    *why = "The token is not known here: there is none like it in this virtual host.";
    if (!token_read(text, &id) || !worker_parameter(gateway->hall->worker, vhost, component(), id, &value) || !token_grant_read(value, grant))
        return false;
    bool good = token_matches(grant, text);
    if (good && grant->expires_ms && wall_ms(gateway) >= grant->expires_ms) {
        *why = "The token has expired.";
        good = false;
    }
    if (!good)
        token_grant_deinit(grant);
    return good;
}

bool bearer_is_good(struct member *member)
{
    const struct gateway_hall *hall = member->gateway->hall;
    struct token_grant grant;
    struct bytes text;
    const char *why;
    if (!member->token)
        return true;
    if (member->token->expires_ms && wall_ms(member->gateway) >= member->token->expires_ms)
        return false;
    if (member->token->version == worker_parameters_version(hall->worker))
        return true;
    if (!bearer_read(member_authorization(member), &text) || !bearer_judge(member->gateway, member_vhost(member), text, &grant, &why))
        return false;
    member->token->version = worker_parameters_version(hall->worker);
    token_grant_deinit(&grant);
    return true;
}

/* ---- making one --------------------------------------------------------------------------------------------------------- */

static bool is_administrator(const struct task *task) { return client_is_tagged(&task->member->client, "administrator"); }

/* What the body says of the new one; texts lie in it. False: the task was answered. */
static bool read_wish(struct task *task, const json_t *body, struct token_grant *wish)
{
    static const char *const members[] = {"user", "expires_in", "permissions", "description"};
    const json_t *user = json_object_get(body, "user"), *expires = json_object_get(body, "expires_in"), *permissions = json_object_get(body, "permissions");
    const json_t *description = json_object_get(body, "description");
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, name, value) {
        bool known = false;
        for (unsigned i = 0; i < 4; i++)
            known |= strcmp(name, members[i]) == 0;
        if (!known) {
            task_problem(task, 400, "A token has no '%.100s'; it may have user, expires_in, permissions and description.", name);
            return false;
        }
    }
    if ((user && !json_is_string(user)) || (description && (!json_is_string(description) || json_string_length(description) > TOKEN_DESCRIPTION_MAX)) ||
        (permissions && !json_is_object(permissions)) ||
        (expires && (!json_is_integer(expires) || json_integer_value(expires) < 1 || json_integer_value(expires) > YEARS_MAX_S))) {
        task_problem(task, 400, "user and description must be texts (the latter of at most %u bytes), expires_in a number of seconds, permissions an object.",
                     TOKEN_DESCRIPTION_MAX);
        return false;
    }
    *wish = (struct token_grant){.user = user ? bytes_of(json_string_value(user), json_string_length(user)) : task->member->client.user, .restricted = permissions};
    if (description)
        wish->description = bytes_of(json_string_value(description), json_string_length(description));
    if (expires)
        wish->expires_ms = wall_ms(task->gateway) + 1000 * (uint64_t)json_integer_value(expires);
    struct bytes *const patterns[] = {&wish->configure, &wish->write, &wish->read};
    static const char *const kinds[] = {"configure", "write", "read"};
    size_t found = 0;
    for (unsigned i = 0; i < 3; i++) {
        const json_t *pattern = json_object_get(permissions, kinds[i]);
        found += pattern != NULL;
        if (json_is_string(pattern))
            *patterns[i] = bytes_of(json_string_value(pattern), json_string_length(pattern));
        else if (pattern)
            found = SIZE_MAX / 2;
    }
    if (permissions && found != json_object_size(permissions)) {
        task_problem(task, 400, "permissions has the regular expressions configure, write and read; what is not there matches nothing.");
        return false;
    }
    return true;
}

static json_t *shown(struct bytes id, const struct token_grant *grant)
{
    char time[TOKEN_TIME_SIZE];
    json_t *made = json_pack("{s:s%, s:s%}", "id", (const char *)id.data, id.size, "user", (const char *)grant->user.data, grant->user.size);
    if (grant->expires_ms)
        json_object_set_new(made, "expires", json_string(token_time(grant->expires_ms, time)));
    if (grant->description.size)
        json_object_set_new(made, "description", json_stringn((const char *)grant->description.data, grant->description.size));
    if (grant->restricted)
        json_object_set_new(made, "permissions", json_pack("{s:s%, s:s%, s:s%}", "configure", grant->configure.size ? (const char *)grant->configure.data : "", grant->configure.size,
                                                           "write", grant->write.size ? (const char *)grant->write.data : "", grant->write.size, "read",
                                                           grant->read.size ? (const char *)grant->read.data : "", grant->read.size));
    return made;
}

static void kept(struct task *task, const struct reply *reply)
{
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        task_answer(task, 201, task->note);
}

/* Asks for the change of the token's parameter. */
static void change(struct task *task, enum change_kind kind, struct bytes id, struct bytes value, void (*replied)(struct task *task, const struct reply *reply))
{
    const struct topology_change wanted = {.kind = kind, .flags = kind == CHANGE_PARAMETER_PUT ? TOPOLOGY_IF_SAME : 0, .name = id, .source = component(), .arguments = value};
    member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &wanted}, replied);
}

static void make(struct task *task, struct token_grant *wish)
{
    uint8_t random[TOKEN_RANDOM_SIZE];
    char text[TOKEN_SIZE + 1], hash[TOKEN_HASH_SIZE + 1];
    struct bytes id = {0};
    bool good = RAND_bytes(random, sizeof(random)) == 1;
    if (good)
        token_make(random, text);
    good = good && token_read(bytes_of_text(text), &id) && token_hash(bytes_of_text(text), hash);
    wish->hash = good ? bytes_of_text(hash) : (struct bytes){0};
    char *value = good ? token_grant_write(wish) : NULL;
    json_t *answer = value ? shown(id, wish) : NULL;
    if (answer)
        json_object_set_new(answer, "token", json_string(text));
    task->note = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    if (task->note)
        change(task, CHANGE_PARAMETER_PUT, id, bytes_of_text(value), kept);
    else
        task_problem(task, 503, "There is too little memory, or randomness.");
    json_decref(answer);
    free(value);
}

void tokens_make(struct task *task)
{
    struct token_grant wish;
    json_error_t error;
    if (task->member->token) {
        task_problem(task, 403, "A token makes no tokens: say user and password.");
        return;
    }
    if (task->size > BODY_MAX) {
        task_problem(task, 413, "What is said of a token is not longer than %u bytes.", BODY_MAX);
        return;
    }
    json_t *body = task->size ? json_loadb((const char *)task->body, task->size, JSON_REJECT_DUPLICATES, &error) : json_object();
    if (!json_is_object(body))
        task_problem(task, 400, "The body must be a JSON object.");
    else if (!read_wish(task, body, &wish))
        ;
    else if (!bytes_equal(wish.user, task->member->client.user) && !is_administrator(task))
        task_problem(task, 403, "Only an administrator makes tokens for others.");
    else
        make(task, &wish);
    json_decref(body);
}

/* ---- listing and removing --------------------------------------------------------------------------------------------- */

static bool is_his(const struct task *task, const struct token_grant *grant)
{
    return bytes_equal(grant->user, task->member->client.user) || is_administrator(task);
}

struct listing {
    const struct task *task;
    json_t *rows;
};

static void list_one(void *owner, struct bytes vhost, struct bytes name, struct bytes value)
{
    struct listing *listing = owner;
    struct token_grant grant;
    if (!bytes_equal(vhost, member_vhost(listing->task->member)) || !token_grant_read(value, &grant))
        return;
    if (is_his(listing->task, &grant))
        json_array_append_new(listing->rows, shown(name, &grant));
    token_grant_deinit(&grant);
}

void tokens_list(struct task *task)
{
    struct listing listing = {.task = task, .rows = json_array()};
    worker_parameters(task->gateway->hall->worker, component(), list_one, &listing);
    json_t *answer = json_pack("{s:o}", "tokens", listing.rows);
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    if (text)
        task_answer(task, 200, text);
    else
        task_problem(task, 503, "There is too little memory.");
    free(text);
}

static void removed(struct task *task, const struct reply *reply)
{
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        task_answer(task, 204, NULL);
}

void tokens_remove(struct task *task)
{
    struct token_grant grant;
    struct bytes value;
    bool found = worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), task_name(task, 0), &value) && token_grant_read(value, &grant);
    bool his = found && is_his(task, &grant);
    if (found)
        token_grant_deinit(&grant);
    if (!his) {
        task_problem(task, 404, "There is no such token, or it is somebody else's.");
        return;
    }
    /* Who has one can give that back, and no other. */
    if (task->member->token && !bytes_equal(task->member->token->id, task_name(task, 0)))
        task_problem(task, 403, "A token removes no token but itself: say user and password.");
    else
        change(task, CHANGE_PARAMETER_DELETE, task_name(task, 0), (struct bytes){0}, removed);
}
