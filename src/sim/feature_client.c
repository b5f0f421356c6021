#include "sim/feature_client.h"

#include "protocol/amqp/properties.h"
#include "sim/grown.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANNEL 1u
#define WINDOW 200u             /* unconfirmed publishes at most */
#define BODY_MAX 3000u
#define STREAM_PREFETCH 64u

void feature_client_init(struct feature_client *client, struct feature_world *world, unsigned index)
{
    *client = (struct feature_client){.world = world, .index = index, .part = world->plan->parts[index]};
    client->link = malloc(sizeof(*client->link));
    CHECK(client->link);
    link_init(client->link);
}

void feature_client_deinit(struct feature_client *client)
{
    link_deinit(client->link);
    free(client->link);
    free(client->unconfirmed);
    free(client->held);
    free(client->arrivals);
}

static void say(struct feature_client *client, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    static const struct amqp_value nothing[AMQP_ARGUMENTS_MAX];
    uint8_t frame[2048];
    size_t size = amqp_method_frame(frame, sizeof(frame), channel, id, values ? values : nothing);
    CHECK(size > 0);
    stream_write(&client->link->to_session, frame, size);
    trace_event(client->world->trace, TRACE_METHOD_OUT, client->index, channel, (uint64_t)id >> 16, (uint64_t)id & 0xFFFF);
}

/* One that is answered. */
static void ask(struct feature_client *client, enum amqp_method_id id, const struct amqp_value *values)
{
    say(client, CHANNEL, id, values);
    client->answers_due++;
}

/* ---- the connection --------------------------------------------------------------------------------------------------- */

void feature_client_connect(struct feature_client *client)
{
    struct link *link = client->link;
    stream_clear(&link->to_session);
    stream_clear(&link->to_client);
    link->client_gone = link->reset = link->session_gone = false;
    if (!sim_broker_accept(client->world->broker, link, client->index))
        return;
    stream_write(&link->to_session, amqp_protocol_header, AMQP_PROTOCOL_HEADER_SIZE);
    client->state = FEATURE_STARTING;
    client->frame_max = 4096;
}

static void end(struct feature_client *client)
{
    feature_gone(client->world->model, client->index);
    client->state = FEATURE_DOWN;
    client->answers_due = 0;
    client->unconfirmed_left = 0;
    client->next_tag = 0;
    client->held_count = 0;
    client->consuming = client->in_content = false;
    client->arrival_count = 0;
}

void feature_client_forget(struct feature_client *client)
{
    stream_clear(&client->link->to_session);
    stream_clear(&client->link->to_client);
    end(client);
}

static void drop(struct feature_client *client, bool told)
{
    struct link *link = client->link;
    trace_event(client->world->trace, TRACE_DISCONNECT, client->index, 1, 0, 0);
    if (!told) {
        feature_lost(client->world->model, client->index);
        if (random_chance(client->world->random, 1, 2))   /* what was on its way may be lost too */
            link->to_session.end -= random_between(client->world->random, 0, stream_bytes(&link->to_session).size);
    }
    link->client_gone = link->reset = true;
    link->gone_us = client->world->trace->now_us;
    sim_broker_orphan(client->world->broker, link);
    end(client);
}

void feature_client_close(struct feature_client *client)
{
    struct amqp_value values[AMQP_CONNECTION_CLOSE_COUNT] = {
        [AMQP_CONNECTION_CLOSE_REPLY_CODE] = amqp_number(200), [AMQP_CONNECTION_CLOSE_REPLY_TEXT] = amqp_text("done")};
    say(client, 0, AMQP_CONNECTION_CLOSE, values);
    feature_gone(client->world->model, client->index);
    client->state = FEATURE_CLOSING;
}

static void answer_start(struct feature_client *client)
{
    struct amqp_value values[AMQP_CONNECTION_START_OK_COUNT] = {
        [AMQP_CONNECTION_START_OK_MECHANISM] = amqp_text("PLAIN"), [AMQP_CONNECTION_START_OK_RESPONSE] = amqp_bytes(bytes_of("\0guest\0guest", 12)),
        [AMQP_CONNECTION_START_OK_LOCALE] = amqp_text("en_US")};
    say(client, 0, AMQP_CONNECTION_START_OK, values);
}

static void answer_tune(struct feature_client *client)
{
    struct amqp_value tune[AMQP_CONNECTION_TUNE_OK_COUNT] = {
        [AMQP_CONNECTION_TUNE_OK_CHANNEL_MAX] = amqp_number(16), [AMQP_CONNECTION_TUNE_OK_FRAME_MAX] = amqp_number(client->frame_max)};
    struct amqp_value open[AMQP_CONNECTION_OPEN_COUNT] = {[AMQP_CONNECTION_OPEN_VIRTUAL_HOST] = amqp_text("/")};
    say(client, 0, AMQP_CONNECTION_TUNE_OK, tune);
    say(client, 0, AMQP_CONNECTION_OPEN, open);
}

