#include "protocol/gateway/gateway.h"

#include "broker/worker.h"
#include "protocol/gateway/event_stream.h"
#include "protocol/gateway/idempotency.h"
#include "protocol/gateway/origin.h"
#include "protocol/gateway/pace.h"
#include "protocol/gateway/reception.h"
#include "protocol/gateway/subscriptions.h"
#include "protocol/gateway/task.h"
#include "protocol/gateway/upload.h"
#include "protocol/gateway/work.h"
#include "protocol/http/problem.h"
#include "protocol/amqp/wire.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BODY_FIRST 4096u
#define BODY_AT_ONCE (1u << 20)      /* as much is reserved for a body that says how long it is going to be */

const struct gateway_config gateway_config_default = {
    .http = {.streams_max = 128, .head_timeout_ms = 10000, .body_timeout_ms = 30000, .output_timeout_ms = 30000, .idle_timeout_ms = 60000,
             .output_limit = 1u << 20, .server = "Godwit/" GODWIT_VERSION},
    .max_message_size = 128u << 20, .gather_limit = 512u << 20, .upload_min = 64u << 10,
};

/* ---- answers ---------------------------------------------------------------------------------------------------------- */

void task_answer(struct task *task, unsigned status, const char *json)
{
    task->state = TASK_ANSWERED;
    idempotency_answered(task, status, bytes_of_text(json ? json : ""));
    http_answer(task->call, &(struct http_answer){.status = status, .type = json ? "application/json" : NULL, .body = bytes_of_text(json ? json : "")});
}

void task_answer_with(struct task *task, unsigned status, const char *json, const char *name, const char *value)
{
    const struct http_field field = {bytes_of_text(name), bytes_of_text(value)};
    task->state = TASK_ANSWERED;
    idempotency_answered(task, status, bytes_of_text(json));
    http_answer(task->call, &(struct http_answer){.status = status, .type = "application/json", .body = bytes_of_text(json), .fields = &field, .field_count = 1});
}

void task_problem(struct task *task, unsigned status, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    task->state = TASK_ANSWERED;
    idempotency_leave(task);
    bool limited = status == 403 && task->member && task->member->client.limits;
    http_problem_challenge(task->call, status, limited ? "insufficient_scope" : NULL, "%s", text);
}

void task_refuse(struct task *task, unsigned code, struct bytes text)
{
    static const struct { unsigned code, status; } statuses[] = {
        {311, 413}, {312, 422}, {313, 422}, {320, 503}, {402, 404}, {403, 403}, {404, 404}, {400, 422}, {409, 409}, {412, 412}, {405, 423}, {406, 422}, {506, 503}, {530, 403}, {540, 501}, {541, 503}};
    unsigned status = 500;
    for (unsigned i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        if (statuses[i].code == code)
            status = statuses[i].status;
    /* What is no vhost is not found; one that the user may not enter is forbidden. */
    if (code == 530 && memmem(text.data, text.size, "not found", 9))
        status = 404;
    task_problem(task, status, "%.*s", (int)text.size, (const char *)text.data);
}

/* ---- parameters ------------------------------------------------------------------------------------------------------- */

bool task_parameter(struct task *task, const char *name, char *room, size_t size, bool *bad)
{
    struct bytes rest = task->call->request->query, key, value, decoded;
    *bad = false;
    while (http_query_next(&rest, &key, &value)) {
        if (!bytes_equal(key, bytes_of_text(name)))
            continue;
        if (value.size < size && http_decode(value, true, (uint8_t *)room, &decoded) && amqp_utf8_valid(decoded)) {
            room[decoded.size] = 0;
            return true;
        }
        *bad = true;
        task_problem(task, 400, "The parameter %s must be text of less than %zu bytes.", name, size);
        return false;
    }
    return false;
}

bool task_boolean(struct task *task, const char *name, bool *value)
{
    char text[8];
    bool bad;
    if (!task_parameter(task, name, text, sizeof(text), &bad))
        return !bad;
    *value = strcmp(text, "true") == 0;
    if (*value || strcmp(text, "false") == 0)
        return true;
    task_problem(task, 400, "The parameter %s must be true or false.", name);
    return false;
}

bool task_number(struct task *task, const char *name, uint64_t most, uint64_t *value)
{
    char text[24];
    bool bad;
    if (!task_parameter(task, name, text, sizeof(text), &bad))
        return !bad;
    if (http_number(bytes_of_text(text), value) && *value <= most)
        return true;
    task_problem(task, 400, "The parameter %s must be a number up to %llu.", name, (unsigned long long)most);
    return false;
}

bool task_idempotency_key(struct task *task, char room[IDEMPOTENCY_KEY_SIZE])
{
    struct bytes key;
    room[0] = 0;
    if (!http_field_find(task->call->request, "idempotency-key", &key))
        return true;
    if (key.size >= 2 && key.data[0] == '"' && key.data[key.size - 1] == '"')
        key = bytes_of(key.data + 1, key.size - 2);
    bool good = key.size > 0 && key.size < IDEMPOTENCY_KEY_SIZE;
    for (size_t i = 0; good && i < key.size; i++)
        good = key.data[i] >= ' ' && key.data[i] < 127 && key.data[i] != '"' && key.data[i] != '\\';
    if (!good) {
        task_problem(task, 400, "The Idempotency-Key must be a text of 1 to 255 visible characters.");
        return false;
    }
    memcpy(room, key.data, key.size);
    room[key.size] = 0;
    return true;
}

bool task_duration(struct task *task, const char *name, uint64_t most_ms, uint64_t *ms)
{
    static const struct { const char *suffix; uint64_t ms; } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    char text[24];
    bool bad;
    if (!task_parameter(task, name, text, sizeof(text), &bad))
        return !bad;
    size_t digits = strspn(text, "0123456789");
    uint64_t number;
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(text + digits, units[i].suffix) == 0 && http_number(bytes_of(text, digits), &number) && number <= most_ms / units[i].ms) {
            *ms = number * units[i].ms;
            return true;
        }
    task_problem(task, 400, "The parameter %s must be a time such as 30s or 500ms, up to %llu s.", name, (unsigned long long)(most_ms / 1000));
    return false;
}

