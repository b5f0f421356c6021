#include "bus/rerun.h"

#include "base/bugs.h"
#include "broker/topology_change.h"
#include "bus/drain.h"
#include "bus/rerun_message.h"
#include "protocol/amqp/table.h"
#include "store/stream_message.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define STREAM "events"
#define CHANNEL 1u
#define LOOKER 1u                    /* consumers: of the last event … */
#define READER 2u                    /* … and of those that are wanted */
#define AGAIN_US 1000000u            /* what was refused is published again after so long */
#define SAVE_US 10000000u            /* how far it has come is written down so often */
#define IDLE_US 5000000u             /* when nothing comes for so long, it is asked whether there is anything */
#define NONE UINT64_MAX

static struct rerun *rerun_of(struct client *client) { return (struct rerun *)client; }

/* ---- the record --------------------------------------------------------------------------------------------------------- */

static bool number_of(const json_t *record, const char *name, uint64_t *number)
{
    const json_t *value = json_object_get(record, name);
    if (value && (!json_is_integer(value) || json_integer_value(value) < 0))
        return false;
    if (value)
        *number = (uint64_t)json_integer_value(value);
    return true;
}

static struct bytes name_of_id(const void *value) { return ((const struct rerun_id *)value)->id; }

static bool read_ids(struct rerun *rerun)
{
    const json_t *ids = json_object_get(rerun->record, "ids");
    size_t count = json_array_size(ids);
    if (!ids)
        return true;
    if (!count || !(rerun->ids = calloc(count, sizeof(*rerun->ids))))
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(ids, i);
        struct rerun_id *made = &rerun->ids[rerun->id_count];
        *made = (struct rerun_id){.id = bytes_of(json_string_value(id), json_string_length(id))};
        if (!json_is_string(id) || !made->id.size)
            return false;
        if (name_map_get(&rerun->by_id, made->id))
            continue;
        if (name_map_put(&rerun->by_id, made) != GW_OK)
            return false;
        rerun->id_count++;
    }
    return true;
}

/* Where it was when the broker ended: it goes on as one that begins there. */
static bool read_progress(struct rerun *rerun)
{
    const json_t *record = rerun->record;
    const char *id;
    json_t *source;
    uint64_t next = NONE, end = NONE;
    json_object_foreach(json_object_get(record, "found"), id, source) {
        struct rerun_id *wanted = name_map_get(&rerun->by_id, bytes_of_text(id));
        if (!wanted || !json_is_integer(source))
            return false;
        wanted->found = true;
        wanted->source = (uint64_t)json_integer_value(source);
    }
    if (!number_of(record, "next", &next) || !number_of(record, "end", &end) || !number_of(record, "read", &rerun->read) || !number_of(record, "replayed", &rerun->replayed) ||
        !number_of(record, "lost", &rerun->lost) || rerun->replayed > rerun->read)
        return false;
    if (bug_enabled(BUG_HOOK_REPLAY_SKIPS) && end != NONE)
        next = end;
    if (next != NONE && !bug_enabled(BUG_HOOK_REPLAY_AGAIN))
        rerun->from = next;
    if (end < rerun->to)
        rerun->to = end;
    return rerun->is_resumed = true;
}

static bool read_record(struct rerun *rerun)
{
    const char *state = json_string_value(json_object_get(rerun->record, "state"));
    bool begins = state && strcmp(state, "asked") == 0, goes_on = state && strcmp(state, "running") == 0;
    rerun->from = rerun->to = NONE;
    return (begins || goes_on) && json_is_string(json_object_get(rerun->record, "id")) && number_of(rerun->record, "from", &rerun->from) &&
           number_of(rerun->record, "from_ms", &rerun->from_ms) && number_of(rerun->record, "to", &rerun->to) && number_of(rerun->record, "to_ms", &rerun->to_ms) && read_ids(rerun) &&
           (begins || read_progress(rerun));
}

bool rerun_is(const struct rerun *rerun, struct bytes value)
{
    if (bytes_equal(rerun->value, value))
        return true;
    json_t *root = json_loadb((const char *)value.data, value.size, 0, NULL);
    const char *id = json_string_value(json_object_get(root, "id"));
    bool same = id && strcmp(id, json_string_value(json_object_get(rerun->record, "id"))) == 0;
    json_decref(root);
    return same;
}

/* What lies before it is in the queue, as far as it was wanted. */
static uint64_t position(const struct rerun *rerun)
{
    return rerun->count ? rerun->events[rerun->first].offset : rerun->expected;
}

