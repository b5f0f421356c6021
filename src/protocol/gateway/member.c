#include "protocol/gateway/task.h"

#include "broker/worker.h"
#include "protocol/amqp/table.h"
#include "protocol/gateway/basic.h"
#include "protocol/gateway/event_stream.h"
#include "protocol/gateway/idempotency.h"
#include "protocol/gateway/origin.h"
#include "protocol/gateway/pace.h"
#include "protocol/gateway/tokens.h"
#include "protocol/http/problem.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data
#define FACTS_MAX 2048u
#define AGENT_MAX 255u
#define HOST_MAX 64u

static struct member *member_of(struct client *client) { return (struct member *)client; }

/* ---- what the broker answers ------------------------------------------------------------------------------------------ */

static void refuse_all(struct member *member)
{
    for (struct task *task = member->tasks, *next; task; task = next) {
        next = task->next;
        if (task->listener && task->state == TASK_ANSWERED)
            listener_ended(task);
        else
            task_refuse(task, member->refusal, bytes_of_text(member->why ? member->why : ""));
    }
}

static void lose(struct member *member, unsigned code, struct bytes text)
{
    member->refusal = (uint16_t)code;
    member->is_gone = member->gateway->gone_members = true;
    free(member->why);
    member->why = bytes_to_text(text);
    refuse_all(member);
}

static void attempt(struct task *task)
{
    struct member *member = task->member;
    if (task->resource->flags & RESOURCE_PUBLISHES) {
        if (member->blocked) {
            task_problem(task, 503, "The broker is %s and takes no messages now.", member->blocked);
            return;
        }
        if (!client_may_publish(&member->client))
            return;   /* until resumed */
    }
    if (!idempotency_begin(task))
        return;
    task->state = TASK_DOING;
    client_time(&member->client, member->gateway->now_us);
    task->resource->run(task);
}

static void attempt_all(struct member *member)
{
    for (struct task *task = member->tasks, *next; task; task = next) {
        next = task->next;
        if (task->state == TASK_WAITING)
            attempt(task);
    }
}

/* Every callback comes in a turn of the worker's. */
static struct member *woken(struct client *client)
{
    struct member *member = member_of(client);
    member->gateway->now_us = worker_now(client->worker);
    http_session_clock(member->gateway->http, worker_wall_us(client->worker) / 1000);
    return member;
}

static void on_replied(struct client *client, const struct reply *reply)
{
    struct member *member = woken(client);
    if (reply->kind == REQUEST_OPEN) {
        if (reply->code) {
            lose(member, reply->code, reply->text);
            return;
        }
        member->is_open = true;
        attempt_all(member);
        return;
    }
    for (struct task *task = member->tasks; task; task = task->next)
        if (task->request == reply->tag && task->replied) {
            task->replied(task, reply);
            return;
        }
    if (reply->kind == REQUEST_CONSUME && !reply->code)
        listener_cancel(member, reply->queue, reply->handle);
}

static void on_confirmed(struct client *client, uint16_t channel, uint64_t first, uint64_t count, bool accepted)
{
    struct member *member = woken(client);
    (void)channel;
    for (struct task *task = member->tasks, *next; task; task = next) {
        next = task->next;
        uint64_t begin = task->first_tag > first ? task->first_tag : first;
        uint64_t task_end = task->first_tag + task->count, end = task_end < first + count ? task_end : first + count;
        if (!task->unconfirmed || begin >= end)
            continue;
        task->unconfirmed -= (uint32_t)(end - begin);
        task->refused += accepted ? 0 : (uint32_t)(end - begin);
        if (!task->unconfirmed && task->published)
            task->confirmed(task);
    }
}

static void on_resumed(struct client *client) { attempt_all(woken(client)); }

static void on_blocked(struct client *client, const char *reason)
{
    struct member *member = woken(client);
    member->blocked = reason;
    if (member->is_open)
        attempt_all(member);
}

static void on_closed(struct client *client, uint16_t code, struct bytes text) { lose(woken(client), code, text); }

