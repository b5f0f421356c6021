#include "sim/sim_client.h"

static void declare_exchange(struct sim_client *client, enum plan_exchange exchange, bool passive)
{
    static const char *const types[PLAN_EXCHANGES] = {"", "direct", "fanout", "topic", "headers"};
    struct amqp_value values[AMQP_EXCHANGE_DECLARE_COUNT] = {
        [AMQP_EXCHANGE_DECLARE_EXCHANGE] = amqp_text(plan_exchange_names[exchange]),
        [AMQP_EXCHANGE_DECLARE_TYPE] = amqp_text(types[exchange]),
        [AMQP_EXCHANGE_DECLARE_PASSIVE] = amqp_number(passive),
        [AMQP_EXCHANGE_DECLARE_DURABLE] = amqp_number(1),
    };
    sim_client_say(client, CONTROL_CHANNEL, AMQP_EXCHANGE_DECLARE, values);
}

void sim_client_declare_queue(struct sim_client *client, unsigned queue, bool passive)
{
    const struct plan_queue *plan = &client->world->plan->queues[queue];
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(plan->name),
        [AMQP_QUEUE_DECLARE_PASSIVE] = amqp_number(passive),
        [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(plan->durable),
    };
    sim_client_say(client, CONTROL_CHANNEL, AMQP_QUEUE_DECLARE, values);
}

static void bind(struct sim_client *client, unsigned queue, enum plan_exchange exchange, unsigned key)
{
    uint8_t room[64];
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, sizeof(room));
    if (exchange == PLAN_HEADERS) {
        amqp_table_put_text(&writer, "x-match", bytes_of_text("all"));
        amqp_table_put_int(&writer, "colour", (int32_t)key);
    }
    CHECK(amqp_table_finish(&writer, &table));
    struct amqp_value values[AMQP_QUEUE_BIND_COUNT] = {
        [AMQP_QUEUE_BIND_QUEUE] = amqp_text(client->world->plan->queues[queue].name),
        [AMQP_QUEUE_BIND_EXCHANGE] = amqp_text(plan_exchange_names[exchange]),
        [AMQP_QUEUE_BIND_ROUTING_KEY] = amqp_text(plan_keys[key]),
        [AMQP_QUEUE_BIND_ARGUMENTS] = amqp_bytes(table),
    };
    sim_client_say(client, CONTROL_CHANNEL, AMQP_QUEUE_BIND, values);
}

static unsigned setup_queue(struct sim_client *client, unsigned queue, bool passive)
{
    unsigned said = 1;
    sim_client_declare_queue(client, queue, passive);
    for (enum plan_exchange exchange = PLAN_DIRECT; exchange < PLAN_EXCHANGES && !passive; exchange++) {
        for (unsigned key = 0; key < PLAN_KEYS; key++) {
            if (plan_bound(client->world->plan, exchange, queue, key)) {
                bind(client, queue, exchange, key);
                said++;
            }
        }
    }
    return said;
}

void sim_client_setup(struct sim_client *client)
{
    struct sim_world *world = client->world;
    struct sim_channel *control = &client->channels[CONTROL_CHANNEL];
    if (control->setup_queue < PLAN_QUEUES_MAX) {
        control->setup_left = setup_queue(client, control->setup_queue, false);
        return;
    }
    control->setup_left = 0;
    if (world->topology_ready && !client->scripted && random_chance(world->random, 7, 8)) {
        client->state = CLIENT_UP;
        return;
    }
    /* What an earlier life of the broker said to be declared and durable is there before anybody declares it again. */
    bool passive = world->topology_lasting && random_chance(world->random, 1, 2);
    for (enum plan_exchange exchange = PLAN_DIRECT; exchange < PLAN_EXCHANGES; exchange++) {
        declare_exchange(client, exchange, passive);
        control->setup_left++;
    }
    for (unsigned queue = 0; queue < world->plan->queue_count; queue++) {
        const struct plan_queue *plan = &world->plan->queues[queue];
        if (world->queue_locked[queue])
            continue;
        control->setup_left += setup_queue(client, queue, passive && plan->durable && !plan->lossy);
    }
}

void sim_client_setup_answered(struct sim_channel *channel)
{
    struct sim_client *client = channel->client;
    struct sim_world *world = client->world;
    if (--channel->setup_left > 0)
        return;
    if (channel->setup_queue < PLAN_QUEUES_MAX) {
        world->queue_there[channel->setup_queue] = true;
        model_disturb(world->model, channel->setup_queue, false);
        if (world->model->queues[channel->setup_queue].disturbances > 0)
            world->model->queues[channel->setup_queue].disturbances--;
        world->queue_locked[channel->setup_queue] = false;
        channel->setup_queue = PLAN_QUEUES_MAX;
        return;
    }
    for (unsigned queue = 0; queue < world->plan->queue_count; queue++)
        if (!world->queue_locked[queue])
            world->queue_there[queue] = true;
    world->topology_ready = true;
    client->state = CLIENT_UP;
}
