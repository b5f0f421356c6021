#include "lib/request.h"

#include "base/bugs.h"
#include "base/map.h"
#include "lib/handler.h"
#include "lib/loop.h"
#include "lib/outgoing.h"
#include "protocol/amqp/properties.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_MS 30000u
#define FOREVER_MS (1000ull * 86400 * 365000)   /* of a planted bug */

struct requests {
    struct bus_part part;
    struct gw_bus *bus;
    struct map pending;              /* by number */
    uint64_t next;                   /* a number */
    bool closing;
    char queue[HANDLER_NAME_MAX];
};

struct request {
    struct requests *requests;
    uint64_t number;
    gw_reply_fn reply;
    void *context;
    gw_timer *timer;                 /* NULL: the program was told */
    int result;                      /* what to tell when the timer fires */
    bool published;                  /* what became of the event is known */
};

/* ---- the end of one ------------------------------------------------------------------------------------------------------------ */

/* Both are over: what became of the event, and the wait for the reply. */
static void free_when_over(struct request *request)
{
    if (!request->timer && request->published)
        free(request);
}

static void requests_end_when_over(struct requests *requests)
{
    if (!requests->closing || requests->pending.count)
        return;
    bus_part_remove(requests->bus, &requests->part);
    map_deinit(&requests->pending);
    free(requests);
}

/* Nobody waits for it any more; what to tell is returned. */
static void take_out(struct request *request, gw_reply_fn *reply, void **context)
{
    *reply = request->reply;
    *context = request->context;
    map_remove(&request->requests->pending, request->number);
    request->timer = NULL;
    struct requests *requests = request->requests;
    request->requests = NULL;
    free_when_over(request);
    requests_end_when_over(requests);
}

static void on_timeout(gw_timer *timer, void *context)
{
    struct request *request = context;
    struct gw_loop *loop = request->requests->bus->loop;
    int result = request->result;
    gw_reply_fn reply;
    void *reply_context;
    (void)timer;                     /* It is freed when this returns. */
    take_out(request, &reply, &reply_context);
    if (result == GW_E_TIMEOUT)
        loop_fail(loop, result, "there was no reply in time");
    reply(reply_context, result, NULL, 0);
}

/* The program is told from the loop, soon. False: when its time is over. */
static bool tell_soon(struct request *request, int result)
{
    gw_timer *now = gw_timer_start(request->requests->bus->loop, 0, 0, on_timeout, request);
    if (!now)
        return false;
    gw_timer_stop(request->timer);
    request->timer = now;
    request->result = result;
    return true;
}

static void on_published(void *context, int result)
{
    struct request *request = context;
    gw_timer *timer = request->timer;
    gw_reply_fn reply;
    void *reply_context;
    request->published = true;
    if (!timer || result == GW_DONE) {
        free_when_over(request);
        return;
    }
    gw_timer_stop(timer);
    take_out(request, &reply, &reply_context);
    reply(reply_context, result, NULL, 0);
}

/* The number that the correlation id says; 0: it is none of ours. */
static uint64_t number_of(const struct gw_event *event)
{
    struct bytes id;
    char text[24];
    char *end;
    if (!amqp_properties_get(event->properties, AMQP_CORRELATION_ID, &id) || id.size == 0 || id.size >= sizeof(text))
        return 0;
    memcpy(text, id.data, id.size);
    text[id.size] = 0;
    uint64_t number = strtoull(text, &end, 10);
    return *end ? 0 : number;
}

static void on_reply(gw_event *event, void *context)
{
    struct requests *requests = context;
    struct request *request = map_get(&requests->pending, number_of(event));
    gw_reply_fn reply;
    void *reply_context;
    if (!request) {                  /* too late, or it comes once more */
        gw_event_ack(event);
        return;
    }
    /* What it says outlives the event, so that the function is called when nothing is left to do. */
    size_t size = event->body.size;
    char *data = bytes_to_text(event->body);
    if (!data) {
        gw_event_retry(event);
        return;
    }
    gw_timer_stop(request->timer);
    take_out(request, &reply, &reply_context);
    gw_event_ack(event);
    reply(reply_context, GW_DONE, data, size);
    free(data);
}

/* ---- a bus's --------------------------------------------------------------------------------------------------------------------- */

void requests_give_up(struct gw_bus *bus, int result)
{
    struct request *request;
    uint32_t cursor = 0;
    while (bus->requests && (request = map_next(&bus->requests->pending, &cursor)))
        tell_soon(request, result);
}

static void on_close(struct bus_part *part)
{
    struct requests *requests = (struct requests *)(void *)((char *)part - offsetof(struct requests, part));
    requests_give_up(requests->bus, GW_E_CLOSED);
    requests->closing = true;
    requests->bus->requests = NULL;
    requests_end_when_over(requests);
}

/* Where connections come and go, the queue outlasts them for a while, with the replies that came meanwhile. */
static void make_plan(struct gw_bus *bus, struct plan *plan)
{
    struct amqp_table_writer writer;
    struct bytes arguments;
    uint8_t room[64];
    char id[BUS_ID_MAX];
    bus_new_id(bus, id);
    *plan = (struct plan){.consumers = 1, .durable = bus->ops->comes_back};
    snprintf(plan->queue, sizeof(plan->queue), "replies.%s", id);
    if (!plan->durable)
        return;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_long(&writer, "x-expires", REPLIES_LAST_MS);
    CHECK(amqp_table_finish(&writer, &arguments));
    memcpy(plan->arguments, arguments.data, arguments.size);
    plan->arguments_size = (uint32_t)arguments.size;
}

