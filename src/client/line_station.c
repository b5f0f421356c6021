/* Queues, their bindings and consumers: made over each connection, and what they deliver. */
#include "client/line_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lifecycle. */

static void station_free(struct station *station)
{
    free(station->queue);
    free(station->pattern);
    free(station->dead_queue);
    free(station->arguments);
    free(station->plain_arguments);
    free(station->consumer_arguments);
    free(station);
}

struct station *line_subscribe(struct line *line, const struct station_plan *plan, void *context)
{
    if (strlen(plan->queue) > LINE_TEXT_MAX || strlen(plan->pattern) > LINE_TEXT_MAX || strlen(plan->dead_queue) > LINE_TEXT_MAX)
        return NULL;
    struct station *station = calloc(1, sizeof *station);
    if (!station)
        return NULL;
    *station = (struct station){.line = line, .context = context, .durable = plan->durable, .as_found = plan->as_found, .passively = plan->as_found, .consumers = plan->consumers,
                                .prefetch = plan->prefetch, .pending = true, .arguments_size = plan->arguments.size, .plain_arguments_size = plan->plain_arguments.size,
                                .consumer_arguments_size = plan->consumer_arguments.size};
    station->queue = strdup(plan->queue);
    station->pattern = strdup(plan->pattern);
    station->dead_queue = strdup(plan->dead_queue);
    station->arguments = (uint8_t *)bytes_to_text(plan->arguments);
    station->plain_arguments = (uint8_t *)bytes_to_text(plan->plain_arguments);
    station->consumer_arguments = (uint8_t *)bytes_to_text(plan->consumer_arguments);
    if (!station->queue || !station->pattern || !station->dead_queue || !station->arguments || !station->plain_arguments || !station->consumer_arguments) {
        station_free(station);
        return NULL;
    }
    station->next = line->stations;
    line->stations = station;
    return station;
}

bool station_is_ready(const struct station *station)
{
    return station->ready;
}

static void deliveries_forget(struct station *station)
{
    for (struct line_delivery *delivery = station->deliveries; delivery; delivery = delivery->next)
        delivery->station = NULL;
    station->deliveries = NULL;
}

/* The channel and what came by it belong to the past. */
static void station_lost(struct station *station)
{
    struct line *line = station->line;
    station->channel = NULL;
    station->ready = false;
    deliveries_forget(station);
    if (!station->gone)
        line->events.lost(line->events.owner, station->context);
}

/* Ending one. */

static void station_end(struct station *station)
{
    struct station **at = &station->line->stations;
    while (*at != station)
        at = &(*at)->next;
    *at = station->next;
    if (station->channel)
        talk_channel_close(station->channel);
    station_free(station);
}

/* A durable queue is made though nobody waits for it any more: it is to gather events from now on. */
static bool is_wanted(const struct station *station)
{
    return !station->gone || (station->durable && !station->made);
}

static void end_when_over(struct station *station)
{
    if (!is_wanted(station) && !station->deliveries)
        station_end(station);
}

/* Making one. */

static void consumer_tag(char tag[24], unsigned number)
{
    snprintf(tag, 24, "godwit-%u", number);
}

static void try_later(struct station *station)
{
    station->pending = station->turned = false;
    station->retry_ms = station->line->now_ms + line_backoff_ms(station->line, ++station->failures);
}

static void on_bound(void *context, const struct amqp_method *answer)
{
    struct station *station = context;
    if (!answer)
        return;
    station->made = true;
    if (!station->gone)
        return;
    station->pending = false;
    end_when_over(station);
}

static void on_consuming(void *context, const struct amqp_method *answer)
{
    struct station *station = context;
    if (!answer)
        return;
    station->ready = true;
    station->pending = station->turned = false;
    station->failures = 0;
}

