#include "protocol/gateway/resource.h"

#include "protocol/gateway/work.h"
#include "protocol/http/request.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define VHOST {"vhost", "string", "the virtual host; default: /"}
#define PROPERTIES \
    {"persistent", "boolean", "false: the message need not survive a restart, and is confirmed at once; default: true"}, \
    {"mandatory", "boolean", "true: a message that leads to no queue is refused (422); default: false"}, \
    {"priority", "integer", "0 to 255, for priority queues"}, \
    {"expiration", "integer", "milliseconds after which it is dropped or dead-lettered"}, \
    {"correlation_id", "string", "property correlation-id"}, \
    {"reply_to", "string", "property reply-to"}, \
    {"message_id", "string", "property message-id"}, \
    {"timestamp", "integer", "property timestamp: seconds since 1970"}, \
    {"type", "string", "property type"}, \
    {"app_id", "string", "property app-id"}

static const struct resource_parameter of_exchange[] = {
    {"routing_key", "string", "the routing key; default: none"}, PROPERTIES, VHOST, {NULL, NULL, NULL}};
static const struct resource_parameter of_queue[] = {PROPERTIES, VHOST, {NULL, NULL, NULL}};

static const struct resource_parameter of_events[] = {
    {"type", "string", "of a body that is no CloudEvent: the event's type, which it must have"},
    {"source", "string", "… its source; default: /http"},
    {"id", "string", "… its id; default: a new one"},
    {"subject", "string", "… its subject; default: none"},
    VHOST, {NULL, NULL, NULL}};
static const struct resource_parameter of_listen[] = {
    {"type", "string", "events of these types only: patterns such as order.*, separated by commas; * is one word, # any number of them"},
    {"filter", "string", "events for which this condition is true, such as cloudEvents_tenant = 'a'"},
    {"last_event_id", "string", "goes on after that event; the header Last-Event-ID says the same"},
    {"ack", "string", "of a WebSocket: manual: no more than 32 events are sent ahead of {\"ack\": id}; default: auto"},
    {"from", "string", "where to begin otherwise: first, next (default), or a time ago such as 1h"},
    VHOST, {NULL, NULL, NULL}};
static const struct resource_parameter of_vhost[] = {VHOST, {NULL, NULL, NULL}};

static const struct resource_parameter of_get[] = {
    {"wait", "string", "how long to wait for a message when there is none: 30s, 500ms, 2m; up to 5m; default: 0"},
    {"lease", "string", "how long the message is held for its acknowledgement; up to 12h; default: 60s"},
    {"ack", "string", "manual (default): it is held until it is settled by its token; auto: it is gone as soon as it is answered"},
    VHOST, {NULL, NULL, NULL}};
static const struct resource_parameter of_settle[] = {
    {"outcome", "string", "ack (default): it is done; requeue: it goes back to its place; reject: it is dropped or dead-lettered"}, VHOST, {NULL, NULL, NULL}};

