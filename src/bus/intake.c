#include "bus/intake.h"

#include "base/err.h"
#include "protocol/amqp/properties.h"
#include "sources/event_message.h"
#include "store/message.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define CHANNEL 1u
#define EVENTS "events"
#define STREAM_BYTES (1 << 30)       /* of the past that the stream of events keeps, where it is declared here */
#define TELL_AGAIN_US (3600ull * 1000000u)   /* what stays the same is told again after that */
#define REOPEN_US 1000000u
#define AGAIN_US 1000000u            /* until what the broker did not take is tried again */
#define OUT_POSITION 1u
#define OUT_TICKETS 2u
#define ROOM 4096u                   /* bytes that the properties of most events do with */

enum { ASK_EXCHANGE = 1, ASK_STREAM, ASK_BIND, ASK_POSITION_QUEUE, ASK_POSITION };

static struct intake *of_client(struct client *client) { return (struct intake *)client; }
static struct intake *of_sink(struct source_sink *sink) { return (struct intake *)(void *)((char *)sink - offsetof(struct intake, sink)); }

static void complain(struct intake *intake, struct bytes why)
{
    snprintf(intake->why, sizeof(intake->why), "%.*s", (int)(why.size < sizeof(intake->why) ? why.size : sizeof(intake->why) - 1), (const char *)why.data);
    intake->why_wall_us = worker_wall_us(intakes_config(intake->intakes)->worker);
}

static void break_off(struct intake *intake, struct bytes why)
{
    complain(intake, why);
    intake->broken = true;
    intakes_due(intake, 0);
}

/* ---- the bus of the virtual host -------------------------------------------------------------------------------------------- */

static void ask(struct intake *intake, struct request *request, uint32_t tag)
{
    request->channel = CHANNEL;
    request->tag = tag;
    request->flags |= REQUEST_TRUSTED;
    client_request(&intake->client, request);
}

/* As the first event by HTTP does it: an exchange beside a stream that is not bound to it is what was left half-way. */
static void declare_bus(struct intake *intake)
{
    uint8_t room[128];
    struct amqp_table_writer writer;
    struct bytes arguments;
    if (intake->declaring)
        return;
    intake->declaring = true;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-queue-type", bytes_of_text("stream"));
    amqp_table_put_long(&writer, "x-max-length-bytes", STREAM_BYTES);
    CHECK(amqp_table_finish(&writer, &arguments));
    ask(intake, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = bytes_of_text(EVENTS), .arguments = arguments}, ASK_STREAM);
    ask(intake, &(struct request){.kind = REQUEST_EXCHANGE_DECLARE, .flags = REQUEST_DURABLE, .name = bytes_of_text(EVENTS), .type = bytes_of_text("topic")}, ASK_EXCHANGE);
    ask(intake, &(struct request){.kind = REQUEST_QUEUE_BIND, .name = bytes_of_text(EVENTS), .source = bytes_of_text(EVENTS), .routing_key = bytes_of_text("#")}, ASK_BIND);
}

static void ask_for_position(struct intake *intake)
{
    uint8_t room[64];
    struct amqp_table_writer writer;
    struct bytes arguments;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_long(&writer, "x-max-length", 1);
    CHECK(amqp_table_finish(&writer, &arguments));
    ask(intake, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .name = bytes_of_text(intake->queue), .arguments = arguments}, ASK_POSITION_QUEUE);
}

static void start(struct intake *intake, struct bytes position)
{
    intake->stage = INTAKE_OPEN;
    intake->why[0] = 0;
    source_start(intake->source, position);
    intakes_due(intake, 0);
}

/* ---- publishing ------------------------------------------------------------------------------------------------------------- */

