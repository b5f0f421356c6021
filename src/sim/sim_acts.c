#include "sim/sim_client.h"

#include <stdio.h>
#include <stdlib.h>

#define TX_PUBLISHES_MAX 12u
#define HELD_MAX 5000u

static struct sim_world *world_of(const struct sim_channel *channel)
{
    return channel->client->world;
}

static unsigned chance(struct sim_world *world, unsigned below)
{
    return (unsigned)random_below(world->random, below);
}

static const char *queue_text(struct sim_world *world, unsigned queue)
{
    return world->plan->queues[queue].name;
}

static void say(struct sim_channel *channel, enum amqp_method_id id, const struct amqp_value *values, uint32_t waiting)
{
    sim_client_say(channel->client, channel->number, id, values);
    channel->waiting = waiting;
}

/* ---- publishing ------------------------------------------------------------------------------------------------------------------- */

static void write_content(struct sim_channel *channel, const struct content *content)
{
    struct sim_world *world = world_of(channel);
    struct stream *out = &channel->client->link->to_session;
    uint8_t frame[CONTENT_PROPERTIES_MAX + 64], end = AMQP_FRAME_END;
    uint8_t *at = amqp_content_header_write(frame, channel->number, content->body_size, bytes_of(content->properties, content->properties_size));
    stream_write(out, frame, (size_t)(at - frame));
    content_body(content, world->body);
    for (uint64_t done = 0; done < content->body_size;) {
        uint64_t most = channel->client->frame_max - AMQP_FRAME_OVERHEAD, left = content->body_size - done;
        uint64_t part = left < most ? left : most;
        if (random_chance(world->random, 1, 32))
            part = random_between(world->random, 1, part);
        amqp_frame_begin(frame, AMQP_FRAME_BODY, channel->number, (uint32_t)part);
        stream_write(out, frame, AMQP_FRAME_HEADER_SIZE);
        stream_write(out, world->body + done, part);
        stream_write(out, &end, 1);
        done += part;
    }
}

static void remember(uint64_t **list, unsigned count, unsigned *room, uint64_t value)
{
    if (count == *room) {
        *room = *room ? *room * 2 : 64;
        *list = realloc(*list, *room * sizeof(**list));
        CHECK(*list);
    }
    (*list)[count] = value;
}

static bool publish(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    if (!channel->publishes || channel->unconfirmed_left >= world->plan->window
        || stream_bytes(&channel->client->link->to_session).size > (1u << 20))
        return false;
    if (channel->transacts && channel->tx_published_count >= TX_PUBLISHES_MAX)
        return false;
    enum plan_exchange exchange = chance(world, 2) ? PLAN_DEFAULT : (enum plan_exchange)chance(world, PLAN_EXCHANGES);
    unsigned key = exchange == PLAN_DEFAULT ? chance(world, world->plan->queue_count + (chance(world, 8) == 0)) : chance(world, PLAN_KEYS);
    bool mandatory = !channel->transacts && chance(world, 8) == 0;
    struct content content;
    uint64_t message = model_publish(world->model, channel->stream, ++channel->order, exchange, key, mandatory, channel->transacts, &content);
    trace_event(world->trace, TRACE_PUBLISH, channel->client->index, channel->number, message, exchange);
    uint8_t frame[600];
    size_t size = amqp_publish_frame(frame, sizeof(frame), channel->number, bytes_of_text(plan_exchange_names[exchange]),
                                     bytes_of_text(plan_key(world->plan, exchange, key)), mandatory);
    CHECK(size > 0);
    stream_write(&channel->client->link->to_session, frame, size);
    write_content(channel, &content);
    channel->client->sent_us = world->trace->now_us;
    if (channel->transacts) {
        remember(&channel->tx_published, channel->tx_published_count, &channel->tx_published_room, message);
        channel->tx_published_count++;
    } else if (channel->confirms) {
        remember(&channel->unconfirmed, (unsigned)(channel->next_tag - channel->first_tag), &channel->unconfirmed_room, message);
        channel->next_tag++;
        channel->unconfirmed_left++;
    }
    return true;
}

