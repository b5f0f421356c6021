#include "protocol/gateway/subscriptions.h"

#include "base/bugs.h"
#include "base/map.h"
#include "broker/topology_change.h"
#include "broker/worker.h"
#include "bus/bus.h"
#include "bus/subscription.h"
#include "protocol/amqp/table.h"
#include "protocol/gateway/cloud_event.h"
#include "protocol/gateway/idempotency.h"
#include "protocol/gateway/publish.h"
#include "protocol/gateway/reception.h"
#include "protocol/gateway/uri_shown.h"
#include "protocol/gateway/work.h"

#include <jansson.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>

#define TAG_SIZE 24u
#define TAG_SEED 5u
#define SECRET_SIZE 32u              /* bytes of one that is made here */
#define BODY_MAX 65536u

/* A subscription that is being put, step by step. */
struct subscribing {
    struct subscription subscription;
    bool is_new, is_plain;
    bool is_cleared;                 /* what an earlier attempt left behind was removed */
    bool is_kept;                    /* the parameter is put: when it is done again for want of the bus, that is not */
    unsigned step;
    uint32_t ahead;                  /* the tag of the next step's request, … */
    unsigned ahead_count;            /* … as so many have been sent already, so that the disk is waited for once */
    char *old_value;                 /* the parameter that is changed; NULL: there must be none */
    size_t old_size;
    json_t *old_types;               /* those that it had; NULL: none */
    void (*done)(struct task *task);
};

enum { STEP_DEAD_QUEUE, STEP_QUEUE, STEP_KEEP, STEP_BIND };

void subscriptions_leave(struct task *task)
{
    struct subscribing *subscribing = task->subscribing;
    if (!subscribing)
        return;
    task->subscribing = NULL;
    subscription_deinit(&subscribing->subscription);
    json_decref(subscribing->old_types);
    free(subscribing->old_value);
    free(subscribing);
}

/* ---- what is there ------------------------------------------------------------------------------------------------------ */

static struct bytes component(void) { return bytes_of_text(SUBSCRIPTION_COMPONENT); }

static bool is_his(const struct task *task, const json_t *root)
{
    const char *owner = json_string_value(json_object_get(root, "owner"));
    return (owner && bytes_equal(bytes_of_text(owner), task->member->client.user)) || client_is_tagged(&task->member->client, "administrator");
}

json_t *subscription_find(struct task *task)
{
    struct bytes value;
    json_t *root = NULL;
    if (worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), task_name(task, 0), &value))
        root = json_loadb((const char *)value.data, value.size, 0, NULL);
    char id[SUBSCRIPTION_ID_MAX + 1], queue[SUBSCRIPTION_QUEUE_MAX];
    if (root && is_his(task, root)) {
        snprintf(id, sizeof(id), "%.*s", (int)task_name(task, 0).size, (const char *)task_name(task, 0).data);
        subscription_queue(id, false, queue);
        if (strcmp(task->resource->method, "GET") == 0 || client_limits_allow(&task->member->client, true, bytes_of_text(queue)))
            return root;
        json_decref(root);
        task_problem(task, 403, "ACCESS_REFUSED - the token does not let its holder configure queue '%s'", queue);
        return NULL;
    }
    json_decref(root);
    task_problem(task, 404, "There is no such subscription, or it is somebody else's.");
    return NULL;
}

/* As it is shown: without its secrets. Takes the root. */
static json_t *shown(json_t *root)
{
    json_t *made = json_deep_copy(root);
    uri_hide(made, "sink");
    json_object_del(json_object_get(made, "config"), "secrets");
    json_object_del(made, "made");
    json_object_del(made, "governs");
    json_decref(root);
    return made;
}

void subscription_answer(struct task *task, unsigned status, json_t *answer)
{
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    if (text)
        task_answer(task, status, text);
    else
        task_problem(task, 503, "There is too little memory.");
    free(text);
}

json_t *subscription_read_object(struct task *task)
{
    json_error_t error;
    if (task->size > BODY_MAX) {
        task_problem(task, 413, "The body is longer than %u bytes.", BODY_MAX);
        return NULL;
    }
    json_t *root = json_loadb(task->body ? (const char *)task->body : "", task->size, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(root))
        return root;
    if (root)
        task_problem(task, 400, "The body must be a JSON object.");
    else
        task_problem(task, 400, "The body is no JSON that is understood: line %d, column %d: %s", error.line, error.column, error.text);
    json_decref(root);
    return NULL;
}