/* ---- declaring ---------------------------------------------------------------------------------------------------------- */

static void declare_queue(struct feature_client *client, const char *name, struct bytes arguments)
{
    struct amqp_value values[AMQP_QUEUE_DECLARE_COUNT] = {
        [AMQP_QUEUE_DECLARE_QUEUE] = amqp_text(name), [AMQP_QUEUE_DECLARE_DURABLE] = amqp_number(1), [AMQP_QUEUE_DECLARE_ARGUMENTS] = amqp_bytes(arguments)};
    ask(client, AMQP_QUEUE_DECLARE, values);
}

static void declare_exchange(struct feature_client *client, const char *name, const char *type, struct bytes arguments)
{
    struct amqp_value values[AMQP_EXCHANGE_DECLARE_COUNT] = {
        [AMQP_EXCHANGE_DECLARE_EXCHANGE] = amqp_text(name), [AMQP_EXCHANGE_DECLARE_TYPE] = amqp_text(type), [AMQP_EXCHANGE_DECLARE_DURABLE] = amqp_number(1),
        [AMQP_EXCHANGE_DECLARE_ARGUMENTS] = amqp_bytes(arguments)};
    ask(client, AMQP_EXCHANGE_DECLARE, values);
}

static void bind(struct feature_client *client, const char *exchange, const char *queue, const char *key)
{
    struct amqp_value values[AMQP_QUEUE_BIND_COUNT] = {
        [AMQP_QUEUE_BIND_QUEUE] = amqp_text(queue), [AMQP_QUEUE_BIND_EXCHANGE] = amqp_text(exchange), [AMQP_QUEUE_BIND_ROUTING_KEY] = amqp_text(key)};
    ask(client, AMQP_QUEUE_BIND, values);
}

static void retry_text(const struct chain *chain, char *text, size_t room)
{
    int size = 0;
    if (!chain->retry_steps)
        snprintf(text, room, "initial=%u max=%u multiplier=%u jitter=0.%u", chain->retry_ms[0], chain->retry_ms[1], RETRY_MULTIPLIER, RETRY_JITTER_PERCENT);
    for (unsigned i = 0; i < chain->retry_steps; i++)
        size += snprintf(text + size, room - (size_t)size, "%u ", chain->retry_ms[i]);
}

static struct bytes source_arguments(const struct chain *chain, uint8_t *room, size_t size)
{
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, size);
    if (chain->features & CHAIN_STREAM) {
        amqp_table_put_text(&writer, "x-queue-type", bytes_of_text("stream"));
        amqp_table_put_long(&writer, "x-stream-max-segment-size-bytes", 65536);
    } else {
        amqp_table_put_text(&writer, "x-dead-letter-exchange", bytes_of_text("dead"));
        if (chain->keyed)
            amqp_table_put_text(&writer, "x-dead-letter-routing-key", bytes_of_text(chain->dead));
    }
    if (chain->features & CHAIN_TTL)
        amqp_table_put_long(&writer, "x-message-ttl", chain->ttl_ms);
    if (chain->features & (CHAIN_DROP_HEAD | CHAIN_REJECT_PUBLISH))
        amqp_table_put_long(&writer, "x-max-length", chain->max_length);
    if (chain->features & CHAIN_REJECT_PUBLISH)
        amqp_table_put_text(&writer, "x-overflow", bytes_of_text("reject-publish"));
    if (chain->features & CHAIN_PRIORITY)
        amqp_table_put_long(&writer, "x-max-priority", chain->max_priority);
    if (chain->features & CHAIN_DELIVERY_LIMIT)
        amqp_table_put_long(&writer, "x-delivery-limit", chain->delivery_limit);
    if ((chain->features & (CHAIN_DELIVERY_LIMIT | CHAIN_RETRY)) && !chain->classic)
        amqp_table_put_text(&writer, "x-queue-type", bytes_of_text("quorum"));
    if (chain->features & CHAIN_RETRY) {
        char text[128];
        retry_text(chain, text, sizeof(text));
        amqp_table_put_text(&writer, "x-retry-backoff", bytes_of_text(text));
    }
    if ((chain->features & CHAIN_GROUPS) && !chain->regrouped)
        amqp_table_put_text(&writer, "x-group-key", bytes_of_text("k"));
    if (chain->features & CHAIN_GROUP_FAIR)
        amqp_table_put_bool(&writer, "x-group-fair", true);
    if (chain->features & CHAIN_SINGLE_ACTIVE)
        amqp_table_put_bool(&writer, "x-single-active-consumer", true);
    if (chain->features & CHAIN_DEDUP) {
        amqp_table_put_long(&writer, "x-dedup-window", chain->window_ms);
        amqp_table_put_long(&writer, "x-dedup-max", chain->most_ids);
        amqp_table_put_text(&writer, "x-dedup-header", bytes_of_text("id"));
    }
    CHECK(amqp_table_finish(&writer, &table));
    return table;
}