/* ---- settling ------------------------------------------------------------------------------------------------------------------------ */

/* Says ack, nack or reject with these flags for held[index] (and, with multiple, what came before it) and settles it here. */
static void settle_at(struct sim_channel *channel, unsigned index, enum amqp_method_id id, bool multiple, bool requeue)
{
    struct sim_world *world = world_of(channel);
    uint8_t frame[AMQP_ACK_FRAME_SIZE];
    uint64_t tag = channel->held[index].tag;
    unsigned flags = id == AMQP_BASIC_REJECT ? requeue : multiple | (id == AMQP_BASIC_NACK && requeue ? 2u : 0);
    amqp_ack_write(frame, channel->number, id, tag, (uint8_t)flags);
    stream_write(&channel->client->link->to_session, frame, sizeof(frame));
    trace_event(world->trace, TRACE_SETTLE, channel->client->index, channel->number, tag, (uint64_t)(id & 0xFFFF) << 8 | flags);
    bool back = id != AMQP_BASIC_ACK && requeue;
    unsigned first = multiple ? 0 : index;
    for (unsigned i = index + 1; i-- > first;)
        sim_channel_settle(channel, i, back ? SETTLED_BACK : SETTLED_ACK);
}

static void settle_in_tx(struct sim_channel *channel, unsigned index)
{
    struct sim_world *world = world_of(channel);
    struct held *held = &channel->held[index];
    if (held->in_tx)
        return;
    uint8_t frame[AMQP_ACK_FRAME_SIZE];
    amqp_ack_write(frame, channel->number, AMQP_BASIC_ACK, held->tag, 0);
    stream_write(&channel->client->link->to_session, frame, sizeof(frame));
    trace_event(world->trace, TRACE_SETTLE, channel->client->index, channel->number, held->tag, 0);
    held->in_tx = true;
    if (channel->tx_settled_count == channel->tx_settled_room) {
        channel->tx_settled_room = channel->tx_settled_room ? channel->tx_settled_room * 2 : 16;
        channel->tx_settled = realloc(channel->tx_settled, channel->tx_settled_room * sizeof(*channel->tx_settled));
        CHECK(channel->tx_settled);
    }
    channel->tx_settled[channel->tx_settled_count++] = (struct settled){held->message, held->queue};
}

static bool settle(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    if (channel->held_count == 0)
        return false;
    unsigned index = chance(world, 2) ? 0 : chance(world, channel->held_count);
    if (channel->transacts) {
        settle_in_tx(channel, index);
        return true;
    }
    switch (chance(world, 16)) {
    case 0: settle_at(channel, index, AMQP_BASIC_NACK, false, true); break;
    case 1: settle_at(channel, index, AMQP_BASIC_NACK, true, true); break;
    case 2: settle_at(channel, index, AMQP_BASIC_REJECT, false, true); break;
    case 3: settle_at(channel, index, AMQP_BASIC_REJECT, false, false); break;
    case 4: settle_at(channel, index, AMQP_BASIC_NACK, chance(world, 2), false); break;
    case 5: case 6: case 7: case 8: settle_at(channel, index, AMQP_BASIC_ACK, true, false); break;
    default: settle_at(channel, index, AMQP_BASIC_ACK, false, false);
    }
    return true;
}

static bool recover(struct sim_channel *channel)
{
    struct amqp_value values[AMQP_BASIC_RECOVER_COUNT] = {[AMQP_BASIC_RECOVER_REQUEUE] = amqp_number(1)};
    if (channel->held_count == 0 || channel->transacts)
        return false;
    while (channel->held_count > 0)
        sim_channel_settle(channel, channel->held_count - 1, SETTLED_BACK);
    say(channel, AMQP_BASIC_RECOVER, values, AMQP_BASIC_RECOVER_OK);
    return true;
}

/* ---- consuming -------------------------------------------------------------------------------------------------------------------------- */

