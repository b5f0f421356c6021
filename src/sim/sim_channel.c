#include "sim/sim_client.h"

#include "sim/grown.h"

#include <stdio.h>
#include <stdlib.h>

static struct sim_world *world_of(const struct sim_channel *channel)
{
    return channel->client->world;
}

void sim_channel_deinit(struct sim_channel *channel)
{
    free(channel->unconfirmed);
    free(channel->held);
    free(channel->unsynced);
    free(channel->tx_published);
    free(channel->tx_settled);
    free(channel->arrival.properties.data);
    free(channel->arrival.body.data);
}

void sim_channel_open(struct sim_channel *channel)
{
    struct amqp_value values[AMQP_CHANNEL_OPEN_COUNT] = {[0] = amqp_text("")};
    sim_client_say(channel->client, channel->number, AMQP_CHANNEL_OPEN, values);
    channel->state = CHANNEL_OPENING;
}

/* ---- what is held ----------------------------------------------------------------------------------------------------------------- */

static void hold(struct sim_channel *channel, uint64_t tag, uint64_t message, unsigned queue, unsigned consumer)
{
    channel->held = grown(channel->held, channel->held_count, &channel->held_room, sizeof(*channel->held));
    channel->held[channel->held_count++] = (struct held){tag, message, (uint8_t)queue, (uint8_t)consumer, false, false};
    if (consumer == CONSUMERS_MAX)
        return;
    struct sim_consumer *from = &channel->consumers[consumer];
    struct trace *trace = world_of(channel)->trace;
    channel->channel_unacked++;
    from->unacked++;
    if (from->prefetch && from->unacked > from->prefetch)
        trace_fail(trace, "prefetch", "client %u channel %u: consumer %u holds %u messages, its prefetch is %u", channel->client->index,
                   channel->number, from->number, from->unacked, from->prefetch);
    if (channel->channel_prefetch && channel->channel_unacked > channel->channel_prefetch)
        trace_fail(trace, "prefetch", "client %u channel %u holds %u messages, the channel's prefetch is %u", channel->client->index,
                   channel->number, channel->channel_unacked, channel->channel_prefetch);
}

static void note_settled(struct settled **list, unsigned *count, unsigned *room, uint64_t message, unsigned queue)
{
    *list = grown(*list, *count, room, sizeof(**list));
    (*list)[(*count)++] = (struct settled){message, (uint8_t)queue};
}

void sim_channel_uncount(struct sim_channel *channel, struct held *held)
{
    if (held->consumer == CONSUMERS_MAX || held->uncounted)
        return;
    held->uncounted = true;
    channel->channel_unacked--;
    channel->consumers[held->consumer].unacked--;
}

void sim_channel_settle(struct sim_channel *channel, unsigned index, enum settlement settlement)
{
    struct model *model = world_of(channel)->model;
    sim_channel_uncount(channel, &channel->held[index]);
    struct held held = channel->held[index];
    memmove(channel->held + index, channel->held + index + 1, (channel->held_count - index - 1) * sizeof(held));
    channel->held_count--;
    if (settlement == SETTLED_BACK) {
        model_give_back(model, held.queue, held.message);
        return;
    }
    model_end(model, held.queue, held.message);
    note_settled(&channel->unsynced, &channel->unsynced_count, &channel->unsynced_room, held.message, held.queue);
}

/* The broker has done all that was said before about `queue` (PLAN_QUEUES_MAX: about any). */
static void synced(struct sim_channel *channel, unsigned queue)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < channel->unsynced_count; i++) {
        struct settled settled = channel->unsynced[i];
        if (queue == PLAN_QUEUES_MAX || settled.queue == queue)
            model_end_applied(world_of(channel)->model, settled.queue, settled.message);
        else
            channel->unsynced[kept++] = settled;
    }
    channel->unsynced_count = kept;
}

/* ---- transactions ------------------------------------------------------------------------------------------------------------------- */