/* ---- putting one, step by step -------------------------------------------------------------------------------------------- */

static void take_step(struct task *task);

/* A new one that could not be made whole leaves nothing behind. */
static void clean_up(struct task *task, const struct subscription *s)
{
    char queue[SUBSCRIPTION_QUEUE_MAX];
    const struct topology_change change = {.kind = CHANGE_PARAMETER_DELETE, .name = bytes_of_text(s->id), .source = component()};
    member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &change}, NULL);
    for (unsigned dead = 0; dead < 2; dead++) {
        subscription_queue(s->id, dead, queue);
        member_ask(task, &(struct request){.kind = REQUEST_QUEUE_DELETE, .flags = REQUEST_TRUSTED, .name = bytes_of_text(queue)}, NULL);
    }
}

static void cleared(struct task *task, const struct reply *reply)
{
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        take_step(task);
}

/* A queue of that name is there, with other arguments, and there is no subscription. Whoever made that was interrupted by the end of the broker: unless it holds something, it gives way. */
static void clear_away(struct task *task, bool dead)
{
    char queue[SUBSCRIPTION_QUEUE_MAX];
    subscription_queue(task->subscribing->subscription.id, dead, queue);
    task->subscribing->is_cleared = true;
    task->subscribing->ahead_count = 0;
    member_ask(task, &(struct request){.kind = REQUEST_QUEUE_DELETE, .flags = REQUEST_IF_UNUSED | REQUEST_IF_EMPTY, .name = bytes_of_text(queue)}, cleared);
}

/* Somebody else was quicker: a change is made to what is there now, so that neither of the two is lost. */
static void changed_meanwhile(struct task *task)
{
    if (task->subscribing->is_new) {
        task_problem(task, 409, "There is a subscription '%s' already.", task->subscribing->subscription.id);
    } else {
        subscriptions_leave(task);
        subscriptions_change(task);
    }
}

static void step_done(struct task *task, const struct reply *reply)
{
    struct subscribing *subscribing = task->subscribing;
    if (reply->code == 404 && subscribing->step >= STEP_BIND && !task->declared) {
        events_declare(task);   /* the first thing that is said of events here */
        return;
    }
    if (reply->code == 406 && subscribing->is_new && subscribing->step <= STEP_QUEUE && !subscribing->is_cleared) {
        clear_away(task, subscribing->step == STEP_DEAD_QUEUE);
        return;
    }
    if (reply->code == 412) {
        changed_meanwhile(task);
        return;
    }
    /* The queue is there, with arguments of its own: the subscription's bus changes them if the subscription is to. */
    bool is_changed = reply->code == 406 && !subscribing->is_new && subscribing->step == STEP_QUEUE;
    if (reply->code && !is_changed) {
        if (subscribing->is_new && subscribing->step > STEP_QUEUE)
            clean_up(task, &subscribing->subscription);
        task_refuse(task, reply->code, reply->text);
        return;
    }
    subscribing->is_kept |= subscribing->step == STEP_KEEP;
    subscribing->step++;
    take_step(task);
}

static void declare_queue(struct task *task, const struct subscription *s, bool dead)
{
    char queue[SUBSCRIPTION_QUEUE_MAX];
    uint8_t room[SUBSCRIPTION_ARGUMENTS_SIZE];
    struct bytes arguments = dead ? (struct bytes){0} : subscription_arguments(s, room);
    subscription_queue(s->id, dead, queue);
    member_ask(task, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = bytes_of_text(queue), .arguments = arguments}, step_done);
}

/* False: the task was answered. */
static bool keep(struct task *task, const struct subscription *s)
{
    char *text = json_dumps(s->root, JSON_COMPACT);
    if (!text) {
        task_problem(task, 503, "There is too little memory.");
        return false;
    }
    const struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .flags = TOPOLOGY_IF_SAME, .name = bytes_of_text(s->id), .source = component(),
                                           .arguments = bytes_of_text(text), .secret = bytes_of(task->subscribing->old_value, task->subscribing->old_size)};
    member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &change}, step_done);
    free(text);
    return true;
}

