#include "protocol/gateway/sources.h"

#include "broker/topology_change.h"
#include "broker/worker.h"
#include "bus/intakes.h"
#include "protocol/gateway/reception.h"
#include "protocol/gateway/subscriptions.h"
#include "protocol/gateway/uri_shown.h"
#include "protocol/gateway/work.h"
#include "protocol/webhook/url.h"
#include "sources/source.h"

#include <stdio.h>
#include <stdlib.h>

static struct bytes component(void) { return bytes_of_text(SOURCE_COMPONENT); }

/* Sources reach out from the broker's machine, and publish in their owners' names. */
static bool may(struct task *task)
{
    if (client_is_tagged(&task->member->client, "administrator"))
        return true;
    task_problem(task, 403, "Sources are for administrators.");
    return false;
}

/* ---- what is there ---------------------------------------------------------------------------------------------------------- */

static const struct intake_fixed *find_fixed(const struct task *task, struct bytes id)
{
    unsigned count = 0;
    const struct intakes *intakes = task->gateway->hall->intakes;
    const struct intake_fixed *fixed = intakes ? intakes_fixed(intakes, &count) : NULL;
    for (unsigned i = 0; i < count; i++)
        if (bytes_equal(bytes_of_text(fixed[i].id), id) && bytes_equal(bytes_of_text(fixed[i].vhost), member_vhost(task->member)))
            return &fixed[i];
    return NULL;
}

/* The declaration of the source that the path names; *text: as it is kept, until the next turn. NULL: the task was answered. */
static json_t *find(struct task *task, struct bytes *text)
{
    const struct intake_fixed *fixed = find_fixed(task, task_name(task, 0));
    json_t *root = NULL;
    *text = (struct bytes){0};
    if (fixed)
        root = json_loads(fixed->text, 0, NULL);
    else if (worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), task_name(task, 0), text))
        root = json_loadb((const char *)text->data, text->size, 0, NULL);
    if (!root)
        task_problem(task, 404, "There is no such source.");
    return root;
}

/* As it is shown: what its headers say, and a password, may be a secret. Takes the root. */
static json_t *shown(json_t *root, bool is_fixed)
{
    json_t *made = json_deep_copy(root), *headers = json_object_get(made, "headers"), *value;
    const char *name;
    void *next;
    json_object_foreach_safe(headers, next, name, value)
        json_object_set_new(headers, name, json_string("(hidden)"));
    uri_hide(made, "uri");
    json_object_del(made, "made");
    if (made && is_fixed)
        json_object_set_new(made, "configured", json_true());
    json_decref(root);
    return made;
}

/* ---- making one -------------------------------------------------------------------------------------------------------------- */

static void kept(struct task *task, const struct reply *reply, unsigned status)
{
    struct bytes text;
    if (reply->code == 412)
        task_problem(task, 409, "The source was made or changed by somebody else meanwhile.");
    else if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else if (worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), bytes_of_text(task->note ? task->note : ""), &text))
        subscription_answer(task, status, shown(json_loadb((const char *)text.data, text.size, 0, NULL), false));
    else
        task_problem(task, 404, "The source was removed meanwhile.");
}

static void was_made(struct task *task, const struct reply *reply) { kept(task, reply, 201); }
static void was_changed(struct task *task, const struct reply *reply) { kept(task, reply, 200); }

/* True: it is a source that may be kept; otherwise the task was answered. */
static bool judge(struct task *task, json_t *root)
{
    const struct gateway_hall *hall = task->gateway->hall;
    struct declaration declaration;
    struct sink_url url;
    char why[SOURCE_WHY_MAX], url_why[URL_WHY_MAX];
    if (!declaration_read(&declaration, root, hall->intakes ? intakes_zones(hall->intakes) : NULL, why)) {
        task_problem(task, 422, "%s", why);
        return false;
    }
    bool is_local = declaration_is_local(&declaration) && !(hall->intakes && intakes_allow_local(hall->intakes)), reaches = declaration.reach == FEED_REACHES_MACHINE;
    const char *text = json_string_value(json_object_get(root, "url")), *refusal = NULL;
    if (text && hall->networks && sink_url_read(bytes_of_text(text), &url, url_why) && url.is_address)
        refusal = ip_address_refusal(&url.address, &hall->networks[reaches]);
    if (is_local)
        task_problem(task, 422, "Sources of the kind \"%s\" are declared in the broker's configuration alone, unless that says sources_local = on.", declaration_kind(&declaration));
    else if (refusal)
        task_problem(task, 422, "The source's address %s is %s, and may not be connected to; webhook_networks in the broker's configuration says which may.", url.host, refusal);
    else if (!task->note)
        task->note = strdup(declaration.id);
    bool good = !is_local && !refusal && task->note;
    if (!is_local && !refusal && !task->note)
        task_problem(task, 503, "There is too little memory.");
    declaration_deinit(&declaration);
    return good;
}

