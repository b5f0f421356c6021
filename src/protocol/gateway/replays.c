/* POST, GET and DELETE /subscriptions/{id}/replay. A replay is a parameter (bus/rerun.h) that the subscription's bus carries out; here it is asked for, looked at, and taken away. */
#include "broker/topology_change.h"
#include "broker/worker.h"
#include "bus/subscription.h"
#include "protocol/gateway/cloud_event.h"
#include "protocol/gateway/subscriptions.h"
#include "protocol/gateway/work.h"

#include <stdlib.h>

#define IDS_MAX 1000u
#define ID_MAX 1024u

static struct bytes component(void) { return bytes_of_text(SUBSCRIPTION_REPLAY_COMPONENT); }

/* The parameter as it is now. False: there is none. */
static bool kept(struct task *task, struct bytes *value)
{
    return worker_parameter(task->gateway->hall->worker, member_vhost(task->member), component(), task_name(task, 0), value);
}

/* Takes the record. */
static json_t *shown(json_t *record)
{
    json_object_del(record, "made");
    json_object_del(record, "found");
    return record;
}

static bool has_memory(struct task *task, bool has)
{
    if (!has)
        task_problem(task, 503, "There is too little memory.");
    return has;
}

/* ---- what is asked for ---------------------------------------------------------------------------------------------------- */

/* A time ago: 90s, 5m, 2h, 7d. */
static bool read_age(const char *text, uint64_t *seconds)
{
    static const struct { char unit; uint64_t seconds; } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'D', 86400}};
    size_t digits = strspn(text, "0123456789");
    uint64_t number;
    if (digits > 9 || strlen(text) != digits + 1 || !http_number(bytes_of(text, digits), &number))
        return false;
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (text[digits] == units[i].unit) {
            *seconds = number * units[i].seconds;
            return true;
        }
    return false;
}

/* An offset goes into the record as `name`, a time as the milliseconds `ms_name`: the first of its second, or with `is_end` its last. False: it was answered. */
static bool read_bound(struct task *task, const json_t *wish, json_t *record, const char *name, const char *ms_name, bool is_end)
{
    const json_t *value = json_object_get(wish, name);
    uint64_t now_s = worker_wall_us(task->gateway->hall->worker) / 1000000, ago_s;
    const char *text = json_string_value(value);
    int64_t second;
    if (!value || (text && !is_end && strcmp(text, "first") == 0))
        return true;
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        return has_memory(task, json_object_set(record, name, (json_t *)(uintptr_t)value) == 0);
    if (text && read_age(text, &ago_s))
        second = ago_s < now_s ? (int64_t)(now_s - ago_s) : 0;
    else if (!text || !event_time_read(bytes_of_text(text), &second) || second < 0) {
        task_problem(task, 422, "The replay's %s must be an offset, a time such as 2026-04-05T17:31:00Z, or a time ago such as 1h.", name);
        return false;
    }
    return has_memory(task, json_object_set_new(record, ms_name, json_integer(second * 1000 + (is_end ? 999 : 0))) == 0);
}

static bool read_ids(struct task *task, const json_t *wish, json_t *record)
{
    json_t *ids = json_object_get(wish, "ids");
    bool good = !ids || (json_is_array(ids) && json_array_size(ids) && json_array_size(ids) <= IDS_MAX);
    for (size_t i = 0; good && i < json_array_size(ids); i++)
        good = json_string_length(json_array_get(ids, i)) > 0 && json_string_length(json_array_get(ids, i)) <= ID_MAX;
    if (!good)
        task_problem(task, 422, "The replay's ids must be an array of 1 to %u texts of 1 to %u bytes.", IDS_MAX, ID_MAX);
    return good && (!ids || has_memory(task, json_object_set(record, "ids", ids) == 0));
}

static bool read_wish(struct task *task, const json_t *wish, json_t *record)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)wish, name, value)
        if (strcmp(name, "from") != 0 && strcmp(name, "to") != 0 && strcmp(name, "ids") != 0) {
            task_problem(task, 422, "A replay has no '%.60s'.", name);
            return false;
        }
    if (!json_object_get(wish, "from") && !json_object_get(wish, "ids")) {
        task_problem(task, 422, "A replay needs ids, or from: an offset, a time, a time ago, or first.");
        return false;
    }
    if (!read_bound(task, wish, record, "from", "from_ms", false) || !read_bound(task, wish, record, "to", "to_ms", true) || !read_ids(task, wish, record))
        return false;
    const json_t *to = json_object_get(record, "to"), *to_ms = json_object_get(record, "to_ms");
    bool empty = (to && json_integer_value(json_object_get(record, "from")) > json_integer_value(to)) ||
                 (to_ms && json_integer_value(json_object_get(record, "from_ms")) > json_integer_value(to_ms));
    if (empty)
        task_problem(task, 422, "The replay would end before it begins.");
    return !empty;
}