static void on_delivered(void *owner, const struct remote_message *message)
{
    struct station *station = owner;
    struct line *line = station->line;
    size_t size = sizeof(struct line_delivery) + message->exchange.size + message->routing_key.size + message->properties.size;
    struct line_delivery *delivery = station->gone || message->body.size > SIZE_MAX - size ? NULL : malloc(size + message->body.size);
    if (!delivery) {
        (void)talk_nack(station->channel, message->delivery_tag, true);   /* What cannot be said for want of memory ends the talk anyway. */
        return;
    }
    *delivery = (struct line_delivery){.station = station, .next = station->deliveries, .tag = message->delivery_tag, .references = 1,
                                       .redelivered = message->redelivered, .exchange = message->exchange, .routing_key = message->routing_key,
                                       .properties = message->properties, .body = message->body};
    struct bytes *parts[] = {&delivery->exchange, &delivery->routing_key, &delivery->properties, &delivery->body};
    uint8_t *at = (uint8_t *)(delivery + 1);
    for (unsigned i = 0; i < 4; i++) {
        if (parts[i]->size)
            memcpy(at, parts[i]->data, parts[i]->size);
        parts[i]->data = at;
        at += parts[i]->size;
    }
    if (station->deliveries)
        station->deliveries->previous = delivery;
    station->deliveries = delivery;
    if (!line->events.delivered(line->events.owner, station->context, delivery)) {
        line_settle(delivery, LINE_BACK);
        line_release(delivery);
    }
}

static void on_cancelled(void *owner, struct bytes tag)
{
    struct station *station = owner;
    (void)tag;
    if (station->gone)
        return;
    line_say(station->line, LINE_WARNING, "the queue %s was deleted; it is made again", station->queue);
    talk_channel_close(station->channel);
    station_lost(station);
    station->pending = true;
}

static void on_closed(void *owner, unsigned code, struct bytes text)
{
    struct station *station = owner;
    /* It was not there to be found; or, when it was to be made, somebody else had made it meanwhile. */
    if (station->as_found && !station->ready && !station->turned && code == (station->passively ? 404 : 406)) {
        station->passively = !station->passively;
        station->turned = true;
        station_lost(station);
        station->pending = is_wanted(station);
        end_when_over(station);
        return;
    }
    if (is_wanted(station))
        line_say(station->line, LINE_ERROR, "the queue %s cannot be had: %u %.*s", station->queue, code, (int)text.size, (const char *)text.data);
    station_lost(station);
    station->passively = station->as_found;
    try_later(station);
    station->made |= station->gone;
    end_when_over(station);
}

static enum gw_err declare_queue(struct talk_channel *channel, struct station *station, bool is_dead)
{
    bool is_last = !is_dead && !station->pattern[0];
    struct bytes arguments = line_is_godwit(station->line) ? bytes_of(station->arguments, station->arguments_size)
                                                           : bytes_of(station->plain_arguments, station->plain_arguments_size);
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(is_dead ? station->dead_queue : station->queue),
        [AMQP_QUEUE_DECLARE_PASSIVE] = amqp_number(!is_dead && station->passively),
        [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(is_dead || station->durable),
        [AMQP_QUEUE_DECLARE_EXCLUSIVE] = amqp_number(!is_dead && !station->durable),
        [AMQP_QUEUE_DECLARE_ARGUMENTS] = amqp_bytes(is_dead ? (struct bytes){0} : arguments),
    };
    return talk_call(channel, AMQP_QUEUE_DECLARE, values, AMQP_QUEUE_DECLARE_OK, is_last ? on_bound : NULL, station);
}

static enum gw_err ask_for_all(struct talk_channel *channel, struct station *station)
{
    struct amqp_value bind[AMQP_QUEUE_BIND_COUNT] = {
        [AMQP_QUEUE_BIND_QUEUE] = amqp_text(station->queue),
        [AMQP_QUEUE_BIND_EXCHANGE] = amqp_text(LINE_EXCHANGE),
        [AMQP_QUEUE_BIND_ROUTING_KEY] = amqp_text(station->pattern),
    };
    struct amqp_value qos[AMQP_BASIC_QOS_COUNT] = {[AMQP_BASIC_QOS_PREFETCH_COUNT] = amqp_number(station->prefetch)};
    enum gw_err err = station->dead_queue[0] ? declare_queue(channel, station, true) : GW_OK;
    if (!err)
        err = declare_queue(channel, station, false);
    if (!err && station->pattern[0])
        err = talk_call(channel, AMQP_QUEUE_BIND, bind, AMQP_QUEUE_BIND_OK, on_bound, station);
    if (station->gone)
        return err;
    if (!err)
        err = talk_call(channel, AMQP_BASIC_QOS, qos, AMQP_BASIC_QOS_OK, NULL, NULL);
    for (unsigned i = 0; i < station->consumers && !err; i++) {
        char tag[24];
        bool is_last = i + 1 == station->consumers;
        consumer_tag(tag, i);
        err = talk_consume(channel, station->queue, tag, false, false, bytes_of(station->consumer_arguments, station->consumer_arguments_size), is_last ? on_consuming : NULL, station);
    }
    return err;
}