static void declare_chain(struct feature_client *client, const struct chain *chain)
{
    uint8_t room[1024];
    declare_queue(client, chain->dead, (struct bytes){0});
    bind(client, "dead", chain->dead, chain->keyed ? chain->dead : chain->source);
    declare_queue(client, chain->source, source_arguments(chain, room, sizeof(room)));
    if (chain->features & CHAIN_HALF)
        declare_queue(client, chain->asks, (struct bytes){0});
    if (!(chain->features & CHAIN_DELAY))
        return;
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "x-delayed-type", bytes_of_text("direct"));
    CHECK(amqp_table_finish(&writer, &table));
    declare_exchange(client, chain->delayed, "x-delayed-message", table);
    bind(client, chain->delayed, chain->source, chain->source);
}

static void consume(struct feature_client *client, const char *queue, bool is_stream)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes table = {0};
    amqp_table_begin(&writer, room, sizeof(room));
    if (is_stream)
        amqp_table_put_text(&writer, "x-stream-offset", bytes_of_text("first"));
    if (client->part.wants)
        filter_argument(&client->part, client->index, &writer);
    if (is_stream || client->part.wants)
        CHECK(amqp_table_finish(&writer, &table));
    struct amqp_value values[AMQP_BASIC_CONSUME_COUNT] = {
        [AMQP_BASIC_CONSUME_QUEUE] = amqp_text(queue), [AMQP_BASIC_CONSUME_CONSUMER_TAG] = amqp_text("c"), [AMQP_BASIC_CONSUME_ARGUMENTS] = amqp_bytes(table)};
    ask(client, AMQP_BASIC_CONSUME, values);
    client->consuming = true;
}

static void set_prefetch(struct feature_client *client, unsigned count)
{
    struct amqp_value values[AMQP_BASIC_QOS_COUNT] = {[AMQP_BASIC_QOS_PREFETCH_COUNT] = amqp_number(count)};
    ask(client, AMQP_BASIC_QOS, values);
}

/* Everything in one go; whoever comes first makes it, for the others it is there. */
static void set_up(struct feature_client *client)
{
    const struct feature_plan *plan = client->world->plan;
    const struct chain *chain = &plan->chains[client->part.chain];
    struct amqp_value open[AMQP_CHANNEL_OPEN_COUNT] = {[0] = amqp_text("")};
    client->state = FEATURE_SETTING_UP;
    client->arrival_count = 0;   /* a stream is read from its beginning again */
    ask(client, AMQP_CHANNEL_OPEN, open);
    declare_exchange(client, "dead", "direct", (struct bytes){0});
    for (unsigned i = 0; i < plan->chain_count; i++)
        declare_chain(client, &plan->chains[i]);
    client->from_dead = client->part.role == ROLE_MOURNER;
    switch (client->part.role) {
    case ROLE_PUBLISHER:
        ask(client, AMQP_CONFIRM_SELECT, NULL);
        client->stream = client->world->next_stream++;
        client->order = 0;
        memset(client->last_of_key, 0, sizeof(client->last_of_key));
        client->next_tag = 1;
        client->transaction = 0;
        if (chain->features & CHAIN_HALF)
            consume(client, chain->asks, false);
        break;
    case ROLE_CONSUMER:
    case ROLE_MOURNER:
        set_prefetch(client, client->part.prefetch);
        consume(client, client->from_dead ? chain->dead : chain->source, !client->from_dead && (chain->features & CHAIN_STREAM));
        break;
    case ROLE_ADMIN:
        break;
    }
}

/* ---- what the broker says ------------------------------------------------------------------------------------------------ */

static void take_confirm(struct feature_client *client, uint64_t tag, bool multiple, bool accepted)
{
    trace_event(client->world->trace, TRACE_CONFIRM, client->index, CHANNEL, tag, accepted);
    if (tag == 0 || tag >= client->next_tag || (!multiple && !client->unconfirmed[tag - 1])) {
        trace_fail(client->world->trace, "confirms", "client %u: tag %" PRIu64 " is confirmed, which does not wait", client->index, tag);
        return;
    }
    for (uint64_t at = multiple ? 1 : tag; at <= tag; at++) {
        if (!client->unconfirmed[at - 1])
            continue;
        if (client->unconfirmed[at - 1] & HALF_DECISION)
            halves_answered(client->world->model, client->unconfirmed[at - 1], accepted);
        else
            feature_confirm(client->world->model, client->unconfirmed[at - 1], accepted);
        client->unconfirmed[at - 1] = 0;
        client->unconfirmed_left--;
    }
}

static void closed_by_broker(struct feature_client *client, const struct amqp_method *method)
{
    trace_fail(client->world->trace, "no error unasked", "client %u: %s %" PRIu64 " %.*s", client->index, method->row->name, method->values[0].number,
               (int)method->values[1].bytes.size, (const char *)method->values[1].bytes.data);
}

