/* What clients ask for and wait for: requests go to the master (topology) or to a queue's shard, and their answers leave in the order in which
 * they were asked, whoever answers first.
 *
 *   declare   master decides and answers when every worker has it; of a queue that was there already, its shard then tells the counts
 *   delete    the shard checks if-unused and if-empty, then the master deletes
 *   consume, get, purge   the shard
 */
#include "broker/firehose.h"
#include "broker/permissions.h"
#include "broker/worker_internal.h"

#include "broker/control.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data

/* ---- requests as they travel --------------------------------------------------------------------------------------- */

struct bytes request_name(const struct command_request *r) { return bytes_of(r->bytes, r->name_size); }
struct bytes request_source(const struct command_request *r) { return bytes_of(r->bytes + r->name_size, r->source_size); }
struct bytes request_routing_key(const struct command_request *r)
{
    return bytes_of(r->bytes + r->name_size + r->source_size, r->routing_key_size);
}
struct bytes request_type(const struct command_request *r)
{
    return bytes_of(r->bytes + r->name_size + r->source_size + r->routing_key_size, r->type_size);
}
struct bytes request_arguments(const struct command_request *r)
{
    return bytes_of(r->bytes + r->name_size + r->source_size + r->routing_key_size + r->type_size, r->arguments_size);
}

static struct bytes request_vhost_text(const struct command_request *r)
{
    return bytes_of(r->bytes + r->name_size + r->source_size + r->routing_key_size + r->type_size + r->arguments_size, r->vhost_size);
}

struct vhost *request_vhost(const struct topology *topology, const struct command_request *r)
{
    return r->vhost_size ? topology_vhost(topology, request_vhost_text(r)) : topology_vhost_by_id(topology, r->vhost);
}

struct bytes request_vhost_name(const struct worker *worker, const struct command_request *r)
{
    const struct vhost *vhost = topology_vhost_by_id(&worker->topology, r->vhost);
    return r->vhost_size ? request_vhost_text(r) : vhost ? vhost->name : (struct bytes){0};
}

/* The bytes of a change travel as arguments. */
static uint32_t arguments_size(const struct request *request)
{
    return request->change ? topology_change_size(request->change) : (uint32_t)request->arguments.size;
}

static uint32_t request_size(const struct request *request)
{
    return (uint32_t)(sizeof(struct command_request) + request->name.size + request->source.size + request->routing_key.size +
                      request->type.size + arguments_size(request) + request->vhost.size);
}

