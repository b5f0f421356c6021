/* gw_forward: a handler whose events are published at another bus of the same loop, and acknowledged when that has confirmed them. So nothing is lost whichever of the two ends; what was
 * confirmed there and not yet acknowledged here comes twice, with the same id.
 *
 *   the handler's queue → held (not taken there yet, in order) → sent → told: acknowledged, or tried again */
#include "lib/bus.h"
#include "lib/handler.h"
#include "lib/loop.h"
#include "protocol/amqp/properties.h"
#include "sources/event_message.h"

#include <stdio.h>
#include <stdlib.h>

#define WINDOW 256u                  /* events sent and not confirmed, where the program says nothing */
#define SOON_MS 20u                  /* when it is tried again to send what the other bus has no room for … */
#define LATER_MS 1000u               /* … or cannot take */

/* An event on its way; a member of its forward's list as long as there is an event. */
struct passing {
    struct passing *next, *previous;
    struct forward *forward;
    gw_event *event;                 /* NULL: it has gone back */
};

struct passings {
    struct passing *first, *last;
};

/* It ends with its handler, and its memory with the last of what is sent. */
struct forward {
    struct bus_part part;            /* first; of the other bus */
    struct gw_handler *handler;      /* NULL: it is gone */
    struct gw_bus *to;               /* NULL: it is closed */
    struct passings held, sent;
    unsigned out;                    /* sent and not told */
    gw_timer *again;                 /* NULL: nothing waits for a time */
    bool failing;                    /* and the program was told of it */
    bool is_addressed;               /* to what the program said, not to `events` */
    char exchange[HANDLER_NAME_MAX], routing_key[HANDLER_NAME_MAX];
};

/* ---- lists --------------------------------------------------------------------------------------------------------------------- */

static void append(struct passings *list, struct passing *passing)
{
    passing->next = NULL;
    passing->previous = list->last;
    if (list->last)
        list->last->next = passing;
    else
        list->first = passing;
    list->last = passing;
}

static void take(struct passings *list, struct passing *passing)
{
    if (passing->next)
        passing->next->previous = passing->previous;
    else
        list->last = passing->previous;
    if (passing->previous)
        passing->previous->next = passing->next;
    else
        list->first = passing->next;
}

static void free_when_over(struct forward *forward)
{
    if (!forward->handler && !forward->to && !forward->out)
        free(forward);
}

/* ---- what is sent ---------------------------------------------------------------------------------------------------------------- */

static void put_headers(struct amqp_table_writer *writer, struct bytes headers)
{
    struct amqp_field field;
    const uint8_t *begin = headers.data;
    for (; amqp_table_next(&headers, &field) == WIRE_OK; begin = headers.data) {
        const uint8_t *value = begin + 1 + field.name.size + 1;   /* behind the name's size, the name and the type */
        if (!event_message_is_of_the_way(field.name))
            amqp_table_put_raw(writer, field.name, field.type, bytes_of(value, (size_t)(headers.data - value)));
    }
}

/* The same message, with all properties but the user, whom another broker does not let us speak for. What it lies in is returned; NULL: out of memory. */
static uint8_t *make_message(struct forward *forward, gw_event *event, struct engine_message *message)
{
    struct amqp_properties properties;
    struct amqp_table_writer writer;
    const char *type = gw_event_type(event);
    char id[sizeof(forward->handler->plan.queue) + 40];
    if (!event->properties.size || !amqp_properties_decode(event->properties, &properties))
        properties = (struct amqp_properties){0};
    size_t half = properties.headers.size + 64, size = half + event->properties.size + 1024;
    uint8_t *room = type ? malloc(half + size) : NULL;
    if (!room)
        return NULL;
    if (properties.flags & AMQP_HEADERS) {
        amqp_table_begin(&writer, room, half);
        put_headers(&writer, properties.headers);
        CHECK(amqp_table_finish(&writer, &properties.headers));
    }
    properties.flags &= (uint16_t)~AMQP_USER_ID;
    bool is_event = bytes_equal(event->exchange, bytes_of_text(EVENTS_EXCHANGE));
    if (!(properties.flags & AMQP_TYPE)) {
        properties.flags |= AMQP_TYPE;
        properties.type = bytes_of_text(type);
    }
    /* In an embedded bus its place names one that nobody has named, however often it comes; at a broker nothing does. */
    if (!(properties.flags & AMQP_MESSAGE_ID) && !forward->handler->bus->ops->comes_back) {
        int written = snprintf(id, sizeof(id), "%.200s/%llx", forward->handler->plan.queue, (unsigned long long)event->tag);
        properties.flags |= AMQP_MESSAGE_ID;
        properties.message_id = bytes_of(id, (size_t)written);
    }
    size_t written = amqp_properties_encode(&properties, room + half, size);
    CHECK(written > 0);
    *message = (struct engine_message){.exchange = bytes_of_text(forward->is_addressed ? forward->exchange : EVENTS_EXCHANGE),
                                       .routing_key = forward->routing_key[0] ? bytes_of_text(forward->routing_key) : is_event ? event->routing_key : bytes_of_text(type),
                                       .properties = bytes_of(room + half, written), .body = event->body,
                                       .persistent = properties.flags & AMQP_DELIVERY_MODE && properties.delivery_mode == 2, .mandatory = forward->is_addressed};
    return room;
}