/* ---- beginning ------------------------------------------------------------------------------------------------------------ */

static void begun(struct task *task, const struct reply *reply)
{
    if (reply->code == 412)
        task_problem(task, 409, "Another replay of the subscription has just begun.");
    else if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        subscription_answer(task, 202, shown(json_loads(task->note, 0, NULL)));
}

/* The last one is over, if there was any. */
static void begin(struct task *task)
{
    struct bytes old = {0}, user = task->member->client.user;
    json_t *wish = subscription_read_object(task), *record = wish ? json_object() : NULL;
    if (!wish)
        return;
    bool good = record && subscription_put_id(task, record, 'r') && !json_object_set_new(record, "state", json_string("asked")) &&
                !json_object_set_new(record, "by", json_stringn((const char *)user.data, user.size)) &&
                !json_object_set_new(record, "asked_ms", json_integer((json_int_t)(worker_wall_us(task->gateway->hall->worker) / 1000)));
    if (!good) {
        task_problem(task, 503, "There is too little memory, or randomness.");
    } else if (read_wish(task, wish, record)) {
        free(task->note);
        task->note = json_dumps(record, JSON_COMPACT);
        kept(task, &old);
        const struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .flags = TOPOLOGY_IF_SAME, .name = task_name(task, 0), .source = component(),
                                               .arguments = bytes_of_text(task->note ? task->note : ""), .secret = old};
        if (has_memory(task, task->note))
            member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &change}, begun);
    }
    json_decref(record);
    json_decref(wish);
}

void replays_begin(struct task *task)
{
    json_t *root = subscription_find(task);
    bool has_ended = json_object_get(root, "ended");
    json_decref(root);
    if (has_ended)
        task_problem(task, 409, "The subscription has ended; {\"paused\": false} or another sink begins it anew.");
    else if (root)
        subscription_ask(task, ASKED_REPLAY);
}

/* ---- looking at it, and stopping it --------------------------------------------------------------------------------------- */

void replays_get(struct task *task) { subscription_ask(task, ASKED_REPLAY); }

static json_t *record_of(struct bytes value) { return shown(json_loadb((const char *)value.data, value.size, 0, NULL)); }

/* Was this replay begun by this very request? */
static bool is_repeated(struct task *task, struct bytes *value)
{
    json_t *record = kept(task, value) ? json_loadb((const char *)value->data, value->size, 0, NULL) : NULL;
    bool repeated = subscription_is_repeated(task, record);
    json_decref(record);
    return repeated;
}

void replays_told(struct task *task, struct bytes text)
{
    struct bytes value;
    json_t *live = text.size ? json_loadb((const char *)text.data, text.size, 0, NULL) : NULL;
    if (bytes_equal(bytes_of_text(task->resource->method), bytes_of_text("GET"))) {
        if (live || kept(task, &value))
            subscription_answer(task, 200, live ? shown(json_incref(live)) : record_of(value));
        else
            task_problem(task, 404, "The subscription has had no replay.");
    } else if (live ? subscription_is_repeated(task, live) : is_repeated(task, &value)) {
        subscription_answer(task, 202, live ? shown(json_incref(live)) : record_of(value));
    } else if (live && !json_object_get(live, "ended_ms")) {
        task_problem(task, 409, "A replay of the subscription is under way: DELETE stops it.");
    } else {
        begin(task);
    }
    json_decref(live);
}

static void stopped(struct task *task, const struct reply *reply)
{
    if (reply->code == 404)
        task_problem(task, 404, "The subscription has had no replay.");
    else if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        task_answer(task, 204, NULL);
}

void replays_stop(struct task *task)
{
    json_t *root = subscription_find(task);
    if (!root)
        return;
    json_decref(root);
    const struct topology_change change = {.kind = CHANGE_PARAMETER_DELETE, .name = task_name(task, 0), .source = component()};
    member_ask(task, &(struct request){.kind = REQUEST_CHANGE, .change = &change}, stopped);
}
