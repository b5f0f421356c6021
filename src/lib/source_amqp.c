/* A source that is a queue at another broker: a bus of its own (gw_connect) to there, whose events are published here under their type, and acknowledged there when they are on disk here. So
 * nothing is lost whichever of the three ends; what was published and not yet acknowledged comes twice, with the same id. */
#include "lib/handler.h"
#include "lib/loop.h"
#include "lib/outgoing.h"
#include "lib/source.h"

#include <stdio.h>
#include <stdlib.h>

#define UNDER_WAY 256u               /* events that are here and not yet acknowledged there */

/* A part of the bus there, which so waits for the last event to be told and answered before it closes; then the memory goes. */
struct shovel {
    struct bus_part part;            /* first */
    struct gw_bus *bus;              /* here */
    struct gw_bus *there;            /* NULL: it has no part in it any more */
    gw_handler *handler;
    unsigned out;                    /* events whose publish is not told yet */
    bool is_transient, is_closing, is_ended;
    char id[SOURCE_ID_MAX + 1];
};

struct carried {
    struct shovel *shovel;
    gw_event *event;
};

static void look(struct shovel *shovel)
{
    if (shovel->there && shovel->is_closing && !shovel->out) {
        bus_part_remove(shovel->there, &shovel->part);
        shovel->there = NULL;
    }
    if (shovel->is_ended && !shovel->there)
        free(shovel);
}

/* The bus there is being closed, by shovel_end or because the loop ends. */
static void on_close(struct bus_part *part)
{
    struct shovel *shovel = (struct shovel *)part;
    gw_off(shovel->handler);
    shovel->handler = NULL;
    shovel->is_closing = true;
    look(shovel);
}

static void on_taken(void *context, int result)
{
    struct carried carried = *(struct carried *)context;
    free(context);
    carried.shovel->out--;
    if (result == GW_DONE)
        gw_event_ack(carried.event);
    else
        gw_event_retry(carried.event);
    look(carried.shovel);
}

static void on_event(gw_event *event, void *context)
{
    struct shovel *shovel = context;
    char id[UINT8_MAX + 1];
    const char *type = gw_event_type(event), *its_id = gw_event_id(event);
    struct carried *carried = malloc(sizeof(*carried));
    if (!carried || !shovel->bus || shovel->bus->state != BUS_OPEN) {
        free(carried);
        gw_event_retry(event);
        return;
    }
    *carried = (struct carried){shovel, event};
    /* One without an id has the same one whenever it comes, as far as that can be told. */
    uint64_t hash = source_hash(bytes_of(gw_event_data(event), gw_event_size(event)));
    snprintf(id, sizeof(id), "%s/%llx-%016llx", shovel->id, (unsigned long long)gw_event_time_ms(event), (unsigned long long)hash);
    const gw_publish_options options = {.id = its_id ? its_id : id, .source = gw_event_source(event), .subject = gw_event_subject(event), .content_type = gw_event_content_type(event),
                                        .key = gw_event_key(event), .time_ms = gw_event_time_ms(event), .priority = (uint8_t)gw_event_priority(event), .transient = shovel->is_transient};
    struct outgoing outgoing = {.exchange = bytes_of(EVENTS_EXCHANGE, sizeof(EVENTS_EXCHANGE) - 1), .type = bytes_of_text(type && *type ? type : "amqp.message"),
                                .body = bytes_of(gw_event_data(event), gw_event_size(event)), .options = &options};
    shovel->out++;
    if (outgoing_publish(shovel->bus, &outgoing, on_taken, carried, NULL) != GW_DONE) {
        shovel->out--;
        free(carried);
        gw_event_retry(event);
    }
}

void shovel_end(struct shovel *shovel)
{
    if (!shovel)
        return;
    shovel->is_ended = true;
    if (shovel->there && !shovel->is_closing)
        gw_close(shovel->there, 0, NULL, NULL);   /* tells on_close */
    else
        look(shovel);
}

gw_source *gw_source_amqp(gw_bus *bus, const char *uri, const char *queue, const gw_source_options *options)
{
    char id[SOURCE_ID_MAX + 1];
    struct plan plan = {.durable = true, .as_found = true, .consumers = 1, .prefetch = UNDER_WAY};
    if (bus_check(bus) != GW_DONE)
        return NULL;
    if (!uri || !queue || !*queue || strlen(queue) >= sizeof(plan.queue)) {
        loop_fail(bus->loop, GW_E_INVALID, "a source at another broker needs its URI, and the name of a queue there");
        return NULL;
    }
    if (options && options->name && !source_id_is_possible(options->name)) {
        loop_fail(bus->loop, GW_E_INVALID, "'%.100s' is no name of a source: it has up to %u letters, digits, dots, dashes and underscores", options->name, SOURCE_ID_MAX);
        return NULL;
    }
    if (options && options->name)
        snprintf(id, sizeof(id), "%s", options->name);
    else
        snprintf(id, sizeof(id), "amqp-%016llx", (unsigned long long)(source_hash(bytes_of_text(uri)) ^ source_hash(bytes_of_text(queue)) >> 1));
    snprintf(plan.queue, sizeof(plan.queue), "%s", queue);
    gw_source *gw = source_handle_new(bus, id);
    struct shovel *shovel = gw ? calloc(1, sizeof(*shovel)) : NULL;
    if (!shovel) {
        if (gw)
            source_end(gw);
        return NULL;
    }
    snprintf(shovel->id, sizeof(shovel->id), "%s", id);
    shovel->bus = bus;
    shovel->is_transient = options && options->transient;
    gw->shovel = shovel;
    shovel->there = gw_connect(bus->loop, uri, &(gw_connect_options){.name = id});
    if (shovel->there) {
        shovel->part.close = on_close;
        bus_part_add(shovel->there, &shovel->part);
        shovel->handler = handler_new(shovel->there, &plan, on_event, shovel);
    }
    if (shovel->handler)
        return gw;
    source_end(gw);
    return NULL;
}