static bool get(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    unsigned queue = chance(world, world->plan->queue_count);
    if (!world->queue_there[queue] || channel->held_count > HELD_MAX)
        return false;
    channel->waiting_queue = (uint8_t)queue;
    channel->waiting_no_ack = world->plan->queues[queue].lossy && chance(world, 2);
    struct amqp_value values[AMQP_BASIC_GET_COUNT] = {
        [AMQP_BASIC_GET_QUEUE] = amqp_text(queue_text(world, queue)), [AMQP_BASIC_GET_NO_ACK] = amqp_number(channel->waiting_no_ack)};
    say(channel, AMQP_BASIC_GET, values, AMQP_BASIC_GET_OK);
    return true;
}

static void set_prefetch(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    channel->prefetch = chance(world, 3) ? (uint16_t)random_between(world->random, 1, 1u << chance(world, 9)) : 0;
    channel->channel_prefetch = chance(world, 4) == 0 ? (uint16_t)random_between(world->random, 1, 20) : 0;
    struct amqp_value values[AMQP_BASIC_QOS_COUNT] = {[AMQP_BASIC_QOS_PREFETCH_COUNT] = amqp_number(channel->prefetch)};
    sim_client_say(channel->client, channel->number, AMQP_BASIC_QOS, values);
    channel->waiting = AMQP_BASIC_QOS_OK;
    channel->qos_done = true;
    trace_note(world->trace, "client %u channel %u: prefetch %u, of the channel %u", channel->client->index, channel->number, channel->prefetch,
               channel->channel_prefetch);
}

static void set_channel_prefetch(struct sim_channel *channel)
{
    struct amqp_value values[AMQP_BASIC_QOS_COUNT] = {
        [AMQP_BASIC_QOS_PREFETCH_COUNT] = amqp_number(channel->channel_prefetch), [AMQP_BASIC_QOS_GLOBAL] = amqp_number(1)};
    say(channel, AMQP_BASIC_QOS, values, AMQP_BASIC_QOS_OK);
}

static bool consume(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    unsigned queue = chance(world, world->plan->queue_count), slot = 0;
    while (slot < CONSUMERS_MAX && (channel->consumers[slot].open || channel->consumers[slot].unacked))
        slot++;
    if (!channel->consumes || slot == CONSUMERS_MAX || !world->queue_there[queue])
        return false;
    struct sim_consumer *consumer = &channel->consumers[slot];
    *consumer = (struct sim_consumer){.open = true, .queue = (uint8_t)queue, .prefetch = channel->prefetch, .number = ++channel->next_consumer,
                                      .no_ack = world->plan->queues[queue].lossy && chance(world, 2)};
    if (consumer->no_ack)
        consumer->prefetch = 0;
    char tag[16];
    snprintf(tag, sizeof(tag), "c%u", consumer->number);
    struct amqp_value values[AMQP_BASIC_CONSUME_COUNT] = {
        [AMQP_BASIC_CONSUME_QUEUE] = amqp_text(queue_text(world, queue)),
        [AMQP_BASIC_CONSUME_CONSUMER_TAG] = amqp_text(tag),
        [AMQP_BASIC_CONSUME_NO_ACK] = amqp_number(consumer->no_ack),
    };
    channel->waiting_consumer = (uint8_t)slot;
    channel->waiting_queue = (uint8_t)queue;
    trace_note(world->trace, "client %u channel %u: consumer %s of %s%s", channel->client->index, channel->number, tag, queue_text(world, queue),
               consumer->no_ack ? " without acknowledgements" : "");
    say(channel, AMQP_BASIC_CONSUME, values, AMQP_BASIC_CONSUME_OK);
    return true;
}

static bool cancel(struct sim_channel *channel)
{
    unsigned slot = chance(world_of(channel), CONSUMERS_MAX);
    if (!channel->consumers[slot].open)
        return false;
    char tag[16];
    snprintf(tag, sizeof(tag), "c%u", channel->consumers[slot].number);
    struct amqp_value values[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text(tag)};
    channel->waiting_consumer = (uint8_t)slot;
    say(channel, AMQP_BASIC_CANCEL, values, AMQP_BASIC_CANCEL_OK);
    return true;
}

/* ---- queues ------------------------------------------------------------------------------------------------------------------------------- */