static bool in_group(const struct model *model, uint64_t number, unsigned queue)
{
    const struct plan_queue *plan = &model->plan->queues[queue];
    const struct sim_message *message = &model->messages[number - 1];
    return (message->route >> queue & 1) && message->persistent && plan->durable && !plan->lossy;
}

static void note_groups(struct sim_channel *channel)
{
    struct model *model = world_of(channel)->model;
    if (channel->waiting != AMQP_TX_COMMIT_OK)
        return;
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++) {
        model_group_begin(model, queue);
        for (unsigned i = 0; i < channel->tx_published_count; i++)
            if (in_group(model, channel->tx_published[i], queue))
                model_group_add(model, channel->tx_published[i], false);
        for (unsigned i = 0; i < channel->tx_settled_count; i++)
            if (channel->tx_settled[i].queue == queue && in_group(model, channel->tx_settled[i].message, queue))
                model_group_add(model, channel->tx_settled[i].message, true);
    }
    for (unsigned i = 0; i < channel->held_count;) {
        if (channel->held[i].in_tx)
            sim_channel_settle(channel, i, SETTLED_ACK);
        else
            i++;
    }
    channel->tx_published_count = channel->tx_settled_count = 0;
}

static void committed(struct sim_channel *channel)
{
    struct model *model = world_of(channel)->model;
    for (unsigned i = 0; i < channel->tx_published_count; i++)
        model_confirm(model, channel->tx_published[i], true);
    for (unsigned i = 0; i < channel->held_count;) {
        struct held *held = &channel->held[i];
        if (!held->in_tx) {
            i++;
            continue;
        }
        uint64_t message = held->message;
        unsigned queue = held->queue;
        sim_channel_settle(channel, i, SETTLED_ACK);
        channel->unsynced_count--;
        model_end_applied(model, queue, message);
        if (in_group(model, message, queue))
            model_end_sure(model, queue, message);
    }
    channel->tx_published_count = channel->tx_settled_count = 0;
}

static void rolled_back(struct sim_channel *channel)
{
    for (unsigned i = 0; i < channel->tx_published_count; i++)
        model_rolled_back(world_of(channel)->model, channel->tx_published[i]);
    for (unsigned i = 0; i < channel->held_count; i++)
        channel->held[i].in_tx = false;
    channel->tx_published_count = channel->tx_settled_count = 0;
}

/* ---- the end -------------------------------------------------------------------------------------------------------------------------- */

/* Deliveries on their way to a consumer without acknowledgements are lost with the channel. `asked`: until it is answered more may be. */
static void lose_unacknowledged(struct sim_channel *channel, bool asked)
{
    struct model *model = world_of(channel)->model;
    for (unsigned i = 0; i < CONSUMERS_MAX; i++) {
        struct sim_consumer *consumer = &channel->consumers[i];
        if (!consumer->no_ack || !(consumer->open || channel->waiting == AMQP_BASIC_CONSUME_OK || channel->waiting == AMQP_BASIC_CANCEL_OK))
            continue;
        model_disturb(model, consumer->queue, false);
        model->queues[consumer->queue].disturbances += asked;
    }
    if (channel->waiting == AMQP_BASIC_GET_OK && channel->waiting_no_ack) {
        model_disturb(model, channel->waiting_queue, false);
        model->queues[channel->waiting_queue].disturbances += asked;
    }
}

void sim_channel_crash(struct sim_channel *channel)
{
    if (channel->state == CHANNEL_CLOSED)
        return;
    lose_unacknowledged(channel, false);
    note_groups(channel);
}

