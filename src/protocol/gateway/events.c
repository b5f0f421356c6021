/* The event bus: POST /events and /event/publish. An event is a message to the topic exchange `events` of its vhost, with its type as the routing key; both the exchange
 * and a stream of the same name, which keeps what was published, are declared when they are first needed. */
#include "base/bugs.h"
#include "bus/event_json.h"
#include "protocol/gateway/cloud_event.h"
#include "protocol/gateway/json_slice.h"
#include "protocol/gateway/publish.h"
#include "protocol/gateway/work.h"

#include <stdio.h>
#include <stdlib.h>

#define STREAM_BYTES (1 << 30)       /* as much of the past is kept */
#define ALL "#"                      /* types */
#define BATCH_MAX 10000u
#define ID_SIZE 40u
#define SHORT (UINT8_MAX + 1u)
#define FEW 1024u                    /* bytes that most events' attributes take */
#define JSON_FLAGS (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

/* ---- the exchange and its stream --------------------------------------------------------------------------------------- */

static void bound(struct task *task, const struct reply *reply)
{
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        task->resource->run(task);
}

static void exchange_declared(struct task *task, const struct reply *reply)
{
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        member_ask(task, &(struct request){.kind = REQUEST_QUEUE_BIND, .flags = REQUEST_TRUSTED, .name = bytes_of_text(EVENTS_NAME), .source = bytes_of_text(EVENTS_NAME),
                                           .routing_key = bytes_of_text(ALL)}, bound);
}

static void stream_declared(struct task *task, const struct reply *reply)
{
    if (reply->code)
        task_refuse(task, reply->code, reply->text);
    else
        member_ask(task, &(struct request){.kind = REQUEST_EXCHANGE_DECLARE, .flags = REQUEST_DURABLE | REQUEST_TRUSTED, .name = bytes_of_text(EVENTS_NAME),
                                           .type = bytes_of_text("topic")}, exchange_declared);
}

/* The stream comes first: an exchange beside a stream that is not bound to it is what was left half-way, by a broker that ended then or somebody who is doing it just now. */
void events_declare(struct task *task)
{
    uint8_t room[128];
    struct amqp_table_writer writer;
    struct bytes arguments;
    task->declared = true;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-queue-type", bytes_of_text("stream"));
    amqp_table_put_long(&writer, "x-max-length-bytes", STREAM_BYTES);
    CHECK(amqp_table_finish(&writer, &arguments));
    member_ask(task, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE | REQUEST_TRUSTED, .name = bytes_of_text(EVENTS_NAME), .arguments = arguments},
               stream_declared);
}

/* Would an event be kept in the stream, if there is one? What was answered 2xx must not be missing there. */
static bool bus_is_whole(struct member *member)
{
    uint64_t version = client_routes_version(&member->client) + 1;
    if (member->whole == version)
        return true;
    if (!bug_enabled(BUG_EVENTS_HALF_MADE) && client_lacks_binding(&member->client, bytes_of_text(EVENTS_NAME), bytes_of_text(EVENTS_NAME), bytes_of_text(ALL)))
        return false;
    member->whole = version;
    return true;
}

/* ---- publishing -------------------------------------------------------------------------------------------------------- */

static void new_id(struct task *task, char id[ID_SIZE])
{
    struct gateway_hall *hall = task->gateway->hall;
    snprintf(id, ID_SIZE, "%016llx-%llx", (unsigned long long)hall->seed, (unsigned long long)++hall->next_id);
}

/* False: the task was answered, or is going to be done again. */
static bool publish_event(struct task *task, const struct cloud_event *event)
{
    UNINITIALIZED uint8_t few[FEW];
    struct amqp_properties properties;
    if (!task->declared && !bus_is_whole(task->member)) {
        if (!task->upload)
            events_declare(task);
        return false;
    }
    size_t size = event_properties_size(event);
    uint8_t *room = size <= sizeof(few) ? few : malloc(size);
    if (!room) {
        task_problem(task, 503, "There is too little memory.");
        return false;
    }
    event_properties_in(event, &properties, room, size);
    const struct outgoing outgoing = {.exchange = bytes_of_text(EVENTS_NAME), .routing_key = properties.type, .properties = &properties, .body = event->data};
    enum publish_result result = publish_message(task, &outgoing);
    bool undeclared = result == PUBLISH_NO_EXCHANGE && !task->declared;
    if (undeclared && !task->upload)
        events_declare(task);
    else if (!undeclared && result != PUBLISH_ROUTED && result != PUBLISH_UNROUTABLE)
        publish_refuse(task, result, &outgoing);
    if (room != few)
        free(room);
    return result == PUBLISH_ROUTED || result == PUBLISH_UNROUTABLE;
}

static void answer_json(struct task *task, unsigned status, json_t *answer)
{
    char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    json_decref(answer);
    task_answer(task, status, text ? text : "{}");
    free(text);
}