static struct task *listening(struct client *client, uint32_t tag)
{
    struct task *task = woken(client)->tasks;
    while (task && !(task->listener && task->request == tag))
        task = task->next;
    return task;
}

static void on_delivered(struct client *client, const struct delivery *delivery)
{
    struct task *task = listening(client, delivery->consumer);
    if (task && !bearer_is_good(member_of(client))) {
        listener_ended(task);
        task = NULL;
    }
    if (task)
        listener_delivered(task, delivery);
    else
        client_settle(client, delivery->queue, SETTLE_UNDELIVERED, delivery->seq, 1, NULL);
}

/* The stream is gone. */
static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer)
{
    struct task *task = listening(client, consumer);
    (void)channel;
    if (task)
        listener_ended(task);
}

static const struct client_ops ops = {
    .deliver = on_delivered, .replied = on_replied, .confirmed = on_confirmed, .cancelled = on_cancelled, .resumed = on_resumed, .blocked = on_blocked,
    .closed = on_closed,
};

/* ---- who asks --------------------------------------------------------------------------------------------------------- */

static bool is_local_host(struct bytes host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (unsigned i = 0; i < 3; i++) {
        size_t size = strlen(names[i]);
        if (host.size >= size && http_name_is(bytes_of(host.data, size), names[i]) && (host.size == size || host.data[size] == ':'))
            return true;
    }
    return false;
}