static uint8_t *append(uint8_t *at, struct bytes bytes)
{
    if (bytes.size)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static void request_write(struct command_request *to, const struct request *request, const struct client *client, uint64_t serial)
{
    to->client = client->id;
    to->vhost = client->vhost;
    to->queue = request->queue;
    to->serial = serial;
    to->kind = request->kind;
    to->flags = request->flags;
    to->tag = request->tag;
    to->handle = request->handle;
    to->prefetch = request->prefetch;
    to->channel = request->channel;
    to->name_size = (uint32_t)request->name.size;
    to->source_size = (uint32_t)request->source.size;
    to->routing_key_size = (uint32_t)request->routing_key.size;
    to->type_size = (uint32_t)request->type.size;
    to->arguments_size = arguments_size(request);
    to->vhost_size = (uint32_t)request->vhost.size;
    uint8_t *at = append(append(append(append(to->bytes, request->name), request->source), request->routing_key), request->type);
    if (request->change)
        topology_change_write(request->change, at);
    else
        append(at, request->arguments);
    append(at + to->arguments_size, request->vhost);
}

static uint32_t travelling_size(const struct command_request *request)
{
    return (uint32_t)(sizeof(*request) + request->name_size + request->source_size + request->routing_key_size + request->type_size +
                      request->arguments_size + request->vhost_size);
}

/* Sends a request on as it is, to a queue's shard or the master. */
static void forward(struct worker *worker, unsigned to, enum command_type type, const struct command_request *request, uint64_t queue)
{
    uint32_t size = travelling_size(request);
    struct command_request *copy = worker_command(worker, to, type, size, NULL);
    struct command command = copy->command;
    memcpy(copy, request, size);
    copy->command = command;
    copy->queue = queue;
}

struct command_answer *request_answer(struct worker *worker, const struct command_request *request, uint16_t code, struct bytes text)
{
    struct command_answer *answer = worker_command(worker, worker_of_client(request->client), COMMAND_ANSWER,
                                                   (uint32_t)(sizeof(*answer) + text.size), NULL);
    answer->client = request->client;
    answer->serial = request->serial;
    answer->kind = request->kind;
    answer->tag = request->tag;
    answer->channel = request->channel;
    answer->code = code;
    answer->text_size = (uint32_t)text.size;
    append(answer->bytes, text);
    return answer;
}

struct command_request *request_of_nobody(const struct request *request, uint32_t vhost)
{
    struct command_request *made = calloc(1, request_size(request));
    const struct client nobody = {.vhost = vhost};
    if (made)
        request_write(made, request, &nobody, 0);
    return made;
}

struct command_answer *request_refuse(struct worker *worker, const struct command_request *request, uint16_t code, const char *format, ...)
{
    char text[REFUSAL_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (!request->client) {
        if (worker->refusal && !worker->refusal->code) {
            worker->refusal->code = code;
            memcpy(worker->refusal->text, text, sizeof(text));
        }
        return NULL;
    }
    return request_answer(worker, request, code, bytes_of(text, (size_t)size < sizeof(text) ? (size_t)size : sizeof(text) - 1));
}

/* ---- a client's list ----------------------------------------------------------------------------------------------- */

static struct pending_request *pending_add(struct worker *worker, struct client *client, enum request_kind kind, uint16_t channel, uint32_t deferred_size)
{
    struct client_place *place = worker_client(worker, client->id);
    struct pending_request *pending = calloc(1, sizeof(*pending));
    CHECK(place && pending);
    if (deferred_size) {
        pending->deferred = calloc(1, deferred_size);
        CHECK(pending->deferred);
    }
    pending->serial = place->next_serial++;
    pending->kind = kind;
    pending->channel = channel;
    if (place->last)
        place->last->next = pending;
    else
        place->first = pending;
    place->last = pending;
    return pending;
}

struct pending_request *request_begin(struct worker *worker, struct client *client, enum request_kind kind, uint16_t channel)
{
    return pending_add(worker, client, kind, channel, 0);
}

static void pending_free(struct pending_request *pending)
{
    free(pending->deferred);
    free(pending->answer);
    free(pending->asked);
    writer_deinit(&pending->rows);
    free(pending);
}

/* Answers come nearly in order, so it is found at once. */
static struct pending_request *pending_find(struct client_place *place, uint64_t serial)
{
    struct pending_request *pending = place->first;
    while (pending && pending->serial != serial)
        pending = pending->next;
    return pending;
}

void requests_client_gone(struct worker *worker, struct client_place *place)
{
    (void)worker;
    while (place->first) {
        struct pending_request *pending = place->first;
        place->first = pending->next;
        pending_free(pending);
    }
    place->last = NULL;
}

/* ---- beginning ----------------------------------------------------------------------------------------------------- */

static bool is_masters(enum request_kind kind)
{
    switch (kind) {
    case REQUEST_QUEUE_DECLARE:
    case REQUEST_QUEUE_BIND:
    case REQUEST_QUEUE_UNBIND:
    case REQUEST_EXCHANGE_DECLARE:
    case REQUEST_EXCHANGE_DELETE:
    case REQUEST_EXCHANGE_BIND:
    case REQUEST_EXCHANGE_UNBIND:
    case REQUEST_CHANGE:
    case REQUEST_OPEN:
    case REQUEST_CHANNEL:
    case REQUEST_CLOSE:
        return true;
    default:
        return false;
    }
}

static void begin_at_queue(struct worker *worker, const struct command_request *request)
{
    struct bytes name = request_name(request);
    const struct vhost *vhost = request_vhost(&worker->topology, request);
    struct queue_entry *queue = vhost ? topology_queue(vhost, name) : NULL;
    if (!queue && request->kind == REQUEST_QUEUE_DELETE) {
        request_answer(worker, request, 0, (struct bytes){0});
        return;
    }
    if (!queue) {
        request_refuse(worker, request, 404, "NOT_FOUND - no queue '%.*s' in vhost '%.*s'", TEXT(name), TEXT(request_vhost_name(worker, request)));
        return;
    }
    if (queue->owner && queue->owner != request->client && request->kind != REQUEST_INSPECT) {
        request_refuse(worker, request, 405, RESOURCE_LOCKED_FORMAT, TEXT(name), TEXT(vhost->name));
        return;
    }
    forward(worker, worker_of_shard(worker, queue_id_shard(queue->id)), COMMAND_SHARD_REQUEST, request, queue->id);
}

/* Every worker writes its part of a list. */
static void begin_at_workers(struct worker *worker, struct pending_request *pending, const struct command_request *request)
{
    uint32_t size = travelling_size(request);
    pending->asked = malloc(size);
    CHECK(pending->asked);
    memcpy(pending->asked, request, size);
    pending->remaining = worker->broker->config.workers;
    for (unsigned i = 0; i < worker->broker->config.workers; i++)
        forward(worker, i, COMMAND_CONTROL, request, 0);
}

static void begin_control(struct worker *worker, struct pending_request *pending, const struct command_request *request)
{
    struct command_request *queued = NULL;
    switch (control_begin(worker, request, &queued)) {
    case CONTROL_ANSWERED: break;
    case CONTROL_TO_MASTER: forward(worker, 0, COMMAND_TOPOLOGY_REQUEST, request, 0); break;
    case CONTROL_TO_WORKERS: begin_at_workers(worker, pending, request); break;
    case CONTROL_TO_QUEUE: begin_at_queue(worker, queued); break;
    }
    free(queued);
}

static void begin(struct worker *worker, struct pending_request *pending, const struct command_request *request)
{
    const struct client_place *place = worker_client(worker, request->client);
    if (place && permission_refuses(worker, place->client, request))
        return;
    if (is_masters(request->kind))
        forward(worker, 0, COMMAND_TOPOLOGY_REQUEST, request, 0);
    else if (request->kind == REQUEST_CONTROL)
        begin_control(worker, pending, request);
    else if (request->kind == REQUEST_CANCEL)
        forward(worker, worker_of_shard(worker, queue_id_shard(request->queue)), COMMAND_SHARD_REQUEST, request, request->queue);
    else
        begin_at_queue(worker, request);
}

/* The master takes requests in order, so one may follow another there at once; so may deletions of queues follow each other, which have two steps and meet
 * again there. Everything else waits until those before it are answered. */
static bool may_follow(enum request_kind before, enum request_kind kind)
{
    return (is_masters(before) && is_masters(kind)) || (before == REQUEST_QUEUE_DELETE && kind == REQUEST_QUEUE_DELETE);
}

void client_request(struct client *client, const struct request *request)
{
    struct worker *worker = client->worker;
    struct client_place *place = worker_client(worker, client->id);
    struct pending_request *before = place->last;
    struct pending_request *pending = pending_add(worker, client, request->kind, request->channel, request_size(request));
    request_write(pending->deferred, request, client, pending->serial);
    pending->tag = request->tag;
    /* A long run of pipelined declares must not look through the list each time: that the last one has begun, and all are of its kind, is enough. */
    bool follows = before && !before->deferred && place->alike && may_follow(before->kind, request->kind);
    place->alike = !before || (place->alike && may_follow(before->kind, request->kind));
    if (before && !follows)
        return;
    struct command_request *now = pending->deferred;
    pending->deferred = NULL;
    begin(worker, pending, now);
    free(now);
}

/* The front of the list has moved: what waits there begins, and with it what may follow it to the master. */
static void begin_waiting(struct worker *worker, struct client_place *place)
{
    place->alike = true;
    for (struct pending_request *pending = place->first, *before = NULL; pending; before = pending, pending = pending->next) {
        if (before && !may_follow(before->kind, pending->kind)) {
            place->alike = false;
            return;
        }
        if (!pending->deferred)
            continue;
        struct command_request *request = pending->deferred;
        pending->deferred = NULL;
        begin(worker, pending, request);
        free(request);
    }
}

/* ---- answering ----------------------------------------------------------------------------------------------------- */

static struct command_answer *keep(const struct command_answer *answer)
{
    size_t size = sizeof(*answer) + answer->text_size + answer->name_size;
    struct command_answer *copy = malloc(size);
    CHECK(copy);
    memcpy(copy, answer, size);
    return copy;
}

static void remember_consumer(struct client_place *place, const struct command_answer *answer)
{
    if (place->consumer_count && place->consumer_count == (place->consumer_capacity ? place->consumer_capacity : 1)) {
        uint32_t capacity = place->consumer_count * 2;
        struct place_consumer one = place->one, *grown = realloc(place->consumer_capacity ? place->more : NULL, capacity * sizeof(*grown));
        CHECK(grown);
        if (!place->consumer_capacity)
            grown[0] = one;
        place->more = grown;
        place->consumer_capacity = capacity;
    }
    place_consumers(place)[place->consumer_count++] = (struct place_consumer){.queue = answer->queue, .handle = answer->handle};
}

static void forget_consumer(struct client_place *place, uint32_t handle, uint64_t queue)
{
    struct place_consumer *consumers = place_consumers(place);
    for (uint32_t i = 0; i < place->consumer_count; i++)
        if (consumers[i].handle == handle && consumers[i].queue == queue) {
            consumers[i] = consumers[--place->consumer_count];
            return;
        }
}

/* The reply leaves to the session. A get that found something was answered by its delivery. */
static void tell(struct worker *worker, struct client *client, const struct command_answer *answer)
{
    if (answer->kind == REQUEST_GET && !answer->code && !answer->empty)
        return;
    struct reply reply = {
        .kind = answer->kind,
        .channel = answer->channel,
        .tag = answer->tag,
        .code = answer->code,
        .text = bytes_of(answer->bytes, answer->text_size),
        .name = bytes_of(answer->bytes + answer->text_size, answer->name_size),
        .messages = answer->messages,
        .consumers = answer->consumers,
        .queue = answer->queue,
        .handle = answer->handle,
        .empty = answer->empty,
    };
    worker_client_touched(worker, client);
    client->ops->replied(client, &reply);
}

/* Answers leave from the front of the list as long as they are whole. */
static void flush(struct worker *worker, struct client *client)
{
    struct client_place *place = worker_client(worker, client->id);
    while (place && place->first && place->first->done) {
        struct pending_request *pending = place->first;
        place->first = pending->next;
        if (!place->first)
            place->last = NULL;
        tell(worker, client, pending->answer);
        pending_free(pending);
        place = worker_client(worker, client->id);   /* the places may have moved */
    }
    /* A commit is never deferred: one that waits may stand before it. */
    if (place && place->first && (place->first->deferred || place->last->deferred))
        begin_waiting(worker, place);
}

static void finish(struct worker *worker, struct client *client, struct pending_request *pending, struct command_answer *answer)
{
    if (pending->answer != answer)
        free(pending->answer);
    pending->answer = answer;
    pending->done = true;
    flush(worker, client);
}

/* The other half of a request, of which `answer` is the first half's. */
static void send_second_step(struct worker *worker, unsigned to, enum command_type type, const struct command_answer *answer)
{
    struct command_request *request = worker_command(worker, to, type, sizeof(*request), NULL);
    request->client = answer->client;
    request->queue = answer->queue;
    request->serial = answer->serial;
    request->kind = answer->kind;
    request->tag = answer->tag;
    request->channel = answer->channel;
}

/* The master made or found the queue: of one that was there, its shard tells the counts. */
static bool goes_on_at_shard(struct worker *worker, struct pending_request *pending, const struct command_answer *answer)
{
    if (answer->kind != REQUEST_QUEUE_DECLARE || answer->code || answer->step != DECLARE_FOUND)
        return false;
    pending->answer = keep(answer);
    send_second_step(worker, worker_of_shard(worker, queue_id_shard(answer->queue)), COMMAND_SHARD_REQUEST, answer);
    return true;
}

/* The shard lets the queue be deleted: the master does it. */
static bool goes_on_at_master(struct worker *worker, struct pending_request *pending, const struct command_answer *answer)
{
    if (answer->kind != REQUEST_QUEUE_DELETE || answer->code || answer->step != DELETE_ALLOWED)
        return false;
    pending->answer = keep(answer);
    send_second_step(worker, 0, COMMAND_TOPOLOGY_REQUEST, answer);
    return true;
}

static void finish_commit(struct worker *worker, struct client *client, struct pending_request *pending)
{
    struct bytes text = {0};
    if (pending->code)
        text = bytes_of_text(pending->code == 406 ? "PRECONDITION_FAILED - partial tx completion" : "INTERNAL_ERROR - the transaction was not accepted as a whole");
    struct command_answer *answer = calloc(1, sizeof(*answer) + text.size);
    CHECK(answer);
    answer->kind = REQUEST_COMMIT;
    answer->channel = pending->channel;
    answer->code = pending->code;
    answer->text_size = (uint32_t)text.size;
    append(answer->bytes, text);
    finish(worker, client, pending, answer);
}

/* What is said to a control request is JSON, whatever became of it. Takes the text; NULL: there was no memory for it. */
static void finish_control(struct worker *worker, struct client *client, struct pending_request *pending, char *text, size_t size)
{
    static const char short_of_memory[] = "{\"error\":{\"code\":\"internal_error\",\"text\":\"out of memory\"}}";
    struct bytes json = text ? bytes_of(text, size) : bytes_of(short_of_memory, sizeof(short_of_memory) - 1);
    struct command_answer *answer = calloc(1, sizeof(*answer) + json.size);
    CHECK(answer);
    answer->kind = REQUEST_CONTROL;
    answer->channel = pending->channel;
    answer->tag = pending->tag;
    answer->text_size = (uint32_t)json.size;
    append(answer->bytes, json);
    free(text);
    finish(worker, client, pending, answer);
}

void request_commit_done(struct worker *worker, struct client *client, struct pending_request *pending)
{
    struct command_answer *answer = worker_command(worker, worker->index, COMMAND_ANSWER, sizeof(*answer), NULL);
    pending->remaining = 1;
    answer->client = client->id;
    answer->serial = pending->serial;
    answer->kind = REQUEST_COMMIT;
    answer->channel = pending->channel;
    answer->code = pending->code;
}

/* A client that is gone cannot have a consumer. */
static void answered_too_late(struct worker *worker, const struct command_answer *answer)
{
    if (answer->kind != REQUEST_CONSUME || answer->code)
        return;
    struct command_request *cancel = worker_command(worker, worker_of_shard(worker, queue_id_shard(answer->queue)), COMMAND_SHARD_REQUEST,
                                                    sizeof(*cancel), NULL);
    cancel->client = answer->client;
    cancel->queue = answer->queue;
    cancel->handle = answer->handle;
    cancel->kind = REQUEST_CANCEL;
}

/* The client is in its vhost, unless that was deleted meanwhile. */
static void finish_open(struct worker *worker, struct client *client, struct pending_request *pending, const struct command_answer *answer)
{
    static const char gone[] = "NOT_ALLOWED - the vhost is deleted";
    struct command_answer *final = keep(answer);
    if (topology_vhost_by_id(&worker->topology, (uint32_t)answer->queue)) {
        client->vhost = (uint32_t)answer->queue;
        permissions_of(worker, client);
        firehose_opened(client);
    } else {
        free(final);
        final = calloc(1, sizeof(*final) + sizeof(gone));
        CHECK(final);
        final->kind = REQUEST_OPEN;
        final->code = 530;
        final->text_size = sizeof(gone) - 1;
        memcpy(final->bytes, gone, sizeof(gone) - 1);
    }
    finish(worker, client, pending, final);
}

void requests_answered(struct worker *worker, const struct command_answer *answer)
{
    struct client_place *place = worker_client(worker, answer->client);
    struct pending_request *pending = place ? pending_find(place, answer->serial) : NULL;
    if (!pending) {
        answered_too_late(worker, answer);
        return;
    }
    struct client *client = place->client;
    if (pending->kind == REQUEST_COMMIT) {
        if (answer->code > pending->code)   /* what the disk refused is worse than what a full queue did */
            pending->code = answer->code;
        if (--pending->remaining == 0)
            finish_commit(worker, client, pending);
        return;
    }
    if (answer->kind == REQUEST_OPEN && !answer->code) {
        finish_open(worker, client, pending, answer);
        return;
    }
    if (goes_on_at_shard(worker, pending, answer) || goes_on_at_master(worker, pending, answer))
        return;
    if (pending->kind == REQUEST_CONTROL) {
        size_t text_size = 0;
        char *text = control_convert(pending->answer && !answer->code ? pending->answer : answer, &text_size);
        finish_control(worker, client, pending, text, text_size);
        return;
    }
    if (answer->kind == REQUEST_CONSUME && !answer->code)
        remember_consumer(place, answer);
    if (answer->kind == REQUEST_CANCEL)
        forget_consumer(place, answer->handle, answer->queue);
    if (pending->answer && answer->kind == REQUEST_QUEUE_DECLARE) {   /* the second half: counts */
        pending->answer->messages = answer->code ? 0 : answer->messages;
        pending->answer->consumers = answer->code ? 0 : answer->consumers;
        finish(worker, client, pending, pending->answer);
    } else if (pending->answer && answer->kind == REQUEST_QUEUE_DELETE && !answer->code) {
        finish(worker, client, pending, pending->answer);
    } else {
        finish(worker, client, pending, keep(answer));
    }
}

void requests_rows(struct worker *worker, const struct command_rows *command)
{
    struct client_place *place = worker_client(worker, command->client);
    struct pending_request *pending = place ? pending_find(place, command->serial) : NULL;
    if (!pending || !pending->asked)
        return;
    /* One that fails answers for all. */
    if (command->failed && !pending->code) {
        pending->code = 541;
        writer_deinit(&pending->rows);
        writer_json(&pending->rows, bytes_of(command->bytes, command->rows_size));
    } else if (!pending->code) {
        writer_json(&pending->rows, bytes_of(command->bytes, command->rows_size));
    }
    if (--pending->remaining)
        return;
    struct bytes rows;
    size_t size = 0;
    char *text = NULL;
    if (writer_text(&pending->rows, &rows) && pending->code && rows.size)
        text = bytes_to_text(bytes_of(rows.data, size = rows.size));
    else if (!pending->code)
        text = control_join(worker, pending->asked, rows, &size);
    finish_control(worker, place->client, pending, text, size);
}