/* ---- a task's life ---------------------------------------------------------------------------------------------------- */

void task_forget_body(struct task *task)
{
    task->gateway->hall->gathered -= task->room;
    free(task->body);
    task->body = NULL;
    task->size = task->room = 0;
}

static void gone(struct http_call *call)
{
    struct task *task = call->context;
    if (!task)
        return;
    listener_free(task);
    upload_leave(task);
    member_forget(task);
    reception_leave(task);
    idempotency_leave(task);
    subscriptions_leave(task);
    task_forget_body(task);
    free(task->texts);
    free(task->note);
    free(task);
}

/* Decodes the names of the path. */
static bool name_task(struct task *task, struct bytes names[NAMES_MAX])
{
    task->texts = malloc(names[0].size + names[1].size + 1);
    if (!task->texts) {
        task_problem(task, 503, "There is too little memory.");
        return false;
    }
    uint8_t *at = task->texts;
    for (unsigned i = 0; i < NAMES_MAX; i++) {
        struct bytes name;
        if (!http_decode(names[i], false, at, &name) || name.size > UINT8_MAX || !amqp_utf8_valid(name)) {
            task_problem(task, 400, "A name in the path must be UTF-8 text of at most 255 bytes.");
            return false;
        }
        task->name_sizes[i] = (uint8_t)name.size;
        at += name.size;
    }
    return true;
}

/* Nobody serves it. */
static void answer_unserved(struct http_call *call, const char *allow)
{
    if (bytes_equal(call->request->path, bytes_of_text("*")) && bytes_equal(call->request->method, bytes_of_text("OPTIONS")))
        origin_answer_preflight(call, "DELETE, GET, HEAD, PATCH, POST");   /* asked of the server as a whole, RFC 9110 section 9.3.7 */
    else if (bytes_equal(call->request->path, bytes_of_text("*")))
        http_problem(call, 400, "Nothing but OPTIONS may be asked of *.");
    else if (!allow)
        http_problem(call, 404, "There is no such resource; /openapi.json says what there is.");
    else if (bytes_equal(call->request->method, bytes_of_text("OPTIONS")))
        origin_answer_preflight(call, allow);
    else
        http_problem_method(call, allow);
}