static void on_told(void *context, int result);

static int send_one(struct passing *passing)
{
    struct gw_bus *to = passing->forward->to;
    struct engine_message message;
    uint8_t *room = make_message(passing->forward, passing->event, &message);
    uint64_t ticket = room ? ticket_open(&to->tickets, on_told, passing) : 0;
    int result = ticket ? to->ops->publish(to, &message, ticket) : GW_E_MEMORY;
    if (result < 0 && ticket)
        ticket_cancel(&to->tickets, ticket);
    free(room);
    loop_again_now(to->loop);
    return result;
}

/* ---- what becomes of it ------------------------------------------------------------------------------------------------------------ */

/* It is told of once, until something is taken again. */
static void tell_failure(struct forward *forward, int result)
{
    if (!forward->failing && forward->to)
        bus_notice(forward->handler->bus, GW_NOTICE_WARNING, "events of %s are not taken by the other bus (%s); trying again", forward->handler->plan.queue, gw_result_text(result));
    forward->failing = true;
}

static void settle(struct passing *passing, enum settlement settlement)
{
    gw_event *event = passing->event;
    free(passing);
    event_settle(event, settlement);
}

static void send_held(struct forward *forward);

static void on_again(gw_timer *timer, void *context)
{
    struct forward *forward = context;
    (void)timer;                     /* It is freed when this returns. */
    forward->again = NULL;
    send_held(forward);
}

/* There was no room for the first of them. */
static void wait_for_room(struct forward *forward, int result)
{
    if (result != GW_E_AGAIN)
        tell_failure(forward, result);
    if (!forward->again)
        forward->again = gw_timer_start(forward->handler->bus->loop, result == GW_E_AGAIN ? SOON_MS : LATER_MS, 0, on_again, forward);
    if (forward->again)
        return;
    /* Without memory for a timer the next event has them sent: this one, which its queue has come again, if there is no other. */
    struct passing *first = forward->held.first;
    take(&forward->held, first);
    settle(first, SETTLED_RETRY);
}

static void send_held(struct forward *forward)
{
    for (struct passing *passing; forward->to && (passing = forward->held.first);) {
        if (passing->event->state == EVENT_LATE) {
            take(&forward->held, passing);
            settle(passing, SETTLED_BACK);   /* Its connection was lost, or its bus ends: it comes again. */
            continue;
        }
        int result = send_one(passing);
        if (result == GW_E_AGAIN || result == GW_E_MEMORY || result == GW_E_FULL || result == GW_E_STORAGE || result == GW_E_CLOSED) {
            wait_for_room(forward, result);
            return;
        }
        take(&forward->held, passing);
        if (result == GW_DONE) {
            append(&forward->sent, passing);
            forward->out++;
        } else {
            tell_failure(forward, result);
            settle(passing, result == GW_E_LIMIT || result == GW_E_INVALID ? SETTLED_REJECT : SETTLED_RETRY);
        }
    }
}

static void on_told(void *context, int result)
{
    struct passing *passing = context;
    struct forward *forward = passing->forward;
    forward->out--;
    if (!passing->event) {
        free(passing);
        free_when_over(forward);
        return;
    }
    if (result == GW_DONE)
        forward->failing = false;
    else if (result != GW_E_CLOSED && result != GW_E_TIMEOUT)
        tell_failure(forward, result);
    take(&forward->sent, passing);
    settle(passing, result == GW_DONE ? SETTLED_ACK : result == GW_E_CLOSED || result == GW_E_TIMEOUT ? SETTLED_BACK : SETTLED_RETRY);
    send_held(forward);
}