const struct resource resources[] = {
    {"GET", "/", RESOURCE_OPEN, work_about, "What this is", NULL, NULL, "200"},
    {"GET", "/health", RESOURCE_OPEN, work_health, "Is the broker there?", NULL, NULL, "200"},
    {"GET", "/openapi.json", RESOURCE_OPEN, work_openapi, "This description", NULL, NULL, "200"},
    {"POST", "/exchanges/{exchange}/messages", RESOURCE_BODY | RESOURCE_PUBLISHES | RESOURCE_UPLOADS, publish_to_exchange, "Publishes the body as a message; amq.default is the default exchange",
     of_exchange, NULL, "200 201 404 413 422 503"},
    {"POST", "/queues/{queue}/messages", RESOURCE_BODY | RESOURCE_PUBLISHES | RESOURCE_UPLOADS, publish_to_queue, "Puts the body into a queue as a message", of_queue, NULL, "201 404 413 422 503"},
    {"GET", "/queues/{queue}/messages", RESOURCE_MESSAGE, reception_get, "Takes a message out of a queue, or waits for one; the header Godwit-Token names it until it is settled",
     of_get, NULL, "200 204 404 501 503"},
    {"DELETE", "/queues/{queue}/messages/{token}", 0, reception_settle, "Settles a message that was taken", of_settle, NULL, "204 404 503"},
    {"GET", "/events", RESOURCE_STREAM, events_listen, "Sends events as they happen, as server-sent events, or on a WebSocket when its handshake asks for it", of_listen, NULL, "200 404 422 503"},
    {"POST", "/events", RESOURCE_BODY | RESOURCE_PUBLISHES | RESOURCE_UPLOADS, events_publish,
     "Publishes a CloudEvent (structured, binary), a batch of them, or any body as the data of one", of_events, NULL, "201 413 422 503"},
    {"POST", "/event/publish", RESOURCE_BODY | RESOURCE_PUBLISHES, events_publish_plainly,
     "Publishes {\"event_type\": …, \"data\": …} as an event; source, id and subject may be said, too", of_vhost, "application/json", "200 413 422 503"},
    {"POST", "/event/subscribe", RESOURCE_BODY, subscriptions_make_plainly, "Has events of a type ({\"event_type\": …, \"callback\": …}) posted to a URL", of_vhost,
     "application/json", "200 404 409 413 422 503"},
    {"POST", "/tokens", RESOURCE_BODY | RESOURCE_SECRET, tokens_make, "Makes an access token, which is shown here only", of_vhost, "application/json", "201 404 413 422 503"},
    {"GET", "/tokens", 0, tokens_list, "The user's access tokens; an administrator's are all", of_vhost, NULL, "200 503"},
    {"DELETE", "/tokens/{id}", 0, tokens_remove, "Removes an access token", of_vhost, NULL, "204 404 503"},
    {"POST", "/subscriptions", RESOURCE_BODY, subscriptions_make, "Makes a subscription: types, sink (a URL, or amqp://… of another broker), and perhaps source, filters and config", of_vhost,
     "application/json", "201 404 409 413 422 503"},
    {"GET", "/subscriptions", 0, subscriptions_list, "The user's subscriptions; an administrator's are all", of_vhost, NULL, "200 503"},
    {"GET", "/subscriptions/{id}", 0, subscriptions_get, "A subscription, and how it goes with it", of_vhost, NULL, "200 404 503"},
    {"PATCH", "/subscriptions/{id}", RESOURCE_BODY, subscriptions_change, "Changes what the body names, as a JSON merge patch: sink, types, source, filters, paused, config", of_vhost,
     "application/merge-patch+json", "200 404 412 413 422 503"},
    {"DELETE", "/subscriptions/{id}", 0, subscriptions_remove, "Removes a subscription, with the events that wait for it", of_vhost, NULL, "204 404 412 503"},
    {"POST", "/subscriptions/{id}/test", RESOURCE_PUBLISHES, subscriptions_test, "Posts an event of the type godwit.test to the subscription's sink, whatever its types and filters", of_vhost, NULL,
     "200 404 413 503"},
    {"POST", "/subscriptions/{id}/replay", RESOURCE_BODY, replays_begin,
     "Puts events that have been published before into the subscription's queue once more: {\"from\": …, \"to\": …}, offsets or times, or {\"ids\": […]}", of_vhost, "application/json",
     "202 404 409 413 422 503"},
    {"GET", "/subscriptions/{id}/replay", 0, replays_get, "How far the last replay has come", of_vhost, NULL, "200 404 503"},
    {"DELETE", "/subscriptions/{id}/replay", 0, replays_stop, "Stops the replay, and forgets it", of_vhost, NULL, "204 404 503"},
    {"POST", "/sources", RESOURCE_BODY, sources_make, "Makes a source, which the broker runs: {\"kind\": \"sse\", \"url\": …}; for administrators", of_vhost, "application/json",
     "201 409 413 422 503"},
    {"GET", "/sources", 0, sources_list, "The broker's sources, those of its configuration among them", of_vhost, NULL, "200 503"},
    {"GET", "/sources/{id}", 0, sources_get, "A source, and how it goes with it", of_vhost, NULL, "200 404 503"},
    {"PATCH", "/sources/{id}", RESOURCE_BODY, sources_change, "Changes what the body names, as a JSON merge patch: {\"paused\": true} has it pause", of_vhost, "application/merge-patch+json",
     "200 404 409 413 422 503"},
    {"DELETE", "/sources/{id}", 0, sources_remove, "Removes a source, and forgets its position", of_vhost, NULL, "204 404 409 503"},
    {"GET", "/subscriptions/{id}/attempts", 0, subscriptions_attempts, "The last attempts to post to its sink, newest first", of_vhost, NULL, "200 404 503"},
};
const unsigned resource_count = sizeof(resources) / sizeof(resources[0]);

