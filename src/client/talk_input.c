/* What a broker says, one frame after the other. */
#include "client/talk_state.h"

static void malformed(struct talk *talk, const char *what)
{
    talk_finish(talk, TALK_END_MALFORMED, "the broker does not keep to AMQP 0-9-1: %s", what);
}

/* The connection. */

static void on_start(struct talk *talk, const struct amqp_method *start)
{
    uint8_t frame[LOGIN_FRAME_MAX];
    struct bytes properties = start->values[AMQP_CONNECTION_START_SERVER_PROPERTIES].bytes;
    login_product(properties, talk->product);
    talk->can_delay = login_is_capable(properties, "basic.nack-after");
    if (!login_is_offered(start)) {
        talk_finish(talk, TALK_END_REFUSED, "the broker does not let users log in with a password (PLAIN)");
        return;
    }
    size_t size = login_start_ok(frame, sizeof frame, &talk->uri, talk->name);
    if (size == 0) {
        talk_finish(talk, TALK_END_REFUSED, "the connection's name is too long");
        return;
    }
    talk_say(talk, frame, size);
    talk->expected = AMQP_CONNECTION_TUNE;
}

static void on_tune(struct talk *talk, const struct amqp_method *tune)
{
    uint8_t frame[LOGIN_FRAME_MAX];
    struct login_limits limits;
    size_t size = login_tune_ok(frame, sizeof frame, &talk->uri, tune, &limits);
    if (size == 0) {
        talk_finish(talk, TALK_END_MALFORMED, "the broker's largest frame is %u bytes, less than AMQP's smallest limit", limits.frame_max);
        return;
    }
    talk_say(talk, frame, size);
    talk_say(talk, frame, login_open(frame, sizeof frame, &talk->uri));
    talk->frame_max = limits.frame_max;
    talk->heartbeat_ms = limits.heartbeat_ms;
    talk->channel_max = limits.channel_max;
    talk->expected = AMQP_CONNECTION_OPEN_OK;
}

static void on_starting(struct talk *talk, const struct amqp_method *method)
{
    if (method->row->id != talk->expected) {
        malformed(talk, method->row->name);
    } else if (method->row->id == AMQP_CONNECTION_START) {
        on_start(talk, method);
    } else if (method->row->id == AMQP_CONNECTION_TUNE) {
        on_tune(talk, method);
    } else {
        talk->state = TALK_OPEN;
        if (talk->events.opened)
            talk->events.opened(talk->events.owner);
    }
}

