#include "sim/sim_client.h"

#include <stdlib.h>

void sim_client_init(struct sim_client *client, struct sim_world *world, unsigned index)
{
    memset(client, 0, sizeof(*client));
    client->world = world;
    client->index = index;
    client->link = malloc(sizeof(*client->link));
    CHECK(client->link);
    link_init(client->link);
    for (unsigned i = 0; i <= CONTROL_CHANNEL; i++) {
        client->channels[i].client = client;
        client->channels[i].number = (uint16_t)i;
        client->channels[i].setup_queue = PLAN_QUEUES_MAX;
    }
}

void sim_client_deinit(struct sim_client *client)
{
    for (unsigned i = 0; i <= CONTROL_CHANNEL; i++)
        sim_channel_deinit(&client->channels[i]);
    link_deinit(client->link);
    free(client->link);
}

void sim_client_say(struct sim_client *client, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    static const struct amqp_value nothing[AMQP_ARGUMENTS_MAX];
    uint8_t frame[2048];
    size_t size = amqp_method_frame(frame, sizeof(frame), channel, id, values ? values : nothing);
    CHECK(size > 0);
    stream_write(&client->link->to_session, frame, size);
    client->sent_us = client->world->trace->now_us;
    trace_event(client->world->trace, TRACE_METHOD_OUT, client->index, channel, (uint64_t)id >> 16, (uint64_t)id & 0xFFFF);
}

void sim_client_connect(struct sim_client *client)
{
    struct link *link = client->link;
    stream_clear(&link->to_session);
    stream_clear(&link->to_client);
    link->client_gone = link->reset = link->session_gone = false;
    if (!sim_broker_accept(client->world->broker, link, client->index))
        return;
    stream_write(&link->to_session, amqp_protocol_header, AMQP_PROTOCOL_HEADER_SIZE);
    client->state = CLIENT_START;
    client->blocked = false;
    client->frame_max = 4096;
}

/* ---- the end ---------------------------------------------------------------------------------------------------------------------- */

static void end(struct sim_client *client, bool applied, bool crashed)
{
    for (unsigned i = 0; i <= CONTROL_CHANNEL; i++)
        sim_channel_end(&client->channels[i], applied, crashed);
    client->state = CLIENT_DOWN;
}

void sim_client_drop(struct sim_client *client, bool half_open)
{
    trace_event(client->world->trace, TRACE_DISCONNECT, client->index, half_open ? 2 : 1, 0, 0);
    if (random_chance(client->world->random, 1, 2))   /* what was on its way may be lost too */
        client->link->to_session.end -= random_between(client->world->random, 0, stream_bytes(&client->link->to_session).size);
    client->link->client_gone = true;
    client->link->gone_us = client->world->trace->now_us;
    client->link->reset = !half_open;
    sim_broker_orphan(client->world->broker, client->link);
    end(client, false, false);
}

void sim_client_close(struct sim_client *client)
{
    struct amqp_value values[AMQP_CONNECTION_CLOSE_COUNT] = {
        [AMQP_CONNECTION_CLOSE_REPLY_CODE] = amqp_number(200), [AMQP_CONNECTION_CLOSE_REPLY_TEXT] = amqp_text("done")};
    for (unsigned i = 1; i <= CONTROL_CHANNEL; i++)
        if (client->channels[i].state == CHANNEL_OPEN)
            sim_channel_close(&client->channels[i]);
    sim_client_say(client, 0, AMQP_CONNECTION_CLOSE, values);
    client->state = CLIENT_CLOSING;
}

void sim_client_forget(struct sim_client *client)
{
    stream_clear(&client->link->to_session);
    stream_clear(&client->link->to_client);
    end(client, false, true);
}

/* The broker ended the connection on its own. */
static void closed_by_broker(struct sim_client *client, uint64_t code, struct bytes text)
{
    struct sim_world *world = client->world;
    if (!world->model->refusals || (code != 541 && code != 506))
        trace_fail(world->trace, "no error unasked", "the broker closed client %u's connection: %lu %.*s", client->index, (unsigned long)code,
                   (int)text.size, (const char *)text.data);
    sim_client_drop(client, false);
}

/* ---- the handshake -------------------------------------------------------------------------------------------------------------------- */

static void answer_start(struct sim_client *client)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, sizeof(room));
    size_t mark = amqp_table_nest_begin(&writer, "capabilities");
    amqp_table_put_bool(&writer, "consumer_cancel_notify", true);
    amqp_table_put_bool(&writer, "basic.nack", true);
    amqp_table_put_bool(&writer, "publisher_confirms", true);
    amqp_table_put_bool(&writer, "connection.blocked", true);
    amqp_table_nest_end(&writer, mark);
    CHECK(amqp_table_finish(&writer, &table));
    struct amqp_value values[AMQP_CONNECTION_START_OK_COUNT] = {
        [AMQP_CONNECTION_START_OK_CLIENT_PROPERTIES] = amqp_bytes(table),
        [AMQP_CONNECTION_START_OK_MECHANISM] = amqp_text("PLAIN"),
        [AMQP_CONNECTION_START_OK_RESPONSE] = amqp_bytes(bytes_of("\0guest\0guest", 12)),
        [AMQP_CONNECTION_START_OK_LOCALE] = amqp_text("en_US"),
    };
    sim_client_say(client, 0, AMQP_CONNECTION_START_OK, values);
    client->state = CLIENT_TUNE;
}