/* Why it was not taken; it is tried again. */
static void refused(struct intake *intake, enum publish_result result)
{
    static const char *const reasons[] = {
        [PUBLISH_ACCESS_REFUSED] = "The source's owner may not publish to the exchange events.", [PUBLISH_TOPIC_REFUSED] = "The source's owner may not publish events of this type.",
        [PUBLISH_REFUSED] = "The broker's storage has failed, or is full.", [PUBLISH_NO_MEMORY] = "The broker has too little memory.",
    };
    if (result == PUBLISH_NO_EXCHANGE) {
        declare_bus(intake);
        return;
    }
    const char *why = (size_t)result < sizeof(reasons) / sizeof(reasons[0]) ? reasons[result] : NULL;
    complain(intake, bytes_of_text(why ? why : "The broker does not take the event."));
    intake->waits_for_room = true;
    intakes_due(intake, intakes_config(intake->intakes)->now(intakes_config(intake->intakes)->owner) + AGAIN_US);
}

/* Would an event be kept in the stream, if there is one? */
static bool bus_is_whole(struct intake *intake)
{
    uint64_t version = client_routes_version(&intake->client) + 1;
    if (intake->whole == version)
        return true;
    if (client_lacks_binding(&intake->client, bytes_of_text(EVENTS), bytes_of_text(EVENTS), bytes_of_text("#"))) {
        declare_bus(intake);
        return false;
    }
    intake->whole = version;
    return true;
}

static bool may_publish(struct intake *intake)
{
    if (intake->stage != INTAKE_OPEN || intake->broken || intake->declaring || !client_may_publish(&intake->client))
        return false;
    return true;
}

/* True: it is on its way, or nobody wants it (*routed false). */
static bool send(struct intake *intake, struct publish *publish, struct bytes body, uint64_t out, bool *routed)
{
    uint64_t tag = intake->next_tag + 1;
    if (map_put(&intake->out, tag, (void *)(uintptr_t)out) != GW_OK)
        return false;
    publish->channel = CHANNEL;
    publish->persistent = publish->whole = true;
    publish->confirm_tag = tag;
    publish->body_size = body.size;
    enum publish_result result = client_publish_begin(&intake->client, publish);
    *routed = result == PUBLISH_ROUTED;
    if (result == PUBLISH_ROUTED || (result == PUBLISH_UNROUTABLE && publish->chunk)) {
        if (body.size && publish->body)
            memcpy(publish->body, body.data, body.size);
        client_publish_end(&intake->client, publish);
    }
    if (result == PUBLISH_ROUTED) {
        intake->next_tag = tag;
        return true;
    }
    map_remove(&intake->out, tag);
    if (result == PUBLISH_UNROUTABLE)
        return true;
    refused(intake, result);
    return false;
}

static bool on_publish(struct source_sink *sink, const struct source_event *event, uint64_t ticket)
{
    struct intake *intake = of_sink(sink);
    uint8_t room[ROOM], *more = NULL;
    size_t size = event_message_room(event);
    bool routed;
    if (!may_publish(intake) || !bus_is_whole(intake) || intake->unrouted_count == sizeof(intake->unrouted) / sizeof(intake->unrouted[0]))
        return false;
    if (size > sizeof(room) && !(more = malloc(size))) {
        refused(intake, PUBLISH_NO_MEMORY);
        return false;
    }
    struct publish publish = {.exchange = bytes_of_text(EVENTS), .routing_key = event->type};
    publish.properties = event_message_properties(event, true, more ? more : room, more ? size : sizeof(room));
    bool sent = send(intake, &publish, event->data, ticket + OUT_TICKETS, &routed);
    free(more);
    if (!sent)
        return false;
    if (!routed) {
        intake->unrouted[intake->unrouted_count++] = ticket;
        intakes_due(intake, 0);
    }
    return true;
}

static bool on_save(struct source_sink *sink, struct bytes position)
{
    struct intake *intake = of_sink(sink);
    struct amqp_properties properties = {.flags = AMQP_DELIVERY_MODE | AMQP_CONTENT_TYPE, .delivery_mode = 2, .content_type = bytes_of_text("application/json")};
    uint8_t room[64];
    bool routed;
    if (!may_publish(intake))
        return false;
    struct publish publish = {.exchange = bytes_of_text(""), .routing_key = bytes_of_text(intake->queue), .properties = bytes_of(room, amqp_properties_encode(&properties, room, sizeof(room)))};
    if (!send(intake, &publish, position, OUT_POSITION, &routed))
        return false;
    if (!routed) {
        break_off(intake, bytes_of_text("The queue of the source's position was deleted."));
        return false;
    }
    return true;
}