static json_t *missing_ids(const struct rerun *rerun)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < rerun->id_count; i++)
        if (!rerun->ids[i].found)
            json_array_append_new(list, json_stringn((const char *)rerun->ids[i].id.data, rerun->ids[i].id.size));
    return list;
}

/* What was found before the position: the rest is looked for again by who goes on there. */
static json_t *found_ids(const struct rerun *rerun)
{
    json_t *found = json_object();
    for (unsigned i = 0; i < rerun->id_count; i++) {
        const struct rerun_id *id = &rerun->ids[i];
        if (id->found && (!id->offset || id->offset < position(rerun)))
            json_object_set_new(found, (const char *)id->id.data, json_integer((json_int_t)id->source));
    }
    return found;
}

static json_t *record_now(const struct rerun *rerun)
{
    json_t *made = json_copy(rerun->record);
    const struct rerun_event *held = rerun->count ? &rerun->events[rerun->first] : NULL;
    uint64_t read = held ? held->read_before : rerun->read, lost = held ? held->lost_before : rerun->lost;
    const char *state = rerun->outcome ? rerun->outcome : rerun->is_resumed || rerun->stage >= RERUN_MARKING ? "running" : "asked";
    if (!made)
        return NULL;
    json_object_set_new(made, "state", json_string(state));
    json_object_set_new(made, "read", json_integer((json_int_t)read));
    json_object_set_new(made, "replayed", json_integer((json_int_t)rerun->replayed));
    json_object_set_new(made, "passed_over", json_integer((json_int_t)(read - rerun->replayed)));
    if (lost)
        json_object_set_new(made, "lost", json_integer((json_int_t)lost));
    if (position(rerun) != NONE)
        json_object_set_new(made, "next", json_integer((json_int_t)position(rerun)));
    if (rerun->end != NONE)
        json_object_set_new(made, "end", json_integer((json_int_t)rerun->end));
    if (rerun->why[0])
        json_object_set_new(made, "why", json_string(rerun->why));
    if (rerun->id_count && !rerun->outcome)
        json_object_set_new(made, "found", found_ids(rerun));
    if (!rerun->outcome)
        return made;
    json_object_set_new(made, "ended_ms", json_integer((json_int_t)(worker_wall_us(bus_worker(rerun->bus)) / 1000)));
    json_object_del(made, "found");
    if (rerun->id_count)
        json_object_set_new(made, "missing", missing_ids(rerun));
    return made;
}

char *rerun_describe(const struct rerun *rerun)
{
    json_t *record = record_now(rerun);
    char *text = record ? json_dumps(record, JSON_COMPACT) : NULL;
    json_decref(record);
    return text;
}

/* Writes it down, unless somebody else has said something else of it meanwhile. False: memory is short, or another one is being written. */
static bool put(struct rerun *rerun)
{
    char *text = rerun->is_putting ? NULL : rerun_describe(rerun);
    if (!text)
        return false;
    const struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .flags = TOPOLOGY_IF_SAME, .name = rerun->id, .source = bytes_of_text(SUBSCRIPTION_REPLAY_COMPONENT),
                                           .arguments = bytes_of_text(text), .secret = rerun->value};
    client_request(&rerun->client, &(struct request){.kind = REQUEST_CHANGE, .flags = REQUEST_TRUSTED, .channel = CHANNEL, .change = &change});
    free((void *)(uintptr_t)rerun->value.data);
    rerun->value = bytes_of_text(text);   /* if it is refused, nothing more is said of it */
    rerun->is_putting = true;
    rerun->is_final = rerun->outcome;
    rerun->saved = rerun->read;
    rerun->save_us = bus_now(rerun->bus) + SAVE_US;
    return true;
}

/* ---- the end ------------------------------------------------------------------------------------------------------------- */

static struct rerun_event *event_at(struct rerun *rerun, unsigned index) { return &rerun->events[(rerun->first + index) % RERUN_WINDOW]; }

/* Once it is known what became of all that was published. */
static void write_end(struct rerun *rerun)
{
    for (unsigned i = 0; i < rerun->count; i++)
        if (event_at(rerun, i)->state == RERUN_SENT)
            return;
    if (!rerun->is_putting && !put(rerun))
        bus_rerun_due(rerun, bus_now(rerun->bus) + AGAIN_US);
}

static void finish(struct rerun *rerun, const char *outcome)
{
    if (rerun->outcome)
        return;
    rerun->outcome = outcome;
    rerun->read_all = true;
    rerun->stage = RERUN_ENDING;
    write_end(rerun);
}