static void keep(struct task *task, const json_t *root, struct bytes before, void (*done)(struct task *task, const struct reply *reply))
{
    char *text = json_dumps(root, JSON_COMPACT);
    if (!text) {
        task_problem(task, 503, "There is too little memory.");
        return;
    }
    const struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .flags = TOPOLOGY_IF_SAME, .name = bytes_of_text(task->note), .source = component(), .arguments = bytes_of_text(text),
                                           .secret = before};
    member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &change}, done);
    free(text);
}

static void put_owner(struct task *task, json_t *root)
{
    struct bytes user = task->member->client.user;
    json_object_set_new(root, "owner", json_stringn((const char *)user.data, user.size));
}

static void put_locality(struct task *task, json_t *root)
{
    json_object_del(root, "local");
    if ((json_object_get(root, "url") || json_object_get(root, "uri")) && request_is_local(task->gateway, task->call->request))
        json_object_set_new(root, "local", json_true());
}

void sources_make(struct task *task)
{
    struct bytes before;
    json_t *root = may(task) ? subscription_read_object(task) : NULL;
    if (!root)
        return;
    json_object_del(root, "made");
    put_owner(task, root);
    put_locality(task, root);
    if (!subscription_put_id(task, root, 'i')) {
        task_problem(task, 503, "There is too little memory, or randomness.");
    } else if (judge(task, root)) {
        if (worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), bytes_of_text(task->note), &before)) {
            json_t *old = json_loadb((const char *)before.data, before.size, 0, NULL);
            if (subscription_is_repeated(task, old))
                subscription_answer(task, 201, shown(json_incref(old), false));
            else
                task_problem(task, 409, "There is a source '%s' already.", task->note);
            json_decref(old);
        } else if (find_fixed(task, bytes_of_text(task->note))) {
            task_problem(task, 409, "There is a source '%s' already, in the broker's configuration.", task->note);
        } else {
            keep(task, root, (struct bytes){0}, was_made);
        }
    }
    json_decref(root);
}

/* ---- changing and removing one ------------------------------------------------------------------------------------------------ */

static bool is_changeable(struct task *task)
{
    if (!find_fixed(task, task_name(task, 0)))
        return true;
    task_problem(task, 409, "The source is declared in the broker's configuration, and changed there.");
    return false;
}

/* JSON merge patch (RFC 7396); values that were shown hidden stay what they are. False: what may not be changed was named. */
static bool merge(json_t *root, const json_t *patch, bool is_top)
{
    static const char *const fixed[] = {"id", "kind", "owner", "local", "made"};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patch, name, value) {
        for (unsigned i = 0; is_top && i < sizeof(fixed) / sizeof(fixed[0]); i++)
            if (strcmp(fixed[i], name) == 0)
                return false;
        json_t *inner = json_object_get(root, name);
        const char *text = json_string_value(value);
        json_t *known = is_top && strcmp(name, "uri") == 0 ? uri_shown(json_string_value(inner)) : NULL;
        bool is_same = known && json_equal(known, value);
        json_decref(known);
        if (is_same)
            continue;
        if (json_is_null(value))
            json_object_del(root, name);
        else if (json_is_object(value) && json_is_object(inner))
            merge(inner, value, false);
        else if (is_top || !inner || !text || strcmp(text, "(hidden)") != 0)
            json_object_set(root, name, value);
    }
    return true;
}

void sources_change(struct task *task)
{
    struct bytes before;
    json_t *patch = may(task) ? subscription_read_object(task) : NULL, *root = patch && is_changeable(task) ? find(task, &before) : NULL;
    if (root && !merge(root, patch, true)) {
        task_problem(task, 422, "A source's id, kind and owner cannot be changed.");
    } else if (root) {
        if (json_object_get(patch, "url") || json_object_get(patch, "uri"))
            put_locality(task, root);
        if (judge(task, root))
            keep(task, root, before, was_changed);
    }
    json_decref(root);
    json_decref(patch);
}

static void queue_removed(struct task *task, const struct reply *reply)
{
    if (reply->code && reply->code != 404)
        task_refuse(task, reply->code, reply->text);
    else
        task_answer(task, 204, NULL);
}

static void was_removed(struct task *task, const struct reply *reply)
{
    char id[SOURCE_ID_MAX + 1], queue[SOURCE_QUEUE_MAX];
    if (reply->code) {
        task_refuse(task, reply->code, reply->text);
        return;
    }
    snprintf(id, sizeof(id), "%.*s", (int)(task_name(task, 0).size < SOURCE_ID_MAX ? task_name(task, 0).size : SOURCE_ID_MAX), (const char *)task_name(task, 0).data);
    source_queue(id, queue);
    member_ask(task, &(struct request){.kind = REQUEST_QUEUE_DELETE, .flags = REQUEST_TRUSTED, .name = bytes_of_text(queue)}, queue_removed);
}