/* Is the path the same up to the template's first {name}? Most are told apart by a letter or two. */
static bool begins_like(struct bytes path, const char *template)
{
    for (size_t i = 0; template[i] && template[i] != '{'; i++)
        if (i >= path.size || path.data[i] != (uint8_t)template[i])
            return false;
    return true;
}

/* Does the path fit the template? Its {names} are left in `names`. */
static bool fits(struct bytes path, const char *template, struct bytes names[2])
{
    if (!begins_like(path, template))
        return false;
    struct bytes wanted = bytes_of_text(template), word, segment;
    unsigned count = 0;
    while (http_path_next(&wanted, &word)) {
        if (!http_path_next(&path, &segment))
            return false;
        if (word.size && word.data[0] == '{' && segment.size)
            names[count++] = segment;
        else if (!bytes_equal(word, segment))
            return false;
    }
    return !path.size;
}

const struct resource *resource_find(struct bytes method, struct bytes path, struct bytes names[2], char room[64], const char **allow)
{
    size_t used = 0;
    *allow = NULL;
    /* A HEAD is a GET whose answer has no body. */
    struct bytes wanted = bytes_equal(method, bytes_of_text("HEAD")) ? bytes_of_text("GET") : method;
    for (unsigned i = 0; i < resource_count; i++)
        if (wanted.size && resources[i].method[0] == (char)wanted.data[0] && fits(path, resources[i].path, names) && bytes_equal(wanted, bytes_of_text(resources[i].method)))
            return &resources[i];
    for (unsigned i = 0; i < resource_count; i++) {
        if (!fits(path, resources[i].path, names))
            continue;
        used += (size_t)snprintf(room + used, 64 - used, "%s%s%s", used ? ", " : "", resources[i].method, strcmp(resources[i].method, "GET") == 0 ? ", HEAD" : "");
        *allow = room;
    }
    return NULL;
}

/* ---- OpenAPI --------------------------------------------------------------------------------------------------------- */

static json_t *parameter(const char *name, const char *in, const char *type, const char *help)
{
    return json_pack("{s:s, s:s, s:b, s:{s:s}, s:s}", "name", name, "in", in, "required", strcmp(in, "path") == 0, "schema", "type", type, "description", help);
}

static json_t *parameters_of(const struct resource *resource)
{
    json_t *list = json_array();
    struct bytes rest = bytes_of_text(resource->path), segment;
    while (http_path_next(&rest, &segment)) {
        char name[32];
        if (segment.size < 2 || segment.data[0] != '{')
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)segment.size - 2, (const char *)segment.data + 1);
        json_array_append_new(list, parameter(name, "path", "string", name));
    }
    for (const struct resource_parameter *at = resource->parameters; at && at->name; at++)
        json_array_append_new(list, parameter(at->name, "query", at->type, at->help));
    if (strcmp(resource->method, "POST") == 0)
        json_array_append_new(list, parameter("Idempotency-Key", "header", "string", "a text of the asker's own: a request that is repeated with it is done once, and answered as the first time"));
    return list;
}