static bool look_at_queue(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    unsigned queue = chance(world, world->plan->queue_count);
    if (!world->queue_there[queue])
        return false;
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(queue_text(world, queue)), [AMQP_QUEUE_DECLARE_PASSIVE] = amqp_number(1)};
    channel->waiting_queue = (uint8_t)queue;
    say(channel, AMQP_QUEUE_DECLARE, values, AMQP_QUEUE_DECLARE_OK);
    return true;
}

static void begin_disturbance(struct sim_world *world, unsigned queue, bool held)
{
    trace_note(world->trace, "%s is about to be %s", queue_text(world, queue), held ? "deleted" : "purged, or declared again");
    model_disturb(world->model, queue, held);
    world->model->queues[queue].disturbances++;
}

static bool purge(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    unsigned queue = chance(world, world->plan->queue_count);
    if (!world->plan->queues[queue].lossy || !world->queue_there[queue])
        return false;
    struct amqp_value values[AMQP_QUEUE_PURGE_COUNT] = {[AMQP_QUEUE_PURGE_QUEUE] = amqp_text(queue_text(world, queue))};
    begin_disturbance(world, queue, false);
    channel->waiting_queue = (uint8_t)queue;
    say(channel, AMQP_QUEUE_PURGE, values, AMQP_QUEUE_PURGE_OK);
    return true;
}

/* On the control channel: deletes a queue, or declares again one that somebody deleted. */
static bool delete(struct sim_client *client)
{
    struct sim_world *world = client->world;
    struct sim_channel *control = &client->channels[CONTROL_CHANNEL];
    unsigned queue = chance(world, world->plan->queue_count);
    if (control->state != CHANNEL_OPEN || control->waiting || control->setup_left || !world->plan->queues[queue].lossy || world->queue_locked[queue])
        return false;
    world->queue_locked[queue] = true;
    control->setup_queue = queue;
    if (!world->queue_there[queue]) {
        begin_disturbance(world, queue, false);
        sim_client_setup(client);
        return true;
    }
    struct amqp_value values[AMQP_QUEUE_DELETE_COUNT] = {[AMQP_QUEUE_DELETE_QUEUE] = amqp_text(queue_text(world, queue))};
    world->queue_there[queue] = false;
    begin_disturbance(world, queue, true);
    control->waiting_queue = (uint8_t)queue;
    say(control, AMQP_QUEUE_DELETE, values, AMQP_QUEUE_DELETE_OK);
    return true;
}

/* ---- a channel's beginning ------------------------------------------------------------------------------------------------------------------- */

static bool choose_role(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    if (channel->publishes || channel->consumes)
        return false;
    channel->publishes = chance(world, 256) < world->plan->unbalanced;
    channel->consumes = !channel->publishes || chance(world, 4) == 0;
    if (chance(world, 8) < world->plan->transact) {
        channel->transacts = channel->publishes = true;
        channel->consumes = chance(world, 2);
        say(channel, AMQP_TX_SELECT, NULL, AMQP_TX_SELECT_OK);
    } else if (channel->publishes && chance(world, 4)) {
        channel->confirms = true;
        say(channel, AMQP_CONFIRM_SELECT, NULL, AMQP_CONFIRM_SELECT_OK);
    }
    return true;
}

static bool end_transaction(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    if (channel->tx_published_count == 0 && channel->tx_settled_count == 0)
        return false;
    if (chance(world, 4) == 0) {
        say(channel, AMQP_TX_ROLLBACK, NULL, AMQP_TX_ROLLBACK_OK);
        return true;
    }
    for (unsigned i = 0; i < channel->tx_published_count; i++)
        model_commit_sent(world->model, channel->tx_published[i]);
    for (unsigned i = 0; i < channel->held_count; i++)
        if (channel->held[i].in_tx)
            sim_channel_uncount(channel, &channel->held[i]);
    say(channel, AMQP_TX_COMMIT, NULL, AMQP_TX_COMMIT_OK);
    return true;
}

/* ---- choosing -------------------------------------------------------------------------------------------------------------------------------- */