void sources_remove(struct task *task)
{
    struct bytes before;
    json_t *root = may(task) && is_changeable(task) ? find(task, &before) : NULL;
    if (!root)
        return;
    json_decref(root);
    const struct topology_change change = {.kind = CHANGE_PARAMETER_DELETE, .name = task_name(task, 0), .source = component()};
    member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &change}, was_removed);
}

/* ---- looking at them ------------------------------------------------------------------------------------------------------------ */

struct gathering {
    struct task *task;
    json_t *list;
};

static void gather(void *owner, struct bytes vhost, struct bytes id, struct bytes value)
{
    struct gathering *gathering = owner;
    if (bytes_equal(vhost, member_vhost(gathering->task->member)) && !find_fixed(gathering->task, id))
        json_array_append_new(gathering->list, shown(json_loadb((const char *)value.data, value.size, 0, NULL), false));
}

void sources_list(struct task *task)
{
    unsigned count = 0;
    const struct intakes *intakes = task->gateway->hall->intakes;
    const struct intake_fixed *fixed = intakes ? intakes_fixed(intakes, &count) : NULL;
    if (!may(task))
        return;
    struct gathering gathering = {.task = task, .list = json_array()};
    for (unsigned i = 0; i < count; i++)
        if (bytes_equal(bytes_of_text(fixed[i].vhost), member_vhost(task->member)))
            json_array_append_new(gathering.list, shown(json_loads(fixed[i].text, 0, NULL), true));
    worker_parameters(task->gateway->hall->worker, component(), gather, &gathering);
    subscription_answer(task, 200, gathering.list);
}

/* What halls say to one another; the same head as of other letters. Behind it: vhost and id of a question, JSON of an answer. */
struct source_letter {
    uint64_t ask, unused;
    uint8_t kind;                    /* enum letter_kind */
    uint8_t vhost_size, id_size, padding;
};

void sources_get(struct task *task)
{
    struct gateway_hall *hall = task->gateway->hall;
    struct bytes vhost = member_vhost(task->member), id = task_name(task, 0), text;
    uint8_t room[sizeof(struct source_letter) + 2 * UINT8_MAX];
    json_t *root = may(task) ? find(task, &text) : NULL;
    if (!root)
        return;
    json_decref(root);
    if (!reception_expect(task)) {
        task_problem(task, 503, "The broker stops, or there is too little memory.");
        return;
    }
    const struct source_letter letter = {.ask = task->ask, .kind = LETTER_SOURCE, .vhost_size = (uint8_t)vhost.size, .id_size = (uint8_t)id.size};
    memcpy(room, &letter, sizeof(letter));
    memcpy(room + sizeof(letter), vhost.data, vhost.size);
    memcpy(room + sizeof(letter) + vhost.size, id.data, id.size);
    worker_send(hall->worker, intakes_place(vhost, id, hall->workers), bytes_of(room, sizeof(letter) + vhost.size + id.size));
}

static void answer_status(struct task *task, struct bytes text)
{
    struct bytes kept_text;
    json_t *status = json_loadb((const char *)text.data, text.size, 0, NULL), *root = find(task, &kept_text);
    if (!root) {
        json_decref(status);
        return;
    }
    json_t *answer = shown(root, find_fixed(task, task_name(task, 0)) != NULL);
    json_object_set_new(answer, "status", status ? status : json_null());
    subscription_answer(task, 200, answer);
}

void sources_letter(struct gateway_hall *hall, unsigned from, struct bytes bytes)
{
    struct source_letter letter;
    memcpy(&letter, bytes.data, sizeof(letter));
    const uint8_t *at = bytes.data + sizeof(letter);
    if (letter.kind == LETTER_SOURCE_TOLD) {
        struct task *task = reception_expected(hall, letter.ask);
        if (task)
            answer_status(task, bytes_of(at, bytes.size - sizeof(letter)));
        return;
    }
    char *text = hall->intakes ? intakes_describe(hall->intakes, bytes_of(at, letter.vhost_size), bytes_of(at + letter.vhost_size, letter.id_size)) : NULL;
    size_t size = text ? strlen(text) : 0;
    const struct source_letter back = {.ask = letter.ask, .kind = LETTER_SOURCE_TOLD};
    uint8_t *room = malloc(sizeof(back) + size);
    if (room) {
        memcpy(room, &back, sizeof(back));
        if (size)
            memcpy(room + sizeof(back), text, size);
        worker_send(hall->worker, from, bytes_of(room, sizeof(back) + size));
    } else {
        worker_send(hall->worker, from, bytes_of(&back, sizeof(back)));
    }
    free(room);
    free(text);
}
