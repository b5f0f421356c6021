#include "protocol/amqp/channel.h"

#include "protocol/amqp/consume.h"
#include "protocol/amqp/control.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/lateness.h"
#include "protocol/amqp/publish.h"
#include "protocol/amqp/requests.h"
#include "protocol/amqp/settle.h"
#include "protocol/amqp/tx.h"

#include <stdlib.h>

/* Requests that one channel may have under way. */
#define PIPELINE_MAX 4096u
/* A serial goes into the upper bits of confirm tags and request tags. */
#define SERIAL_MASK 0xFFFFFFu

/* ---- finding ------------------------------------------------------------------------------------------------------- */

/* The place in session->channels of the first whose number is at least `number`. */
static uint32_t place_of(const struct session *session, uint16_t number)
{
    uint32_t low = 0, high = session->channel_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (session->channels[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct channel *channel_find(struct session *session, uint16_t number)
{
    struct channel *last = session->last_channel;
    if (LIKELY(last && last->number == number))
        return last;
    uint32_t place = place_of(session, number);
    if (place == session->channel_count || session->channels[place]->number != number)
        return NULL;
    return session->last_channel = session->channels[place];
}

struct channel *channel_find_serial(struct session *session, uint16_t number, uint32_t serial)
{
    struct channel *channel = channel_find(session, number);
    return channel && channel->serial == serial ? channel : NULL;
}

/* ---- lifecycle ----------------------------------------------------------------------------------------------------- */

static struct channel *channel_new(struct session *session, uint16_t number)
{
    if (session->channel_count == session->channel_capacity) {
        uint32_t capacity = session->channel_capacity ? session->channel_capacity * 2 : 2;
        struct channel **channels = realloc(session->channels, capacity * sizeof(struct channel *));
        if (!channels)
            return NULL;
        session->channels = channels;
        session->channel_capacity = capacity;
    }
    struct channel *channel = calloc(1, sizeof(*channel));
    if (!channel)
        return NULL;
    channel->session = session;
    channel->number = number;
    channel->serial = session->next_serial = (session->next_serial + 1) & SERIAL_MASK;
    unacked_init(&channel->unacked);
    confirms_init(&channel->confirms);
    uint32_t place = place_of(session, number);
    memmove(session->channels + place + 1, session->channels + place, (session->channel_count - place) * sizeof(struct channel *));
    session->channels[place] = channel;
    session->channel_count++;
    return channel;
}

void channel_free(struct channel *channel)
{
    struct session *session = channel->session;
    uint32_t place = place_of(session, channel->number);
    CHECK(place < session->channel_count && session->channels[place] == channel);
    session->channel_count--;
    if (session->client.worker) {   /* otherwise it goes with its connection */
        const struct client_news news = {.event = CLIENT_CHANNEL_CLOSED, .channel = channel->number};
        client_channel_closed(&session->client);
        client_tell(&session->client, &news);
    }
    memmove(session->channels + place, session->channels + place + 1, (session->channel_count - place) * sizeof(struct channel *));
    if (session->last_channel == channel)
        session->last_channel = NULL;
    for (struct channel **at = &session->dirty_channels; *at; at = &(*at)->dirty_next) {
        if (*at == channel) {
            *at = channel->dirty_next;
            break;
        }
    }
    unacked_deinit(&channel->unacked);
    confirms_deinit(&channel->confirms);
    lateness_deinit(&channel->lateness);
    free(channel->last_queue);
    free(channel->reply_queue);
    free(channel);
}

void channel_release(struct channel *channel)
{
    publish_abort(channel);
    tx_abort(channel);
    consume_release(channel);
    settle_release(channel, channel->is_late ? SETTLE_TIMED_OUT : channel->session->is_forced ? SETTLE_FORCED : SETTLE_CLOSED);
}

void channel_released(struct channel *channel)
{
    CHECK(channel->releases > 0);
    if (--channel->releases > 0 || channel->state != CHANNEL_ASKED)
        return;
    struct session *session = channel->session;
    session_send(session, channel->number, AMQP_CHANNEL_CLOSE_OK, NULL);
    channel_free(channel);
}

void channel_dirty(struct channel *channel)
{
    if (channel->dirty)
        return;
    channel->dirty = true;
    channel->dirty_next = channel->session->dirty_channels;
    channel->session->dirty_channels = channel;
}

bool channel_set_last_queue(struct channel *channel, struct bytes name)
{
    char *copy = malloc(name.size + 1);
    if (!copy)
        return false;
    memcpy(copy, name.data, name.size);
    copy[name.size] = 0;
    free(channel->last_queue);
    channel->last_queue = copy;
    return true;
}

/* ---- channel.* ------------------------------------------------------------------------------------------------------ */

void channel_opened(struct channel *channel)
{
    struct amqp_value values[AMQP_CHANNEL_OPEN_OK_COUNT] = {amqp_text("")};
    const struct client_news news = {.event = CLIENT_CHANNEL_CREATED, .channel = channel->number};
    session_send(channel->session, channel->number, AMQP_CHANNEL_OPEN_OK, values);
    client_tell(&channel->session->client, &news);
}

/* The first method on a number that is not open. */
static void open_channel(struct session *session, uint16_t number, uint32_t id)
{
    struct channel *channel;
    if (session->channel_max && session->channel_count >= session->channel_max) {
        error_raise(session, NULL, AMQP_NOT_ALLOWED, 0, "number of channels opened (%u) has reached the negotiated channel_max (%u)",
                    session->channel_count, session->channel_max);
    } else if (id != AMQP_CHANNEL_OPEN) {
        error_raise(session, NULL, AMQP_CHANNEL_ERROR, id, "expected 'channel.open'");
    } else if (!(channel = channel_new(session, number))) {
        error_out_of_memory(session);
    } else if (client_channel_opened(&session->client)) {
        struct request request = {.kind = REQUEST_CHANNEL, .channel = number, .tag = request_tag(channel, 0)};
        channel->waiting++;
        client_request(&session->client, &request);
    } else {
        channel_opened(channel);
    }
}

static void close_asked(struct channel *channel)
{
    session_flush(channel->session);
    channel->state = CHANNEL_ASKED;
    channel->releases = 1;
    channel_release(channel);
    channel_released(channel);
}

/* A method for a channel that was closed because of an error. */
static void failed_method(struct channel *channel, uint32_t id)
{
    if (id == AMQP_CHANNEL_CLOSE)
        session_send(channel->session, channel->number, AMQP_CHANNEL_CLOSE_OK, NULL);
    else if (id == AMQP_CHANNEL_CLOSE_OK)
        channel_free(channel);
    else if (id == AMQP_CHANNEL_OPEN)
        error_raise(channel->session, NULL, AMQP_CHANNEL_ERROR, id, "second 'channel.open' seen");
}

static void flow(struct channel *channel, const struct amqp_method *method)
{
    if (!method->values[AMQP_CHANNEL_FLOW_ACTIVE].number) {
        error_raise(channel->session, channel, AMQP_NOT_IMPLEMENTED, AMQP_CHANNEL_FLOW, "active=false");
        return;
    }
    struct amqp_value values[AMQP_CHANNEL_FLOW_OK_COUNT] = {amqp_number(1)};
    session_send(channel->session, channel->number, AMQP_CHANNEL_FLOW_OK, values);
}

static void confirm_select(struct channel *channel, const struct amqp_method *method)
{
    if (channel->tx) {
        error_raise(channel->session, channel, AMQP_PRECONDITION_FAILED, AMQP_CONFIRM_SELECT, "cannot switch from tx to confirm mode");
        return;
    }
    channel->confirming = true;
    if (!method->values[AMQP_CONFIRM_SELECT_NO_WAIT].number)
        session_send(channel->session, channel->number, AMQP_CONFIRM_SELECT_OK, NULL);
}

/* ---- sending methods on ------------------------------------------------------------------------------------------------ */

static void do_other_method(struct channel *channel, const struct amqp_method *method)
{
    struct session *session = channel->session;
    struct amqp_value ticket[AMQP_ACCESS_REQUEST_OK_COUNT] = {amqp_number(1)};
    switch (method->row->id) {
    case AMQP_CHANNEL_OPEN: error_raise(session, channel, AMQP_CHANNEL_ERROR, AMQP_CHANNEL_OPEN, "second 'channel.open' seen"); break;
    case AMQP_CHANNEL_CLOSE: close_asked(channel); break;
    case AMQP_CHANNEL_FLOW: flow(channel, method); break;
    case AMQP_ACCESS_REQUEST: session_send(session, channel->number, AMQP_ACCESS_REQUEST_OK, ticket); break;
    case AMQP_CONFIRM_SELECT: confirm_select(channel, method); break;
    case AMQP_TX_SELECT: tx_select(channel); break;
    case AMQP_TX_COMMIT: tx_commit(channel); break;
    case AMQP_TX_ROLLBACK: tx_rollback(channel); break;
    default: error_raise(session, channel, AMQP_COMMAND_INVALID, method->row->id, "unimplemented method"); break;
    }
}

static void do_method(struct channel *channel, const struct amqp_method *method)
{
    switch (method->row->id) {
    case AMQP_EXCHANGE_DECLARE: case AMQP_EXCHANGE_DELETE: case AMQP_EXCHANGE_BIND: case AMQP_EXCHANGE_UNBIND:
    case AMQP_QUEUE_DECLARE: case AMQP_QUEUE_DELETE: case AMQP_QUEUE_BIND: case AMQP_QUEUE_UNBIND: case AMQP_QUEUE_PURGE:
        request_method(channel, method);
        break;
    case AMQP_BASIC_PUBLISH: publish_method(channel, method); break;
    case AMQP_BASIC_ACK: case AMQP_BASIC_NACK: case AMQP_BASIC_REJECT: case AMQP_BASIC_NACK_AFTER: case AMQP_BASIC_RECOVER: case AMQP_BASIC_RECOVER_ASYNC:
        settle_method(channel, method);
        break;
    case AMQP_BASIC_CONSUME: case AMQP_BASIC_CANCEL: case AMQP_BASIC_QOS: case AMQP_BASIC_GET:
        consume_method(channel, method);
        break;
    default: do_other_method(channel, method); break;
    }
}

/* Must the method wait until the broker has answered what the channel asked before? Some requests follow each other without. */
static bool must_wait(const struct channel *channel, const struct amqp_method *method)
{
    if (channel->waiting)
        return true;
    return channel->pipelined && (channel->pipelined >= PIPELINE_MAX || !request_is_pipelined(method));
}

/* Will the peer be answered? A mandatory publish may come back. */
static bool adds_output(const struct amqp_method *method)
{
    switch (method->row->id) {
    case AMQP_BASIC_ACK: case AMQP_BASIC_NACK: case AMQP_BASIC_REJECT: case AMQP_BASIC_NACK_AFTER: return false;
    case AMQP_BASIC_PUBLISH: return method->values[AMQP_BASIC_PUBLISH_MANDATORY].number;
    default: return true;
    }
}

/* Is nothing under way on the channel that a method would have to be judged by? */
static inline bool is_clear(const struct channel *channel)
{
    return channel && channel->state == CHANNEL_OPEN && !channel->content && !channel->waiting && !channel->pipelined;
}

/* Any method, by its row. */
__attribute__((noinline))
static bool decode_and_do(struct session *session, uint16_t number, struct channel *channel, struct bytes payload)
{
    struct amqp_method method;
    enum amqp_decoded decoded = amqp_method_decode(payload, &method);
    if (decoded != AMQP_DECODED) {
        error_raise_undecoded(session, &method, decoded, payload);
        return true;
    }
    if (!channel) {
        open_channel(session, number, method.row->id);
        return true;
    }
    if (channel->state == CHANNEL_FAILED) {
        failed_method(channel, method.row->id);
        return true;
    }
    if (channel->content) {
        publish_unexpected_frame(channel);
        return true;
    }
    if (must_wait(channel, &method) || (adds_output(&method) && session_is_choked(session)) ||
        (method.row->id == AMQP_BASIC_PUBLISH && !publish_allowed(session) && !control_is_request_method(&method)))
        return false;
    do_method(channel, &method);
    return true;
}

bool channel_method(struct session *session, uint16_t number, struct bytes payload)
{
    struct channel *channel = channel_find(session, number);
    if (amqp_method_id_read(payload.data) == AMQP_BASIC_ACK && payload.size == AMQP_ACK_FRAME_SIZE - AMQP_FRAME_OVERHEAD && is_clear(channel)) {
        /* Acks come as often as messages do: they are not worth the rows. */
        settle_tag(channel, amqp_ack_tag(payload.data), amqp_ack_flags(payload.data) & 1, SETTLE_ACK, AMQP_BASIC_ACK);
        return true;
    }
    if (channel && channel->state == CHANNEL_ASKED)
        return false;
    return decode_and_do(session, number, channel, payload);
}

void channel_describe(const struct session *session, const struct client_listener *listener)
{
    for (uint32_t i = 0; i < session->channel_count; i++) {
        const struct channel *channel = session->channels[i];
        if (channel->state != CHANNEL_OPEN)
            continue;
        listener->channel(listener->owner, &(struct client_channel){
            .number = channel->number, .transactional = channel->tx != NULL, .confirm = channel->confirming, .consumers = channel->consumer_count,
            .unacknowledged = channel->unacked.held, .acks_uncommitted = channel->unacked.parked,
            .unconfirmed = channel->confirming ? channel->confirms.next - channel->confirms.told : 0, .prefetch = channel->prefetch, .limit = channel->limit});
    }
}