static bool has_type(const struct subscription *s, const char *type)
{
    for (unsigned i = 0; i < s->type_count; i++)
        if (strcmp(s->types[i], type) == 0)
            return true;
    return false;
}

static void bind_type(struct task *task, enum request_kind kind, const char *type)
{
    char queue[SUBSCRIPTION_QUEUE_MAX];
    subscription_queue(task->subscribing->subscription.id, false, queue);
    member_ask(task, &(struct request){.kind = kind, .name = bytes_of_text(queue), .source = bytes_of_text(EVENTS_NAME), .routing_key = bytes_of_text(type)}, step_done);
}

static uint32_t tag_after(uint32_t tag) { return tag + 1 ? tag + 1 : 1; }

/* What was asked with the tag is answered first, then what was sent behind it: answers come in the order of the requests. */
static void wait_for(struct task *task, uint32_t tag, unsigned behind)
{
    task->request = tag;
    task->subscribing->ahead = tag_after(tag);
    task->subscribing->ahead_count = behind;
}

static void begin_with_queues(struct task *task, const struct subscription *s)
{
    declare_queue(task, s, true);
    uint32_t tag = task->request;
    declare_queue(task, s, false);
    wait_for(task, tag, 1);
}

/* Of a new one the bindings can be said with it: should it be refused, it is removed with them. */
static void keep_and_bind(struct task *task, const struct subscription *s)
{
    if (!keep(task, s) || !task->subscribing->is_new)
        return;
    uint32_t tag = task->request;
    for (unsigned i = 0; i < s->type_count; i++)
        bind_type(task, REQUEST_QUEUE_BIND, s->types[i]);
    wait_for(task, tag, s->type_count);
}

static void take_step(struct task *task)
{
    struct subscribing *subscribing = task->subscribing;
    const struct subscription *s = &subscribing->subscription;
    if (subscribing->ahead_count) {
        wait_for(task, subscribing->ahead, subscribing->ahead_count - 1);
        return;
    }
    if (subscribing->step <= STEP_QUEUE) {
        if (subscribing->step == STEP_DEAD_QUEUE)
            begin_with_queues(task, s);
        else
            declare_queue(task, s, false);
        return;
    }
    if (subscribing->step == STEP_KEEP && !subscribing->is_kept) {
        keep_and_bind(task, s);
        return;
    }
    subscribing->step += subscribing->step == STEP_KEEP;
    unsigned at = subscribing->step - STEP_BIND;
    if (at < s->type_count) {
        bind_type(task, REQUEST_QUEUE_BIND, s->types[at]);
        return;
    }
    for (at -= s->type_count; at < json_array_size(subscribing->old_types); at++) {
        const char *type = json_string_value(json_array_get(subscribing->old_types, at));
        if (type && !has_type(s, type)) {
            subscribing->step = STEP_BIND + s->type_count + at;
            bind_type(task, REQUEST_QUEUE_UNBIND, type);
            return;
        }
    }
    subscribing->done(task);
}

/* Once more, now that there is a bus. */
static void begin_anew(struct task *task)
{
    task->subscribing->step = STEP_DEAD_QUEUE;
    task->subscribing->ahead_count = 0;
    take_step(task);
}

/* Takes the root and the old types. `old`: the parameter that is changed; empty: there is none. */
static void put(struct task *task, json_t *root, struct bytes old, json_t *old_types, bool is_plain, void (*done)(struct task *task))
{
    const struct gateway_hall *hall = task->gateway->hall;
    struct subscribing *subscribing = calloc(1, sizeof(*subscribing));
    char why[SUBSCRIPTION_WHY_MAX] = "There is too little memory.";
    char *old_value = old.size ? malloc(old.size) : NULL;
    bool good = subscribing && (!old.size || old_value) && subscription_read(&subscribing->subscription, root, why);
    json_decref(root);
    if (!good) {
        free(old_value);
        free(subscribing);
        json_decref(old_types);
        task_problem(task, 422, "%s", why);
        return;
    }
    if (old_value)
        subscribing->old_value = memcpy(old_value, old.data, old.size);
    subscribing->old_size = old.size;
    subscribing->is_new = !old_types;
    subscribing->old_types = old_types;
    subscribing->is_plain = is_plain;
    subscribing->done = done;
    task->subscribing = subscribing;
    const struct subscription *s = &subscribing->subscription;
    const char *refusal = s->url.is_address && hall->networks ? ip_address_refusal(&s->url.address, &hall->networks[s->local]) : NULL;
    if (refusal)
        task_problem(task, 422, "The sink's address %s is %s, and may not be connected to; webhook_networks in the broker's configuration says which may.", s->url.host, refusal);
    else
        take_step(task);
}

