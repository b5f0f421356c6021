#include "broker/inspect.h"

#include "broker/access.h"
#include "broker/content_json.h"
#include "broker/groups.h"
#include "broker/json_read.h"
#include "broker/lives.h"
#include "broker/pick.h"
#include "broker/relay.h"
#include "broker/replay.h"
#include "broker/retry.h"
#include "broker/walk.h"
#include "broker/worker_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define INSPECTIONS_MAX 64u              /* of a shard at a time */
#define STEP 2048u                       /* messages and blocks looked at in one turn … */
#define SCAN_MAX 200000u                 /* … and by one request */
#define LIMIT_MAX 10000u                 /* messages that one request is about */
#define ANSWER_MAX (1u << 20)            /* bytes of rows, from which on an answer is whole */
#define BODY_MAX (128u << 10)            /* bytes of a body that are shown at most */
#define RETRY_US 10000u                  /* a block that could not even be asked for is asked for again */
#define WAIT_MAX_US 30000000u            /* after which a block that does not come is given up */

enum inspect_kind { INSPECT_BROWSE, INSPECT_DELETE, INSPECT_CANCEL, INSPECT_MOVE, INSPECT_COPY, INSPECT_REPLAY };
static const char *const commands[] = {[INSPECT_BROWSE] = "queue_browse", [INSPECT_DELETE] = "queue_delete_messages", [INSPECT_CANCEL] = "queue_cancel",
                                       [INSPECT_MOVE] = "queue_move",     [INSPECT_COPY] = "queue_copy",              [INSPECT_REPLAY] = "queue_replay"};
static const char *const dones[] = {[INSPECT_DELETE] = "deleted", [INSPECT_CANCEL] = "cancelled", [INSPECT_MOVE] = "moved", [INSPECT_COPY] = "copied", [INSPECT_REPLAY] = "replayed"};
static const enum discard_reason reasons[] = {[INSPECT_MOVE] = DISCARD_MOVED, [INSPECT_COPY] = DISCARD_COPIED, [INSPECT_REPLAY] = DISCARD_REPLAYED};

static const struct json_limits limits = {1u << 20, 100000};

enum inspect_state {
    INSPECT_WALKS,           /* it can go on at once */
    INSPECT_WAITS,           /* for a block */
    INSPECT_ENDS,            /* it has seen enough: only the log is waited for */
};

struct inspect {
    struct inspect *next;
    uint64_t id, queue;
    struct command_request *asker;       /* whom to answer: the request without its arguments */
    enum inspect_kind kind;
    enum inspect_state state;
    json_t *arguments;
    struct pick pick;
    struct walk walk;
    bool named;                          /* the walk goes to positions that the request names */
    struct writer rows;
    uint64_t limit, body_max, done, scanned;
    uint64_t target;                     /* the queue that messages are moved or copied to */
    uint64_t sent, refused, nowhere;     /* given to the relay; not taken by where they were sent; no dead letters, or of queues that are gone or not the user's */
    uint64_t under_way;
    uint32_t logging;                    /* parts of what was done that are not committed yet */
    uint64_t waits_since_us;             /* for a block; 0: for none */
    const char *error;                   /* its code; NULL: none so far */
    char text[500];
};