/* Text that is the same in JSON: ids mostly are. */
static bool is_simple(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || (unsigned char)*text > '~' || *text == '"' || *text == '\\')
            return false;
    return true;
}

/* Answers with {…, "id": …}: what stands before the id, with a comma where something does. */
static void answer_id(struct task *task, unsigned status, const char *before)
{
    char text[2 * SHORT];
    size_t size = strlen(task->note), first = strlen(before);
    if (!is_simple(task->note) || first + size + 16 > sizeof(text)) {
        answer_json(task, status, first ? json_pack("{s:b, s:s}", "success", 1, "id", task->note) : json_pack("{s:s}", "id", task->note));
        return;
    }
    char *at = text;
    *at++ = '{';
    at = mempcpy(at, before, first);
    at = mempcpy(at, "\"id\":\"", 6);
    at = mempcpy(at, task->note, size);
    memcpy(at, "\"}", 3);
    task_answer(task, status, text);
}

/* What was published is confirmed, or some of it is not. */
static bool is_kept(struct task *task)
{
    if (task->refused)
        task_problem(task, 503, "%u of %u events were refused: a queue is full, or storage has failed.", task->refused, task->count);
    return !task->refused;
}

static void one_confirmed(struct task *task)
{
    if (is_kept(task))
        answer_id(task, 201, "");
}

static void plainly_confirmed(struct task *task)
{
    if (is_kept(task))
        answer_id(task, 200, "\"success\":true,");
}

static void batch_confirmed(struct task *task)
{
    if (is_kept(task))
        answer_json(task, 201, json_pack("{s:i}", "count", (int)task->events));
}

/* Remembers the id for the answer. */
static bool note(struct task *task, struct bytes id)
{
    free(task->note);
    task->note = bytes_to_text(id);
    if (task->note)
        return true;
    task_problem(task, 503, "There is too little memory.");
    return false;
}

static void publish_one(struct task *task, const struct cloud_event *event, void (*confirmed)(struct task *task))
{
    if (note(task, event_text(event, "id")) && publish_event(task, event))
        publish_done(task, confirmed);
}

/* ---- what comes -------------------------------------------------------------------------------------------------------- */

/* The body as JSON. NULL: the task was answered. */
static json_t *read_json(struct task *task)
{
    json_error_t error;
    json_t *root = json_loadb(task->body ? (const char *)task->body : "", task->size, JSON_FLAGS, &error);
    if (!root)
        task_problem(task, 400, "The body is no JSON that is understood: line %d, column %d: %s", error.line, error.column, error.text);
    return root;
}

static void publish_structured(struct task *task)
{
    UNINITIALIZED struct cloud_event event;
    char why[EVENT_WHY_MAX];
    json_t *root = read_json(task);
    if (!root)
        return;
    if (event_read_json(&event, root, bytes_of(task->body, task->size), why))
        publish_one(task, &event, one_confirmed);
    else
        task_problem(task, 400, "%s", why);
    event_deinit(&event);
    json_decref(root);
}

/* All are looked at before the first is published. */
static bool judge_batch(struct task *task, json_t *root)
{
    struct bytes rest = json_slice_open(bytes_of(task->body, task->size)), text;
    char why[EVENT_WHY_MAX];
    if (!json_is_array(root) || json_array_size(root) > BATCH_MAX) {
        task_problem(task, 400, "A batch must be a JSON array of at most %u events.", BATCH_MAX);
        return false;
    }
    for (size_t i = 0; json_slice_next(&rest, &text); i++) {
        UNINITIALIZED struct cloud_event event;
        bool good = event_read_json(&event, json_array_get(root, i), text, why);
        event_deinit(&event);
        if (!good) {
            task_problem(task, 400, "Event %zu of the batch: %s", i, why);
            return false;
        }
    }
    return true;
}

static void publish_batch(struct task *task)
{
    json_t *root = read_json(task);
    if (!root)
        return;
    bool good = judge_batch(task, root);
    if (!good) {   /* the task was answered, and may be gone */
        json_decref(root);
        return;
    }
    struct bytes rest = json_slice_open(bytes_of(task->body, task->size)), text;
    task->events = 0;
    for (size_t i = 0; good && json_slice_next(&rest, &text); i++) {
        UNINITIALIZED struct cloud_event event;
        char why[EVENT_WHY_MAX];
        good = event_read_json(&event, json_array_get(root, i), text, why) && publish_event(task, &event);
        event_deinit(&event);
        if (good)
            task->events++;
    }
    if (good)
        publish_done(task, batch_confirmed);
    json_decref(root);
}