/* ---- making one ------------------------------------------------------------------------------------------------------------ */

bool subscription_new_id(char letter, char id[NEW_ID_SIZE])
{
    uint8_t random[12];
    if (RAND_bytes(random, sizeof(random)) != 1)
        return false;
    id[0] = letter;
    for (unsigned i = 0; i < sizeof(random); i++)
        snprintf(id + 1 + 2 * i, 3, "%02x", random[i]);
    return true;
}

bool subscription_put_id(const struct task *task, json_t *root, char letter)
{
    char id[NEW_ID_SIZE];
    if (task->claim && json_object_set_new(root, "made", json_string(task->claim->mark)))
        return false;
    if (json_object_get(root, "id"))
        return true;
    if (task->claim)
        snprintf(id, sizeof(id), "%c%s", letter, task->claim->id);
    return (task->claim || subscription_new_id(letter, id)) && json_object_set_new(root, "id", json_string(id)) == 0;
}

bool subscription_is_repeated(const struct task *task, const json_t *root)
{
    const char *mark = json_string_value(json_object_get(root, "made"));
    return task->claim && mark && strcmp(mark, task->claim->mark) == 0;
}

/* The request has made it before: it is answered again. */
static void answer_again(struct task *task, json_t *root, void (*done)(struct task *task))
{
    char why[SUBSCRIPTION_WHY_MAX];
    struct subscribing *subscribing = calloc(1, sizeof(*subscribing));
    if (!subscribing || !subscription_read(&subscribing->subscription, root, why)) {
        free(subscribing);
        task_problem(task, 503, "There is too little memory.");
        return;
    }
    task->subscribing = subscribing;
    done(task);
}

/* Without a word about secrets one is made; an empty array of them means that nothing is to be signed. Nothing that goes to a broker is. */
static bool put_secret(json_t *root)
{
    uint8_t key[SECRET_SIZE];
    char text[SECRET_TEXT_MAX];
    const char *sink = json_string_value(json_object_get(root, "sink"));
    json_t *config = json_object_get(root, "config");
    if (sink && sink_uri_is(sink))
        return true;
    if (!config) {
        json_object_set_new(root, "config", json_object());
        config = json_object_get(root, "config");
    }
    if (!json_is_object(config) || json_object_get(config, "secrets"))
        return true;
    if (RAND_bytes(key, sizeof(key)) != 1)
        return false;
    webhook_secret_write(key, sizeof(key), text);
    return json_object_set_new(config, "secrets", json_pack("[s]", text)) == 0;
}

/* Takes the root. */
static void make(struct task *task, json_t *root, bool is_plain, void (*done)(struct task *task))
{
    static const char *const kept[] = {"owner", "ended", "local", "made", "governs"};
    struct bytes user = task->member->client.user, value;
    for (unsigned i = 0; i < 5; i++)
        json_object_del(root, kept[i]);
    json_object_set_new(root, "owner", json_stringn((const char *)user.data, user.size));
    if (request_is_local(task->gateway, task->call->request))
        json_object_set_new(root, "local", json_true());
    bool made = subscription_put_id(task, root, 's') && put_secret(root);
    const char *id = json_string_value(json_object_get(root, "id"));
    if (!made) {
        json_decref(root);
        task_problem(task, 503, "There is too little memory, or randomness.");
    } else if (id && worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), bytes_of_text(id), &value)) {
        json_t *old = json_loadb((const char *)value.data, value.size, 0, NULL);
        if (subscription_is_repeated(task, old))
            answer_again(task, old, done);
        else
            task_problem(task, 409, "There is a subscription '%s' already.", id);
        json_decref(old);
        json_decref(root);
    } else {
        put(task, root, (struct bytes){0}, NULL, is_plain, done);
    }
}

