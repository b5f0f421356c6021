#include "lib/remote.h"

#include "protocol/amqp/uri.h"
#include "lib/uvloop.h"
#include "protocol/amqp/properties.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define HEARTBEAT_S 20u
#define HEARTBEAT_MAX_S 65535u
#define FORGET_US 5000000u          /* for an answer to gw_forget, a connection included */
#define PREFETCH_MIN 8u
#define URI_TEXT_MAX 4096u

/* ---- what the circuit tells ------------------------------------------------------------------------------------------------ */

static void on_wanted(void *owner)
{
    loop_again_now(((struct remote_bus *)owner)->bus->loop);
}

static void on_told(void *owner, uint64_t ticket, enum line_verdict verdict)
{
    struct remote_bus *remote = owner;
    if (verdict == LINE_NO_ROUTE)
        loop_fail(remote->bus->loop, GW_E_REFUSED, "no handler's queue is there for it");
    tickets_told(&remote->bus->tickets, ticket, 1, verdict == LINE_TAKEN ? GW_DONE : GW_E_REFUSED);
}

static uint32_t attempt_of(struct bytes properties)
{
    struct bytes headers;
    struct amqp_field field;
    if (!amqp_properties_get(properties, AMQP_HEADERS, &headers) || !amqp_table_find(headers, "x-delivery-count", &field) || !amqp_field_is_integer(&field) ||
        field.integer < 0 || field.integer >= UINT32_MAX)
        return 1;
    return (uint32_t)field.integer + 1;
}

static bool on_delivered(void *owner, void *context, struct line_delivery *delivery)
{
    struct amqp_properties properties;
    (void)owner;
    /* What is read of them later is known to be whole. */
    if (!amqp_properties_decode(delivery->properties, &properties))
        delivery->properties = bytes_of("\0\0", 2);
    struct incoming incoming = {.exchange = delivery->exchange, .routing_key = delivery->routing_key, .properties = delivery->properties, .body = delivery->body,
                                .memory = delivery, .tag = delivery->tag, .attempt = attempt_of(delivery->properties), .redelivered = delivery->redelivered};
    return handler_deliver(context, &incoming);
}

static void on_lost(void *owner, void *context)
{
    (void)owner;
    handler_lost(context);
}

static void on_notice(void *owner, enum line_level level, const char *sentence)
{
    struct remote_bus *remote = owner;
    static const enum gw_notice_level levels[] = {GW_NOTICE_INFO, GW_NOTICE_WARNING, GW_NOTICE_ERROR};
    if (level != LINE_INFO)
        loop_fail(remote->bus->loop, GW_E_UNREACHABLE, "%s", sentence);
    bus_notice(remote->bus, levels[level], "%s", sentence);
}

/* ---- what the bus wants ------------------------------------------------------------------------------------------------------- */

static struct line_message message_of(const struct engine_message *message)
{
    return (struct line_message){.exchange = message->exchange, .routing_key = message->routing_key, .properties = message->properties, .body = message->body,
                                 .mandatory = message->mandatory};
}

static int remote_publish(struct gw_bus *bus, const struct engine_message *message, uint64_t ticket)
{
    struct remote_bus *remote = remote_of(bus);
    struct line_message out = message_of(message);
    switch (line_publish(remote->line, &out, ticket)) {
    case GW_OK:
        return GW_DONE;
    case GW_ERR_FULL:
        return loop_fail(bus->loop, GW_E_AGAIN, "%llu bytes wait to be confirmed by the broker, more may not: publish again when some of them are (%s)",
                         (unsigned long long)line_waiting(remote->line), line_is_up(remote->line) ? "it is connected" : line_error(remote->line));
    case GW_ERR_CLOSED:
        return loop_fail(bus->loop, GW_E_CLOSED, "the bus is being closed");
    case GW_ERR_INVALID:
        return loop_fail(bus->loop, GW_E_LIMIT, "the name of a type or queue has at most 255 bytes");
    default:
        return loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    }
}

