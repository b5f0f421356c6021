#include "protocol/gateway/event_stream.h"

#include "base/bugs.h"
#include "broker/selector.h"
#include "broker/worker.h"
#include "bus/event_json.h"
#include "bus/event_type.h"
#include "protocol/gateway/cloud_event.h"
#include "protocol/gateway/tokens.h"
#include "protocol/gateway/websocket.h"
#include "protocol/gateway/work.h"
#include "store/stream_message.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFETCH 32u
#define WAITING_MAX 32768u           /* bytes that a listener has not taken, above which it gets no more */
#define TYPES_MAX 8u
#define TYPES_SIZE 512u
#define RENDERED_MAX 64u
#define GAP_SIZE 160u

struct listener {
    uint64_t queue, beat_us;
    uint32_t handle, owed, owed_bytes;   /* deliveries that are not settled yet */
    bool begun;
    uint16_t types_size;
    uint64_t owed_seq;
    uint64_t expected;               /* the next offset; UINT64_MAX: any */
    struct selector *selector;       /* NULL: none */
    struct websocket *websocket;     /* NULL: server-sent events */
    struct ahead *ahead;             /* NULL: what was sent counts as taken */
    uint8_t types[];                 /* types_size bytes: patterns, each behind its size */
};

/* What was delivered and not settled yet, where the peer says what it has taken. */
struct ahead {
    struct { uint64_t offset; uint32_t bytes; bool sent; } items[PREFETCH];
    unsigned first, count;
    uint64_t acknowledged;           /* up to this offset */
    bool any;                        /* something was */
};

/* An event as it is sent, of a queue and an offset: most listeners want the same one at the same time. */
struct rendered {
    uint64_t queue, offset;
    struct http_shared shared;       /* "id: 7\ndata: {…}\n\n"; its chunk is NULL: nothing is here yet */
    struct bytes json;               /* inside of it */
};

struct listeners {
    struct rendered rendered[RENDERED_MAX];
    struct chunk *stage;             /* where the next one is laid out */
};

/* ---- types -------------------------------------------------------------------------------------------------------------- */

static bool wants_type(const struct listener *listener, struct bytes type)
{
    if (!listener->types_size)
        return true;
    for (size_t at = 0; at < listener->types_size; at += 1 + (size_t)listener->types[at])
        if (event_type_fits(type, bytes_of(listener->types + at + 1, listener->types[at])))
            return true;
    return false;
}

/* ---- an event as JSON -------------------------------------------------------------------------------------------------- */

static char *json_of(const struct message *message, uint64_t offset, size_t *size)
{
    struct amqp_properties properties = {0};
    char id[24];
    if (!amqp_properties_decode(message->properties, &properties))
        properties = (struct amqp_properties){0};
    snprintf(id, sizeof(id), "%" PRIu64, offset);
    bool is_named = properties.flags & AMQP_MESSAGE_ID && properties.message_id.size;
    return event_json(message, &properties, is_named ? properties.message_id : bytes_of_text(id), size);
}

/* NULL: out of memory. */
static const struct rendered *render(struct gateway_hall *hall, uint64_t queue, uint64_t offset, const struct message *message)
{
    struct chunk_pool *pool = worker_chunks(hall->worker);
    struct http_shared shared;
    char head[48];
    if (!hall->listeners && !(hall->listeners = calloc(1, sizeof(*hall->listeners))))
        return NULL;
    struct rendered *rendered = &hall->listeners->rendered[offset % RENDERED_MAX];
    if (rendered->shared.chunk && rendered->queue == queue && rendered->offset == offset)
        return rendered;
    size_t json_size;
    char *json = json_of(message, offset, &json_size);
    if (!json)
        return NULL;
    size_t head_size = (size_t)snprintf(head, sizeof(head), "id: %" PRIu64 "\ndata: ", offset);
    const struct bytes parts[] = {bytes_of(head, head_size), bytes_of(json, json_size), bytes_of_text("\n\n")};
    bool laid_out = http_shared_init(&shared, pool, &hall->listeners->stage, parts, 3);
    free(json);
    if (!laid_out)
        return NULL;
    http_shared_deinit(&rendered->shared, pool);
    *rendered = (struct rendered){.queue = queue, .offset = offset, .shared = shared, .json = bytes_of(shared.bytes.data + head_size, json_size)};
    return rendered;
}

void listeners_forget(struct gateway_hall *hall)
{
    struct listeners *listeners = hall->listeners;
    if (!listeners)
        return;
    /* Without their pool, which may be gone with the worker. */
    for (unsigned i = 0; i < RENDERED_MAX; i++)
        http_shared_deinit(&listeners->rendered[i].shared, NULL);
    if (listeners->stage)
        chunk_release(listeners->stage, NULL);
    free(listeners);
    hall->listeners = NULL;
}