static void on_due(struct source_sink *sink) { intakes_due(of_sink(sink), 0); }

static void on_clock(struct source_sink *sink, uint64_t *now_us, uint64_t *wall_us)
{
    const struct intakes_config *config = intakes_config(of_sink(sink)->intakes);
    *now_us = config->now(config->owner);
    uint64_t turn_us = worker_now(config->worker);
    *wall_us = worker_wall_us(config->worker) + (*now_us > turn_us ? *now_us - turn_us : 0);
}

/* ---- what the broker says ---------------------------------------------------------------------------------------------------- */

static void on_replied(struct client *client, const struct reply *reply)
{
    struct intake *intake = of_client(client);
    if (reply->code) {
        break_off(intake, reply->text);
        return;
    }
    if (reply->kind == REQUEST_OPEN)
        ask_for_position(intake);
    else if (reply->tag == ASK_POSITION_QUEUE)
        ask(intake, &(struct request){.kind = REQUEST_GET, .name = bytes_of_text(intake->queue)}, ASK_POSITION);
    else if (reply->kind == REQUEST_GET && reply->empty)
        start(intake, (struct bytes){0});
    else if (reply->tag == ASK_BIND) {
        intake->declaring = false;
        source_ready(intake->source);
    }
}

/* The position: it stays in its queue. */
static void on_delivered(struct client *client, const struct delivery *delivery)
{
    struct intake *intake = of_client(client);
    struct message message;
    if (message_read(delivery->content, &message))
        start(intake, message.body);
    else
        start(intake, (struct bytes){0});
    if (!delivery->no_ack)
        client_settle(client, delivery->queue, SETTLE_UNDELIVERED, delivery->seq, 1, NULL);
}

static void on_confirmed(struct client *client, uint16_t channel, uint64_t first, uint64_t count, bool accepted)
{
    struct intake *intake = of_client(client);
    (void)channel;
    for (uint64_t tag = first; tag < first + count; tag++) {
        uint64_t out = (uint64_t)(uintptr_t)map_remove(&intake->out, tag);
        if (out == OUT_POSITION)
            source_saved(intake->source, accepted);
        else if (out)
            source_confirmed(intake->source, out - OUT_TICKETS, accepted);
    }
}

static void on_closed(struct client *client, uint16_t code, struct bytes text)
{
    (void)code;
    break_off(of_client(client), text);
}

static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer) { (void)client, (void)channel, (void)consumer; }

static void on_resumed(struct client *client)
{
    if (of_client(client)->stage == INTAKE_OPEN)
        source_ready(of_client(client)->source);
}

static void on_blocked(struct client *client, const char *reason)
{
    if (!reason)
        on_resumed(client);
}

static void on_turned(struct client *client) { (void)client; }

static const struct client_ops ops = {.deliver = on_delivered, .replied = on_replied, .confirmed = on_confirmed, .cancelled = on_cancelled, .resumed = on_resumed, .blocked = on_blocked,
                                      .closed = on_closed, .turned = on_turned};

/* ---- opening and closing ------------------------------------------------------------------------------------------------------ */

static void open_intake(struct intake *intake)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes facts;
    intake->broken = intake->declaring = false;
    if (client_attach(intakes_config(intake->intakes)->worker, &intake->client, &ops) != GW_OK) {
        break_off(intake, bytes_of_text("There are too many connections."));
        return;
    }
    intake->attached = true;
    intake->stage = INTAKE_OPENING;
    snprintf(intake->name, sizeof(intake->name), "source %.*s", (int)intake->id.size, (const char *)intake->id.data);
    intake->client.user = bytes_of_text(intake->owner);
    intake->client.name = bytes_of_text(intake->name);
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "name", intake->client.name);
    amqp_table_put_text(&writer, "protocol", bytes_of_text("source"));
    if (!amqp_table_finish(&writer, &facts))
        facts = (struct bytes){0};
    client_request(&intake->client, &(struct request){.kind = REQUEST_OPEN, .name = intake->vhost, .source = intake->client.user, .arguments = facts});
}