void sim_channel_end(struct sim_channel *channel, bool applied, bool crashed)
{
    struct model *model = world_of(channel)->model;
    if (channel->state == CHANNEL_CLOSED)
        return;
    if (!crashed) {
        if (channel->state != CHANNEL_CLOSING)
            lose_unacknowledged(channel, true);
        if (channel->waiting == AMQP_TX_COMMIT_OK) {
            note_groups(channel);
            applied = false;
        } else {
            rolled_back(channel);
        }
        while (channel->held_count > 0)
            sim_channel_settle(channel, channel->held_count - 1, SETTLED_BACK);
        if (applied)
            synced(channel, PLAN_QUEUES_MAX);
        for (unsigned i = 0; i < channel->unsynced_count; i++)
            model_end_lost(model, channel->unsynced[i].queue, channel->unsynced[i].message);
    }
    if (channel->number == CONTROL_CHANNEL) {
        if (channel->setup_queue < PLAN_QUEUES_MAX)
            world_of(channel)->queue_locked[channel->setup_queue] = false;
        channel->setup_queue = PLAN_QUEUES_MAX;
        channel->setup_left = 0;
    }
    channel->held_count = channel->unsynced_count = channel->tx_published_count = channel->tx_settled_count = 0;
    channel->unconfirmed_left = 0;
    channel->channel_unacked = 0;
    memset(channel->consumers, 0, sizeof(channel->consumers));
    channel->state = CHANNEL_CLOSED;
    channel->waiting = 0;
    channel->arrival.method = 0;
}

void sim_channel_close(struct sim_channel *channel)
{
    struct amqp_value values[AMQP_CHANNEL_CLOSE_COUNT] = {
        [AMQP_CHANNEL_CLOSE_REPLY_CODE] = amqp_number(200), [AMQP_CHANNEL_CLOSE_REPLY_TEXT] = amqp_text("")};
    sim_client_say(channel->client, channel->number, AMQP_CHANNEL_CLOSE, values);
    lose_unacknowledged(channel, true);
    if (channel->waiting != AMQP_TX_COMMIT_OK)
        rolled_back(channel);
    for (unsigned i = channel->held_count; i-- > 0;)
        if (!channel->held[i].in_tx)
            sim_channel_settle(channel, i, SETTLED_BACK);
    channel->state = CHANNEL_CLOSING;
}

/* ---- methods ---------------------------------------------------------------------------------------------------------------------------- */

static void opened(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    channel->state = CHANNEL_OPEN;
    channel->stream = model_stream(world->model);
    channel->order = 0;
    channel->first_tag = channel->next_tag = 1;
    channel->last_tag = 0;
    channel->next_consumer = 0;
    channel->publishes = channel->confirms = channel->consumes = channel->transacts = channel->qos_done = false;
    if (channel->number == CONTROL_CHANNEL)
        sim_client_setup(channel->client);
}

static void take_confirm(struct sim_channel *channel, uint64_t tag, bool multiple, bool accepted)
{
    struct sim_world *world = world_of(channel);
    trace_event(world->trace, TRACE_CONFIRM, channel->client->index, channel->number, tag, accepted);
    if (!channel->confirms || tag >= channel->next_tag || (tag == 0 && !multiple)) {
        trace_fail(world->trace, "confirms", "client %u channel %u: tag %lu of %lu published is confirmed", channel->client->index, channel->number,
                   (unsigned long)tag, (unsigned long)channel->next_tag - 1);
        return;
    }
    uint64_t first = multiple ? channel->first_tag : tag, last = tag ? tag : channel->next_tag - 1;
    if (!multiple && (tag < channel->first_tag || !channel->unconfirmed[tag - channel->first_tag])) {
        trace_fail(world->trace, "confirms", "client %u channel %u: tag %lu is confirmed twice", channel->client->index, channel->number,
                   (unsigned long)tag);
        return;
    }
    for (uint64_t at = first; at <= last; at++) {
        uint64_t *message = &channel->unconfirmed[at - channel->first_tag];
        if (!*message)
            continue;
        model_confirm(world->model, *message, accepted);
        *message = 0;
        channel->unconfirmed_left--;
    }
    uint64_t answered = 0;
    while (channel->first_tag + answered < channel->next_tag && !channel->unconfirmed[answered])
        answered++;
    /* Moved only now and then, so that a window of thousands is not moved for every confirm. */
    if (answered > 256 || channel->first_tag + answered == channel->next_tag) {
        memmove(channel->unconfirmed, channel->unconfirmed + answered, (channel->next_tag - channel->first_tag - answered) * sizeof(uint64_t));
        channel->first_tag += answered;
    }
}