__attribute__((format(printf, 2, 3)))
static void fail(struct rerun *rerun, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!rerun->why[0])
        vsnprintf(rerun->why, sizeof(rerun->why), format, arguments);
    va_end(arguments);
    finish(rerun, "failed");
}

static void over(struct rerun *rerun)
{
    rerun->stage = RERUN_OVER;
    bus_rerun_due(rerun, 0);
}

/* ---- events -------------------------------------------------------------------------------------------------------------- */

static bool is_asked_for(struct rerun *rerun, const struct message *message, uint64_t offset)
{
    char room[RERUN_ID_SIZE];
    struct rerun_id *wanted = name_map_get(&rerun->by_id, rerun_event_id(message, offset, room));
    uint64_t source = bytes_hash(rerun_event_source(message), 1);
    if (!wanted || (wanted->found && wanted->source == source))   /* a publisher that has published it twice has said it once */
        return false;
    wanted->source = source;
    wanted->offset = offset;
    return wanted->found = true;
}

static bool is_wanted(struct rerun *rerun, const struct delivery *delivery)
{
    const struct subscription *s = &rerun->subscription;
    struct message message;
    if (!(delivery->is_record ? stream_message_read(delivery->content, &message) : message_read(delivery->content, &message)))
        return false;
    if (delivery->arrived_ms && (delivery->arrived_ms < rerun->from_ms || (rerun->to_ms && delivery->arrived_ms > rerun->to_ms)))
        return false;
    return subscription_has_type(s, message.routing_key) &&
           (!s->selector || bug_enabled(BUG_HOOK_REPLAY_ALL) || selector_matches(s->selector, &message)) && (!rerun->ids || is_asked_for(rerun, &message, delivery->added_value));
}

static void settle(struct rerun *rerun, uint64_t seq, size_t size)
{
    client_settle(&rerun->client, rerun->queue, SETTLE_ACK, seq, 1, NULL);
    client_credit(&rerun->client, rerun->queue, rerun->handle, (uint32_t)size + DELIVERY_OVERHEAD);
}

static void pop_done(struct rerun *rerun)
{
    while (rerun->count && event_at(rerun, 0)->state == RERUN_DONE) {
        struct rerun_event *event = event_at(rerun, 0);
        settle(rerun, event->seq, event->content.size);
        client_release(&rerun->client, event->chunk);
        rerun->first = (rerun->first + 1) % RERUN_WINDOW;
        rerun->count--;
        rerun->published -= rerun->published > 0;
        rerun->replayed++;
    }
    if (rerun->stage == RERUN_ENDING)
        write_end(rerun);
    else if (rerun->read_all && !rerun->count)
        finish(rerun, "done");
}

/* False: nothing more can be published now. */
static bool publish(struct rerun *rerun, struct rerun_event *event)
{
    char queue[SUBSCRIPTION_QUEUE_MAX];
    struct message message;
    struct bytes properties;
    subscription_queue(rerun->subscription.id, false, queue);
    bool known = event->is_record ? stream_message_read(event->content, &message) : message_read(event->content, &message);
    uint8_t *room = known ? rerun_properties(&message, event->offset, &properties) : NULL;
    if (!room) {
        event->state = RERUN_REFUSED;
        return false;
    }
    struct publish publish = {.channel = CHANNEL, .persistent = true, .mandatory = true, .whole = true, .confirm_tag = rerun->next_tag, .exchange = bytes_of_text(""),
                              .routing_key = bytes_of_text(queue), .properties = properties, .body_size = message.body.size};
    enum publish_result result = client_publish_begin(&rerun->client, &publish);
    if (result == PUBLISH_ROUTED || (result == PUBLISH_UNROUTABLE && publish.chunk)) {
        if (publish.body && message.body.size)
            memcpy(publish.body, message.body.data, message.body.size);
        client_publish_end(&rerun->client, &publish);
    }
    if (result == PUBLISH_UNROUTABLE && publish.chunk)
        client_release(&rerun->client, publish.chunk);
    free(room);
    if (result == PUBLISH_ROUTED) {
        event->tag = rerun->next_tag++;
        event->state = RERUN_SENT;
        return true;
    }
    event->state = RERUN_REFUSED;
    if (result == PUBLISH_UNROUTABLE)
        fail(rerun, "The subscription's queue is gone.");
    else if (result == PUBLISH_ACCESS_REFUSED || result == PUBLISH_TOPIC_REFUSED || result == PUBLISH_CHECK_REFUSED)
        fail(rerun, "The subscription's owner may not write to the default exchange.");
    else if (result != PUBLISH_REFUSED && result != PUBLISH_NO_MEMORY)
        fail(rerun, "The event with the offset %llu cannot be put into a queue.", (unsigned long long)event->offset);
    return false;
}