static void take_method(struct feature_client *client, uint16_t channel, const struct amqp_method *method)
{
    trace_event(client->world->trace, TRACE_METHOD_IN, client->index, channel, method->row->id >> 16, method->row->id & 0xFFFF);
    switch ((enum amqp_method_id)method->row->id) {
    case AMQP_CONNECTION_START: answer_start(client); return;
    case AMQP_CONNECTION_TUNE: answer_tune(client); return;
    case AMQP_CONNECTION_OPEN_OK: set_up(client); return;
    case AMQP_CONNECTION_CLOSE_OK: drop(client, true); return;
    case AMQP_CONNECTION_CLOSE:
    case AMQP_CHANNEL_CLOSE: closed_by_broker(client, method); return;
    case AMQP_CONNECTION_BLOCKED:
    case AMQP_CONNECTION_UNBLOCKED: return;
    case AMQP_BASIC_ACK:
        take_confirm(client, method->values[AMQP_BASIC_ACK_DELIVERY_TAG].number, method->values[AMQP_BASIC_ACK_MULTIPLE].number, true);
        return;
    case AMQP_BASIC_NACK:
        take_confirm(client, method->values[AMQP_BASIC_NACK_DELIVERY_TAG].number, method->values[AMQP_BASIC_NACK_MULTIPLE].number, false);
        return;
    case AMQP_BASIC_DELIVER:
        client->in_content = true;
        client->header_seen = false;
        client->arriving = (struct feature_arrival){.redelivered = method->values[AMQP_BASIC_DELIVER_REDELIVERED].number};
        client->arriving_tag = method->values[AMQP_BASIC_DELIVER_DELIVERY_TAG].number;
        return;
    default:
        if (client->answers_due == 0)
            trace_fail(client->world->trace, "protocol", "client %u got %s, which it did not ask for", client->index, method->row->name);
        else if (--client->answers_due == 0 && client->state == FEATURE_SETTING_UP)
            client->state = FEATURE_UP;
    }
}

static void read_headers(struct feature_arrival *arrival, struct bytes headers)
{
    struct amqp_field field, death;
    if (amqp_table_find(headers, "x-transaction", &field) && field.type == 'S') {
        char text[32];
        snprintf(text, sizeof(text), "%.*s", (int)field.bytes.size, (const char *)field.bytes.data);
        arrival->transaction = (uint32_t)strtoul(text, NULL, 16);
        arrival->checks = amqp_table_find(headers, "x-check-count", &field) ? (uint64_t)field.integer : 0;
    }
    if (amqp_table_find(headers, "x-delivery-count", &field)) {
        arrival->has_count = true;
        arrival->delivery_count = (uint64_t)field.integer;
    }
    if (amqp_table_find(headers, "x-retry-reason", &field) && field.type == 'S')
        snprintf(arrival->retry_reason, sizeof(arrival->retry_reason), "%.*s", (int)field.bytes.size, (const char *)field.bytes.data);
    if (amqp_table_find(headers, "x-stream-offset", &field)) {
        arrival->has_offset = true;
        arrival->offset = (uint64_t)field.integer;
    }
    if (amqp_table_find(headers, "x-death", &field) && field.type == 'A' && amqp_array_next(&field.bytes, &death) == WIRE_OK && death.type == 'F' &&
        amqp_table_find(death.bytes, "reason", &field)) {
        arrival->has_death = true;
        snprintf(arrival->reason, sizeof(arrival->reason), "%.*s", (int)field.bytes.size, (const char *)field.bytes.data);
    }
}

static void settle(struct feature_client *client, uint64_t tag, enum amqp_method_id id, unsigned flags)
{
    uint8_t frame[AMQP_ACK_FRAME_SIZE];
    amqp_ack_write(frame, CHANNEL, id, tag, (uint8_t)flags);
    stream_write(&client->link->to_session, frame, sizeof(frame));
    trace_event(client->world->trace, TRACE_SETTLE, client->index, CHANNEL, tag, (uint64_t)(id & 0xFFFF) << 8 | flags);
}

/* Given back, for so long. */
static void settle_after(struct feature_client *client, uint64_t tag, uint32_t ms)
{
    struct amqp_value values[AMQP_BASIC_NACK_AFTER_COUNT] = {[AMQP_BASIC_NACK_AFTER_DELIVERY_TAG] = amqp_number(tag), [AMQP_BASIC_NACK_AFTER_DELAY] = amqp_number(ms)};
    uint8_t frame[64];
    stream_write(&client->link->to_session, frame, amqp_method_frame(frame, sizeof(frame), CHANNEL, AMQP_BASIC_NACK_AFTER, values));
    trace_event(client->world->trace, TRACE_SETTLE, client->index, CHANNEL, tag, (uint64_t)(AMQP_BASIC_NACK_AFTER & 0xFFFF) << 8);
}