/* What other brokers refuse, or would take for something else, is left out for them. */
static struct bytes plain_arguments(struct bytes arguments, uint8_t *room, size_t size)
{
    struct amqp_table_writer writer;
    struct bytes rest = arguments, table;
    struct amqp_field field;
    const uint8_t *begin = rest.data;
    amqp_table_begin(&writer, room, size);
    for (; amqp_table_next(&rest, &field) == WIRE_OK; begin = rest.data) {
        static const char *const known[] = {"x-delivery-limit", "x-retry-backoff", "x-group-key"};
        bool is_ours = false;
        for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            is_ours |= bytes_equal(field.name, bytes_of_text(known[i]));
        /* name's size and name, type, value */
        const uint8_t *value = begin + 1 + field.name.size + 1;
        if (!is_ours)
            amqp_table_put_raw(&writer, field.name, field.type, bytes_of(value, (size_t)(rest.data - value)));
    }
    CHECK(amqp_table_finish(&writer, &table));
    return table;
}

static int remote_subscribe(struct gw_bus *bus, struct gw_handler *handler)
{
    struct remote_bus *remote = remote_of(bus);
    const struct plan *plan = &handler->plan;
    uint8_t room[PLAN_ARGUMENTS_MAX + 4];
    uint32_t suits = handler->concurrency > UINT16_MAX / 2 ? UINT16_MAX : 2 * handler->concurrency < PREFETCH_MIN ? PREFETCH_MIN : 2 * handler->concurrency;
    struct station_plan station = {.queue = plan->queue, .pattern = plan->pattern, .dead_queue = plan->dead_queue, .durable = plan->durable, .consumers = plan->consumers,
                                   .prefetch = (uint16_t)(plan->prefetch ? plan->prefetch : suits), .arguments = bytes_of(plan->arguments, plan->arguments_size)};
    station.plain_arguments = plain_arguments(station.arguments, room, sizeof(room));
    handler->link = line_subscribe(remote->line, &station, handler);
    if (!handler->link)
        return loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    loop_again_now(bus->loop);
    return GW_DONE;
}

static void remote_unsubscribe(struct gw_bus *bus, struct gw_handler *handler)
{
    line_unsubscribe(handler->link);
    handler->link = NULL;
    loop_again_now(bus->loop);
}

static void remote_settle(struct gw_bus *bus, struct gw_event *event, enum settlement settlement)
{
    struct remote_bus *remote = remote_of(bus);
    bool failed = settlement == SETTLED_RETRY || settlement == SETTLED_TIMEOUT;
    if (failed && line_is_up(remote->line) && !line_is_godwit(remote->line))
        remote_rest(remote, event, handler_delay_ms(event->handler, event->attempt));
    else
        line_settle(event->memory, settlement == SETTLED_ACK ? LINE_ACK : settlement == SETTLED_REJECT ? LINE_REJECT : LINE_BACK);
    loop_again_now(bus->loop);
}

static void remote_settle_after(struct gw_bus *bus, struct gw_event *event, uint64_t delay_ms)
{
    struct remote_bus *remote = remote_of(bus);
    if (!line_is_up(remote->line))
        line_settle(event->memory, LINE_BACK);
    else if (line_can_delay(remote->line))
        line_settle_after(event->memory, delay_ms);
    else
        remote_rest(remote, event, delay_ms);
    loop_again_now(bus->loop);
}

static void remote_release(struct gw_bus *bus, struct gw_event *event)
{
    (void)bus;
    line_release(event->memory);
}

static void remote_replace(struct gw_bus *bus, struct gw_event *event, const struct engine_message *message)
{
    struct line_message out = message_of(message);
    (void)line_replace(remote_of(bus)->line, event->memory, &out);   /* On an error the event goes back to its queue. */
    loop_again_now(bus->loop);
}

/* ---- queues ---------------------------------------------------------------------------------------------------------------------- */