static void station_make(struct station *station)
{
    struct talk_channel_events events = {.owner = station, .delivered = on_delivered, .cancelled = on_cancelled, .closed = on_closed};
    struct talk_channel *channel = talk_channel_open(station->line->talk, &events);
    station->pending = true;
    if (channel && ask_for_all(channel, station) == GW_OK) {
        station->channel = channel;
        return;
    }
    if (channel)
        talk_channel_close(channel);
    line_say(station->line, LINE_ERROR, "the queue %s cannot be had: out of memory, or of channels", station->queue);
    try_later(station);
}

void line_unsubscribe(struct station *station)
{
    station->gone = true;
    station->pending = is_wanted(station);
    if (station->channel) {
        struct amqp_value remove[AMQP_QUEUE_DELETE_COUNT] = {[AMQP_QUEUE_DELETE_QUEUE] = amqp_text(station->queue)};
        for (unsigned i = 0; i < station->consumers; i++) {
            char tag[24];
            consumer_tag(tag, i);
            struct amqp_value values[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text(tag)};
            (void)talk_call(station->channel, AMQP_BASIC_CANCEL, values, AMQP_BASIC_CANCEL_OK, NULL, NULL);
        }
        /* A queue of this connection alone; what it has delivered is gone with it. */
        if (!station->durable)
            (void)talk_call(station->channel, AMQP_QUEUE_DELETE, remove, AMQP_QUEUE_DELETE_OK, NULL, NULL);
    }
    end_when_over(station);
}

/* It cannot be settled any more. */
static void delivery_leave(struct line_delivery *delivery)
{
    struct station *station = delivery->station;
    delivery->station = NULL;
    if (delivery->next)
        delivery->next->previous = delivery->previous;
    if (delivery->previous)
        delivery->previous->next = delivery->next;
    else
        station->deliveries = delivery->next;
    end_when_over(station);
}

void line_settle(struct line_delivery *delivery, enum line_settlement settlement)
{
    struct station *station = delivery->station;
    if (!station)
        return;
    if (settlement == LINE_ACK)
        talk_ack(station->channel, delivery->tag);
    else
        (void)talk_nack(station->channel, delivery->tag, settlement == LINE_BACK);   /* What cannot be said for want of memory ends the talk. */
    delivery_leave(delivery);
}

void line_settle_after(struct line_delivery *delivery, uint64_t delay_ms)
{
    if (!delivery->station)
        return;
    (void)talk_nack_after(delivery->station->channel, delivery->tag, delay_ms);
    delivery_leave(delivery);
}

void line_release(struct line_delivery *delivery)
{
    CHECK(delivery->references > 0);
    if (--delivery->references)
        return;
    if (delivery->station)
        delivery_leave(delivery);
    free(delivery);
}

/* All of them. */

void stations_lost(struct line *line)
{
    for (struct station *station = line->stations; station; station = station->next)
        station->channel = NULL;
    for (struct station *station = line->stations, *next; station; station = next) {
        next = station->next;
        station_lost(station);
        station->pending = is_wanted(station);
        station->turned = false;
        station->passively = station->as_found;
        station->retry_ms = 0;
        station->failures = 0;
        end_when_over(station);
    }
}

void stations_free(struct line *line)
{
    while (line->stations) {
        struct station *station = line->stations;
        line->stations = station->next;
        deliveries_forget(station);
        station_free(station);
    }
}

static bool is_due(const struct station *station)
{
    return is_wanted(station) && !station->channel && station->line->now_ms >= station->retry_ms;
}

void stations_turn(struct line *line)
{
    for (struct station *station = line->stations, *next; station; station = next) {
        next = station->next;
        if (is_due(station))
            station_make(station);
    }
}

bool stations_are_pending(const struct line *line)
{
    for (const struct station *station = line->stations; station; station = station->next) {
        if (station->pending)
            return true;
    }
    return false;
}

uint64_t stations_deadline_ms(const struct line *line)
{
    uint64_t deadline = UINT64_MAX;
    for (const struct station *station = line->stations; station; station = station->next) {
        if (is_wanted(station) && !station->channel && station->retry_ms < deadline)
            deadline = station->retry_ms;
    }
    return deadline;
}