static bool read_consumer(const struct sim_channel *channel, struct bytes tag, unsigned *index)
{
    uint32_t number = 0;
    for (size_t i = 1; i < tag.size; i++)
        number = number * 10 + (tag.data[i] - '0');
    for (*index = 0; *index < CONSUMERS_MAX; ++*index)
        if (channel->consumers[*index].open && channel->consumers[*index].number == number)
            return true;
    return false;
}

static void copy_name(char *to, uint8_t *size, struct bytes from)
{
    *size = (uint8_t)(from.size < 64 ? from.size : 64);
    if (*size)
        memcpy(to, from.data, *size);
}

static void arrive(struct sim_channel *channel, uint32_t method, struct bytes exchange, struct bytes key)
{
    struct arrival *arrival = &channel->arrival;
    if (arrival->method)
        trace_fail(world_of(channel)->trace, "protocol", "a message begins before the one before it is complete");
    arrival->method = method;
    arrival->header_seen = false;
    copy_name(arrival->exchange, &arrival->exchange_size, exchange);
    copy_name(arrival->key, &arrival->key_size, key);
    stream_clear(&arrival->properties);
    stream_clear(&arrival->body);
}

static void begin_delivery(struct sim_channel *channel, const struct amqp_method *method)
{
    struct arrival *arrival = &channel->arrival;
    const struct amqp_value *values = method->values;
    unsigned consumer;
    if (!read_consumer(channel, values[AMQP_BASIC_DELIVER_CONSUMER_TAG].bytes, &consumer)) {
        trace_fail(world_of(channel)->trace, "protocol", "client %u channel %u: a delivery for consumer '%.*s', which is not there",
                   channel->client->index, channel->number, (int)values[AMQP_BASIC_DELIVER_CONSUMER_TAG].bytes.size,
                   (const char *)values[AMQP_BASIC_DELIVER_CONSUMER_TAG].bytes.data);
        return;
    }
    arrive(channel, AMQP_BASIC_DELIVER, values[AMQP_BASIC_DELIVER_EXCHANGE].bytes, values[AMQP_BASIC_DELIVER_ROUTING_KEY].bytes);
    arrival->consumer = (uint8_t)consumer;
    arrival->queue = channel->consumers[consumer].queue;
    arrival->no_ack = channel->consumers[consumer].no_ack;
    arrival->tag = values[AMQP_BASIC_DELIVER_DELIVERY_TAG].number;
    arrival->redelivered = values[AMQP_BASIC_DELIVER_REDELIVERED].number;
}

static void begin_get(struct sim_channel *channel, const struct amqp_method *method)
{
    const struct amqp_value *values = method->values;
    arrive(channel, AMQP_BASIC_GET_OK, values[AMQP_BASIC_GET_OK_EXCHANGE].bytes, values[AMQP_BASIC_GET_OK_ROUTING_KEY].bytes);
    channel->arrival.queue = channel->waiting_queue;
    channel->arrival.consumer = CONSUMERS_MAX;
    channel->arrival.no_ack = channel->waiting_no_ack;
    channel->arrival.tag = values[AMQP_BASIC_GET_OK_DELIVERY_TAG].number;
    channel->arrival.redelivered = values[AMQP_BASIC_GET_OK_REDELIVERED].number;
}

static void cancelled(struct sim_channel *channel, struct bytes tag)
{
    unsigned index;
    if (!read_consumer(channel, tag, &index))
        return;
    struct sim_consumer *consumer = &channel->consumers[index];
    if (!world_of(channel)->plan->queues[consumer->queue].lossy)
        trace_fail(world_of(channel)->trace, "no error unasked", "the consumer of queue %u was cancelled by the broker", consumer->queue);
    consumer->open = false;
}