static void close_intake(struct intake *intake)
{
    if (intake->attached)
        client_detach(&intake->client);
    intake->attached = intake->broken = intake->declaring = false;
    intake->stage = INTAKE_CLOSED;
    intake->unrouted_count = 0;
    intake->whole = 0;
    map_deinit(&intake->out);
    intake->out = (struct map){0};
}

/* The declaration, with a source that has not begun. */
static void make_source(struct intake *intake)
{
    const struct intakes_config *config = intakes_config(intake->intakes);
    struct declaration declaration;
    char why[SOURCE_WHY_MAX] = "The parameter is no JSON, or there is too little memory.";
    json_t *root = intake->value ? json_loads(intake->value, JSON_REJECT_DUPLICATES, NULL) : NULL;
    bool good = root && declaration_read(&declaration, root, config->zones, why);
    json_decref(root);
    if (good && !bytes_equal(bytes_of_text(declaration.id), intake->id)) {
        snprintf(why, sizeof(why), "The source's id is not the parameter's name.");
        declaration_deinit(&declaration);
        good = false;
    }
    if (good && !intake->is_fixed && declaration_is_local(&declaration) && !config->allows_local) {
        snprintf(why, sizeof(why), "Sources of the kind \"%s\" are declared in the broker's configuration alone, unless that says sources_local = on.", declaration_kind(&declaration));
        declaration_deinit(&declaration);
        good = false;
    }
    if (good) {
        if (intake->is_fixed)
            declaration.reach = FEED_REACHES_ALL;
        snprintf(intake->owner, sizeof(intake->owner), "%s", declaration.owner && strlen(declaration.owner) <= UINT8_MAX ? declaration.owner : "guest");
        source_queue(declaration.id, intake->queue);
        intake->source = source_new(&declaration, &intake->sink, config->feeder, config->zones, intakes_random(intake->intakes));
        if (!intake->source) {
            declaration_deinit(&declaration);
            snprintf(why, sizeof(why), "There is too little memory.");
        }
    }
    if (!intake->source)
        complain(intake, bytes_of_text(why));
}

static void forget_source(struct intake *intake)
{
    close_intake(intake);
    source_free(intake->source);
    intake->source = NULL;
}

struct intake *intake_new(struct intakes *intakes, struct bytes vhost, struct bytes id)
{
    struct intake *intake = calloc(1, sizeof(*intake));
    if (!intake || !(intake->texts = malloc(vhost.size + 1 + id.size))) {
        free(intake);
        return NULL;
    }
    memcpy(intake->texts, vhost.data, vhost.size);
    intake->texts[vhost.size] = 0;
    memcpy(intake->texts + vhost.size + 1, id.data, id.size);
    intake->intakes = intakes;
    intake->sink = (struct source_sink){.publish = on_publish, .save = on_save, .due = on_due, .clock = on_clock};
    intake->due_us = INTAKE_NEVER;
    intake->key = bytes_of(intake->texts, vhost.size + 1 + id.size);
    intake->vhost = bytes_of(intake->texts, vhost.size);
    intake->id = bytes_of(intake->texts + vhost.size + 1, id.size);
    return intake;
}

void intake_free(struct intake *intake)
{
    forget_source(intake);
    free(intake->value);
    free(intake->texts);
    free(intake);
}

/* Do they say the same but for whether it is paused? */
static bool is_same(const char *old, const char *new, bool *paused)
{
    json_t *a = json_loads(old, 0, NULL), *b = json_loads(new, 0, NULL);
    *paused = json_is_true(json_object_get(b, "paused"));
    json_object_del(a, "paused");
    json_object_del(b, "paused");
    bool same = a && b && json_equal(a, b);
    json_decref(a);
    json_decref(b);
    return same;
}