static void made(struct task *task)
{
    json_t *answer = json_copy(task->subscribing->subscription.root);
    uri_hide(answer, "sink");   /* as it is shown ever after, so that what is made and what is looked at look alike */
    json_object_del(answer, "made");
    subscription_answer(task, 201, answer);
}

static void made_plainly(struct task *task)
{
    const struct subscription *s = &task->subscribing->subscription;
    const json_t *secret = json_array_get(json_object_get(json_object_get(s->root, "config"), "secrets"), 0);
    json_t *answer = json_pack("{s:b, s:s}", "success", 1, "id", s->id);
    if (secret)
        json_object_set(answer, "secret", (json_t *)(uintptr_t)secret);
    subscription_answer(task, 200, answer);
}

void subscriptions_make(struct task *task)
{
    json_t *root = NULL;
    if (task->subscribing) {   /* once more, now that there is a bus */
        begin_anew(task);
    } else if ((root = subscription_read_object(task))) {
        make(task, root, false, made);
    }
}

void subscriptions_make_plainly(struct task *task)
{
    if (task->subscribing) {
        subscriptions_make(task);
        return;
    }
    json_t *body = subscription_read_object(task);
    if (!body)
        return;
    const char *type = json_string_value(json_object_get(body, "event_type")), *callback = json_string_value(json_object_get(body, "callback"));
    if (!type || !callback) {
        task_problem(task, 400, "The body must be a JSON object with the texts event_type and callback; id and config may be there, too.");
        json_decref(body);
        return;
    }
    json_t *root = json_pack("{s:[s], s:s}", "types", type, "sink", callback);
    static const char *const further[] = {"id", "config"};
    for (unsigned i = 0; root && i < 2; i++)
        if (json_object_get(body, further[i]))
            json_object_set(root, further[i], json_object_get(body, further[i]));
    json_decref(body);
    if (root)
        make(task, root, true, made_plainly);
    else
        task_problem(task, 503, "There is too little memory.");
}

/* ---- versions ----------------------------------------------------------------------------------------------------------------- */

/* An entity tag of what is kept of the subscription; how it goes with it does not count. False: it is gone. */
static bool tag_of(struct task *task, char tag[TAG_SIZE])
{
    struct bytes value;
    if (!worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), task_name(task, 0), &value))
        return false;
    snprintf(tag, TAG_SIZE, "\"%016llx\"", (unsigned long long)bytes_hash(value, TAG_SEED));
    return true;
}

/* Takes the answer, which has the tag with it. */
static void answer_tagged(struct task *task, json_t *answer)
{
    char tag[TAG_SIZE];
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    if (text && tag_of(task, tag))
        task_answer_with(task, 200, text, "etag", tag);
    else if (text)
        task_answer(task, 200, text);
    else
        task_problem(task, 503, "There is too little memory.");
    free(text);
}

/* Is the tag among those of a list, or is that *? (RFC 9110, section 13.1.1; weak ones match nothing.) */
static bool has_tag(struct bytes list, const char *tag)
{
    while (list.size) {
        const uint8_t *comma = memchr(list.data, ',', list.size);
        struct bytes one = bytes_of(list.data, comma ? (size_t)(comma - list.data) : list.size);
        list = comma ? bytes_of(comma + 1, list.size - one.size - 1) : (struct bytes){0};
        while (one.size && (one.data[0] == ' ' || one.data[0] == '\t'))
            one = bytes_of(one.data + 1, one.size - 1);
        while (one.size && (one.data[one.size - 1] == ' ' || one.data[one.size - 1] == '\t'))
            one.size--;
        if (bytes_equal(one, bytes_of_text(tag)) || bytes_equal(one, bytes_of_text("*")))
            return true;
    }
    return false;
}

/* Who says If-Match means the subscription as it was then. False: the task was answered. */
static bool is_matched(struct task *task)
{
    char tag[TAG_SIZE] = "";
    struct bytes wanted;
    if (!http_field_find(task->call->request, "if-match", &wanted) || bug_enabled(BUG_HOOK_MATCH_IGNORED) || (tag_of(task, tag) && has_tag(wanted, tag)))
        return true;
    task_problem(task, 412, "The subscription is not what If-Match says: it has been changed meanwhile.");
    return false;
}