/* One who does not say who he is may be guest, as anybody on this machine can say; but not a page of somebody else's that a browser on this machine shows. */
bool request_is_local(const struct gateway *gateway, const struct http_request *request)
{
    struct bytes value;
    static const char *const forwarded[] = {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"};
    if (gateway->hall->config->no_guest || !gateway->from_loopback || !is_local_host(request->authority))
        return false;
    for (unsigned i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
        if (http_field_find(request, forwarded[i], &value))
            return false;   /* a proxy is on this machine, which says nothing of who asks it */
    enum origin origin = origin_of(request, gateway->hall->config->origins);
    if (origin != ORIGIN_NONE)
        return origin == ORIGIN_ALLOWED;
    return !http_field_find(request, "sec-fetch-site", &value) || http_name_is(value, "none") || http_name_is(value, "same-origin");
}

static struct bytes keep(uint8_t **at, struct bytes bytes)
{
    uint8_t *begin = *at;
    if (bytes.size)
        memcpy(begin, bytes.data, bytes.size);
    *at += bytes.size;
    return bytes_of(begin, bytes.size);
}

/* What lists of connections show. */
static void ask_to_open(struct member *member, const struct http_request *request)
{
    const struct gateway *gateway = member->gateway;
    uint8_t room[FACTS_MAX];
    struct amqp_table_writer writer;
    struct bytes agent, facts;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "name", member->client.name);
    amqp_table_put_text(&writer, "peer_host", bytes_of_text(gateway_peer(gateway)));
    amqp_table_put_int(&writer, "peer_port", gateway->peer_port);
    amqp_table_put_text(&writer, "host", bytes_of_text(gateway_local(gateway)));
    amqp_table_put_int(&writer, "port", gateway->local_port);
    amqp_table_put_text(&writer, "protocol", bytes_of_text("HTTP"));
    amqp_table_put_text(&writer, "auth_mechanism", bytes_of_text(bearer_read(member_authorization(member), &facts) ? "Bearer" : member_authorization(member).size ? "Basic" : "ANONYMOUS"));
    amqp_table_put_bool(&writer, "ssl", gateway->tls_version != NULL);
    if (gateway->tls_version) {
        amqp_table_put_text(&writer, "ssl_protocol", bytes_of_text(gateway->tls_version));
        amqp_table_put_text(&writer, "ssl_cipher", bytes_of_text(gateway->tls_cipher));
    }
    size_t mark = amqp_table_nest_begin(&writer, "client_properties");
    if (http_field_find(request, "user-agent", &agent) && agent.size <= AGENT_MAX && amqp_utf8_valid(agent))
        amqp_table_put_text(&writer, "product", agent);
    amqp_table_nest_end(&writer, mark);
    if (!amqp_table_finish(&writer, &facts))
        facts = (struct bytes){0};
    client_request(&member->client, &(struct request){.kind = REQUEST_OPEN, .name = member_vhost(member), .source = member->client.user, .arguments = facts});
}

static struct member *member_new(struct gateway *gateway, struct bytes vhost, struct bytes authorization, struct bytes user, bool by_token)
{
    char name[2 * HOST_MAX + 32];
    bool is_6 = strchr(gateway_peer(gateway), ':'), local_is_6 = strchr(gateway_local(gateway), ':');
    int name_size = snprintf(name, sizeof(name), "%s%.63s%s:%u -> %s%.63s%s:%u", is_6 ? "[" : "", gateway_peer(gateway), is_6 ? "]" : "", gateway->peer_port,
                             local_is_6 ? "[" : "", gateway_local(gateway), local_is_6 ? "]" : "", gateway->local_port);
    size_t token_size = by_token ? sizeof(struct held_token) : 0;
    struct member *member = calloc(1, sizeof(*member) + token_size + (size_t)name_size + vhost.size + authorization.size + user.size);
    if (!member)
        return NULL;
    if (client_attach(gateway->hall->worker, &member->client, &ops) != GW_OK) {
        free(member);
        return NULL;
    }
    uint8_t *at = (uint8_t *)(member + 1) + token_size;
    member->token = by_token ? (struct held_token *)(member + 1) : NULL;
    member->gateway = gateway;
    member->next_tag = 1;
    member->client.name = keep(&at, bytes_of(name, (size_t)name_size));
    member->client.user = keep(&at, user);
    member->vhost_size = (uint16_t)keep(&at, vhost).size;
    member->authorization_size = (uint16_t)keep(&at, authorization).size;
    return member;
}

void member_free(struct member *member)
{
    while (member->tasks)
        member_forget(member->tasks);
    const struct gateway_users *users = member->gateway->hall->users;
    if (member->requests)
        users->leave(users->owner, member->requests, member->gateway->now_us);
    client_detach(&member->client);
    free(member->why);
    free(member);
}

/* Makes room for another one. */
static bool evict(struct gateway *gateway)
{
    unsigned count = 0;
    struct member **oldest = NULL;
    for (struct member **at = &gateway->members; *at; at = &(*at)->next) {
        count++;
        if (!(*at)->tasks && (!oldest || (*at)->used_us < (*oldest)->used_us))
            oldest = at;
    }
    if (count < MEMBERS_MAX)
        return true;
    if (!oldest)
        return false;
    struct member *member = *oldest;
    *oldest = member->next;
    member_free(member);
    return true;
}

void members_sweep(struct gateway *gateway)
{
    if (!gateway->gone_members)
        return;
    gateway->gone_members = false;
    for (struct member **at = &gateway->members; *at;) {
        struct member *member = *at;
        if (!member->is_gone) {
            at = &member->next;
        } else if (member->tasks) {
            gateway->gone_members = true;
            at = &member->next;
        } else {
            *at = member->next;
            member_free(member);
        }
    }
}

static struct member *member_known(struct gateway *gateway, struct bytes vhost, struct bytes authorization)
{
    for (struct member *member = gateway->members; member; member = member->next)
        if (!member->is_gone && bytes_equal(member_authorization(member), authorization) && bytes_equal(member_vhost(member), vhost))
            return member;
    return NULL;
}

/* Who says so for the first time on this connection. NULL: the call was answered. */
static struct member *introduce(struct gateway *gateway, struct http_call *call, struct bytes vhost, struct bytes authorization)
{
    const struct http_request *request = call->request;
    struct bytes user = bytes_of_text("guest"), password = user, text;
    uint8_t room[BASIC_MAX];
    struct token_grant grant = {0};
    const char *why = NULL;
    bool by_token = bearer_read(authorization, &text);
    if (!pace_lets_try(gateway, call))
        return NULL;
    if (by_token && !bearer_judge(gateway, vhost, text, &grant, &why)) {
        pace_failed(gateway);
        http_problem_challenge(call, 401, "invalid_token", "%s", why);
        return NULL;
    }
    if (by_token)
        user = grant.user;
    else if (authorization.size && (!basic_read(authorization, room, &user, &password) || !user.size || user.size > UINT8_MAX)) {
        http_problem(call, 401, "The Authorization header must be Basic, with a user and a password, or Bearer, with a token.");
        return NULL;
    }
    struct member *member = NULL;
    if (!evict(gateway)) {
        http_problem(call, 429, "More than %u users are busy on this connection.", MEMBERS_MAX);
    } else if (!(member = member_new(gateway, vhost, authorization, user, by_token)) ||
               (grant.restricted && client_restrict(&member->client, grant.configure, grant.write, grant.read))) {
        http_problem(call, 503, "There are too many connections, or too little memory.");
    } else if (by_token && !client_identify(&member->client, user, gateway->from_loopback)) {
        http_problem_challenge(call, 401, "invalid_token", "The token's user may not come from here, or is no more.");
    } else if (!by_token && !client_authenticate(&member->client, user, password, gateway->from_loopback)) {
        pace_failed(gateway);
        http_problem(call, 401, "User and password do not match.");
    } else {
        const struct gateway_users *users = gateway->hall->users;
        if (users && gateway->hall->config->user_limit.count)
            member->requests = users->enter(users->owner, user, gateway->now_us);
        if (member->token && bearer_read(member_authorization(member), &text)) {
            token_read(text, &member->token->id);
            member->token->expires_ms = grant.expires_ms;
            member->token->version = worker_parameters_version(gateway->hall->worker);
        }
        member->next = gateway->members;
        gateway->members = member;
        ask_to_open(member, request);
        token_grant_deinit(&grant);
        return member;
    }
    token_grant_deinit(&grant);
    if (member)
        member_free(member);
    return NULL;
}

struct member *member_for(struct gateway *gateway, struct http_call *call, struct bytes vhost)
{
    struct bytes authorization = {0};
    bool says = http_field_find(call->request, "authorization", &authorization);
    if (!says && !request_is_local(gateway, call->request)) {
        http_problem(call, 401, "Say who you are: the Authorization header is missing.");
        return NULL;
    }
    if (says && !authorization.size) {
        http_problem(call, 401, "The Authorization header is empty.");
        return NULL;
    }
    /* One who says the same as before is who he was then. */
    struct member *member = member_known(gateway, vhost, authorization);
    if (member && !bearer_is_good(member)) {
        lose(member, 403, bytes_of_text("ACCESS_REFUSED - the token has expired, or was removed"));
        http_problem_challenge(call, 401, "invalid_token", "The token has expired, or was removed.");
        return NULL;
    }
    if (!member)
        member = introduce(gateway, call, vhost, authorization);
    if (member)
        member->used_us = gateway->now_us;
    return member;
}

void member_take(struct member *member, struct task *task)
{
    task->member = member;
    task->next = member->tasks;
    if (member->tasks)
        member->tasks->previous = task;
    member->tasks = task;
}

void member_forget(struct task *task)
{
    if (!task->member)
        return;
    if (task->next)
        task->next->previous = task->previous;
    if (task->previous)
        task->previous->next = task->next;
    else
        task->member->tasks = task->next;
    task->member = NULL;
    task->next = task->previous = NULL;
}

void member_begin(struct task *task)
{
    struct member *member = task->member;
    task->state = TASK_WAITING;
    if (member->is_gone)
        task_refuse(task, member->refusal, bytes_of_text(member->why ? member->why : ""));
    else if (member->is_open)
        attempt(task);
}

uint32_t member_ask(struct task *task, struct request *request, void (*replied)(struct task *task, const struct reply *reply))
{
    struct member *member = task->member;
    task->request = ++member->next_request ? member->next_request : ++member->next_request;
    task->replied = replied;
    request->tag = task->request;
    request->channel = 1;
    client_request(&member->client, request);
    return task->request;
}