/* ---- a listener --------------------------------------------------------------------------------------------------------- */

static void say(struct task *task, struct bytes bytes)
{
    task->listener->beat_us = task->gateway->now_us + LISTENER_BEAT_US;
    http_stream_write(task->call, bytes);
}

/* Of what is ahead of the peer: how much of it counts as taken, from the oldest on. */
static void take_acknowledged(struct listener *listener)
{
    struct ahead *ahead = listener->ahead;
    while (ahead->count) {
        unsigned at = ahead->first % PREFETCH;
        if (ahead->items[at].sent && !(ahead->any && ahead->items[at].offset <= ahead->acknowledged))
            return;
        listener->owed++;
        listener->owed_bytes += ahead->items[at].bytes;
        ahead->first++;
        ahead->count--;
    }
}

/* What it has taken is settled, so that more may come; unless too much waits for its peer. */
static void settle(struct task *task)
{
    struct listener *listener = task->listener;
    if (listener->ahead)
        take_acknowledged(listener);
    if (!listener->owed || http_stream_waiting(task->call) > WAITING_MAX)
        return;
    client_settle(&task->member->client, listener->queue, SETTLE_ACK, listener->owed_seq, listener->owed, NULL);
    client_credit(&task->member->client, listener->queue, listener->handle, listener->owed_bytes);
    listener->owed = listener->owed_bytes = 0;
}

/* {"id": 7, "event": {…}}. False: out of memory. */
static bool say_message(struct task *task, const struct rendered *rendered)
{
    size_t room = rendered->json.size + 64;
    char *text = malloc(room);
    if (!text)
        return false;
    int size = snprintf(text, room, "{\"id\":%" PRIu64 ",\"event\":%.*s}", rendered->offset, (int)rendered->json.size, (const char *)rendered->json.data);
    bool said = websocket_say(task->listener->websocket, bytes_of(text, (size_t)size));
    free(text);
    return said;
}

static bool say_event(struct task *task, const struct rendered *rendered)
{
    if (rendered && task->listener->websocket)
        return say_message(task, rendered);
    if (rendered) {
        task->listener->beat_us = task->gateway->now_us + LISTENER_BEAT_US;
        http_stream_share(task->call, &rendered->shared);
    }
    return rendered;
}

static void tell_gap(struct task *task, uint64_t from, uint64_t to)
{
    char text[GAP_SIZE];
    bool as_message = task->listener->websocket;
    int size = as_message ? snprintf(text, sizeof(text), "{\"id\":%" PRIu64 ",\"gap\":{\"from\":%" PRIu64 ",\"to\":%" PRIu64 "}}", to, from, to)
                          : snprintf(text, sizeof(text), "event: gap\nid: %" PRIu64 "\ndata: {\"from\":%" PRIu64 ",\"to\":%" PRIu64 "}\n\n", to, from, to);
    if (as_message)
        websocket_say(task->listener->websocket, bytes_of(text, (size_t)size));
    else
        say(task, bytes_of(text, (size_t)size));
}

/* Counts what was delivered as owed, now or when the peer says so. */
static void owe(struct listener *listener, const struct delivery *delivery, bool sent)
{
    uint32_t bytes = (uint32_t)delivery->content.size + DELIVERY_OVERHEAD;
    struct ahead *ahead = listener->ahead;
    listener->owed_seq = delivery->seq;
    if (ahead && ahead->count < PREFETCH) {
        unsigned at = (ahead->first + ahead->count++) % PREFETCH;
        ahead->items[at].offset = delivery->added_value;
        ahead->items[at].bytes = bytes;
        ahead->items[at].sent = sent;
        return;
    }
    listener->owed++;
    listener->owed_bytes += bytes;
}

void listener_delivered(struct task *task, const struct delivery *delivery)
{
    struct listener *listener = task->listener;
    struct message message;
    uint64_t offset = delivery->added_value;
    listener->queue = delivery->queue;
    listener->handle = delivery->handle;
    bool known = delivery->is_record ? stream_message_read(delivery->content, &message) : message_read(delivery->content, &message);
    bool wanted = known && wants_type(listener, message.routing_key) && (!listener->selector || selector_matches(listener->selector, &message));
    owe(listener, delivery, wanted);
    if (listener->expected != UINT64_MAX && offset > listener->expected)
        tell_gap(task, listener->expected, offset - 1);
    listener->expected = offset + 1;
    if (wanted && !say_event(task, render(task->gateway->hall, delivery->queue, offset, &message))) {
        http_call_abort(task->call);   /* it comes back and asks for what it did not get */
        return;
    }
    settle(task);
}