/* ---- changing one ------------------------------------------------------------------------------------------------------------ */

static void changed(struct task *task)
{
    json_t *root = task->subscribing->subscription.root;
    answer_tagged(task, shown(json_incref(root)));
}

/* JSON merge patch (RFC 7396), of the members that may be changed. A sink whose password was shown hidden stays what it is. */
static const char *merge(json_t *root, const json_t *patch)
{
    static const char *const free_ones[] = {"sink", "types", "source", "filters", "paused", "config"};
    const char *name, *inner;
    json_t *value, *one;
    json_object_foreach((json_t *)(uintptr_t)patch, name, value) {
        bool known = false;
        for (unsigned i = 0; i < 6; i++)
            known |= strcmp(name, free_ones[i]) == 0;
        if (!known)
            return name;
        json_t *hidden = strcmp(name, "sink") == 0 ? uri_shown(json_string_value(json_object_get(root, name))) : NULL;
        bool is_same = hidden && json_equal(hidden, value);
        json_decref(hidden);
        if (is_same)
            continue;
        json_t *config = strcmp(name, "config") == 0 && json_is_object(value) ? json_object_get(root, name) : NULL;
        if (!config && json_is_null(value))
            json_object_del(root, name);
        else if (!config)
            json_object_set(root, name, value);
        else
            json_object_foreach(value, inner, one) {
                if (json_is_null(one))
                    json_object_del(config, inner);
                else
                    json_object_set(config, inner, one);
            }
    }
    return NULL;
}

/* Is something named that the queue does? NULL or no object: the whole config is taken away. */
static bool names_terms(const json_t *config)
{
    return config && (!json_is_object(config) || json_object_get(config, "retry") || json_object_get(config, "attempts") || json_object_get(config, "order"));
}

/* The subscription as it is found, with the patch. */
static void change(struct task *task, const json_t *found, const json_t *patch)
{
    json_t *root = json_deep_copy(found), *old_types = json_incref(json_object_get(found, "types"));
    const char *fixed = root ? merge(root, patch) : NULL;
    struct bytes old = {0};
    if (!root) {
        task_problem(task, 503, "There is too little memory.");
    } else if (fixed) {
        task_problem(task, 422, "A subscription's %.60s cannot be changed.", fixed);
    } else {
        /* Whoever names a sink says whether it may be on this machine; an ended one begins anew. */
        if (json_object_get(patch, "sink") && !request_is_local(task->gateway, task->call->request))
            json_object_del(root, "local");
        else if (json_object_get(patch, "sink"))
            json_object_set_new(root, "local", json_true());
        const char *sink = json_string_value(json_object_get(patch, "sink"));
        if (sink && json_object_get(root, "protocol"))
            json_object_set_new(root, "protocol", json_string(sink_uri_is(sink) ? "AMQP" : "HTTP"));
        if (json_object_get(patch, "sink") || json_is_false(json_object_get(patch, "paused")))
            json_object_del(root, "ended");
        if (names_terms(json_object_get(patch, "config")))
            json_object_set_new(root, "governs", json_true());
        worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), task_name(task, 0), &old);
        put(task, json_incref(root), old, old_types ? json_incref(old_types) : json_array(), false, changed);
    }
    json_decref(root);
    json_decref(old_types);
}

void subscriptions_change(struct task *task)
{
    if (task->subscribing) {
        begin_anew(task);
        return;
    }
    json_t *patch = subscription_read_object(task), *found = patch ? subscription_find(task) : NULL;
    if (found && is_matched(task))
        change(task, found, patch);
    json_decref(found);
    json_decref(patch);
}

/* ---- trying one out ----------------------------------------------------------------------------------------------------------- */

static void tried(struct task *task)
{
    if (task->refused)
        task_problem(task, 503, "The event was refused: the queue is full, or storage has failed.");
    else
        subscription_answer(task, 200, json_pack("{s:s}", "id", task->note));
}