/* The broker closed the channel: allowed when a queue that comes and goes was not there, or when storage fails. */
static void closed_by_broker(struct sim_channel *channel, const struct amqp_method *method)
{
    struct sim_world *world = world_of(channel);
    uint64_t code = method->values[AMQP_CHANNEL_CLOSE_REPLY_CODE].number;
    struct bytes text = method->values[AMQP_CHANNEL_CLOSE_REPLY_TEXT].bytes;
    bool lossy = false;
    for (unsigned queue = 0; queue < world->plan->queue_count; queue++)
        lossy = lossy || world->plan->queues[queue].lossy;
    bool excused = (code == 404 && lossy && world->plan->purge > 0) || (world->model->refusals && (code == 541 || code == 506));
    if (!excused)
        trace_fail(world->trace, channel->setup_left ? "what is declared stays" : "no error unasked",
                   "client %u channel %u was closed by the broker: %lu %.*s", channel->client->index, channel->number, (unsigned long)code,
                   (int)text.size, (const char *)text.data);
    sim_client_say(channel->client, channel->number, AMQP_CHANNEL_CLOSE_OK, NULL);
    sim_channel_end(channel, false, false);   /* what was said after the broker closed it was not heard */
    if (channel->number == CONTROL_CHANNEL)
        sim_client_drop(channel->client, false);
}

/* An answer that was waited for. */
static void answered(struct sim_channel *channel, const struct amqp_method *method)
{
    struct sim_world *world = world_of(channel);
    unsigned queue = channel->waiting_queue;
    channel->waiting = 0;
    switch ((enum amqp_method_id)method->row->id) {
    case AMQP_QUEUE_DECLARE_OK:
        world->counts[queue] = method->values[AMQP_QUEUE_DECLARE_OK_MESSAGE_COUNT].number;
        synced(channel, queue);
        return;
    case AMQP_QUEUE_PURGE_OK:
    case AMQP_QUEUE_DELETE_OK:
        synced(channel, queue);
        if (method->row->id == AMQP_QUEUE_PURGE_OK)
            world->counts[queue] = method->values[AMQP_QUEUE_PURGE_OK_MESSAGE_COUNT].number;
        model_disturb(world->model, queue, method->row->id == AMQP_QUEUE_DELETE_OK);
        if (method->row->id == AMQP_QUEUE_DELETE_OK)
            sim_client_setup(channel->client);   /* what is published until that is answered goes nowhere */
        else if (world->model->queues[queue].disturbances > 0)
            world->model->queues[queue].disturbances--;
        return;
    case AMQP_BASIC_CONSUME_OK:
    case AMQP_BASIC_QOS_OK:
    case AMQP_CONFIRM_SELECT_OK:
    case AMQP_TX_SELECT_OK:
        return;
    case AMQP_BASIC_CANCEL_OK:
        channel->consumers[channel->waiting_consumer].open = false;
        return;
    case AMQP_TX_COMMIT_OK:
        committed(channel);
        return;
    case AMQP_TX_ROLLBACK_OK:
        rolled_back(channel);
        return;
    case AMQP_BASIC_RECOVER_OK:
        return;
    default:
        trace_fail(world->trace, "protocol", "client %u got %s", channel->client->index, method->row->name);
    }
}