/* What is no CloudEvent becomes the data of one. */
static void publish_data(struct task *task)
{
    UNINITIALIZED struct cloud_event event;
    char type[SHORT], source[SHORT] = "/http", id[SHORT] = "", subject[SHORT] = "", why[EVENT_WHY_MAX];
    bool bad;
    event_init(&event);
    event.data = bytes_of(task->body, task->size);
    http_field_find(task->call->request, "content-type", &event.content_type);
    if (!task_parameter(task, "type", type, sizeof(type), &bad)) {
        if (!bad)
            task_problem(task, 400, "The body is no CloudEvent, so the parameter type must say what it is.");
        return;
    }
    if ((!task_parameter(task, "source", source, sizeof(source), &bad) && bad) || (!task_parameter(task, "id", id, sizeof(id), &bad) && bad) ||
        (!task_parameter(task, "subject", subject, sizeof(subject), &bad) && bad))
        return;
    if (event_is_json(event.content_type)) {
        json_error_t error;
        json_t *root = json_loadb(event.data.size ? (const char *)event.data.data : "", event.data.size, JSON_FLAGS | JSON_DECODE_ANY, &error);
        json_decref(root);
        if (!root) {
            task_problem(task, 400, "The body says that it is JSON, which it is not: line %d, column %d: %s", error.line, error.column, error.text);
            return;
        }
    }
    if (!id[0] && !task_idempotency_key(task, id))
        return;
    if (!id[0])
        new_id(task, id);
    event_put(&event, "specversion", bytes_of_text("1.0"));
    event_put(&event, "id", bytes_of_text(id));
    event_put(&event, "source", bytes_of_text(source));
    event_put(&event, "type", bytes_of_text(type));
    event_put(&event, "subject", bytes_of_text(subject));
    if (event_check(&event, why))
        publish_one(task, &event, one_confirmed);
    else
        task_problem(task, 400, "%s", why);
}

static bool media_type_is(struct bytes type, const char *name)
{
    size_t size = strlen(name);
    return type.size >= size && http_name_is(bytes_of(type.data, size), name) && (type.size == size || type.data[size] == ';' || type.data[size] == ' ');
}

static bool is_binary(const struct http_request *request)
{
    struct bytes value;
    return http_field_find(request, "ce-specversion", &value) || http_field_find(request, "ce-type", &value) || http_field_find(request, "ce-id", &value);
}

bool events_are_opaque(const struct http_request *request)
{
    struct bytes type = {0};
    http_field_find(request, "content-type", &type);
    bool structured = type.size >= 23 && http_name_is(bytes_of(type.data, 23), "application/cloudevents");
    return !structured && (is_binary(request) || !event_is_json(type));
}

void events_publish(struct task *task)
{
    const struct http_request *request = task->call->request;
    struct bytes type = {0};
    http_field_find(request, "content-type", &type);
    if (media_type_is(type, "application/cloudevents+json")) {
        publish_structured(task);
    } else if (media_type_is(type, "application/cloudevents-batch+json")) {
        publish_batch(task);
    } else if (type.size >= 23 && http_name_is(bytes_of(type.data, 23), "application/cloudevents")) {
        task_problem(task, 400, "Of CloudEvents' formats JSON is understood.");
    } else if (is_binary(request)) {
        UNINITIALIZED struct cloud_event event;
        char why[EVENT_WHY_MAX];
        if (event_read_binary(&event, request, bytes_of(task->body, task->size), why))
            publish_one(task, &event, one_confirmed);
        else
            task_problem(task, 400, "%s", why);
        event_deinit(&event);
    } else {
        publish_data(task);
    }
}

static const char *text_member(const json_t *root, const char *name, const char *otherwise)
{
    const json_t *value = json_object_get(root, name);
    return !value || json_is_null(value) ? otherwise : json_is_string(value) ? json_string_value(value) : NULL;
}

void events_publish_plainly(struct task *task)
{
    char id[SHORT] = "", why[EVENT_WHY_MAX];
    UNINITIALIZED struct cloud_event event;
    json_t *root = read_json(task);
    if (!root)
        return;
    event_init(&event);
    event.content_type = bytes_of_text("application/json");
    event.data = bytes_of_text("null");
    const char *type = text_member(root, "event_type", ""), *source = text_member(root, "source", "/http"), *said = text_member(root, "id", "");
    const char *subject = text_member(root, "subject", "");
    if (!json_is_object(root) || !type || !type[0] || !source || !said || !subject) {
        task_problem(task, 400, "The body must be a JSON object with the texts event_type and, if at all, source, id and subject.");
    } else if (said[0] || task_idempotency_key(task, id)) {
        if (!said[0] && !id[0])
            new_id(task, id);
        json_slice_member(bytes_of(task->body, task->size), "data", &event.data);
        event_put(&event, "specversion", bytes_of_text("1.0"));
        event_put(&event, "id", bytes_of_text(said[0] ? said : id));
        event_put(&event, "source", bytes_of_text(source));
        event_put(&event, "type", bytes_of_text(type));
        event_put(&event, "subject", bytes_of_text(subject));
        if (event_check(&event, why))
            publish_one(task, &event, plainly_confirmed);
        else
            task_problem(task, 400, "%s", why);
    }
    json_decref(root);
}
