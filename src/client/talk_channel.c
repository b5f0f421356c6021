#include "client/publish_frames.h"
#include "client/talk_state.h"

#include <stdlib.h>

#define FIRST_WAITING 8u

/* Numbers: never the last one that was given back, of which something may still be on its way. */

static bool is_taken(const struct talk *talk, uint16_t number)
{
    return talk->taken[number / 32] >> number % 32 & 1;
}

static uint16_t take_number(struct talk *talk)
{
    uint32_t most = talk->channel_max ? talk->channel_max : UINT16_MAX;
    for (uint32_t i = 0; i < most; i++) {
        talk->last_number = (uint16_t)(talk->last_number % most + 1);
        if (!is_taken(talk, talk->last_number)) {
            talk->taken[talk->last_number / 32] |= 1u << talk->last_number % 32;
            return talk->last_number;
        }
    }
    return 0;
}

struct talk_channel *talk_channel_find(const struct talk *talk, uint16_t number)
{
    if (!is_taken(talk, number))
        return NULL;
    struct talk_channel *channel = talk->channels;
    while (channel && (channel->number != number || channel->state == TALK_CHANNEL_GONE))
        channel = channel->next;
    return channel;
}

/* Lifecycle. */

static void channel_free(struct talk_channel *channel)
{
    arrival_deinit(&channel->arriving);
    tag_ring_deinit(&channel->publishes);
    tag_ring_deinit(&channel->deliveries);
    free(channel->waiting);
    free(channel);
}

void talk_channels_sweep(struct talk *talk, bool all)
{
    if (!all && (!talk->has_gone || talk->depth > 0))
        return;
    struct talk_channel **at = &talk->channels;
    while (*at) {
        struct talk_channel *channel = *at;
        if (all || channel->state == TALK_CHANNEL_GONE) {
            *at = channel->next;
            channel_free(channel);
        } else {
            at = &channel->next;
        }
    }
    talk->has_gone = false;
}

void talk_channel_end(struct talk_channel *channel)
{
    struct talk *talk = channel->talk;
    channel->state = TALK_CHANNEL_GONE;
    talk->taken[channel->number / 32] &= ~(1u << channel->number % 32);
    talk->has_gone = true;
}

static bool is_open(const struct talk_channel *channel)
{
    return channel->state == TALK_CHANNEL_OPEN && channel->talk->state == TALK_OPEN;
}

static enum gw_err wait_for(struct talk_channel *channel, const struct talk_waiting *waiting)
{
    if (channel->waiting_count == channel->waiting_room) {
        unsigned room = channel->waiting_room ? 2 * channel->waiting_room : FIRST_WAITING;
        struct talk_waiting *grown = malloc(room * sizeof *grown);
        if (!grown)
            return GW_ERR_NOMEM;
        for (unsigned i = 0; i < channel->waiting_count; i++)
            grown[i] = channel->waiting[(channel->waiting_first + i) & (channel->waiting_room - 1)];
        free(channel->waiting);
        channel->waiting = grown;
        channel->waiting_first = 0;
        channel->waiting_room = room;
    }
    channel->waiting[(channel->waiting_first + channel->waiting_count++) & (channel->waiting_room - 1)] = *waiting;
    return GW_OK;
}

bool talk_channel_answered(struct talk_channel *channel, struct talk_waiting *waiting)
{
    if (channel->waiting_count == 0)
        return false;
    *waiting = channel->waiting[channel->waiting_first];
    channel->waiting_first = (channel->waiting_first + 1) & (channel->waiting_room - 1);
    channel->waiting_count--;
    return true;
}

struct talk_channel *talk_channel_open(struct talk *talk, const struct talk_channel_events *events)
{
    struct amqp_value values[AMQP_CHANNEL_OPEN_COUNT] = {[AMQP_CHANNEL_OPEN_OUT_OF_BAND] = amqp_text("")};
    if (talk->state != TALK_OPEN)
        return NULL;
    struct talk_channel *channel = calloc(1, sizeof *channel);
    uint16_t number = channel ? take_number(talk) : 0;
    if (number == 0) {
        free(channel);
        return NULL;
    }
    *channel = (struct talk_channel){.talk = talk, .next = talk->channels, .events = *events, .number = number};
    tag_ring_init(&channel->publishes);
    tag_ring_init(&channel->deliveries);
    talk->channels = channel;
    if (talk_call(channel, AMQP_CHANNEL_OPEN, values, AMQP_CHANNEL_OPEN_OK, NULL, NULL)) {
        talk_channel_end(channel);
        talk_channels_sweep(talk, false);
        return NULL;
    }
    return channel;
}