/* Those that were refused go first, and what comes behind them waits for them. */
static void pump(struct rerun *rerun, uint64_t now_us)
{
    if (rerun->stage != RERUN_READING || now_us < rerun->again_us)
        return;
    for (; rerun->published < rerun->count; rerun->published++) {
        struct rerun_event *event = event_at(rerun, rerun->published);
        if (event->state != RERUN_HELD && event->state != RERUN_REFUSED)
            continue;
        if (!client_may_publish(&rerun->client))
            return;   /* until resumed */
        if (publish(rerun, event))
            continue;
        rerun->again_us = now_us + AGAIN_US;
        bus_rerun_due(rerun, rerun->again_us);
        return;
    }
}

static void on_confirmed(struct client *client, uint16_t channel, uint64_t first, uint64_t count, bool accepted)
{
    struct rerun *rerun = rerun_of(client);
    (void)channel;
    for (unsigned i = 0; i < rerun->count; i++) {
        struct rerun_event *event = event_at(rerun, i);
        if (event->state != RERUN_SENT || event->tag - first >= count)
            continue;
        event->state = accepted ? RERUN_DONE : RERUN_REFUSED;
        if (!accepted && i < rerun->published)
            rerun->published = i;
    }
    if (!accepted) {
        rerun->again_us = bus_now(rerun->bus) + AGAIN_US;
        bus_rerun_due(rerun, rerun->again_us);
    }
    pop_done(rerun);
}

static void on_resumed(struct client *client) { pump(rerun_of(client), bus_now(rerun_of(client)->bus)); }

static void read_one(struct rerun *rerun, const struct delivery *delivery)
{
    uint64_t offset = delivery->added_value;
    rerun->seen++;
    rerun->read_all |= offset >= rerun->end;
    if (offset > rerun->end) {
        pop_done(rerun);
        return;
    }
    uint64_t read_before = rerun->read, lost_before = rerun->lost;
    if (rerun->expected != NONE && offset > rerun->expected)
        rerun->lost += offset - rerun->expected;
    rerun->expected = offset + 1;
    rerun->read++;
    if (!is_wanted(rerun, delivery)) {
        settle(rerun, delivery->seq, delivery->content.size);
        pop_done(rerun);
        return;
    }
    CHECK(rerun->count < RERUN_WINDOW);
    *event_at(rerun, rerun->count++) = (struct rerun_event){.chunk = chunk_retain(delivery->chunk), .content = delivery->content, .seq = delivery->seq, .offset = offset,
                                                            .read_before = read_before, .lost_before = lost_before, .is_record = delivery->is_record};
    pump(rerun, bus_now(rerun->bus));
}

/* ---- what the broker says -------------------------------------------------------------------------------------------------- */

static void consume(struct rerun *rerun, uint32_t consumer)
{
    uint8_t room[64], seconds[8];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    if (consumer == LOOKER) {
        amqp_table_put_text(&writer, "x-stream-offset", bytes_of_text("last"));
    } else if (rerun->from != NONE) {
        amqp_table_put_long(&writer, "x-stream-offset", (int64_t)rerun->from);
    } else if (rerun->from_ms) {
        store_be64(seconds, rerun->from_ms / 1000);
        amqp_table_put_raw(&writer, bytes_of_text("x-stream-offset"), 'T', bytes_of(seconds, sizeof(seconds)));
    } else {
        amqp_table_put_text(&writer, "x-stream-offset", bytes_of_text("first"));
    }
    CHECK(amqp_table_finish(&writer, &arguments));
    client_request(&rerun->client, &(struct request){.kind = REQUEST_CONSUME, .channel = CHANNEL, .tag = consumer, .name = bytes_of_text(STREAM),
                                                     .prefetch = consumer == LOOKER ? 1 : RERUN_WINDOW, .arguments = arguments});
}

static void count_stream(struct rerun *rerun)
{
    client_request(&rerun->client, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_PASSIVE | REQUEST_TRUSTED, .channel = CHANNEL, .name = bytes_of_text(STREAM)});
}