void sim_channel_method(struct sim_channel *channel, const struct amqp_method *method)
{
    struct sim_world *world = world_of(channel);
    uint32_t id = method->row->id;
    if (channel->state == CHANNEL_CLOSED) {
        trace_fail(world->trace, "protocol", "%s on the closed channel %u", method->row->name, channel->number);
        return;
    }
    if (id == AMQP_CHANNEL_CLOSE) {
        if (channel->state == CHANNEL_CLOSING)   /* both at once: the broker's close-ok comes as well */
            sim_client_say(channel->client, channel->number, AMQP_CHANNEL_CLOSE_OK, NULL);
        else
            closed_by_broker(channel, method);
        return;
    }
    if (channel->state == CHANNEL_CLOSING) {
        if (id == AMQP_CHANNEL_CLOSE_OK) {
            for (unsigned i = 0; i < CONSUMERS_MAX; i++)
                if (channel->consumers[i].no_ack && world->model->queues[channel->consumers[i].queue].disturbances > 0)
                    model_disturb(world->model, channel->consumers[i].queue, false);
            sim_channel_end(channel, true, false);
        }
        return;
    }
    if (channel->state == CHANNEL_OPENING) {
        if (id != AMQP_CHANNEL_OPEN_OK)
            trace_fail(world->trace, "protocol", "%s on a channel that is being opened", method->row->name);
        opened(channel);
        return;
    }
    switch ((enum amqp_method_id)id) {
    case AMQP_BASIC_ACK:
        take_confirm(channel, method->values[AMQP_BASIC_ACK_DELIVERY_TAG].number, method->values[AMQP_BASIC_ACK_MULTIPLE].number, true);
        return;
    case AMQP_BASIC_NACK:
        take_confirm(channel, method->values[AMQP_BASIC_NACK_DELIVERY_TAG].number, method->values[AMQP_BASIC_NACK_MULTIPLE].number, false);
        return;
    case AMQP_BASIC_DELIVER:
        begin_delivery(channel, method);
        return;
    case AMQP_BASIC_RETURN:
        arrive(channel, AMQP_BASIC_RETURN, method->values[AMQP_BASIC_RETURN_EXCHANGE].bytes, method->values[AMQP_BASIC_RETURN_ROUTING_KEY].bytes);
        return;
    case AMQP_BASIC_GET_OK:
        if (channel->waiting != AMQP_BASIC_GET_OK)
            break;
        begin_get(channel, method);
        return;
    case AMQP_BASIC_GET_EMPTY:
        if (channel->waiting != AMQP_BASIC_GET_OK)
            break;
        channel->waiting = 0;
        synced(channel, channel->waiting_queue);
        return;
    case AMQP_BASIC_CANCEL:
        cancelled(channel, method->values[AMQP_BASIC_CANCEL_CONSUMER_TAG].bytes);
        return;
    default:
        if (channel->setup_left > 0 && (id == AMQP_QUEUE_DECLARE_OK || id == AMQP_QUEUE_BIND_OK || id == AMQP_EXCHANGE_DECLARE_OK)) {
            sim_client_setup_answered(channel);
            return;
        }
        if (channel->waiting == id) {
            answered(channel, method);
            return;
        }
    }
    trace_fail(world->trace, "protocol", "client %u channel %u got %s, waiting for %u.%u", channel->client->index, channel->number, method->row->name,
               channel->waiting >> 16, channel->waiting & 0xFFFF);
}

/* ---- contents ---------------------------------------------------------------------------------------------------------------------------- */

/* Has the channel asked about a queue that may be gone? Then the broker may have closed it without its client knowing yet. */
static bool in_doubt(const struct sim_channel *channel)
{
    const struct plan *plan = world_of(channel)->plan;
    return channel->waiting && plan->queues[channel->waiting_queue].lossy && plan->purge > 0;
}

/* Somebody else holds it, as far as that client knows: but if it has asked about a queue that comes and goes, or storage has failed, the broker may
 * have closed its channel already. */
static void excuse_holder(struct sim_world *world, unsigned queue, uint64_t message)
{
    for (unsigned i = 0; i < world->plan->clients; i++) {
        for (unsigned k = 1; k < CONTROL_CHANNEL; k++) {
            struct sim_channel *holder = &world->clients[i].channels[k];
            bool doubtful = world->model->failing || in_doubt(holder);
            for (unsigned at = holder->held_count; doubtful && at-- > 0;)
                if (holder->held[at].queue == queue && holder->held[at].message == message)
                    sim_channel_settle(holder, at, SETTLED_BACK);
        }
    }
}