static void on_connection_close(struct talk *talk, const struct amqp_method *method)
{
    struct bytes text = method->values[AMQP_CONNECTION_CLOSE_REPLY_TEXT].bytes;
    talk->reply_code = (unsigned)method->values[AMQP_CONNECTION_CLOSE_REPLY_CODE].number;
    talk_say_method(talk, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    if (talk->state == TALK_CLOSING)
        talk_finish(talk, TALK_END_GOODBYE, "the broker said goodbye, too");
    else if (talk->state == TALK_STARTING)
        talk_finish(talk, TALK_END_REFUSED, "the broker does not let us in: %u %.*s", talk->reply_code, (int)text.size, (const char *)text.data);
    else
        talk_finish(talk, TALK_END_CLOSED, "the broker closed the connection: %u %.*s", talk->reply_code, (int)text.size, (const char *)text.data);
}

static void on_connection_method(struct talk *talk, const struct amqp_method *method)
{
    uint32_t id = method->row->id;
    if (id == AMQP_CONNECTION_CLOSE) {
        on_connection_close(talk, method);
    } else if (talk->state == TALK_CLOSING) {
        if (id == AMQP_CONNECTION_CLOSE_OK)
            talk_finish(talk, TALK_END_GOODBYE, "closed");
    } else if (talk->state == TALK_STARTING) {
        on_starting(talk, method);
    } else if (id == AMQP_CONNECTION_BLOCKED || id == AMQP_CONNECTION_UNBLOCKED) {
        talk->blocked = id == AMQP_CONNECTION_BLOCKED;
        if (talk->events.blocked)
            talk->events.blocked(talk->events.owner, talk->blocked,
                                 talk->blocked ? method->values[AMQP_CONNECTION_BLOCKED_REASON].bytes : (struct bytes){0});
    } else {
        malformed(talk, method->row->name);
    }
}

/* A channel's methods. */

static void on_confirm(struct talk_channel *channel, uint64_t number, bool multiple, bool accepted)
{
    struct tag_ring *ring = &channel->publishes;
    uint64_t from = multiple ? ring->first : number;
    if (multiple && number == 0)
        number = ring->next - 1;   /* All so far (the specification's basic.ack, delivery-tag). */
    if (number < ring->first)
        return;                    /* Confirmed before. */
    if (number >= ring->next) {
        malformed(channel->talk, "a confirm of what was not published");
        return;
    }
    while (from <= number) {
        uint64_t first = from;
        for (uint8_t *state; from <= number && *(state = tag_ring_at(ring, from)) == 1; from++)
            *state = 0;
        uint64_t count = from - first;
        tag_ring_trim(ring);
        channel->unconfirmed -= count;
        if (count && channel->events.confirmed)
            channel->events.confirmed(channel->events.owner, first, from - 1, accepted);
        if (count == 0)
            from++;
        if (from < ring->first)
            from = ring->first;
    }
}

static void on_cancel(struct talk_channel *channel, const struct amqp_method *method)
{
    struct bytes tag = method->values[AMQP_BASIC_CANCEL_CONSUMER_TAG].bytes;
    struct amqp_value values[AMQP_BASIC_CANCEL_OK_COUNT] = {[AMQP_BASIC_CANCEL_OK_CONSUMER_TAG] = amqp_bytes(tag)};
    if (!method->values[AMQP_BASIC_CANCEL_NO_WAIT].number)
        talk_say_method(channel->talk, channel->number, AMQP_BASIC_CANCEL_OK, values);
    if (channel->events.cancelled)
        channel->events.cancelled(channel->events.owner, tag);
}

static void answer(const struct talk_waiting *waiting, const struct amqp_method *method)
{
    if (waiting->fetched)
        waiting->fetched(waiting->context, NULL, method == NULL);
    else if (waiting->answered)
        waiting->answered(waiting->context, method);
}

static void on_channel_close(struct talk_channel *channel, const struct amqp_method *method)
{
    struct talk_waiting waiting;
    talk_say_method(channel->talk, channel->number, AMQP_CHANNEL_CLOSE_OK, NULL);
    talk_channel_end(channel);
    while (talk_channel_answered(channel, &waiting))
        answer(&waiting, NULL);
    if (channel->events.closed)
        channel->events.closed(channel->events.owner, (unsigned)method->values[AMQP_CHANNEL_CLOSE_REPLY_CODE].number,
                               method->values[AMQP_CHANNEL_CLOSE_REPLY_TEXT].bytes);
}

static void on_answer(struct talk_channel *channel, const struct amqp_method *method)
{
    struct talk_waiting waiting;
    uint32_t id = method->row->id == AMQP_BASIC_GET_EMPTY ? AMQP_BASIC_GET_OK : method->row->id;
    if (channel->waiting_count == 0 || channel->waiting[channel->waiting_first].reply != id || !talk_channel_answered(channel, &waiting))
        malformed(channel->talk, method->row->name);
    else
        answer(&waiting, method);
}

static void on_channel_method(struct talk_channel *channel, const struct amqp_method *method)
{
    const struct amqp_value *values = method->values;
    switch (method->row->id) {
    case AMQP_BASIC_ACK:
        on_confirm(channel, values[AMQP_BASIC_ACK_DELIVERY_TAG].number, values[AMQP_BASIC_ACK_MULTIPLE].number, true);
        break;
    case AMQP_BASIC_NACK:
        on_confirm(channel, values[AMQP_BASIC_NACK_DELIVERY_TAG].number, values[AMQP_BASIC_NACK_MULTIPLE].number, false);
        break;
    case AMQP_BASIC_CANCEL:
        on_cancel(channel, method);
        break;
    case AMQP_CHANNEL_CLOSE:
        on_channel_close(channel, method);
        break;
    case AMQP_CHANNEL_FLOW: {
        struct amqp_value echo[AMQP_CHANNEL_FLOW_OK_COUNT] = {[AMQP_CHANNEL_FLOW_OK_ACTIVE] = values[AMQP_CHANNEL_FLOW_ACTIVE]};
        talk_say_method(channel->talk, channel->number, AMQP_CHANNEL_FLOW_OK, echo);
        break;
    }
    default:
        on_answer(channel, method);
    }
}

/* Messages. */

/* Delivery tags count from 1 on; false: this one does not. */
static bool note_delivery(struct talk_channel *channel, uint64_t tag, bool no_ack)
{
    struct talk *talk = channel->talk;
    if (tag != channel->deliveries.next)
        malformed(talk, "a delivery tag out of order");
    else if (tag_ring_add(&channel->deliveries, no_ack ? TALK_SETTLED : TALK_HELD))
        talk_finish(talk, TALK_END_MEMORY, "out of memory");
    else
        return true;
    return false;
}

static void on_message(struct talk_channel *channel)
{
    struct remote_message message;
    uint32_t kind = channel->arriving.method;
    arrival_message(&channel->arriving, &message);
    arrival_end(&channel->arriving);
    if (kind == AMQP_BASIC_RETURN) {
        if (channel->events.returned)
            channel->events.returned(channel->events.owner, &message);
    } else if (kind == AMQP_BASIC_DELIVER) {
        bool no_ack = channel->no_ack_tag[0] && bytes_equal(message.consumer_tag, bytes_of_text(channel->no_ack_tag));
        if (note_delivery(channel, message.delivery_tag, no_ack) && channel->events.delivered)
            channel->events.delivered(channel->events.owner, &message);
    } else {
        struct talk_waiting waiting;
        if (talk_channel_answered(channel, &waiting) && note_delivery(channel, message.delivery_tag, waiting.no_ack) && waiting.fetched)
            waiting.fetched(waiting.context, &message, false);
    }
}

static void on_arrival(struct talk_channel *channel, enum arrival_answer answered, bool is_body)
{
    struct talk *talk = channel->talk;
    switch (answered) {
    case ARRIVAL_MORE:
        break;
    case ARRIVAL_COMPLETE:
        on_message(channel);
        break;
    case ARRIVAL_OUT_OF_PLACE:
        malformed(talk, arrival_complaint(&channel->arriving, is_body));
        break;
    case ARRIVAL_TOO_LARGE:
        talk_finish(talk, TALK_END_MALFORMED, "a message of %llu bytes is too large for this program", (unsigned long long)channel->arriving.body_size);
        break;
    case ARRIVAL_NO_MEMORY:
        talk_finish(talk, TALK_END_MEMORY, "out of memory");
        break;
    }
}

static void on_content_method(struct talk_channel *channel, const struct amqp_method *method, struct bytes payload)
{
    uint32_t id = method->row->id;
    bool is_fetched = id == AMQP_BASIC_GET_OK && channel->waiting_count && channel->waiting[channel->waiting_first].reply == id;
    if (id != AMQP_BASIC_DELIVER && id != AMQP_BASIC_RETURN && !is_fetched)
        malformed(channel->talk, "a message that nobody asked for");
    else
        on_arrival(channel, arrival_begin(&channel->arriving, payload), false);
}

/* Frames. */

/* Of a channel that we have closed, all but its end is of no interest any more. */
static void on_frame_while_closing(struct talk_channel *channel, const struct amqp_method *method)
{
    if (method && method->row->id == AMQP_CHANNEL_CLOSE)
        talk_say_method(channel->talk, channel->number, AMQP_CHANNEL_CLOSE_OK, NULL);
    if (method && (method->row->id == AMQP_CHANNEL_CLOSE || method->row->id == AMQP_CHANNEL_CLOSE_OK))
        talk_channel_end(channel);
}

static void on_method(struct talk *talk, const struct amqp_frame *frame)
{
    struct amqp_method method;
    if (amqp_method_decode(frame->payload, &method) != AMQP_DECODED) {
        malformed(talk, method.row ? method.row->name : "a method without a name");
        return;
    }
    if ((frame->channel == 0) != (method.row->id >> 16 == 10)) {
        malformed(talk, "a method on the wrong channel");
        return;
    }
    if (frame->channel == 0) {
        on_connection_method(talk, &method);
        return;
    }
    struct talk_channel *channel = talk_channel_find(talk, frame->channel);
    if (talk->state == TALK_CLOSING)
        return;
    if (!channel && method.row->id == AMQP_CHANNEL_CLOSE_OK)
        return;                    /* Both sides closed it at the same time. */
    if (!channel)
        malformed(talk, "a frame on a channel that was not opened");
    else if (channel->state == TALK_CHANNEL_CLOSING)
        on_frame_while_closing(channel, &method);
    else if (channel->arriving.method)
        malformed(talk, "a method amid a message");
    else if (method.row->flags & AMQP_HAS_CONTENT)
        on_content_method(channel, &method, frame->payload);
    else
        on_channel_method(channel, &method);
}

static void on_content(struct talk *talk, const struct amqp_frame *frame)
{
    struct talk_channel *channel = frame->channel ? talk_channel_find(talk, frame->channel) : NULL;
    bool is_body = frame->type == AMQP_FRAME_BODY;
    if (talk->state == TALK_CLOSING)
        return;
    if (!channel)
        malformed(talk, "a frame on a channel that was not opened");
    else if (channel->state == TALK_CHANNEL_OPEN)
        on_arrival(channel, is_body ? arrival_body(&channel->arriving, frame->payload)
                                    : arrival_header(&channel->arriving, frame->payload, talk->body_max), is_body);
}

static void on_frame(struct talk *talk, const struct amqp_frame *frame)
{
    switch (frame->type) {
    case AMQP_FRAME_METHOD: on_method(talk, frame); break;
    case AMQP_FRAME_HEADER: case AMQP_FRAME_BODY: on_content(talk, frame); break;
    case AMQP_FRAME_HEARTBEAT: break;
    default: malformed(talk, "a frame of unknown type");
    }
}

static bool greets_well(struct talk *talk, struct bytes bytes)
{
    char complaint[128];
    if (login_greeting(bytes.data, complaint, sizeof complaint) == GW_OK)
        return true;
    talk_finish(talk, TALK_END_MALFORMED, "%s", complaint);
    return false;
}

size_t talk_read_frames(struct talk *talk, struct bytes bytes)
{
    size_t read = 0;
    if (!talk->greeted) {
        if (bytes.size < AMQP_PROTOCOL_HEADER_SIZE || !greets_well(talk, bytes))
            return 0;
        talk->greeted = true;
    }
    while (talk->state != TALK_ENDED) {
        struct amqp_frame frame;
        enum wire_answer answered = amqp_frame_read(bytes_of(bytes.data + read, bytes.size - read), talk->frame_max, &frame);
        if (answered == WIRE_MORE)
            break;
        if (answered == WIRE_BAD) {
            malformed(talk, "a frame too large or without its end");
            break;
        }
        on_frame(talk, &frame);
        read += frame.size;
    }
    return read;
}