void listener_drained(struct task *task)
{
    if (task->listener->begun)
        settle(task);
}

void listener_ended(struct task *task)
{
    if (task->listener->websocket)
        websocket_close(task->listener->websocket, 1001, "The stream ends.");
    else
        http_stream_end(task->call);
}

/* {"ack": 7}: everything up to that id was taken. */
static void heard(void *owner, const char *text, size_t size)
{
    struct task *task = owner;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL), *ack = json_object_get(root, "ack");
    struct ahead *ahead = task->listener->ahead;
    bool good = json_is_integer(ack) && json_integer_value(ack) >= 0;
    if (!good) {
        websocket_close(task->listener->websocket, 1008, "Only {\"ack\": id} is understood.");
    } else if (ahead && (!ahead->any || (uint64_t)json_integer_value(ack) > ahead->acknowledged)) {
        ahead->any = true;
        ahead->acknowledged = (uint64_t)json_integer_value(ack);
    }
    json_decref(root);
    if (good)
        settle(task);
}

void listener_heard(struct task *task, struct bytes piece)
{
    if (task->listener->websocket)
        websocket_feed(task->listener->websocket, piece);
}

void listener_beat(struct task *task)
{
    if (!bearer_is_good(task->member)) {
        listener_ended(task);
        return;
    }
    bool due = task->listener->begun && task->gateway->now_us >= task->listener->beat_us;
    if (due && task->listener->websocket) {
        task->listener->beat_us = task->gateway->now_us + LISTENER_BEAT_US;
        websocket_ping(task->listener->websocket);
    } else if (due) {
        say(task, bytes_of_text(":\n\n"));
    }
    if (task->listener->beat_us < task->gateway->beat_us)
        task->gateway->beat_us = task->listener->beat_us;
}

void listener_cancel(struct member *member, uint64_t queue, uint32_t handle)
{
    client_request(&member->client, &(struct request){.kind = REQUEST_CANCEL, .channel = 1, .queue = queue, .handle = handle});
}

void listener_free(struct task *task)
{
    struct listener *listener = task->listener;
    if (!listener)
        return;
    if (listener->handle && task->member && !task->member->is_gone)
        listener_cancel(task->member, listener->queue, listener->handle);
    selector_free(listener->selector);
    websocket_free(listener->websocket);
    free(listener->ahead);
    free(listener);
    task->listener = NULL;
}

/* ---- GET /events -------------------------------------------------------------------------------------------------------- */

/* The answer begins. False: it was another one. */
static bool begin(struct task *task)
{
    struct listener *listener = task->listener;
    static const struct http_field fields[] = {{{(const uint8_t *)"cache-control", 13}, {(const uint8_t *)"no-cache", 8}}};
    task->state = TASK_ANSWERED;
    if (websocket_wanted(task->call)) {
        struct websocket *websocket = websocket_accept(task->call, task->gateway->hall->config->origins, heard, task);
        if (websocket)   /* otherwise the task was answered, and may be gone */
            listener->websocket = websocket;
        return websocket;
    }
    http_stream_begin(task->call, &(struct http_answer){.status = 200, .type = "text/event-stream", .fields = fields, .field_count = 1});
    say(task, bytes_of_text("retry: 3000\n\n"));
    if (!task->call->is_head)
        return true;
    http_stream_end(task->call);
    return false;
}

static void consumed(struct task *task, const struct reply *reply)
{
    struct listener *listener = task->listener;
    if (reply->code == 404 && !task->declared) {
        events_declare(task);
        return;
    }
    if (reply->code) {
        task_refuse(task, reply->code, reply->text);
        return;
    }
    listener->queue = reply->queue;
    listener->handle = reply->handle;
    if (!begin(task))
        return;
    listener->begun = true;
    listener->beat_us = task->gateway->now_us + LISTENER_BEAT_US;
    if (listener->beat_us < task->gateway->beat_us)
        task->gateway->beat_us = listener->beat_us;
    http_call_forget_head(task->call);
    free(task->texts);
    task->texts = NULL;
}

/* Of a WebSocket: does it say what it has taken? False: the task was answered. */
static bool read_ahead(struct task *task, bool *acks)
{
    char text[8];
    bool bad;
    *acks = false;
    if (!task_parameter(task, "ack", text, sizeof(text), &bad))
        return !bad;
    *acks = strcmp(text, "manual") == 0;
    if ((*acks && websocket_wanted(task->call)) || strcmp(text, "auto") == 0)
        return true;
    task_problem(task, 400, "The parameter ack must be auto, or manual for a WebSocket.");
    return false;
}

