#include "sim/source_hand.h"

#include "protocol/amqp/properties.h"
#include "store/message.h"

#define CHANNEL 1u
#define CONSUMER 1u
#define QUEUE "handled"
#define EVENTS "events"

enum { ASK_EXCHANGE = 1, ASK_QUEUE, ASK_BIND };

static struct source_hand *hand_of(struct client *client) { return (struct source_hand *)client; }

void source_hand_init(struct source_hand *hand, struct source_world *world) { *hand = (struct source_hand){.world = world}; }

static void ask(struct source_hand *hand, struct request *request, uint32_t tag)
{
    request->channel = CHANNEL;
    request->tag = tag;
    request->flags |= REQUEST_DURABLE | REQUEST_TRUSTED;
    client_request(&hand->client, request);
}

static void on_replied(struct client *client, const struct reply *reply)
{
    struct source_hand *hand = hand_of(client);
    if (reply->code) {
        trace_fail(hand->world->trace, "progress", "the handler is told: %.*s", (int)reply->text.size, (const char *)reply->text.data);
    } else if (reply->kind == REQUEST_OPEN) {
        ask(hand, &(struct request){.kind = REQUEST_EXCHANGE_DECLARE, .name = bytes_of_text(EVENTS), .type = bytes_of_text("topic")}, ASK_EXCHANGE);
        ask(hand, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .name = bytes_of_text(QUEUE)}, ASK_QUEUE);
        ask(hand, &(struct request){.kind = REQUEST_QUEUE_BIND, .name = bytes_of_text(QUEUE), .source = bytes_of_text(EVENTS), .routing_key = bytes_of_text("#")}, ASK_BIND);
    } else if (reply->tag == ASK_BIND && reply->kind == REQUEST_QUEUE_BIND) {
        hand->is_ready = true;
        client_request(client, &(struct request){.kind = REQUEST_CONSUME, .channel = CHANNEL, .tag = CONSUMER, .name = bytes_of_text(QUEUE), .prefetch = HANDS_HELD});
    } else if (reply->kind == REQUEST_CONSUME) {
        hand->is_consuming = true;
    }
}

static void on_delivered(struct client *client, const struct delivery *delivery)
{
    struct source_hand *hand = hand_of(client);
    struct message message;
    struct bytes id = {0};
    if (!message_read(delivery->content, &message) || !amqp_properties_get(message.properties, AMQP_MESSAGE_ID, &id))
        trace_fail(hand->world->trace, "nothing else", "what comes is no event");
    else
        source_world_handled(hand->world, id, message.body);
    hand->held[hand->held_count++] = (struct held){delivery->queue, delivery->seq};
    client_credit(client, delivery->queue, delivery->handle, (uint32_t)delivery->content.size + DELIVERY_OVERHEAD);
}

static void on_closed(struct client *client, uint16_t code, struct bytes text)
{
    (void)code;
    trace_fail(hand_of(client)->world->trace, "progress", "the handler is sent away: %.*s", (int)text.size, (const char *)text.data);
}

static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer) { (void)client, (void)channel, (void)consumer; }

static const struct client_ops ops = {.deliver = on_delivered, .replied = on_replied, .cancelled = on_cancelled, .closed = on_closed};

void source_hand_begin(struct source_hand *hand, struct worker *worker)
{
    hand->held_count = 0;
    hand->is_consuming = hand->is_ready = false;
    if (client_attach(worker, &hand->client, &ops) != GW_OK)
        return;
    hand->attached = true;
    hand->client.user = hand->client.name = bytes_of_text("guest");
    client_request(&hand->client, &(struct request){.kind = REQUEST_OPEN, .name = bytes_of_text("/"), .source = hand->client.user});
}

void source_hand_end(struct source_hand *hand)
{
    for (unsigned i = 0; i < hand->held_count; i++)
        client_settle(&hand->client, hand->held[i].queue, SETTLE_REQUEUE, hand->held[i].seq, 1, NULL);
    if (hand->attached)
        client_detach(&hand->client);
    hand->attached = false;
    hand->held_count = 0;
}

bool source_hand_step(struct source_hand *hand)
{
    if (!hand->held_count)
        return false;
    struct held first = hand->held[0];
    memmove(&hand->held[0], &hand->held[1], --hand->held_count * sizeof(first));
    client_settle(&hand->client, first.queue, SETTLE_ACK, first.seq, 1, NULL);
    return true;
}