static void begun(struct http_call *call)
{
    struct gateway *gateway = http_session_owner(call->session);
    struct bytes names[NAMES_MAX] = {{0}};
    char methods[64];
    const char *allow;
    origin_allow(call, origin_of(call->request, gateway->hall->config->origins));
    if (!pace_admits(gateway, call))
        return;
    const struct resource *resource = resource_find(call->request->method, call->request->path, names, methods, &allow);
    if (!resource) {
        answer_unserved(call, allow);
        return;
    }
    struct task *task = calloc(1, sizeof(*task));
    if (!task) {
        http_problem(call, 503, "There is too little memory.");
        return;
    }
    *task = (struct task){.gateway = gateway, .call = call, .resource = resource};
    call->context = task;
    if (!name_task(task, names) || (resource->flags & RESOURCE_OPEN))
        return;
    char vhost[UINT8_MAX + 1] = "/";
    bool bad;
    if (!task_parameter(task, "vhost", vhost, sizeof(vhost), &bad) && bad)
        return;
    struct member *member = member_for(gateway, call, bytes_of_text(vhost));
    if (!member || !pace_admits_member(member, call)) {
        task->state = TASK_ANSWERED;
        return;
    }
    member_take(member, task);
    if (call->request->content_length == HTTP_UNKNOWN || call->request->content_length <= gateway->hall->config->max_message_size) {
        if (upload_is_due(task, 0))
            upload_begin(task);
    } else {
        task_problem(task, 413, "The body is longer than %llu bytes.", (unsigned long long)gateway->hall->config->max_message_size);
    }
}

/* Room for `size` bytes of the body, one more than it is long: a text may end with a zero. */
static bool reserve(struct task *task, size_t size)
{
    struct gateway_hall *hall = task->gateway->hall;
    uint64_t announced = task->call->request->content_length;
    if (size < task->room)
        return true;
    size_t room = task->room ? task->room * 2 : announced < BODY_AT_ONCE ? (size_t)announced + 1 : BODY_FIRST;
    room = room > size ? room : size + 1;
    uint8_t *grown = hall->gathered - task->room + room <= hall->config->gather_limit ? realloc(task->body, room) : NULL;
    if (!grown)
        return false;
    hall->gathered += room - task->room;
    task->body = grown;
    task->room = room;
    return true;
}

static void gather(struct task *task, struct bytes piece)
{
    uint64_t most = task->resource->flags & RESOURCE_BODY ? task->gateway->hall->config->max_message_size : 0;
    if (task->size + piece.size > most) {
        task_problem(task, 413, most ? "The body is longer than %llu bytes." : "This request has no body.", (unsigned long long)most);
    } else if (!reserve(task, task->size + piece.size)) {
        task_problem(task, 503, "Too many bodies are coming at once.");
    } else {
        memcpy(task->body + task->size, piece.data, piece.size);
        task->size += piece.size;
    }
}

static void body(struct http_call *call, struct bytes piece)
{
    struct task *task = call->context;
    if (task->state != TASK_COMING) {
        if (task->listener)
            listener_heard(task, piece);
        return;
    }
    if (!task->upload && upload_is_due(task, piece.size))
        upload_begin(task);
    if (task->state == TASK_COMING && task->upload)
        upload_take(task, piece);
    else if (task->state == TASK_COMING)
        gather(task, piece);
    if (task->state == TASK_ANSWERED)
        task_forget_body(task);
}

static void complete(struct http_call *call)
{
    struct task *task = call->context;
    if (!task || task->state != TASK_COMING)
        return;
    if (task->upload) {
        upload_end(task);
        return;
    }
    if (task->member) {
        member_begin(task);
        return;
    }
    task->state = TASK_DOING;
    task->resource->run(task);
}

static void drained(struct http_call *call)
{
    struct task *task = call->context;
    if (task && task->listener)
        listener_drained(task);
}

static const struct http_service service = {.begun = begun, .body = body, .complete = complete, .drained = drained, .gone = gone};

/* ---- what everybody may ask --------------------------------------------------------------------------------------------- */

void work_about(struct task *task)
{
    task_answer(task, 200, "{\"name\":\"Godwit\",\"version\":\"" GODWIT_VERSION "\",\"description\":\"/openapi.json\"}");
}

void work_health(struct task *task) { task_answer(task, 200, "{\"status\":\"ok\"}"); }