/* All parameters `type`, which may be lists with commas. False: the task was answered. */
static bool read_types(struct task *task, uint8_t types[TYPES_SIZE], uint16_t *size)
{
    struct bytes rest = task->call->request->query, key, value;
    *size = 0;
    while (http_query_next(&rest, &key, &value)) {
        uint8_t room[TYPES_SIZE];
        struct bytes list;
        if (!bytes_equal(key, bytes_of_text("type")) || !value.size)
            continue;
        if (value.size > sizeof(room) || !http_decode(value, true, room, &list)) {
            task_problem(task, 400, "The parameter type must be text of at most %u bytes.", TYPES_SIZE);
            return false;
        }
        while (list.size) {
            const uint8_t *comma = memchr(list.data, ',', list.size);
            struct bytes one = bytes_of(list.data, comma ? (size_t)(comma - list.data) : list.size);
            list = comma ? bytes_of(comma + 1, list.size - one.size - 1) : (struct bytes){0};
            if (one.size > UINT8_MAX || *size + 1 + one.size > TYPES_SIZE) {
                task_problem(task, 400, "The types are longer than %u bytes.", TYPES_SIZE);
                return false;
            }
            types[(*size)++] = (uint8_t)one.size;
            if (one.size)
                memcpy(types + *size, one.data, one.size);
            *size = (uint16_t)(*size + one.size);
        }
    }
    return true;
}

/* NULL and true: there is none. */
static bool read_filter(struct task *task, struct selector **selector)
{
    char text[SELECTOR_SIZE_MAX + 1], why[256];
    bool bad;
    *selector = NULL;
    if (!task_parameter(task, "filter", text, sizeof(text), &bad))
        return !bad;
    enum gw_err err = selector_compile(bytes_of_text(text), selector, why, sizeof(why));
    if (err)
        task_problem(task, err == GW_ERR_NOMEM ? 503 : 400, "The filter is none: %s", err == GW_ERR_NOMEM ? "there is too little memory" : why);
    return !err;
}

/* Where to begin, as a stream's consumer says it. False: the task was answered. */
static bool put_offset(struct task *task, struct amqp_table_writer *writer, uint64_t *expected)
{
    char text[40];
    bool bad;
    struct bytes last;
    uint64_t number;
    *expected = UINT64_MAX;
    bool has = http_field_find(task->call->request, "last-event-id", &last);
    if (!has && task_parameter(task, "last_event_id", text, sizeof(text), &bad)) {
        has = true;
        last = bytes_of_text(text);
    } else if (!has && bad) {
        return false;
    }
    if (has && last.size) {
        if (!http_number(last, &number) || number >= INT64_MAX) {
            task_problem(task, 400, "The last event's id must be a number, as events have them.");
            return false;
        }
        number += bug_enabled(BUG_LISTEN_SKIPS);
        number -= bug_enabled(BUG_LISTEN_AGAIN) && number;
        *expected = number + 1;
        amqp_table_put_long(writer, "x-stream-offset", (int64_t)(number + 1));
        return true;
    }
    if (!task_parameter(task, "from", text, sizeof(text), &bad))
        return !bad;
    amqp_table_put_text(writer, "x-stream-offset", bytes_of_text(text));
    return true;
}

void events_listen(struct task *task)
{
    uint8_t types[TYPES_SIZE], room[128];
    uint16_t types_size;
    struct selector *selector;
    struct amqp_table_writer writer;
    struct bytes arguments;
    uint64_t expected;
    bool acks;
    amqp_table_begin(&writer, room, sizeof(room));
    if (!read_ahead(task, &acks) || !read_types(task, types, &types_size) || !put_offset(task, &writer, &expected) || !read_filter(task, &selector))
        return;
    listener_free(task);   /* the second time, once the stream was declared */
    task->listener = amqp_table_finish(&writer, &arguments) ? calloc(1, sizeof(*task->listener) + types_size) : NULL;
    struct ahead *ahead = acks ? calloc(1, sizeof(*ahead)) : NULL;
    if (!task->listener || (acks && !ahead)) {
        free(task->listener);
        task->listener = NULL;
        free(ahead);
        selector_free(selector);
        task_problem(task, 503, "There is too little memory.");
        return;
    }
    task->listener->selector = selector;
    task->listener->ahead = ahead;
    task->listener->expected = expected;
    task->listener->types_size = types_size;
    memcpy(task->listener->types, types, types_size);
    member_ask(task, &(struct request){.kind = REQUEST_CONSUME, .name = bytes_of_text(EVENTS_NAME), .prefetch = PREFETCH, .arguments = arguments}, consumed);
}