static void add_response(const struct resource *resource, json_t *responses, const char *status)
{
    unsigned number = (unsigned)atoi(status);
    const char *good = resource->flags & RESOURCE_STREAM ? "text/event-stream" : resource->flags & RESOURCE_MESSAGE ? "*/*" : "application/json";
    json_t *schema = number >= 400 ? json_pack("{s:s}", "$ref", "#/components/schemas/problem") : json_pack("{s:s}", "type", "object");
    json_t *response = json_pack("{s:s}", "description", number >= 400 ? "refused; the problem says why" : number == 204 ? "done, nothing to say" : "done");
    if (number != 204)
        json_object_set_new(response, "content", json_pack("{s:{s:o}}", number >= 400 ? "application/problem+json" : good, "schema", schema));
    else
        json_decref(schema);
    json_object_set_new(responses, status, response);
}

/* "get_queues_queue_messages": generators of clients name their functions so. */
static void operation_id(const struct resource *resource, char id[96])
{
    size_t size = (size_t)snprintf(id, 96, "%s%s", resource->method, strcmp(resource->path, "/") == 0 ? "" : resource->path), kept = 0;
    for (size_t at = 0; at < size && at < 95; at++) {
        char c = id[at];
        if (c != '{' && c != '}')
            id[kept++] = c >= 'A' && c <= 'Z' ? (char)(c | 32) : (c >= 'a' && c <= 'z') ? c : '_';
    }
    id[kept] = 0;
}

static json_t *operation(const struct resource *resource)
{
    char id[96];
    operation_id(resource, id);
    json_t *made = json_pack("{s:s, s:s, s:o, s:{}}", "operationId", id, "summary", resource->summary, "parameters", parameters_of(resource), "responses");
    json_t *responses = json_object_get(made, "responses");
    char statuses[64], *rest = statuses;
    snprintf(statuses, sizeof(statuses), "%s%s%s", resource->statuses, resource->flags & RESOURCE_OPEN ? "" : " 400 401 403 429", strcmp(resource->method, "POST") == 0 ? " 409 422" : "");
    for (char *status; (status = strtok_r(NULL, " ", &rest));)
        add_response(resource, responses, status);
    if (resource->flags & RESOURCE_OPEN)
        json_object_set_new(made, "security", json_array());
    if (resource->flags & RESOURCE_BODY)
        json_object_set_new(made, "requestBody", json_pack("{s:{s:{}}}", "content", resource->body_type ? resource->body_type : "*/*"));
    return made;
}

char *resource_openapi(void)
{
    json_t *root = json_pack("{s:s, s:{s:s, s:s, s:s}, s:{}, s:{s:{s:{s:s, s:s}, s:{s:s, s:s}}, s:{s:{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}}}}}, s:[{s:[]}, {s:[]}]}",
        "openapi", "3.1.0", "info", "title", "Godwit", "version", GODWIT_VERSION, "description", "A message broker, by HTTP.", "paths",
        "components", "securitySchemes", "basic", "type", "http", "scheme", "basic", "bearer", "type", "http", "scheme", "bearer",
        "schemas", "problem", "type", "object", "properties", "type", "type", "string", "title", "type", "string", "status", "type", "integer",
        "detail", "type", "string", "security", "basic", "bearer");
    json_t *paths = json_object_get(root, "paths");
    for (unsigned i = 0; i < resource_count; i++) {
        char method[8];
        unsigned at = 0;
        for (; resources[i].method[at] && at < sizeof(method) - 1; at++)
            method[at] = (char)(resources[i].method[at] | 32);
        method[at] = 0;
        if (!json_object_get(paths, resources[i].path))
            json_object_set_new(paths, resources[i].path, json_object());
        json_object_set_new(json_object_get(paths, resources[i].path), method, operation(&resources[i]));
    }
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    return text;
}