bool intake_follow(struct intake *intake, struct bytes value)
{
    bool paused;
    if (intake->value && strlen(intake->value) == value.size && memcmp(intake->value, value.data, value.size) == 0)
        return false;
    char *copy = bytes_to_text(value);
    if (copy && intake->value && intake->source && is_same(intake->value, copy, &paused)) {
        source_pause(intake->source, paused);
    } else {
        forget_source(intake);
        intake->retry_us = 0;
    }
    free(intake->value);
    intake->value = copy;
    intake->why[0] = 0;
    if (!intake->source)
        make_source(intake);
    return true;
}

uint64_t intake_tick(struct intake *intake, uint64_t now_us)
{
    if (!intake->source)
        return INTAKE_NEVER;
    if (intake->broken) {
        /* The source goes on from its position: what was under way may be there already. */
        bool was_open = intake->stage == INTAKE_OPEN;
        close_intake(intake);
        intake->retry_us = now_us + REOPEN_US;
        if (was_open) {
            char why[SOURCE_WHY_MAX];
            memcpy(why, intake->why, sizeof(why));
            forget_source(intake);
            make_source(intake);
            if (intake->source)
                memcpy(intake->why, why, sizeof(why));
            else
                return INTAKE_NEVER;
        }
    }
    if (!intake->attached) {
        if (now_us < intake->retry_us)
            return intake->retry_us;
        open_intake(intake);
        if (!intake->attached) {
            intake->broken = false;
            return intake->retry_us = now_us + REOPEN_US;
        }
    }
    if (intake->stage != INTAKE_OPEN)
        return INTAKE_NEVER;
    while (intake->unrouted_count)
        source_confirmed(intake->source, intake->unrouted[--intake->unrouted_count], true);
    if (intake->waits_for_room) {
        intake->waits_for_room = false;
        source_ready(intake->source);
    }
    return source_tick(intake->source);
}

void intake_stop(struct intake *intake)
{
    if (intake->source && intake->stage == INTAKE_OPEN && !intake->broken) {
        source_finish(intake->source);
        source_tick(intake->source);
    }
    forget_source(intake);
}

void intake_tell(struct intake *intake)
{
    uint64_t wall_us = 0;
    const char *why = intake->source ? source_last_error(intake->source, &wall_us) : "";
    if (intake->why[0] && intake->why_wall_us >= wall_us) {
        why = intake->why;
        wall_us = intake->why_wall_us;
    }
    if (!why[0] || wall_us <= intake->told_wall_us)
        return;
    uint64_t hash = source_hash(bytes_of_text(why));
    if (hash == intake->told_hash && wall_us < intake->told_wall_us + TELL_AGAIN_US)
        return;
    intake->told_hash = hash;
    intake->told_wall_us = wall_us;
    alarm_raise(intakes_config(intake->intakes)->alarms, ALARM_WARNING, "source %.*s of %.*s: %s", (int)intake->id.size, (const char *)intake->id.data, (int)intake->vhost.size,
                (const char *)intake->vhost.data, why);
}

char *intake_describe(const struct intake *intake)
{
    json_t *root = intake->source ? source_describe(intake->source) : json_pack("{s:s}", "state", "invalid");
    if (!root)
        return NULL;
    if (intake->source && intake->stage != INTAKE_OPEN)
        json_object_set_new(root, "state", json_string(intake->why[0] ? "failing" : "starting"));
    /* The last that was wrong, whoever noticed. */
    if (intake->why[0] && json_integer_value(json_object_get(root, "error_ms")) <= (json_int_t)(intake->why_wall_us / 1000)) {
        json_object_set_new(root, "error", json_string(intake->why));
        json_object_set_new(root, "error_ms", json_integer((json_int_t)(intake->why_wall_us / 1000)));
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}