static bool act_on(struct sim_channel *channel)
{
    struct sim_world *world = world_of(channel);
    const struct plan *plan = world->plan;
    if (choose_role(channel))
        return true;
    if (channel->consumes && !channel->qos_done) {
        set_prefetch(channel);
        return true;
    }
    if (channel->channel_prefetch && channel->next_consumer == 0 && channel->qos_done && channel->consumes) {
        channel->next_consumer = 1;
        set_channel_prefetch(channel);
        return true;
    }
    unsigned draw = chance(world, 256);
    if (channel->transacts && draw < 24 && end_transaction(channel))
        return true;
    draw = chance(world, 256);
    if (draw < plan->get)
        return get(channel);
    draw = chance(world, 256);
    if (draw < plan->sync)
        return look_at_queue(channel);
    if (draw < plan->sync + plan->purge)
        return chance(world, 3) ? purge(channel) : delete(channel->client);
    if (chance(world, 256) < 24 && consume(channel))
        return true;
    draw = chance(world, 1024);
    if (draw < 4)
        return cancel(channel);
    if (draw < 8)
        return recover(channel);
    draw = chance(world, plan->publish + plan->settle);
    return draw < plan->publish ? publish(channel) || settle(channel) : settle(channel) || publish(channel);
}

/* In calm: ends what was begun. True: it has nothing more to wait for. */
static bool finish(struct sim_channel *channel)
{
    if (channel->state == CHANNEL_CLOSED)
        return true;
    if (channel->state != CHANNEL_OPEN || channel->waiting || channel->setup_left || channel->unconfirmed_left)
        return false;
    if (channel->transacts && end_transaction(channel))
        return false;
    return true;
}

static void act_calmly(struct sim_client *client)
{
    struct sim_world *world = client->world;
    bool done = true;
    /* A blocked connection may hold the very messages that fill the memory: it goes, and they are drained. */
    if (client->blocked && chance(world, 16) == 0) {
        sim_client_drop(client, false);
        return;
    }
    for (unsigned i = 1; i <= CONTROL_CHANNEL; i++)
        done &= finish(&client->channels[i]);
    if (!done)
        return;
    if (world->plan->drop && chance(world, 3) == 0)
        sim_client_drop(client, world->plan->half_open && chance(world, 2));
    else
        sim_client_close(client);
}

void sim_client_act(struct sim_client *client)
{
    struct sim_world *world = client->world;
    if (client->heartbeat_s && client->state != CLIENT_DOWN && client->state > CLIENT_TUNE
        && world->trace->now_us - client->sent_us > client->heartbeat_s * 400000u) {
        uint8_t beat[AMQP_FRAME_OVERHEAD];
        amqp_heartbeat_write(beat);
        stream_write(&client->link->to_session, beat, sizeof(beat));
        client->sent_us = world->trace->now_us;
    }
    if (client->state == CLIENT_DOWN && !world->calm && !client->scripted) {
        sim_client_connect(client);
        return;
    }
    if (world->calm && client->blocked && client->state == CLIENT_CLOSING)
        sim_client_drop(client, false);
    if (client->state != CLIENT_UP || client->scripted)
        return;
    if (world->calm) {
        act_calmly(client);
        return;
    }
    if (chance(world, 4096) < world->plan->drop) {
        bool half_open = chance(world, 256) < world->plan->half_open;
        if (chance(world, 256) < world->plan->reset || half_open)
            sim_client_drop(client, half_open);
        else
            sim_client_close(client);
        return;
    }
    for (unsigned burst = 1 + chance(world, world->plan->burst); burst > 0 && client->state == CLIENT_UP; burst--) {
        struct sim_channel *channel = &client->channels[1 + chance(world, world->plan->channels)];
        if (channel->state == CHANNEL_CLOSED)
            sim_channel_open(channel);
        if (channel->state != CHANNEL_OPEN || channel->waiting)
            continue;
        if (chance(world, 4096) < world->plan->reopen)
            sim_channel_close(channel);
        else if (act_on(channel))
            world->ops++;
    }
}