/* An event for this subscription alone, by the queue's own name. */
static void publish_test(struct task *task, const struct cloud_event *event)
{
    char id[SUBSCRIPTION_ID_MAX + 1], queue[SUBSCRIPTION_QUEUE_MAX];
    struct amqp_properties properties;
    uint8_t *room;
    snprintf(id, sizeof(id), "%.*s", (int)task_name(task, 0).size, (const char *)task_name(task, 0).data);
    subscription_queue(id, false, queue);
    if (!event_properties(event, &properties, &room)) {
        task_problem(task, 503, "There is too little memory.");
        return;
    }
    const struct outgoing outgoing = {.routing_key = bytes_of_text(queue), .properties = &properties, .body = event->data};
    enum publish_result result = publish_message(task, &outgoing);
    if (result == PUBLISH_ROUTED)
        publish_done(task, tried);
    else if (result == PUBLISH_UNROUTABLE)
        task_problem(task, 404, "The subscription's queue is gone.");
    else
        publish_refuse(task, result, &outgoing);
    free(room);
}

void subscriptions_test(struct task *task)
{
    char id[NEW_ID_SIZE];
    struct cloud_event event = {.content_type = bytes_of_text("application/json"), .data = bytes_of_text("{\"test\":true}")};
    json_t *root = subscription_find(task);
    if (!root)
        return;
    json_decref(root);
    free(task->note);
    task->note = subscription_new_id('t', id) ? strdup(id) : NULL;
    if (!task->note) {
        task_problem(task, 503, "There is too little memory, or randomness.");
        return;
    }
    event_put(&event, "specversion", bytes_of_text("1.0"));
    event_put(&event, "id", bytes_of_text(task->note));
    event_put(&event, "source", bytes_of_text("/godwit"));
    event_put(&event, "type", bytes_of_text("godwit.test"));
    event_put(&event, "subject", task_name(task, 0));
    publish_test(task, &event);
}

/* ---- removing one ------------------------------------------------------------------------------------------------------------- */

static void removed(struct task *task, const struct reply *reply)
{
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        task_answer(task, 204, NULL);
}

static void remove_queue(struct task *task, bool dead, void (*done)(struct task *task, const struct reply *reply))
{
    char id[SUBSCRIPTION_ID_MAX + 1], queue[SUBSCRIPTION_QUEUE_MAX];
    snprintf(id, sizeof(id), "%.*s", (int)task_name(task, 0).size, (const char *)task_name(task, 0).data);
    subscription_queue(id, dead, queue);
    member_ask(task, &(struct request){.kind = REQUEST_QUEUE_DELETE, .flags = REQUEST_TRUSTED, .name = bytes_of_text(queue)}, done);
}

static void both_removed(struct task *task, const struct reply *reply)
{
    const struct topology_change change = {.kind = CHANGE_PARAMETER_DELETE, .name = task_name(task, 0), .source = component()};
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else if (bug_enabled(BUG_HOOK_REMOVED_FIRST))
        removed(task, reply);
    else
        member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &change}, removed);
}

static void queue_removed(struct task *task, const struct reply *reply)
{
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        remove_queue(task, true, both_removed);
}

static void replay_forgotten(struct task *task, const struct reply *reply)
{
    if (reply->code && reply->code != 404)
        task_refuse(task, reply->code, reply->text);
    else
        remove_queue(task, false, queue_removed);
}

/* The subscription itself goes last: as long as there is something left of it, it can be removed. */
void subscriptions_remove(struct task *task)
{
    json_t *root = subscription_find(task);
    json_decref(root);
    if (!root || !is_matched(task))
        return;
    const struct topology_change change = {.kind = CHANGE_PARAMETER_DELETE, .name = task_name(task, 0),
                                           .source = bug_enabled(BUG_HOOK_REMOVED_FIRST) ? component() : bytes_of_text(SUBSCRIPTION_REPLAY_COMPONENT)};
    member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &change}, replay_forgotten);
}

/* ---- looking at them ------------------------------------------------------------------------------------------------------------ */

struct gathering {
    struct task *task;
    json_t *list;
};