struct recalling {
    struct remote_bus *remote;
    void (*recalled)(void *owner, int result, struct bytes body);
    void *owner;
};

static void on_recalled(void *context, enum gw_err err, const char *sentence, struct bytes body)
{
    struct recalling recalling = *(struct recalling *)context;
    int result = err ? loop_fail(recalling.remote->bus->loop, GW_E_REFUSED, "%s", sentence) : GW_DONE;
    free(context);
    recalling.recalled(recalling.owner, result, body);
}

static int remote_recall(struct gw_bus *bus, const char *queue, void (*recalled)(void *owner, int result, struct bytes body), void *owner)
{
    struct remote_bus *remote = remote_of(bus);
    struct amqp_table_writer writer;
    struct bytes arguments;
    uint8_t room[64];
    struct recalling *recalling = malloc(sizeof(*recalling));
    if (!recalling)
        return loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    *recalling = (struct recalling){remote, recalled, owner};
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_long(&writer, "x-max-length", 1);
    CHECK(amqp_table_finish(&writer, &arguments));
    enum gw_err err = line_recall(remote->line, queue, arguments, on_recalled, recalling);
    if (!err) {
        loop_again_now(bus->loop);
        return GW_DONE;
    }
    free(recalling);
    if (remote->gave_up)
        return loop_fail(bus->loop, GW_E_PERMISSION, "%s", bus->why);
    return err == GW_ERR_INVALID ? loop_fail(bus->loop, GW_E_LIMIT, "the name of a queue has at most 255 bytes") : loop_fail(bus->loop, loop_result(err), "out of memory, or closed");
}

struct forgetting {
    bool done, abandoned;
    enum gw_err err;
    char sentence[LOOP_ERROR_MAX];
};

static void on_forgotten(void *context, enum gw_err err, const char *sentence)
{
    struct forgetting *forgetting = context;
    if (forgetting->abandoned) {
        free(forgetting);
        return;
    }
    forgetting->done = true;
    forgetting->err = err;
    snprintf(forgetting->sentence, sizeof(forgetting->sentence), "%s", sentence);
}

static void remote_abandon(struct gw_bus *bus) { line_abandon(remote_of(bus)->line); }

static bool remote_turn(struct gw_bus *bus, uint64_t now_us, uint64_t *due_us);
static void remote_wait(struct gw_bus *bus, int timeout_ms);

static int remote_forget(struct gw_bus *bus, const char *queue)
{
    struct remote_bus *remote = remote_of(bus);
    uint64_t until_us = loop_clock(remote->bus->loop) + FORGET_US;
    /* Not on the stack: an answer may come after we have given up. */
    struct forgetting *forgetting = calloc(1, sizeof(*forgetting));
    bool asked = false;
    if (!forgetting)
        return loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    for (uint64_t now_us = loop_clock(remote->bus->loop); !forgetting->done; now_us = loop_clock(remote->bus->loop)) {
        uint64_t due_us = until_us;
        bool more = remote_turn(bus, now_us, &due_us);
        if (!asked && line_is_up(remote->line)) {
            enum gw_err err = line_forget(remote->line, queue, on_forgotten, forgetting);
            asked = err == GW_OK;
            if (err && err != GW_ERR_CLOSED) {
                free(forgetting);
                return loop_fail(bus->loop, loop_result(err), "the queue %s cannot be deleted: out of memory, or its name is longer than 255 bytes", queue);
            }
            continue;
        }
        if (now_us >= until_us || remote->gave_up)
            break;
        if (!more && !forgetting->done)
            remote_wait(bus, due_us > now_us ? (int)((due_us - now_us) / 1000) + 1 : 0);
    }
    forgetting->abandoned = asked && !forgetting->done;
    if (forgetting->abandoned)
        return loop_fail(bus->loop, GW_E_TIMEOUT, "the broker did not say whether the queue %s was deleted", queue);
    int result = !forgetting->done          ? loop_fail(bus->loop, GW_E_UNREACHABLE, "the queue %s was not deleted: %s", queue, line_error(remote->line))
                 : forgetting->err == GW_OK ? GW_DONE
                                            : loop_fail(bus->loop, forgetting->err == GW_ERR_CLOSED ? GW_E_UNREACHABLE : GW_E_REFUSED, "it is not deleted: %s", forgetting->sentence);
    free(forgetting);
    return result;
}