/* ---- beginning and ending ------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4)))
static void fail(struct inspect *inspect, const char *code, const char *format, ...)
{
    va_list arguments;
    inspect->state = INSPECT_ENDS;
    if (inspect->error)
        return;
    va_start(arguments, format);
    vsnprintf(inspect->text, sizeof(inspect->text), format, arguments);
    va_end(arguments);
    inspect->error = code;
}

static void inspect_free(struct inspect *inspect)
{
    pick_deinit(&inspect->pick);
    walk_deinit(&inspect->walk);
    writer_deinit(&inspect->rows);
    json_decref(inspect->arguments);
    free(inspect);
}

static struct bytes text_of(const struct inspect *inspect, const char *name)
{
    const json_t *value = json_object_get(inspect->arguments, name);
    return json_is_string(value) ? bytes_of(json_string_value(value), json_string_length(value)) : (struct bytes){0};
}

static uint64_t number_of(const struct inspect *inspect, const char *name, uint64_t otherwise, uint64_t most)
{
    const json_t *value = json_object_get(inspect->arguments, name);
    uint64_t number = json_is_integer(value) && json_integer_value(value) >= 0 ? (uint64_t)json_integer_value(value) : otherwise;
    return number < most ? number : most;
}

static int by_seq(const void *a, const void *b)
{
    uint64_t x = ((const struct walk_range *)a)->next, y = ((const struct walk_range *)b)->next;
    return (x > y) - (x < y);
}

/* "positions": the walk goes to these alone. */
static bool walk_positions(struct inspect *inspect, const json_t *positions)
{
    size_t count = json_array_size(positions);
    inspect->named = true;
    if (!json_is_array(positions) || count > LIMIT_MAX) {
        fail(inspect, "bad_argument", "'positions' is no array of at most %u texts", LIMIT_MAX);
        return false;
    }
    inspect->walk.ranges = calloc(count + 1, sizeof(*inspect->walk.ranges));
    if (!inspect->walk.ranges) {
        fail(inspect, "internal_error", "out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(positions, i);
        uint64_t seq;
        if (!json_is_string(item) || !position_parse(bytes_of(json_string_value(item), json_string_length(item)), &seq)) {
            fail(inspect, "bad_argument", "'positions' has something that is no position");
            return false;
        }
        inspect->walk.ranges[inspect->walk.count++] = (struct walk_range){seq, seq + 1};
    }
    if (count)
        qsort(inspect->walk.ranges, count, sizeof(*inspect->walk.ranges), by_seq);
    return true;
}

static unsigned lanes_of(const struct inspect *inspect)
{
    struct bytes state = text_of(inspect, "state");
    if (inspect->kind == INSPECT_CANCEL || bytes_equal(state, bytes_of_text("scheduled")))
        return WALK_SCHEDULED;
    return inspect->kind == INSPECT_BROWSE && !state.size ? WALK_READY | WALK_SCHEDULED : WALK_READY;
}

static void find_target(struct shard *shard, struct inspect *inspect)
{
    const struct queue_entry *source = topology_queue_by_id(&shard->worker->topology, inspect->queue);
    struct bytes name = text_of(inspect, "target");
    const struct queue_entry *target = source ? topology_queue(source->vhost, name) : NULL;
    if (!target || (target->flags & TOPOLOGY_HIDDEN))
        fail(inspect, "not_found", "NOT_FOUND - there is no queue '%.*s' to send messages to", (int)(name.size < 256 ? name.size : 256), (const char *)name.data);
    else if (target == source)
        fail(inspect, "refused", "PRECONDITION_FAILED - the messages are in queue '%.*s' already", (int)name.size, (const char *)name.data);
    else
        inspect->target = target->id;
}

static void read_request(struct shard *shard, struct inspect *inspect, const struct queue *queue, const struct command_request *request)
{
    char why[400];
    inspect->arguments = json_read_object(request_arguments(request), &limits, why, sizeof(why));
    if (!inspect->arguments) {
        fail(inspect, "bad_request", "the request cannot be read: %s", why);
        return;
    }
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (bytes_equal(text_of(inspect, "command"), bytes_of_text(commands[i])))
            inspect->kind = i;
    inspect->limit = number_of(inspect, "limit", inspect->kind == INSPECT_BROWSE ? 100 : LIMIT_MAX, LIMIT_MAX);
    inspect->body_max = number_of(inspect, "body", 0, BODY_MAX);
    if (inspect->kind == INSPECT_MOVE || inspect->kind == INSPECT_COPY)
        find_target(shard, inspect);
    if (inspect->kind == INSPECT_COPY && queue->groups)
        fail(inspect, "refused", "NOT_IMPLEMENTED - messages of a queue with groups are not copied: while one is, later ones of its key would go ahead of it");
    const json_t *positions = json_object_get(inspect->arguments, "positions");
    bool picks = json_object_get(inspect->arguments, "id") || json_object_get(inspect->arguments, "headers") || json_object_get(inspect->arguments, "filter");
    if (inspect->error)
        return;
    if (inspect->kind != INSPECT_BROWSE && !positions && !picks && !json_is_true(json_object_get(inspect->arguments, "all"))) {
        fail(inspect, "bad_argument", "say which messages: by 'positions', 'id', 'headers' or 'filter', or \"all\": true");
        return;
    }
    if (!pick_init(&inspect->pick, inspect->arguments, why, sizeof(why))) {
        fail(inspect, "bad_argument", "%s", why);
        return;
    }
    if (positions) {
        walk_positions(inspect, positions);
        return;
    }
    enum gw_err err = walk_init(&inspect->walk, queue, lanes_of(inspect), text_of(inspect, "from"));
    if (err)
        fail(inspect, err == GW_ERR_NOMEM ? "internal_error" : "bad_argument", err == GW_ERR_NOMEM ? "out of memory" : "'from' is no position of a message");
}

static uint32_t count_of(const struct shard *shard)
{
    uint32_t count = 0;
    for (const struct inspect *inspect = shard->inspects; inspect; inspect = inspect->next)
        count++;
    return count;
}

/* queue_trace and queue_life are answered at once. False: it is another command. */
static bool lives_request(struct shard *shard, struct queue *queue, const struct command_request *request)
{
    char why[300];
    struct inspect one = {.arguments = json_read_object(request_arguments(request), &limits, why, sizeof(why))};
    struct bytes command = text_of(&one, "command"), id = text_of(&one, "id"), position = text_of(&one, "position"), text;
    bool traces = bytes_equal(command, bytes_of_text("queue_trace")), tells = bytes_equal(command, bytes_of_text("queue_life"));
    bool on = json_is_true(json_object_get(one.arguments, "on"));
    uint64_t seq = 0;
    struct writer writer;
    writer_init(&writer);
    writer_open(&writer, '{');
    if (traces && !on)
        lives_end(queue);
    if (traces && on && !lives_begin(shard, queue)) {
        request_refuse(shard->worker, request, 506, "RESOURCE_ERROR - out of memory");
    } else if (traces) {
        writer_put_open(&writer, "ok", '{');
        writer_close(&writer, '}');
    } else if (tells && !queue->lives) {
        request_refuse(shard->worker, request, 406, "PRECONDITION_FAILED - the queue is not traced");
    } else if (tells && !id.size && !position_parse(position, &seq)) {
        request_refuse(shard->worker, request, 406, "PRECONDITION_FAILED - say which message: by 'id' or 'position'");
    } else if (tells) {
        writer_key(&writer, bytes_of_text("ok"));
        lives_look(shard, queue);
        lives_write(queue, id, seq, &writer);
    }
    writer_close(&writer, '}');
    if (writer.size > 2 && writer_text(&writer, &text))
        request_answer(shard->worker, request, 0, text);
    else if (writer.failed)
        request_refuse(shard->worker, request, 506, "RESOURCE_ERROR - out of memory");
    writer_deinit(&writer);
    json_decref(one.arguments);
    return traces || tells;
}

void inspect_request(struct shard *shard, struct queue *queue, const struct command_request *request)
{
    if (queue->stream) {
        request_refuse(shard->worker, request, 540, "NOT_IMPLEMENTED - a stream is not inspected: consume it from an offset");
        return;
    }
    if (lives_request(shard, queue, request))
        return;
    size_t size = sizeof(*request) + request->name_size + request->source_size;
    struct inspect *inspect = count_of(shard) < INSPECTIONS_MAX ? calloc(1, sizeof(*inspect) + size) : NULL;
    if (!inspect) {
        request_refuse(shard->worker, request, 506, "RESOURCE_ERROR - too many queues are being inspected at once");
        return;
    }
    inspect->asker = memcpy(inspect + 1, request, size);
    inspect->queue = queue->id;
    inspect->id = ++shard->next_inspect;
    writer_init(&inspect->rows);
    writer_open(&inspect->rows, '[');
    read_request(shard, inspect, queue, request);
    struct inspect **end = &shard->inspects;
    while (*end)
        end = &(*end)->next;
    *end = inspect;
}

static void answer(struct shard *shard, struct inspect *inspect)
{
    struct writer writer;
    struct bytes rows, text;
    writer_close(&inspect->rows, ']');
    writer_init(&writer);
    writer_open(&writer, '{');
    if (inspect->error) {
        writer_put_open(&writer, "error", '{');
        writer_put_text(&writer, "code", inspect->error);
        writer_put_text(&writer, "text", inspect->text);
    } else {
        writer_put_open(&writer, "ok", '{');
        if (inspect->kind != INSPECT_BROWSE)
            writer_put_integer(&writer, dones[inspect->kind], (int64_t)inspect->done);
        else if (writer_text(&inspect->rows, &rows))
            writer_put_json(&writer, "messages", rows);
        else
            writer.failed = true;
        if (inspect->kind >= INSPECT_MOVE)
            writer_put_integer(&writer, "refused", (int64_t)inspect->refused);
        if (inspect->kind == INSPECT_REPLAY)
            writer_put_integer(&writer, "nowhere", (int64_t)inspect->nowhere);
        writer_put_integer(&writer, "scanned", (int64_t)inspect->scanned);
        writer_key(&writer, bytes_of_text("next"));
        if (inspect->named)
            writer_null(&writer);
        else
            walk_write_cursor(&inspect->walk, &writer);
    }
    writer_close(&writer, '}');
    writer_close(&writer, '}');
    if (writer_text(&writer, &text))
        request_answer(shard->worker, inspect->asker, 0, text);
    else
        request_refuse(shard->worker, inspect->asker, 506, "RESOURCE_ERROR - out of memory");
    writer_deinit(&writer);
}

void inspect_free_all(struct shard *shard)
{
    while (shard->inspects) {
        struct inspect *inspect = shard->inspects;
        shard->inspects = inspect->next;
        inspect_free(inspect);
    }
}

/* ---- one message ---------------------------------------------------------------------------------------------------- */

static const char *state_of(const struct walk_place *place)
{
    if (place->unacked)
        return place->entry->holder == RELAY_HOLDER ? "moving" : place->entry->holder == RETRY_HOLDER ? "retrying" : "unacked";
    return seq_level(place->seq) == LEVEL_SCHEDULED ? "scheduled" : "ready";
}

static void write_row(struct shard *shard, const struct queue *queue, struct inspect *inspect, const struct walk_place *place, const struct message *message)
{
    struct writer *writer = &inspect->rows;
    char text[POSITION_SIZE];
    bool scheduled = seq_level(place->seq) == LEVEL_SCHEDULED;
    uint64_t returns = queue->ruled ? returns_of(queue, place->seq) : 0;
    const struct consumer *consumer = place->unacked && place->entry->holder ? shard_consumer(shard, place->entry->holder) : NULL;
    writer_open(writer, '{');
    writer_put_string(writer, "position", position_write(place->seq, text));
    writer_put_text(writer, "state", state_of(place));
    writer_put_boolean(writer, "redelivered", place->entry->flags & ENTRY_REDELIVERED);
    if (message->arrived_ms)
        writer_put_integer(writer, scheduled ? "due" : "arrived", (int64_t)message->arrived_ms);
    if (returns)
        writer_put_integer(writer, "returns", (int64_t)returns);
    if (consumer) {
        char id[64];
        int size = snprintf(id, sizeof(id), "<godwit.channel.%llx.%u>", (unsigned long long)consumer->client, consumer->channel);
        writer_put_string(writer, "channel", bytes_of(id, (size_t)size));
    }
    content_write_json(writer, message, inspect->body_max);
    writer_close(writer, '}');
}

/* It leaves its queue for good. False: that cannot be logged now. */
static bool take_out(struct shard *shard, struct queue *queue, struct inspect *inspect, const struct walk_place *place)
{
    if (shard_must_log_settle(queue, place->slot, place->entry)) {
        if (log_state(shard->log) || !shard_log_settle(shard, queue->id, place->seq, 1)) {
            fail(inspect, "refused", "the log takes nothing now; %llu messages were deleted", (unsigned long long)inspect->done);
            return false;
        }
    }
    queue->lost++;
    if (queue->lives)
        lives_note(shard, queue, place->seq, LIFE_DELETED, 0, 0, 0);
    rules_leaves(queue, place->lane, place->seq, place->entry);
    rules_ended(queue, place->seq);
    if (queue->groups)
        groups_given_up(queue, place->seq);
    shard_remove(shard, place->lane, place->seq, place->slot, place->entry, false);
    return true;
}

/* Where a dead letter goes back to; 0: nowhere. */
static uint64_t replay_target(struct shard *shard, const struct inspect *inspect, const struct message *message)
{
    const struct topology *topology = &shard->worker->topology;
    const struct queue_entry *source = topology_queue_by_id(topology, inspect->queue);
    struct bytes name = request_source(inspect->asker);
    const struct user *user = topology_user(topology, name);
    struct replay replay;
    if (!source || !user || !replay_of(message->properties, &replay))
        return 0;
    const struct queue_entry *target = topology_queue(source->vhost, replay.queue);
    if (!target || target == source || (target->flags & TOPOLOGY_HIDDEN))
        return 0;
    bool may = user_is_tagged(user, "administrator") || access_allows(topology_access(source->vhost, name), ACCESS_WRITE, target->name);
    return may ? target->id : 0;
}

/* Gives the message to the relay. False: that has no room now. */
static bool send_on(struct shard *shard, struct queue *queue, struct inspect *inspect, const struct walk_place *place, const struct message *message)
{
    uint64_t target = inspect->kind == INSPECT_REPLAY ? replay_target(shard, inspect, message) : inspect->target;
    if (!target) {
        inspect->nowhere++;
        return true;
    }
    if (!relay_has_room(shard, queue)) {
        inspect->state = INSPECT_WAITS;
        return false;
    }
    rules_leaves(queue, place->lane, place->seq, place->entry);
    if (queue->lives && inspect->kind != INSPECT_COPY)
        lives_note(shard, queue, place->seq, LIFE_SENT, 0, 0, 0);
    relay_send_to(shard, queue, place->lane, place->seq, place->slot, place->entry, reasons[inspect->kind], target, inspect->id);
    inspect->sent++;
    inspect->under_way++;
    return true;
}

/* False: the walk stays where it is. */
static bool visit(struct shard *shard, struct queue *queue, struct inspect *inspect, const struct walk_place *place)
{
    struct message message;
    if (!place->entry->chunk || !message_read(bytes_of(place->entry->chunk->data + place->entry->offset, place->entry->size), &message))
        return true;
    if (!pick_takes(&inspect->pick, &message))
        return true;
    if (inspect->kind == INSPECT_BROWSE)
        write_row(shard, queue, inspect, place, &message);
    else if (place->unacked || (inspect->kind == INSPECT_CANCEL && seq_level(place->seq) != LEVEL_SCHEDULED))
        return true;   /* somebody has it, or it is not the kind that is meant */
    else if (inspect->kind >= INSPECT_MOVE)
        return seq_level(place->seq) == LEVEL_SCHEDULED || send_on(shard, queue, inspect, place, &message);
    else if (!take_out(shard, queue, inspect, place))
        return false;
    inspect->done++;
    return true;
}

/* ---- in steps ------------------------------------------------------------------------------------------------------- */

static bool has_enough(const struct inspect *inspect)
{
    return (inspect->kind >= INSPECT_MOVE ? inspect->sent : inspect->done) >= inspect->limit || inspect->scanned >= SCAN_MAX || inspect->rows.size >= ANSWER_MAX;
}

static void step(struct shard *shard, struct queue *queue, struct inspect *inspect)
{
    struct walk_place place;
    unsigned budget = STEP;
    uint64_t before = inspect->done;
    while (inspect->state == INSPECT_WALKS) {
        enum walk_step next = has_enough(inspect) ? WALK_END : walk_next(&inspect->walk, shard, queue, &budget, &place);
        if (next == WALK_PAUSE)
            break;
        if (next != WALK_MESSAGE) {
            inspect->state = next == WALK_LOADING ? INSPECT_WAITS : INSPECT_ENDS;
            if (next == WALK_LOADING && !inspect->waits_since_us)
                inspect->waits_since_us = shard->worker->now_us;
            break;
        }
        inspect->waits_since_us = 0;
        if (!visit(shard, queue, inspect, &place))
            break;
        inspect->scanned++;
        walk_pass(&inspect->walk);
    }
    if (inspect->waits_since_us && shard->worker->now_us > inspect->waits_since_us + WAIT_MAX_US)
        fail(inspect, "internal_error", "a part of the queue cannot be read from the disk");
    if (inspect->done == before || inspect->kind == INSPECT_BROWSE || inspect->kind >= INSPECT_MOVE)
        return;
    shard_mark_dirty(shard, queue);
    if (shard->settle || shard->own.count) {
        inspect->logging++;
        shard_own_pending(shard, PENDING_INSPECTED, inspect->id, 0);
    }
}

static bool is_over(const struct inspect *inspect) { return inspect->state == INSPECT_ENDS && !inspect->logging && !inspect->under_way; }

void inspect_turn(struct shard *shard)
{
    for (struct inspect **at = &shard->inspects; *at;) {
        struct inspect *inspect = *at;
        struct queue *queue = shard_queue(shard, inspect->queue);
        if (!queue)
            fail(inspect, "not_found", "the queue was deleted");
        if (inspect->state == INSPECT_WAITS)
            inspect->state = INSPECT_WALKS;
        if (inspect->state == INSPECT_WALKS)
            step(shard, queue, inspect);
        if (!is_over(inspect)) {
            at = &inspect->next;
            continue;
        }
        *at = inspect->next;
        answer(shard, inspect);
        inspect_free(inspect);
    }
}

bool inspect_is_due(const struct shard *shard)
{
    for (const struct inspect *inspect = shard->inspects; inspect; inspect = inspect->next)
        if (inspect->state == INSPECT_WALKS || is_over(inspect))
            return true;
    return false;
}

uint64_t inspect_deadline(const struct shard *shard)
{
    for (const struct inspect *inspect = shard->inspects; inspect; inspect = inspect->next)
        if (inspect->state == INSPECT_WAITS)
            return shard->worker->now_us + RETRY_US;
    return UINT64_MAX;
}

void inspect_committed(struct shard *shard, uint64_t id, bool ok)
{
    for (struct inspect *inspect = shard->inspects; inspect; inspect = inspect->next)
        if (inspect->id == id) {
            inspect->logging--;
            if (!ok)
                fail(inspect, "refused", "the log has not taken what was done: after a restart some of the messages may be there again");
        }
}

void inspect_sent(struct shard *shard, uint64_t id, bool arrived)
{
    for (struct inspect *inspect = shard->inspects; inspect; inspect = inspect->next)
        if (inspect->id == id) {
            inspect->under_way--;
            inspect->done += arrived;
            inspect->refused += !arrived;
            struct queue *queue = arrived && inspect->kind != INSPECT_COPY ? shard_queue(shard, inspect->queue) : NULL;
            if (queue)
                queue->lost++;   /* nobody has handled it */
            if (!arrived)
                inspect->state = INSPECT_ENDS;   /* that queue is full or gone: the others would fare no better */
        }
}