/* What was the end when it began is its end: what comes later comes to the queue by itself. */
static void found_end(struct rerun *rerun, const struct delivery *delivery)
{
    uint64_t last = delivery->added_value;
    if (delivery->added != DELIVERY_ADDS_OFFSET) {
        client_settle(&rerun->client, delivery->queue, SETTLE_UNDELIVERED, delivery->seq, 1, NULL);
        fail(rerun, "The queue '" STREAM "' is no stream.");
        return;
    }
    client_request(&rerun->client, &(struct request){.kind = REQUEST_CANCEL, .channel = CHANNEL, .queue = delivery->queue, .handle = delivery->handle});
    rerun->end = (last < rerun->to ? last : rerun->to) - (bug_enabled(BUG_HOOK_REPLAY_SHORT) && last);
    rerun->expected = rerun->from;
    rerun->read_all = (rerun->from != NONE && rerun->from > rerun->end) || (delivery->arrived_ms && delivery->arrived_ms < rerun->from_ms);
    rerun->stage = RERUN_MARKING;
    if (!put(rerun))
        fail(rerun, "There is too little memory.");
}

static void on_delivered(struct client *client, const struct delivery *delivery)
{
    struct rerun *rerun = rerun_of(client);
    if (delivery->consumer == LOOKER && rerun->stage == RERUN_LOOKING) {
        found_end(rerun, delivery);
    } else if (delivery->consumer == READER && rerun->stage == RERUN_READING && !rerun->read_all) {
        rerun->queue = delivery->queue;
        rerun->handle = delivery->handle;
        read_one(rerun, delivery);
    }
    /* What comes for a consumer that is not wanted any more goes with it: a stream loses nothing by that. */
}

static void counted(struct rerun *rerun, const struct reply *reply)
{
    bool is_empty = reply->code == 404 || (!reply->code && !reply->messages);
    if (reply->code && !is_empty) {
        fail(rerun, "%.*s", (int)reply->text.size, (const char *)reply->text.data);
    } else if (is_empty) {
        rerun->read_all = true;
        if (!rerun->count)
            finish(rerun, "done");
    } else if (rerun->stage == RERUN_COUNTING) {
        rerun->stage = RERUN_LOOKING;
        consume(rerun, LOOKER);
    }
}

static void was_put(struct rerun *rerun, const struct reply *reply)
{
    rerun->is_putting = false;
    if (reply->code || rerun->is_final) {
        over(rerun);   /* all is said; or it was stopped, or another one has begun */
    } else if (rerun->stage == RERUN_MARKING && rerun->read_all) {
        finish(rerun, "done");
    } else if (rerun->stage == RERUN_MARKING) {
        rerun->stage = RERUN_READING;
        rerun->idle_us = bus_now(rerun->bus) + IDLE_US;
        bus_rerun_due(rerun, rerun->idle_us);
        consume(rerun, READER);
    } else if (rerun->stage == RERUN_ENDING) {
        write_end(rerun);
    }
}

static void on_replied(struct client *client, const struct reply *reply)
{
    struct rerun *rerun = rerun_of(client);
    if (reply->kind == REQUEST_CHANGE)
        was_put(rerun, reply);
    else if (reply->kind == REQUEST_QUEUE_DECLARE)
        counted(rerun, reply);
    else if (reply->kind == REQUEST_CANCEL)
        return;
    else if (reply->code)
        fail(rerun, "%.*s", (int)reply->text.size, (const char *)reply->text.data);
    else if (reply->kind == REQUEST_OPEN) {
        rerun->stage = RERUN_COUNTING;
        count_stream(rerun);
    }
}

static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer)
{
    struct rerun *rerun = rerun_of(client);
    (void)channel, (void)consumer;
    fail(rerun, "The stream of the events was deleted.");
}

/* It goes on at what is written down, as after a restart. */
static void on_closed(struct client *client, uint16_t code, struct bytes text)
{
    (void)code, (void)text;
    over(rerun_of(client));
}

static const struct client_ops ops = {.deliver = on_delivered, .replied = on_replied, .confirmed = on_confirmed, .cancelled = on_cancelled, .resumed = on_resumed, .closed = on_closed};

/* ---- beginning ---------------------------------------------------------------------------------------------------------- */