static void complete(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    struct arrival *arrival = &channel->arrival;
    uint32_t method = arrival->method;
    arrival->method = 0;
    uint64_t message = model_identify(world->model, bytes_of(arrival->exchange, arrival->exchange_size), bytes_of(arrival->key, arrival->key_size),
                                      stream_bytes(&arrival->properties), stream_bytes(&arrival->body));
    if (!message)
        return;
    if (method == AMQP_BASIC_RETURN) {
        trace_event(world->trace, TRACE_RETURN, channel->client->index, channel->number, message, 0);
        model_return(world->model, message);
        return;
    }
    trace_event(world->trace, TRACE_DELIVER, channel->client->index, channel->number, arrival->queue, message);
    trace_note(world->trace, "  tag %lu consumer %u%s%s", (unsigned long)arrival->tag,
               arrival->consumer < CONSUMERS_MAX ? channel->consumers[arrival->consumer].number : 0, arrival->redelivered ? " redelivered" : "",
               world->model->messages[message - 1].persistent ? " persistent" : "");
    if (arrival->tag != channel->last_tag + 1)
        trace_fail(world->trace, "delivery tags", "client %u channel %u: tag %lu after %lu", channel->client->index, channel->number,
                   (unsigned long)arrival->tag, (unsigned long)channel->last_tag);
    channel->last_tag = arrival->tag;
    bool is_get = method == AMQP_BASIC_GET_OK;
    if (channel->waiting == AMQP_BASIC_RECOVER_OK && !arrival->no_ack) {
        model_see(world->model, arrival->queue, message);
        return;   /* it was on its way when the recover gave everything back */
    }
    if (is_get) {
        channel->waiting = 0;
        synced(channel, arrival->queue);
    }
    const struct instance *instance = model_instance(world->model, message, arrival->queue);
    if (instance && in_doubt(channel) && (instance->flags & (INSTANCE_HELD | INSTANCE_ENDED)) && !(instance->flags & INSTANCE_MAY && !(instance->flags & INSTANCE_HELD))) {
        model_see(world->model, arrival->queue, message);
        return;   /* old news, from before the channel was closed: somebody else has it by now */
    }
    bool held = instance && (instance->flags & INSTANCE_HELD);
    if (held)
        excuse_holder(world, arrival->queue, message);
    model_deliver(world->model, arrival->queue, message, arrival->redelivered, arrival->no_ack, held,
                  is_get ? NULL : &channel->consumers[arrival->consumer].progress);
    if (!arrival->no_ack && !world->trace->failed)
        hold(channel, arrival->tag, message, arrival->queue, arrival->consumer);
}

void sim_channel_header(struct sim_channel *channel, const struct amqp_content_header *header)
{
    struct arrival *arrival = &channel->arrival;
    if (channel->state == CHANNEL_CLOSING)
        return;
    if (!arrival->method || arrival->header_seen || header->class_id != AMQP_CLASS_BASIC) {
        trace_fail(world_of(channel)->trace, "protocol", "a content header out of place on channel %u", channel->number);
        return;
    }
    arrival->header_seen = true;
    arrival->body_size = header->body_size;
    stream_write(&arrival->properties, header->properties.data, header->properties.size);
    if (header->body_size == 0)
        complete(channel);
}

void sim_channel_body(struct sim_channel *channel, struct bytes bytes)
{
    struct arrival *arrival = &channel->arrival;
    if (channel->state == CHANNEL_CLOSING)
        return;
    if (!arrival->method || !arrival->header_seen || stream_bytes(&arrival->body).size + bytes.size > arrival->body_size) {
        trace_fail(world_of(channel)->trace, "protocol", "a body frame out of place on channel %u", channel->number);
        return;
    }
    stream_write(&arrival->body, bytes.data, bytes.size);
    if (stream_bytes(&arrival->body).size == arrival->body_size)
        complete(channel);
}