static void take_message(struct feature_client *client)
{
    struct feature_world *world = client->world;
    unsigned chain = client->part.role == ROLE_ADMIN ? client->counting : client->part.chain;
    bool is_stream = !client->from_dead && (world->plan->chains[chain].features & CHAIN_STREAM);
    client->in_content = false;
    if (client->part.role == ROLE_PUBLISHER) {
        settle(client, client->arriving_tag, AMQP_BASIC_ACK, 0);
        halves_asked(world->model, chain, client->arriving.transaction, client->arriving.checks);
        client->asked = client->arriving.transaction;
        return;
    }
    trace_event(world->trace, TRACE_DELIVER, client->index, CHANNEL, chain * 2 + client->from_dead, client->arriving.number);
    if (client->from_dead)
        feature_deliver_dead(world->model, chain, &client->arriving);
    else
        feature_deliver(world->model, chain, client->index, client->state == FEATURE_CLOSING, &client->arriving);
    client->arrivals = grown(client->arrivals, client->arrival_count, &client->arrival_room, sizeof(*client->arrivals));
    if (is_stream) {
        uint64_t next = client->arrival_count ? client->arrivals[client->arrival_count - 1].offset + 1 : 0;
        if (client->arrival_count && (client->part.wants ? client->arriving.offset < next : client->arriving.offset != next))
            trace_fail(world->trace, "stream offsets", "client %u: offset %" PRIu64 " follows %" PRIu64, client->index, client->arriving.offset,
                       client->arrivals[client->arrival_count - 1].offset);
        settle(client, client->arriving_tag, AMQP_BASIC_ACK, 0);
    } else {
        client->held = grown(client->held, client->held_count, &client->held_room, sizeof(*client->held));
        client->held[client->held_count++] = (struct feature_held){client->arriving_tag, client->arriving.number};
    }
    client->arrivals[client->arrival_count++] = client->arriving;
}

static void take_header(struct feature_client *client, const struct amqp_content_header *header)
{
    struct amqp_properties properties;
    char id[32];
    if (!amqp_properties_decode(header->properties, &properties)) {
        trace_fail(client->world->trace, "same bytes", "client %u: properties that make no sense", client->index);
        return;
    }
    snprintf(id, sizeof(id), "%.*s", (int)properties.message_id.size, (const char *)properties.message_id.data);
    client->arriving.number = strtoull(id, NULL, 16);
    if (properties.flags & AMQP_HEADERS)
        read_headers(&client->arriving, properties.headers);
    client->header_seen = true;
    client->body_left = header->body_size;
    if (client->body_left == 0)
        take_message(client);
}

static void take_frame(struct feature_client *client, const struct amqp_frame *frame)
{
    struct amqp_method method;
    struct amqp_content_header header;
    if (frame->type == AMQP_FRAME_METHOD && amqp_method_decode(frame->payload, &method) == AMQP_DECODED) {
        take_method(client, frame->channel, &method);
    } else if (frame->type == AMQP_FRAME_HEADER && client->in_content && amqp_content_header_decode(frame->payload, &header)) {
        take_header(client, &header);
    } else if (frame->type == AMQP_FRAME_BODY && client->in_content && client->header_seen && frame->payload.size <= client->body_left) {
        client->body_left -= frame->payload.size;
        if (client->body_left == 0)
            take_message(client);
    } else if (frame->type != AMQP_FRAME_HEARTBEAT) {
        trace_fail(client->world->trace, "protocol", "client %u got a frame of type %u that makes no sense", client->index, frame->type);
    }
}

bool feature_client_read(struct feature_client *client)
{
    bool happened = false;
    while (client->state != FEATURE_DOWN && !client->world->trace->failed) {
        struct amqp_frame frame;
        struct bytes waiting = stream_bytes(&client->link->to_client);
        enum wire_answer answer = amqp_frame_read(waiting, 0, &frame);
        if (answer == WIRE_BAD)
            trace_fail(client->world->trace, "protocol", "client %u got a bad frame", client->index);
        if (answer != WIRE_OK)
            break;
        happened = true;
        take_frame(client, &frame);
        if (client->state != FEATURE_DOWN)   /* otherwise the link is another one already */
            stream_read(&client->link->to_client, frame.size);
        if (random_chance(client->world->random, 1, 16))
            break;
    }
    return happened;
}

/* ---- what it does --------------------------------------------------------------------------------------------------------- */

/* `chain` NULL: of a decision. */
static void put_transaction(struct amqp_table_writer *writer, uint32_t number, const struct chain *chain)
{
    char text[16];
    snprintf(text, sizeof(text), "%x", number);
    amqp_table_put_text(writer, "x-transaction", bytes_of_text(text));
    if (!chain)
        return;
    amqp_table_put_int(writer, "x-check-after", (int32_t)chain->half_ms);
    amqp_table_put_int(writer, "x-check-limit", (int32_t)chain->half_limit);
    amqp_table_put_text(writer, "x-check-queue", bytes_of_text(chain->asks));
}