void talk_channel_close(struct talk_channel *channel)
{
    struct amqp_value values[AMQP_CHANNEL_CLOSE_COUNT] = {
        [AMQP_CHANNEL_CLOSE_REPLY_CODE] = amqp_number(200),
        [AMQP_CHANNEL_CLOSE_REPLY_TEXT] = amqp_text("goodbye"),
    };
    if (channel->state != TALK_CHANNEL_OPEN)
        return;
    talk_write_acks(channel->talk);
    channel->state = TALK_CHANNEL_CLOSING;
    channel->events = (struct talk_channel_events){0};
    channel->waiting_count = 0;
    talk_say_method(channel->talk, channel->number, AMQP_CHANNEL_CLOSE, values);
}

/* Calls. */

static enum gw_err say(struct talk_channel *channel, enum amqp_method_id method, const struct amqp_value *values, const struct talk_waiting *waiting)
{
    struct talk *talk = channel->talk;
    if (!is_open(channel))
        return GW_ERR_CLOSED;
    if (remote_buffer_reserve(&talk->out, talk->frame_max))
        return GW_ERR_NOMEM;
    size_t size = amqp_method_frame(talk->out.data + talk->out.end, talk->frame_max, channel->number, method, values);
    if (size == 0) {
        const struct amqp_method_row *row = amqp_method_row(method);
        for (unsigned i = 0; i < row->count; i++) {
            if (row->arguments[i].kind == AMQP_SHORTSTR && values[i].bytes.size > UINT8_MAX)
                return GW_ERR_INVALID;
        }
        return GW_ERR_LIMIT;
    }
    enum gw_err err = wait_for(channel, waiting);
    if (!err)
        talk->out.end += size;
    return err;
}

enum gw_err talk_call(struct talk_channel *channel, enum amqp_method_id method, const struct amqp_value *values, enum amqp_method_id reply,
                      talk_answered_fn answered, void *context)
{
    struct talk_waiting waiting = {.reply = reply, .answered = answered, .context = context};
    return say(channel, method, values, &waiting);
}

enum gw_err talk_confirm_select(struct talk_channel *channel)
{
    struct amqp_value values[AMQP_CONFIRM_SELECT_COUNT] = {[AMQP_CONFIRM_SELECT_NO_WAIT] = amqp_number(0)};
    enum gw_err err = talk_call(channel, AMQP_CONFIRM_SELECT, values, AMQP_CONFIRM_SELECT_OK, NULL, NULL);
    channel->confirms |= err == GW_OK;
    return err;
}

enum gw_err talk_consume(struct talk_channel *channel, const char *queue, const char *consumer_tag, bool no_ack, bool exclusive, struct bytes arguments,
                         talk_answered_fn answered, void *context)
{
    struct amqp_value values[AMQP_BASIC_CONSUME_COUNT] = {
        [AMQP_BASIC_CONSUME_QUEUE] = amqp_text(queue),
        [AMQP_BASIC_CONSUME_CONSUMER_TAG] = amqp_text(consumer_tag),
        [AMQP_BASIC_CONSUME_NO_ACK] = amqp_number(no_ack),
        [AMQP_BASIC_CONSUME_EXCLUSIVE] = amqp_number(exclusive),
        [AMQP_BASIC_CONSUME_ARGUMENTS] = amqp_bytes(arguments),
    };
    size_t size = strlen(consumer_tag) + 1;
    CHECK(!no_ack || (size > 1 && size <= sizeof channel->no_ack_tag && channel->no_ack_tag[0] == '\0'));
    enum gw_err err = talk_call(channel, AMQP_BASIC_CONSUME, values, AMQP_BASIC_CONSUME_OK, answered, context);
    if (!err && no_ack)
        memcpy(channel->no_ack_tag, consumer_tag, size);
    return err;
}

enum gw_err talk_get(struct talk_channel *channel, const char *queue, bool no_ack, talk_fetched_fn fetched, void *context)
{
    struct amqp_value values[AMQP_BASIC_GET_COUNT] = {
        [AMQP_BASIC_GET_QUEUE] = amqp_text(queue),
        [AMQP_BASIC_GET_NO_ACK] = amqp_number(no_ack),
    };
    struct talk_waiting waiting = {.reply = AMQP_BASIC_GET_OK, .no_ack = no_ack, .fetched = fetched, .context = context};
    return say(channel, AMQP_BASIC_GET, values, &waiting);
}

/* Messages. */