static void on_event(gw_event *event, void *context)
{
    struct forward *forward = context;
    struct passing *passing = forward->to ? malloc(sizeof(*passing)) : NULL;
    if (!passing) {
        event_settle(event, forward->to ? SETTLED_RETRY : SETTLED_BACK);
        return;
    }
    *passing = (struct passing){.forward = forward, .event = event};
    append(&forward->held, passing);
    if (forward->held.first == passing || !forward->again)
        send_held(forward);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------------- */

/* The other bus is being closed: what it has not got goes back, what it has is told by it; nothing more comes. */
static void on_close(struct bus_part *part)
{
    struct forward *forward = (struct forward *)part;
    bus_part_remove(forward->to, part);
    forward->to = NULL;
    gw_timer_stop(forward->again);
    forward->again = NULL;
    for (struct passing *passing; (passing = forward->held.first);) {
        take(&forward->held, passing);
        settle(passing, SETTLED_BACK);
    }
    if (forward->handler)
        handler_cut(forward->handler);
    free_when_over(forward);
}

/* Whatever the handler still has is freed with it. */
static void on_over(struct gw_handler *handler)
{
    struct forward *forward = handler->context;
    for (struct passing *passing; (passing = forward->held.first);) {
        take(&forward->held, passing);
        free(passing);
    }
    for (struct passing *passing; (passing = forward->sent.first);) {
        take(&forward->sent, passing);
        passing->event = NULL;       /* It is freed when it is told. */
    }
    gw_timer_stop(forward->again);
    forward->again = NULL;
    forward->handler = NULL;
    if (forward->to)
        bus_part_remove(forward->to, &forward->part);
    forward->to = NULL;
    free_when_over(forward);
}

static int judge(struct gw_bus *bus, struct gw_bus *to, const gw_forward_options *options)
{
    int result = bus_check(to);
    if (result != GW_DONE)
        return result == GW_E_INVALID ? loop_fail(bus->loop, result, "which bus the events are to go to is not said") : result;
    if (to->loop != bus->loop)
        return loop_fail(bus->loop, GW_E_INVALID, "both buses have to be on one loop");
    if (to == bus && !options->exchange)
        return loop_fail(bus->loop, GW_E_INVALID, "events that are forwarded to their own bus would go round for ever");
    if ((options->exchange && strlen(options->exchange) > UINT8_MAX) || (options->routing_key && strlen(options->routing_key) > UINT8_MAX))
        return loop_fail(bus->loop, GW_E_LIMIT, "the name of an exchange or a routing key has at most 255 bytes");
    return GW_DONE;
}

gw_handler *gw_forward(gw_bus *bus, const char *pattern, gw_bus *to, const gw_forward_options *options)
{
    static const gw_forward_options none;
    /* Shorter than handlers have them: the other bus is there again, or its queue has room, and nothing was wrong with the event. */
    static const uint64_t delays_ms[] = {100, 1000, 5000, 30000};
    char name[HANDLER_NAME_MAX + 16];
    options = options ? options : &none;
    if (bus_check(bus) != GW_DONE || judge(bus, to, options) != GW_DONE)
        return NULL;
    struct forward *forward = calloc(1, sizeof(*forward));
    if (!forward) {
        loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
        return NULL;
    }
    forward->to = to;
    forward->is_addressed = options->exchange != NULL;
    snprintf(forward->exchange, sizeof(forward->exchange), "%s", options->exchange ? options->exchange : "");
    snprintf(forward->routing_key, sizeof(forward->routing_key), "%s", options->routing_key ? options->routing_key : "");
    snprintf(name, sizeof(name), "forward.%s", pattern ? pattern : "");
    forward->handler = gw_on(bus, pattern, on_event, forward, &(gw_handler_options){.name = options->name ? options->name : name, .concurrency = options->window ? options->window : WINDOW,
                                                                                  .retries = GW_RETRY_FOREVER, .retry_delays_ms = delays_ms, .retry_delay_count = 4, .timeout_ms = GW_FOREVER,
                                                                                  .order_by_key = options->order_by_key});
    if (!forward->handler) {
        free(forward);
        return NULL;
    }
    forward->handler->over = on_over;
    forward->part.close = on_close;
    bus_part_add(to, &forward->part);
    return forward->handler;
}