static void answer_tune(struct sim_client *client, const struct amqp_method *method)
{
    bool beats = client->world->plan->half_open > 0 && !client->scripted;
    client->heartbeat_s = beats ? (uint16_t)method->values[AMQP_CONNECTION_TUNE_HEARTBEAT].number : 0;
    client->frame_max = (uint32_t)method->values[AMQP_CONNECTION_TUNE_FRAME_MAX].number;
    if (random_chance(client->world->random, 1, 2))
        client->frame_max = 4096;
    struct amqp_value tune[AMQP_CONNECTION_TUNE_OK_COUNT] = {
        [AMQP_CONNECTION_TUNE_OK_CHANNEL_MAX] = method->values[AMQP_CONNECTION_TUNE_CHANNEL_MAX],
        [AMQP_CONNECTION_TUNE_OK_FRAME_MAX] = amqp_number(client->frame_max),
        [AMQP_CONNECTION_TUNE_OK_HEARTBEAT] = amqp_number(client->heartbeat_s),
    };
    struct amqp_value open[AMQP_CONNECTION_OPEN_COUNT] = {[AMQP_CONNECTION_OPEN_VIRTUAL_HOST] = amqp_text("/")};
    sim_client_say(client, 0, AMQP_CONNECTION_TUNE_OK, tune);
    sim_client_say(client, 0, AMQP_CONNECTION_OPEN, open);
    client->state = CLIENT_OPEN_OK;
}

static void connection_method(struct sim_client *client, const struct amqp_method *method)
{
    switch ((enum amqp_method_id)method->row->id) {
    case AMQP_CONNECTION_START:
        answer_start(client);
        return;
    case AMQP_CONNECTION_TUNE:
        answer_tune(client, method);
        return;
    case AMQP_CONNECTION_OPEN_OK:
        client->state = CLIENT_SETUP;
        sim_channel_open(&client->channels[CONTROL_CHANNEL]);
        return;
    case AMQP_CONNECTION_CLOSE_OK:
        trace_event(client->world->trace, TRACE_DISCONNECT, client->index, 0, 0, 0);
        client->link->client_gone = client->link->reset = true;
        sim_broker_orphan(client->world->broker, client->link);
        end(client, true, false);
        return;
    case AMQP_CONNECTION_CLOSE:
        closed_by_broker(client, method->values[AMQP_CONNECTION_CLOSE_REPLY_CODE].number, method->values[AMQP_CONNECTION_CLOSE_REPLY_TEXT].bytes);
        return;
    case AMQP_CONNECTION_BLOCKED:
    case AMQP_CONNECTION_UNBLOCKED:
        client->blocked = method->row->id == AMQP_CONNECTION_BLOCKED;
        return;
    default:
        trace_fail(client->world->trace, "protocol", "client %u got %s", client->index, method->row->name);
    }
}

/* ---- frames ----------------------------------------------------------------------------------------------------------------------------- */

static void take_frame(struct sim_client *client, const struct amqp_frame *frame)
{
    struct trace *trace = client->world->trace;
    struct amqp_method method;
    struct amqp_content_header header;
    if (frame->channel > CONTROL_CHANNEL) {
        trace_fail(trace, "protocol", "a frame on channel %u", frame->channel);
        return;
    }
    struct sim_channel *channel = &client->channels[frame->channel];
    switch (frame->type) {
    case AMQP_FRAME_HEARTBEAT:
        return;
    case AMQP_FRAME_METHOD:
        if (amqp_method_decode(frame->payload, &method) != AMQP_DECODED) {
            trace_fail(trace, "protocol", "client %u cannot decode a method", client->index);
            return;
        }
        trace_event(trace, TRACE_METHOD_IN, client->index, frame->channel, method.row->id >> 16, method.row->id & 0xFFFF);
        if (frame->channel == 0)
            connection_method(client, &method);
        else
            sim_channel_method(channel, &method);
        return;
    case AMQP_FRAME_HEADER:
        if (!amqp_content_header_decode(frame->payload, &header))
            trace_fail(trace, "protocol", "a content header of %zu bytes", frame->payload.size);
        else
            sim_channel_header(channel, &header);
        return;
    case AMQP_FRAME_BODY:
        sim_channel_body(channel, frame->payload);
        return;
    default:
        trace_fail(trace, "protocol", "a frame of type %u", frame->type);
    }
}

bool sim_client_read(struct sim_client *client)
{
    struct link *link = client->link;
    bool happened = false;
    while (client->state != CLIENT_DOWN && !client->world->trace->failed) {
        struct amqp_frame frame;
        struct bytes waiting = stream_bytes(&link->to_client);
        if (waiting.size >= 4 && memcmp(waiting.data, "AMQP", 4) == 0) {
            trace_fail(client->world->trace, "protocol", "the broker refused the protocol header");
            break;
        }
        enum wire_answer answer = amqp_frame_read(waiting, client->frame_max, &frame);
        if (answer == WIRE_BAD)
            trace_fail(client->world->trace, "protocol", "client %u got a bad frame", client->index);
        if (answer != WIRE_OK)
            break;
        happened = true;
        take_frame(client, &frame);
        if (client->state != CLIENT_DOWN)   /* otherwise the link is another one already */
            stream_read(&link->to_client, frame.size);
        if (random_chance(client->world->random, 1, 16))
            break;
    }
    if (client->state != CLIENT_DOWN && link->session_gone && !client->world->trace->failed) {
        struct amqp_frame frame;
        if (amqp_frame_read(stream_bytes(&link->to_client), client->frame_max, &frame) == WIRE_OK)
            return true;
        if (client->state != CLIENT_CLOSING && !client->world->model->failing)
            trace_fail(client->world->trace, "no error unasked", "the broker dropped client %u without a word", client->index);
        sim_client_drop(client, false);
        happened = true;
    }
    return happened;
}