static struct bytes make_properties(struct feature_client *client, uint64_t number, const struct feature_message *message, bool own_ttl, uint32_t ttl_ms, uint8_t priority,
                                    uint8_t *room, size_t size)
{
    char id[32], expiration[32];
    uint8_t table_room[256];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_DELIVERY_MODE | AMQP_MESSAGE_ID, .delivery_mode = 2};
    snprintf(id, sizeof(id), "%016" PRIx64, number);
    properties.message_id = bytes_of_text(id);
    if (own_ttl) {
        snprintf(expiration, sizeof(expiration), "%u", ttl_ms);
        properties.flags |= AMQP_EXPIRATION;
        properties.expiration = bytes_of_text(expiration);
    }
    if (priority) {
        properties.flags |= AMQP_PRIORITY;
        properties.priority = priority;
    }
    if (message->delay_ms || message->key || message->id || message->transaction) {
        amqp_table_begin(&writer, table_room, sizeof(table_room));
        if (message->delay_ms)
            amqp_table_put_int(&writer, "x-delay", (int32_t)message->delay_ms);
        if (message->key && number % 2 && (client->world->plan->chains[message->chain].features & CHAIN_GROUPS))
            amqp_table_put_int(&writer, "k", message->key);
        else if (message->key)   /* a number and its text are the same key */
            amqp_table_put_text(&writer, "k", bytes_of(&"01234567"[message->key], 1));
        if (message->id)
            amqp_table_put_int(&writer, "id", (int32_t)message->id);
        if (message->transaction)
            put_transaction(&writer, message->transaction, &client->world->plan->chains[message->chain]);
        CHECK(amqp_table_finish(&writer, &properties.headers));
        properties.flags |= AMQP_HEADERS;
    }
    size_t written = amqp_properties_encode(&properties, room, size);
    CHECK(written > 0);
    return bytes_of(room, written);
}

static void send_publish(struct feature_client *client, const struct chain *chain, struct bytes properties)
{
    uint8_t frame[BODY_MAX + 1024], *at;
    static const uint8_t zeros[BODY_MAX];
    /* What is delayed waits in the queue itself, or in the queue of an exchange that delays. */
    const char *exchange = (chain->features & CHAIN_DELAY) && !chain->keyed ? chain->delayed : "";
    size_t body = random_chance(client->world->random, 1, 8) ? random_size(client->world->random, BODY_MAX) : random_below(client->world->random, 40);
    size_t size = amqp_publish_frame(frame, sizeof(frame), CHANNEL, bytes_of_text(exchange), bytes_of_text(chain->source), false);
    CHECK(size > 0);
    at = amqp_content_header_write(frame + size, CHANNEL, body, properties);
    if (body) {
        at = amqp_frame_begin(at, AMQP_FRAME_BODY, CHANNEL, (uint32_t)body);
        memcpy(at, zeros, body);
        at += body;
        *at++ = AMQP_FRAME_END;
    }
    stream_write(&client->link->to_session, frame, (size_t)(at - frame));
}

static void await_confirm(struct feature_client *client, uint64_t number)
{
    if (client->next_tag > client->unconfirmed_room) {
        client->unconfirmed_room = client->unconfirmed_room ? client->unconfirmed_room * 2 : 64;
        client->unconfirmed = realloc(client->unconfirmed, client->unconfirmed_room * sizeof(*client->unconfirmed));
        CHECK(client->unconfirmed);
    }
    client->unconfirmed[client->next_tag++ - 1] = number;
    client->unconfirmed_left++;
}

static void decide_transaction(struct feature_client *client, uint32_t number, bool commits)
{
    uint8_t frame[512], *at, room[128], properties_room[160];
    struct amqp_table_writer writer;
    struct amqp_properties properties = {.flags = AMQP_HEADERS};
    amqp_table_begin(&writer, room, sizeof(room));
    put_transaction(&writer, number, NULL);
    CHECK(amqp_table_finish(&writer, &properties.headers));
    struct bytes encoded = bytes_of(properties_room, amqp_properties_encode(&properties, properties_room, sizeof(properties_room)));
    size_t size = amqp_publish_frame(frame, sizeof(frame), CHANNEL, bytes_of_text("amq.godwit.transactions"), bytes_of_text(commits ? "commit" : "rollback"), false);
    CHECK(size > 0 && encoded.size > 0);
    at = amqp_content_header_write(frame + size, CHANNEL, 0, encoded);
    await_confirm(client, halves_decide(client->world->model, number, commits));
    trace_event(client->world->trace, TRACE_PUBLISH, client->index, CHANNEL, number, 1000 + commits);
    stream_write(&client->link->to_session, frame, (size_t)(at - frame));
}