static void gather(void *owner, struct bytes vhost, struct bytes id, struct bytes value)
{
    struct gathering *gathering = owner;
    (void)id;
    json_t *root = bytes_equal(vhost, member_vhost(gathering->task->member)) ? json_loadb((const char *)value.data, value.size, 0, NULL) : NULL;
    if (root && is_his(gathering->task, root))
        json_array_append_new(gathering->list, shown(root));
    else
        json_decref(root);
}

void subscriptions_list(struct task *task)
{
    struct gathering gathering = {.task = task, .list = json_array()};
    worker_parameters(task->gateway->hall->worker, component(), gather, &gathering);
    subscription_answer(task, 200, gathering.list);
}

/* What halls say to one another: which subscription's status is wanted, and the text of it. Behind it: vhost and id of a question, JSON of an answer. */
struct status_letter {
    uint64_t ask, unused;
    uint8_t kind;                    /* enum letter_kind */
    uint8_t what, vhost_size, id_size;   /* what: enum status_asked */
};

void subscription_ask(struct task *task, enum status_asked what)
{
    struct gateway_hall *hall = task->gateway->hall;
    struct bytes vhost = member_vhost(task->member), id = task_name(task, 0);
    uint8_t room[sizeof(struct status_letter) + 2 * UINT8_MAX];
    json_t *root = subscription_find(task);
    if (!root)
        return;
    json_decref(root);
    if (!reception_expect(task)) {
        task_problem(task, 503, "The broker stops, or there is too little memory.");
        return;
    }
    const struct status_letter letter = {.ask = task->ask, .kind = LETTER_LOOK, .what = (uint8_t)what, .vhost_size = (uint8_t)vhost.size, .id_size = (uint8_t)id.size};
    memcpy(room, &letter, sizeof(letter));
    memcpy(room + sizeof(letter), vhost.data, vhost.size);
    memcpy(room + sizeof(letter) + vhost.size, id.data, id.size);
    worker_send(hall->worker, bus_place(vhost, id, hall->workers), bytes_of(room, sizeof(letter) + vhost.size + id.size));
}

void subscriptions_get(struct task *task) { subscription_ask(task, ASKED_STATUS); }
void subscriptions_attempts(struct task *task) { subscription_ask(task, ASKED_ATTEMPTS); }

static void answer_status(struct task *task, struct bytes text)
{
    json_t *status = json_loadb((const char *)text.data, text.size, 0, NULL), *root = subscription_find(task);
    if (!root) {
        json_decref(status);
    } else if (json_object_get(status, "attempts")) {
        subscription_answer(task, 200, json_incref(json_object_get(status, "attempts")));
        json_decref(status);
        json_decref(root);
    } else {
        json_t *answer = shown(root);
        json_object_set_new(answer, "status", status ? status : json_null());
        answer_tagged(task, answer);
    }
}

void subscriptions_letter(struct gateway_hall *hall, unsigned from, struct bytes bytes)
{
    struct status_letter letter;
    memcpy(&letter, bytes.data, sizeof(letter));
    const uint8_t *at = bytes.data + sizeof(letter);
    if (letter.kind == LETTER_LOOKED) {
        struct task *task = reception_expected(hall, letter.ask);
        if (task && letter.what == ASKED_REPLAY)
            replays_told(task, bytes_of(at, bytes.size - sizeof(letter)));
        else if (task)
            answer_status(task, bytes_of(at, bytes.size - sizeof(letter)));
        return;
    }
    struct bytes vhost = bytes_of(at, letter.vhost_size), id = bytes_of(at + letter.vhost_size, letter.id_size);
    char *text = !hall->bus ? NULL : letter.what == ASKED_REPLAY ? bus_describe_replay(hall->bus, vhost, id) : bus_describe(hall->bus, vhost, id, letter.what == ASKED_ATTEMPTS);
    size_t size = text ? strlen(text) : 0;
    uint8_t *room = malloc(sizeof(letter) + size);
    const struct status_letter back = {.ask = letter.ask, .kind = LETTER_LOOKED, .what = letter.what};
    if (!room) {
        worker_send(hall->worker, from, bytes_of(&back, sizeof(back)));
    } else {
        memcpy(room, &back, sizeof(back));
        if (size)
            memcpy(room + sizeof(back), text, size);
        worker_send(hall->worker, from, bytes_of(room, sizeof(back) + size));
    }
    free(room);
    free(text);
}