struct rerun *rerun_new(struct bus *bus, struct bytes vhost, struct bytes id, struct bytes value)
{
    struct bytes of_subscription;
    char why[SUBSCRIPTION_WHY_MAX];
    if ((!memmem(value.data, value.size, "\"asked\"", 7) && !memmem(value.data, value.size, "\"running\"", 9)) ||
        !worker_parameter(bus_worker(bus), vhost, bytes_of_text(SUBSCRIPTION_COMPONENT), id, &of_subscription))
        return NULL;
    struct rerun *rerun = calloc(1, sizeof(*rerun));
    if (!rerun)
        return NULL;
    name_map_init(&rerun->by_id, name_of_id, (uintptr_t)rerun);
    rerun->bus = bus;
    rerun->next_tag = 1;
    rerun->end = rerun->expected = rerun->due_us = NONE;
    rerun->texts = malloc(vhost.size + id.size + 1);
    uint8_t *copy = malloc(value.size + 1);
    rerun->value = copy ? bytes_of(memcpy(copy, value.data, value.size), value.size) : (struct bytes){0};
    rerun->record = json_loadb((const char *)value.data, value.size, JSON_REJECT_DUPLICATES, NULL);
    json_t *root = json_loadb((const char *)of_subscription.data, of_subscription.size, JSON_REJECT_DUPLICATES, NULL);
    bool good = rerun->texts && copy && rerun->record && root && read_record(rerun) && subscription_read(&rerun->subscription, root, why);
    json_decref(root);
    if (!good) {
        rerun_free(rerun);
        return NULL;
    }
    memcpy(rerun->texts, vhost.data, vhost.size);
    memcpy(rerun->texts + vhost.size, id.data, id.size);
    rerun->vhost = bytes_of(rerun->texts, vhost.size);
    rerun->id = bytes_of(rerun->texts + vhost.size, id.size);
    snprintf(rerun->name, sizeof(rerun->name), "replay %s", rerun->subscription.id);
    return rerun;
}

void rerun_free(struct rerun *rerun)
{
    for (unsigned i = 0; i < rerun->count; i++)
        client_release(&rerun->client, event_at(rerun, i)->chunk);
    if (rerun->is_attached)
        client_detach(&rerun->client);
    if (rerun->subscription.root)
        subscription_deinit(&rerun->subscription);
    name_map_deinit(&rerun->by_id);
    json_decref(rerun->record);
    free((void *)(uintptr_t)rerun->value.data);
    free(rerun->ids);
    free(rerun->texts);
    free(rerun);
}

void rerun_stop(struct rerun *rerun)
{
    if (rerun->stage == RERUN_READING && rerun->saved != rerun->read)
        put(rerun);
}

static void open_rerun(struct rerun *rerun, uint64_t now_us)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes facts;
    if (client_attach(bus_worker(rerun->bus), &rerun->client, &ops) != GW_OK) {
        bus_rerun_due(rerun, now_us + AGAIN_US);
        return;
    }
    rerun->is_attached = true;
    rerun->stage = RERUN_OPENING;
    rerun->client.user = bytes_of_text(rerun->subscription.owner);
    rerun->client.name = bytes_of_text(rerun->name);
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "name", rerun->client.name);
    amqp_table_put_text(&writer, "protocol", bytes_of_text("replay"));
    if (!amqp_table_finish(&writer, &facts))
        facts = (struct bytes){0};
    client_request(&rerun->client, &(struct request){.kind = REQUEST_OPEN, .name = rerun->vhost, .source = rerun->client.user, .arguments = facts});
}

/* Nothing has come for a while: is there anything left? */
static void look_whether_idle(struct rerun *rerun, uint64_t now_us)
{
    if (now_us >= rerun->idle_us && !rerun->count && !rerun->read_all) {
        if (!rerun->seen)
            count_stream(rerun);
        rerun->seen = 0;
    }
    if (now_us >= rerun->idle_us)
        rerun->idle_us = now_us + IDLE_US;
    bus_rerun_due(rerun, rerun->idle_us);
}

bool rerun_tick(struct rerun *rerun, uint64_t now_us, bool may_begin)
{
    switch (rerun->stage) {
    case RERUN_WAITING:
        if (may_begin)
            open_rerun(rerun, now_us);
        break;
    case RERUN_READING:
        pump(rerun, now_us);
        if (rerun->stage != RERUN_READING)
            break;
        if (now_us >= rerun->save_us && rerun->saved != rerun->read)
            put(rerun);
        look_whether_idle(rerun, now_us);
        if (rerun->count && rerun->again_us > now_us)
            bus_rerun_due(rerun, rerun->again_us);
        break;
    case RERUN_ENDING:
        write_end(rerun);
        break;
    case RERUN_OVER:
        return false;
    default:
        break;
    }
    return true;
}