/* Transactions follow each other on a connection; most are decided by who began them, some by whoever is asked or comes by, some twice or by nobody. */
static void work_on_transactions(struct feature_client *client)
{
    struct feature_world *world = client->world;
    if (client->asked && random_chance(world->random, 1, 3))
        decide_transaction(client, client->asked, random_chance(world->random, 1, 2));
    client->asked = 0;
    if (client->transaction && random_chance(world->random, 1, 5)) {
        if (random_chance(world->random, 7, 8))
            decide_transaction(client, client->transaction, random_chance(world->random, 2, 3));
        client->transaction = 0;
    }
    uint32_t other = random_chance(world->random, 1, 24) ? halves_pick(world->model, client->part.chain, random_below(world->random, UINT32_MAX)) : 0;
    if (other && other != client->transaction)
        decide_transaction(client, other, random_chance(world->random, 1, 2));
    if (!client->transaction && random_chance(world->random, 7, 8))
        client->transaction = halves_begin(world->model, client->part.chain);
}

static void publish(struct feature_client *client)
{
    struct feature_world *world = client->world;
    const struct chain *chain = &world->plan->chains[client->part.chain];
    uint8_t room[256];
    bool own_ttl = (chain->features & CHAIN_EXPIRATION) && random_chance(world->random, 1, 2);
    uint32_t ttl_ms = own_ttl ? (uint32_t)random_between(world->random, 1, random_chance(world->random, 1, 2) ? 20 : 3000) : NO_TTL;
    uint32_t delay_ms = (chain->features & CHAIN_DELAY) && random_chance(world->random, 3, 4) ? (uint32_t)random_between(world->random, 1, 2000) : 0;
    uint8_t priority = chain->features & CHAIN_PRIORITY ? (uint8_t)random_below(world->random, 256) % (chain->max_priority + 2u) : 0;
    uint64_t number = feature_publish(world->model, client->part.chain, client->stream, client->order++, chain->features & CHAIN_PRIORITY ? priority : 0, ttl_ms, delay_ms);
    if (chain->features & CHAIN_GROUPS) {
        uint8_t key = random_chance(world->random, 1, 8) ? 0 : (uint8_t)random_between(world->random, 1, chain->keys);
        groups_published(world->model, number, key, client->last_of_key[key]);
        client->last_of_key[key] = number;
    }
    if (chain->features & CHAIN_HALF) {
        work_on_transactions(client);
        feature_message(world->model, number)->transaction = client->transaction;
    }
    if (chain->features & CHAIN_FILTER)
        feature_message(world->model, number)->key = (uint8_t)random_between(world->random, 0, chain->keys);
    if (chain->features & CHAIN_DEDUP)
        feature_message(world->model, number)->id = 1 + (uint32_t)random_below(world->random, chain->ids);
    struct bytes properties = make_properties(client, number, feature_message(world->model, number), own_ttl, ttl_ms, priority, room, sizeof(room));
    await_confirm(client, number);
    trace_event(world->trace, TRACE_PUBLISH, client->index, CHANNEL, number, client->part.chain);
    send_publish(client, chain, properties);
    world->ops++;
}

/* Settles one of those that it holds; mourners give everything back. */
static void decide(struct feature_client *client)
{
    struct feature_world *world = client->world;
    const struct chain *chain = &world->plan->chains[client->part.chain];
    unsigned index = (unsigned)random_below(world->random, client->held_count);
    struct feature_held held = client->held[index];
    client->held[index] = client->held[--client->held_count];
    unsigned draw = client->from_dead ? 9 : (unsigned)random_below(world->random, 10);
    if (draw < 5) {
        settle(client, held.tag, AMQP_BASIC_ACK, 0);
        feature_end(world->model, held.number, END_ACKED, client->index);
    } else if (draw < 7) {
        settle(client, held.tag, AMQP_BASIC_REJECT, 0);
        feature_end(world->model, held.number, END_REJECTED, client->index);
    } else if (!client->from_dead && chain->own_wait_ms) {
        uint32_t ms = (uint32_t)random_between(world->random, 1, chain->own_wait_ms);
        settle_after(client, held.tag, ms);
        feature_end(world->model, held.number, END_NONE, client->index);
        retry_own_wait(world->model, held.number, ms);
    } else {
        settle(client, held.tag, AMQP_BASIC_REJECT, 1);
        if (!client->from_dead)
            feature_end(world->model, held.number, END_NONE, client->index);
    }
    world->ops++;
}

bool feature_client_waits(const struct feature_client *client)
{
    return client->state == FEATURE_UP && client->part.role == ROLE_CONSUMER && (client->world->plan->chains[client->part.chain].features & CHAIN_FILTER);
}

/* Whoever has a filter takes what is left for it before everybody goes. */
static void linger(struct feature_client *client)
{
    if (!feature_client_waits(client) || !client->held_count)
        return;
    struct feature_held held = client->held[--client->held_count];
    settle(client, held.tag, AMQP_BASIC_ACK, 0);
    feature_end(client->world->model, held.number, END_ACKED, client->index);
}

/* Cancels its consumer, keeping what it holds, or consumes again. */
static void come_and_go(struct feature_client *client)
{
    struct amqp_value cancel[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text("c")};
    if (!client->consuming) {
        consume(client, client->world->plan->chains[client->part.chain].source, false);
        return;
    }
    ask(client, AMQP_BASIC_CANCEL, cancel);
    client->consuming = false;
}