/* ---- turns -------------------------------------------------------------------------------------------------------------------------- */

static void finish(struct remote_bus *remote)
{
    struct gw_bus *bus = remote->bus;
    int result = remote->gave_up ? GW_E_PERMISSION : line_waiting(remote->line) ? GW_E_TIMEOUT : GW_DONE;
    if (result != GW_DONE)
        loop_fail(bus->loop, result, "%s", remote->gave_up ? bus->why : "the broker had not confirmed all that was published when the bus was closed");
    remote_rest_end(remote);
    circuit_close(remote->circuit);
    free(remote);
    bus_closed(bus, result);
}

/* What was published is waited for, up to the end of the grace. */
static void go_on_closing(struct remote_bus *remote, uint64_t now_us, uint64_t *due_us)
{
    struct gw_bus *bus = remote->bus;
    if (remote->said_goodbye)
        return;
    if (line_waiting(remote->line) && !remote->gave_up && now_us < bus->grace_us) {
        *due_us = bus->grace_us < *due_us ? bus->grace_us : *due_us;
        return;
    }
    remote->said_goodbye = true;
    line_close(remote->line, now_us / 1000);
}

static bool remote_turn(struct gw_bus *bus, uint64_t now_us, uint64_t *due_us)
{
    struct remote_bus *remote = remote_of(bus);
    uint64_t rested_us = remote_rested(remote, now_us);
    if (remote->closing)
        go_on_closing(remote, now_us, due_us);
    bool all = circuit_turn(remote->circuit);
    if (line_is_closed(remote->line) && remote->closing) {
        finish(remote);
        return true;
    }
    if (line_is_closed(remote->line)) {
        if (!remote->gave_up)
            bus_give_up(bus, GW_E_PERMISSION);
        remote->gave_up = true;
        return false;
    }
    uint64_t deadline_ms = line_deadline_ms(remote->line), deadline_us = deadline_ms > UINT64_MAX / 1000 ? LOOP_NEVER : deadline_ms * 1000;
    if (rested_us < deadline_us)
        deadline_us = rested_us;
    if (deadline_us < *due_us)
        *due_us = deadline_us;
    return all && line_has_more(remote->line);
}

static void remote_wait(struct gw_bus *bus, int timeout_ms)
{
    circuit_wait(remote_of(bus)->circuit, timeout_ms);
}

static void remote_close(struct gw_bus *bus)
{
    remote_of(bus)->closing = true;
    loop_again_now(bus->loop);
}

static void remote_forked(struct gw_bus *bus)
{
    circuit_forked(remote_of(bus)->circuit);
}

static const struct engine_ops remote_ops = {
    .comes_back = true,
    .publish = remote_publish, .subscribe = remote_subscribe, .unsubscribe = remote_unsubscribe, .settle = remote_settle, .settle_after = remote_settle_after,
    .release = remote_release, .replace = remote_replace, .forget = remote_forget, .recall = remote_recall, .abandon = remote_abandon,
    .turn = remote_turn, .wait = remote_wait, .close = remote_close, .forked = remote_forked,
};

/* ---- gw_connect ----------------------------------------------------------------------------------------------------------------------- */

