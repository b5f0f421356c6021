/* Backoff for brokers that have none, such as RabbitMQ: an event that failed stays unacknowledged while it waits, then a copy that says how often it was tried takes its place at the end of
 * the queue. Lost with the connection, it comes again at once. */
#include "broker/delay.h"
#include "lib/loop.h"
#include "lib/outgoing.h"
#include "lib/remote.h"

#include <stdlib.h>

struct resting {
    struct resting *next;
    struct line_delivery *delivery;
    struct again again;
    char queue[HANDLER_NAME_MAX];
    uint64_t due_us;
};

static void resting_free(struct resting *resting)
{
    line_release(resting->delivery);
    outgoing_again_deinit(&resting->again);
    free(resting);
}

void remote_rest(struct remote_bus *remote, struct gw_event *event, uint64_t delay_ms)
{
    const struct gw_handler *handler = event->handler;
    struct line_delivery *delivery = event->memory;
    if (handler->retries != GW_RETRY_FOREVER && event->attempt > (uint32_t)handler->retries) {
        line_settle(delivery, LINE_REJECT);
        return;
    }
    struct resting *resting = calloc(1, sizeof(*resting));
    if (!resting || !outgoing_again(event, &resting->again)) {
        free(resting);
        line_settle(delivery, LINE_BACK);
        return;
    }
    resting->due_us = loop_clock(remote->bus->loop) + (delay_ms < DELAY_MAX_MS ? delay_ms : DELAY_MAX_MS) * 1000;
    resting->delivery = delivery;
    delivery->references++;
    memcpy(resting->queue, handler->plan.queue, sizeof(resting->queue));
    resting->again.message.routing_key = bytes_of_text(resting->queue);
    struct resting **at = &remote->resting;
    while (*at && (*at)->due_us <= resting->due_us)
        at = &(*at)->next;
    resting->next = *at;
    *at = resting;
}

uint64_t remote_rested(struct remote_bus *remote, uint64_t now_us)
{
    for (struct resting *resting; (resting = remote->resting) && resting->due_us <= now_us;) {
        const struct engine_message *message = &resting->again.message;
        struct line_message out = {.routing_key = message->routing_key, .properties = message->properties, .body = message->body};
        remote->resting = resting->next;
        /* One that was lost meanwhile comes again by itself. */
        if (resting->delivery->station)
            (void)line_replace(remote->line, resting->delivery, &out);
        resting_free(resting);
    }
    return remote->resting ? remote->resting->due_us : LOOP_NEVER;
}

void remote_rest_end(struct remote_bus *remote)
{
    for (struct resting *resting; (resting = remote->resting);) {
        remote->resting = resting->next;
        resting_free(resting);
    }
}