/* A request whose answer nobody waits for. */
static void send_control(struct feature_client *client, const char *body)
{
    uint8_t frame[1024], *at;
    size_t size = amqp_publish_frame(frame, sizeof(frame), CHANNEL, (struct bytes){0}, bytes_of_text("amq.godwit.control"), false), length = strlen(body);
    CHECK(size > 0);
    at = amqp_content_header_write(frame + size, CHANNEL, length, bytes_of("\0\0", 2));
    at = amqp_frame_begin(at, AMQP_FRAME_BODY, CHANNEL, (uint32_t)length);
    memcpy(at, body, length);
    at[length] = AMQP_FRAME_END;
    stream_write(&client->link->to_session, frame, (size_t)(at + length + 1 - frame));
}

/* A policy says something else of the chain's groups. */
static void regroup(struct feature_client *client)
{
    static const char *const definitions[] = {"{\"group-key\":\"k\"}", "{\"group-key\":\"k\",\"group-fair\":true}", "{\"group-key\":\"property:message-id\"}"};
    const char *source = client->world->plan->chains[client->part.chain].source;
    unsigned which = (unsigned)random_below(client->world->random, 4);
    char body[256];
    if (which < 3)
        snprintf(body, sizeof(body), "{\"command\":\"set_policy\",\"vhost\":\"/\",\"name\":\"%s\",\"pattern\":\"^%s$\",\"apply-to\":\"queues\",\"definition\":%s}", source, source,
                 definitions[which]);
    else
        snprintf(body, sizeof(body), "{\"command\":\"clear_policy\",\"vhost\":\"/\",\"name\":\"%s\"}", source);
    send_control(client, body);
}

/* Consumers of groups, and those who sort messages out, do more than settle. */
static void be_restless(struct feature_client *client)
{
    const struct chain *chain = &client->world->plan->chains[client->part.chain];
    if (client->part.role == ROLE_CONSUMER && (chain->features & CHAIN_INSIDE) && random_chance(client->world->random, 1, 12)) {
        char body[256];
        inside_request(chain, client->world->random, body, sizeof(body));
        send_control(client, body);
    }
    if (client->part.role != ROLE_CONSUMER || !(chain->features & CHAIN_GROUPS))
        return;
    if (!(chain->features & CHAIN_SINGLE_ACTIVE) && random_chance(client->world->random, 1, client->consuming ? 96 : 8))
        come_and_go(client);
    if (chain->regrouped && random_chance(client->world->random, 1, 10))
        regroup(client);
}

static void act_calmly(struct feature_client *client)
{
    if (client->world->lingering)
        linger(client);
    else if (client->unconfirmed_left == 0)
        feature_client_close(client);
}

void feature_client_act(struct feature_client *client)
{
    struct feature_world *world = client->world;
    if (client->part.role == ROLE_ADMIN)
        return;
    if (client->state == FEATURE_DOWN && !world->calm)
        feature_client_connect(client);
    if (client->state != FEATURE_UP)
        return;
    if (world->calm) {
        act_calmly(client);
        return;
    }
    if (random_below(world->random, 4096) < world->plan->drop) {
        drop(client, false);
        return;
    }
    be_restless(client);
    for (unsigned burst = 1 + (unsigned)random_below(world->random, 12); burst > 0; burst--) {
        if (client->part.role == ROLE_PUBLISHER && client->unconfirmed_left < WINDOW)
            publish(client);
        else if (client->held_count)
            decide(client);
    }
}

/* ---- counting --------------------------------------------------------------------------------------------------------------- */

void feature_client_count(struct feature_client *client, unsigned chain, bool dead)
{
    const struct chain *of = &client->world->plan->chains[chain];
    bool is_stream = !dead && (of->features & CHAIN_STREAM);
    client->counting = chain;
    client->from_dead = dead;
    client->arrival_count = 0;
    set_prefetch(client, is_stream ? STREAM_PREFETCH : 0);
    consume(client, dead ? of->dead : of->source, is_stream);
}

void feature_client_settle(struct feature_client *client, bool for_good)
{
    struct amqp_value cancel[AMQP_BASIC_CANCEL_COUNT] = {[AMQP_BASIC_CANCEL_CONSUMER_TAG] = amqp_text("c")};
    ask(client, AMQP_BASIC_CANCEL, cancel);
    for (unsigned i = 0; i < client->held_count; i++) {
        struct feature_held held = client->held[i];
        if (!for_good) {
            settle(client, held.tag, AMQP_BASIC_REJECT, 1);
            if (!client->from_dead)
                feature_end(client->world->model, held.number, END_NONE, client->index);
        } else {
            settle(client, held.tag, AMQP_BASIC_ACK, 0);
            if (client->from_dead)
                feature_message(client->world->model, held.number)->buried = true;
            else
                feature_end(client->world->model, held.number, END_ACKED, client->index);
        }
    }
    client->held_count = 0;
    client->consuming = false;
}