enum gw_err talk_publish(struct talk_channel *channel, struct bytes exchange, struct bytes routing_key, bool mandatory, struct bytes properties,
                         struct bytes body, uint64_t *number)
{
    struct talk *talk = channel->talk;
    struct publish_frames frames = {.channel = channel->number, .frame_max = talk->frame_max, .mandatory = mandatory, .exchange = exchange,
                                    .routing_key = routing_key, .properties = properties, .body = body};
    *number = 0;
    if (!is_open(channel))
        return GW_ERR_CLOSED;
    size_t end = remote_buffer_size(&talk->out);
    enum gw_err err = publish_frames_add(&talk->out, &frames);
    if (err || !channel->confirms)
        return err;
    if (tag_ring_add(&channel->publishes, 1)) {
        talk->out.end = talk->out.begin + end;
        return GW_ERR_NOMEM;
    }
    channel->unconfirmed++;
    *number = channel->publishes.next - 1;
    return GW_OK;
}

uint64_t talk_unconfirmed(const struct talk_channel *channel)
{
    return channel->unconfirmed;
}

void talk_ack(struct talk_channel *channel, uint64_t delivery_tag)
{
    uint8_t *state = tag_ring_at(&channel->deliveries, delivery_tag);
    CHECK(state && *state == TALK_HELD);
    *state = TALK_ACKED;
    channel->acked++;
}

enum gw_err talk_nack(struct talk_channel *channel, uint64_t delivery_tag, bool requeue)
{
    struct talk *talk = channel->talk;
    uint8_t *state = tag_ring_at(&channel->deliveries, delivery_tag);
    CHECK(state && *state == TALK_HELD);
    if (!is_open(channel))
        return GW_ERR_CLOSED;
    if (remote_buffer_reserve(&talk->out, AMQP_ACK_FRAME_SIZE))
        return GW_ERR_NOMEM;
    amqp_ack_write(talk->out.data + talk->out.end, channel->number, AMQP_BASIC_NACK, delivery_tag, (uint8_t)(requeue << 1));
    talk->out.end += AMQP_ACK_FRAME_SIZE;
    *state = TALK_SETTLED;
    return GW_OK;
}

enum gw_err talk_nack_after(struct talk_channel *channel, uint64_t delivery_tag, uint64_t delay_ms)
{
    struct amqp_value values[AMQP_BASIC_NACK_AFTER_COUNT] = {
        [AMQP_BASIC_NACK_AFTER_DELIVERY_TAG] = amqp_number(delivery_tag),
        [AMQP_BASIC_NACK_AFTER_DELAY] = amqp_number(delay_ms),
    };
    uint8_t *state = tag_ring_at(&channel->deliveries, delivery_tag);
    CHECK(state && *state == TALK_HELD);
    if (!is_open(channel))
        return GW_ERR_CLOSED;
    talk_say_method(channel->talk, channel->number, AMQP_BASIC_NACK_AFTER, values);
    *state = TALK_SETTLED;
    return GW_OK;
}

static void write_ack(struct talk_channel *channel, uint64_t tag, bool multiple)
{
    uint8_t frame[AMQP_ACK_FRAME_SIZE];
    amqp_ack_write(frame, channel->number, AMQP_BASIC_ACK, tag, multiple);
    talk_say(channel->talk, frame, sizeof frame);
}

/* All at the beginning in one frame; those behind something that is held, in one each. */
static void write_channel_acks(struct talk_channel *channel)
{
    struct tag_ring *ring = &channel->deliveries;
    uint64_t last = 0, count = 0;
    for (uint8_t *state; (state = tag_ring_at(ring, ring->first)) && *state != TALK_HELD; ring->first++) {
        if (*state == TALK_ACKED) {
            last = ring->first;
            count++;
        }
        *state = TALK_SETTLED;
    }
    if (count)
        write_ack(channel, last, count > 1);
    channel->acked -= count;
    for (uint64_t tag = ring->first; channel->acked > 0 && tag < ring->next; tag++) {
        uint8_t *state = tag_ring_at(ring, tag);
        if (*state != TALK_ACKED)
            continue;
        *state = TALK_SETTLED;
        channel->acked--;
        write_ack(channel, tag, false);
    }
}

void talk_write_acks(struct talk *talk)
{
    if (talk->state != TALK_OPEN)
        return;
    for (struct talk_channel *channel = talk->channels; channel; channel = channel->next) {
        if (channel->state == TALK_CHANNEL_OPEN && channel->acked)
            write_channel_acks(channel);
    }
}