/* "amqp://one,amqp://two": as many as there are. < 0: a sentence was left. */
static int parse_uris(struct gw_loop *loop, const char *text, const gw_connect_options *options, struct uri uris[LINE_URIS_MAX], unsigned *count)
{
    *count = 0;
    if (!text)
        return loop_fail(loop, GW_E_INVALID, "where the broker is is not said: amqp://user:password@host/vhost");
    if (options->heartbeat_s > HEARTBEAT_MAX_S)
        return loop_fail(loop, GW_E_LIMIT, "a heartbeat takes at most %u s", HEARTBEAT_MAX_S);
    for (bool is_last = false; !is_last;) {
        char one[URI_TEXT_MAX];
        const char *complaint;
        size_t size = strcspn(text, ",");
        if (*count == LINE_URIS_MAX || size >= sizeof(one))
            return loop_fail(loop, GW_E_LIMIT, "at most %u URIs, of less than %u bytes each", LINE_URIS_MAX, URI_TEXT_MAX);
        memcpy(one, text, size);
        one[size] = 0;
        struct uri *uri = &uris[(*count)++];
        /* A host alone would do, but here it is more likely a directory that was meant for gw_open. */
        if (strncasecmp(one, "amqp://", 7) != 0 && strncasecmp(one, "amqps://", 8) != 0)
            return loop_fail(loop, GW_E_INVALID, "the broker's URI: it does not begin with amqp:// or amqps://");
        if (uri_parse(uri, one, &complaint) != GW_OK)
            return loop_fail(loop, GW_E_INVALID, "the broker's URI: %s", complaint);   /* Without the URI, which may have a password in it. */
        if (options->heartbeat_s)
            uri->heartbeat_s = (uint32_t)options->heartbeat_s;
        else if (!strstr(one, "heartbeat="))
            uri->heartbeat_s = HEARTBEAT_S;
        is_last = text[size] == 0;
        text += size + 1;
    }
    return GW_DONE;
}

/* What would fail with every connection is told at once. */
static int check_tls(struct gw_loop *loop, const struct uri *uris, unsigned count, const char *ca_file)
{
    char why[300];
    for (unsigned i = 0; i < count; i++) {
        const char *complaint = circuit_complaint(&uris[i], ca_file, why, sizeof(why));
        if (complaint)
            return loop_fail(loop, GW_E_INVALID, "%s", complaint);
    }
    return GW_DONE;
}

static struct circuit *open_circuit(struct remote_bus *remote, const struct uri *uris, unsigned count, const gw_connect_options *options)
{
    const struct line_settings line = {.uris = uris, .uri_count = count, .name = options->name ? options->name : program_invocation_short_name,
                                       .refused_max = options->refused_max, .retry_min_ms = options->retry_min_ms, .retry_max_ms = options->retry_max_ms, .window_bytes = options->window_bytes};
    const struct circuit_settings settings = {.loop = uvloop_of(remote->bus->loop)->uv, .line = &line, .ca_file = options->ca_file};
    const struct circuit_events events = {.owner = remote, .wanted = on_wanted, .told = on_told, .delivered = on_delivered, .lost = on_lost, .notice = on_notice};
    return circuit_open(&settings, &events);
}

gw_bus *gw_connect(gw_loop *loop, const char *uri, const gw_connect_options *options)
{
    static const gw_connect_options none;
    struct uri uris[LINE_URIS_MAX];
    unsigned count;
    if (loop_check(loop) != GW_DONE)
        return NULL;
    options = options ? options : &none;
    struct gw_bus *bus = bus_begin(loop, options->notice, options->notice_context);
    if (!bus)
        return NULL;
    int result = parse_uris(loop, uri, options, uris, &count);
    if (result == GW_DONE)
        result = check_tls(loop, uris, count, options->ca_file);
    struct remote_bus *remote = result == GW_DONE ? calloc(1, sizeof(*remote)) : NULL;
    if (remote) {
        remote->bus = bus;
        remote->circuit = open_circuit(remote, uris, count, options);
    }
    if (result == GW_DONE && (!remote || !remote->circuit))
        result = loop_fail(loop, GW_E_MEMORY, "out of memory");
    if (result != GW_DONE) {
        free(remote);
        bus_abandon(bus, result);
        return NULL;
    }
    remote->line = circuit_line(remote->circuit);
    bus->ops = &remote_ops;
    bus->engine = remote;
    loop_again_now(loop);
    return bus;
}