void work_openapi(struct task *task)
{
    char *text = resource_openapi();
    if (text)
        task_answer(task, 200, text);
    else
        task_problem(task, 503, "There is too little memory.");
    free(text);
}

/* ---- the connection ----------------------------------------------------------------------------------------------------- */

enum gw_err gateway_new(struct gateway_hall *hall, void *owner, const struct gateway_addresses *addresses, uint64_t now_us, struct gateway **made)
{
    size_t peer_size = strlen(addresses->peer) + 1, local_size = strlen(addresses->local) + 1;
    struct gateway *gateway = calloc(1, sizeof(*gateway) + peer_size + local_size);
    if (!gateway)
        return GW_ERR_NOMEM;
    gateway->hall = hall;
    gateway->owner = owner;
    gateway->now_us = now_us;
    gateway->beat_us = UINT64_MAX;
    gateway->from_loopback = addresses->from_loopback;
    gateway->peer_port = addresses->peer_port;
    gateway->local_port = addresses->local_port;
    gateway->rates = addresses->rates;
    gateway->tls_version = addresses->tls_version;
    gateway->tls_cipher = addresses->tls_cipher;
    memcpy(gateway->hosts, addresses->peer, peer_size);
    memcpy(gateway->hosts + peer_size, addresses->local, local_size);
    hall->host->config = &hall->config->http;
    hall->host->service = &service;
    enum gw_err err = http_session_new(hall->host, owner, gateway, worker_chunks(hall->worker), now_us, &gateway->http);
    if (err) {
        free(gateway);
        return err;
    }
    if (addresses->is_http2)
        http_session_agreed_2(gateway->http);
    *made = gateway;
    return GW_OK;
}

void gateway_free(struct gateway *gateway)
{
    http_session_free(gateway->http);
    for (struct member *member = gateway->members, *next; member; member = next) {
        next = member->next;
        member_free(member);
    }
    free(gateway);
}

static void at(struct gateway *gateway, uint64_t now_us)
{
    gateway->now_us = now_us;
    http_session_clock(gateway->http, worker_wall_at(gateway->hall->worker, now_us) / 1000);
    members_sweep(gateway);
}

size_t gateway_feed(struct gateway *gateway, struct bytes in, uint64_t now_us)
{
    at(gateway, now_us);
    return http_session_feed(gateway->http, in, now_us);
}

bool gateway_wants_input(const struct gateway *gateway) { return http_session_wants_input(gateway->http); }

unsigned gateway_output(struct gateway *gateway, struct iovec *iov, unsigned room)
{
    members_sweep(gateway);
    return http_session_output(gateway->http, iov, room);
}

void gateway_sent(struct gateway *gateway, size_t size, uint64_t now_us)
{
    gateway->now_us = now_us;
    http_session_sent(gateway->http, size, now_us);
}

uint64_t gateway_deadline(const struct gateway *gateway)
{
    uint64_t deadline_us = http_session_deadline(gateway->http);
    return deadline_us < gateway->beat_us ? deadline_us : gateway->beat_us;
}

/* Does something to every listener. */
static void each_listener(struct gateway *gateway, void (*act)(struct task *task))
{
    for (struct member *member = gateway->members; member; member = member->next)
        for (struct task *task = member->tasks, *next; task; task = next) {
            next = task->next;
            if (task->listener)
                act(task);
        }
}

void gateway_tick(struct gateway *gateway, uint64_t now_us)
{
    at(gateway, now_us);
    if (now_us >= gateway->beat_us) {
        gateway->beat_us = UINT64_MAX;
        each_listener(gateway, listener_beat);
    }
    http_session_tick(gateway->http, now_us);
}

void gateway_ended(struct gateway *gateway, uint64_t now_us)
{
    at(gateway, now_us);
    for (struct member *member = gateway->members; member; member = member->next)
        for (struct task *task = member->tasks, *next; task; task = next) {
            next = task->next;
            if (task->poll)
                task_answer(task, 204, NULL);   /* who has hung up gets no message */
        }
    http_session_ended(gateway->http, now_us);
}

void gateway_shutdown(struct gateway *gateway, uint64_t now_us)
{
    at(gateway, now_us);
    each_listener(gateway, listener_ended);
    http_session_shutdown(gateway->http, now_us);
}

bool gateway_finished(const struct gateway *gateway) { return http_session_finished(gateway->http); }