static struct requests *requests_of(struct gw_bus *bus)
{
    struct plan plan;
    struct requests *requests = bus->requests;
    if (requests)
        return requests;
    requests = calloc(1, sizeof(*requests));
    if (!requests) {
        loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
        return NULL;
    }
    make_plan(bus, &plan);
    *requests = (struct requests){.bus = bus, .part.close = on_close};
    memcpy(requests->queue, plan.queue, sizeof(requests->queue));
    if (!handler_new(bus, &plan, on_reply, requests)) {
        free(requests);
        return NULL;
    }
    bus_part_add(bus, &requests->part);
    return bus->requests = requests;
}

/* ---- asking ------------------------------------------------------------------------------------------------------------------------ */

static int publish(struct request *request, const char *type, struct bytes body, const gw_request_options *options)
{
    struct gw_bus *bus = request->requests->bus;
    gw_publish_options publish_options = options->publish;
    char id[24];
    int size = snprintf(id, sizeof(id), "%" PRIu64, request->number);
    publish_options.transient = !options->durable;
    struct outgoing outgoing = {.exchange = bytes_of_text(EVENTS_EXCHANGE), .type = bytes_of_text(type), .body = body, .options = &publish_options, .mandatory = true,
                                .reply_to = bytes_of_text(request->requests->queue), .correlation_id = bytes_of(id, (size_t)size)};
    return outgoing_publish(bus, &outgoing, on_published, request, NULL);
}

int gw_request(gw_bus *bus, const char *type, const void *data, size_t size, const gw_request_options *options, gw_reply_fn reply, void *context)
{
    static const gw_request_options none;
    int result = bus_check(bus);
    if (result != GW_DONE)
        return result;
    if (!type || !reply)
        return loop_fail(bus->loop, GW_E_INVALID, "a request needs a type, and a function for the reply");
    options = options ? options : &none;
    struct requests *requests = requests_of(bus);
    struct request *request = requests ? malloc(sizeof(*request)) : NULL;
    if (!request)
        return requests ? loop_fail(bus->loop, GW_E_MEMORY, "out of memory") : GW_E_MEMORY;
    *request = (struct request){.requests = requests, .number = ++requests->next, .reply = reply, .context = context, .result = GW_E_TIMEOUT};
    uint64_t timeout_ms = bug_enabled(BUG_HANDLER_REQUEST_FOREVER) && requests->pending.count ? FOREVER_MS : options->timeout_ms ? options->timeout_ms : TIMEOUT_MS;
    request->timer = gw_timer_start(bus->loop, timeout_ms, 0, on_timeout, request);
    if (!request->timer) {
        free(request);
        return GW_E_MEMORY;
    }
    if (map_put(&requests->pending, request->number, request) == GW_OK) {
        result = publish(request, type, bytes_of(data, size), options);
        if (result == GW_DONE)
            return GW_DONE;
        /* That there is no handler is told in one way, whether it is known at once or later. */
        request->published = true;
        if (result == GW_E_REFUSED && tell_soon(request, result))
            return GW_DONE;
        map_remove(&requests->pending, request->number);
    } else {
        result = loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    }
    gw_timer_stop(request->timer);
    free(request);
    return result;
}

/* ---- replying ------------------------------------------------------------------------------------------------------------------------ */

int gw_event_reply(gw_event *event, const void *data, size_t size)
{
    struct amqp_properties asked, properties = {.flags = AMQP_DELIVERY_MODE};
    uint8_t room[2048];
    if (!event)
        return GW_E_INVALID;
    struct gw_bus *bus = event->handler->bus;
    int result = loop_check(bus->loop);
    if (result != GW_DONE)
        return result;
    if (size && !data)
        return loop_fail(bus->loop, GW_E_INVALID, "the reply's data is NULL, and said to have %zu bytes", size);
    if (event->state == EVENT_LATE && !event->memory)
        return event_replace(event, NULL);   /* given back when the bus closed: what it asked is not known any more */
    if (!event->properties.size || !amqp_properties_decode(event->properties, &asked) || !(asked.flags & AMQP_REPLY_TO) || !asked.reply_to.size)
        return loop_fail(bus->loop, GW_E_INVALID, "nobody waits for a reply to this event");
    /* It is as durable as the request. */
    properties.delivery_mode = asked.flags & AMQP_DELIVERY_MODE && asked.delivery_mode == 2 ? 2 : 1;
    if (asked.flags & AMQP_CORRELATION_ID) {
        properties.flags |= AMQP_CORRELATION_ID;
        properties.correlation_id = asked.correlation_id;
    }
    size_t written = amqp_properties_encode(&properties, room, sizeof(room));
    CHECK(written > 0);
    struct engine_message message = {.routing_key = asked.reply_to, .properties = bytes_of(room, written), .body = bytes_of(data, size), .persistent = properties.delivery_mode == 2};
    return event_replace(event, &message);
}
