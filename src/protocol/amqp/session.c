#include "protocol/amqp/session.h"

#include "protocol/amqp/channel.h"
#include "protocol/amqp/consume.h"
#include "protocol/amqp/control.h"
#include "protocol/amqp/deliver.h"
#include "protocol/amqp/errors.h"
#include "protocol/amqp/handshake.h"
#include "protocol/amqp/input.h"
#include "protocol/amqp/lateness.h"
#include "protocol/amqp/publish.h"
#include "protocol/amqp/requests.h"
#include "protocol/amqp/settle.h"
#include "protocol/amqp/tx.h"

#include <stdlib.h>

#define SECOND_US 1000000ull
/* From the connection's first moment to connection.open-ok. */
#define LOGIN_TIMEOUT_US (10 * SECOND_US)

const struct session_config session_config_default = {
    .frame_max = 131072, .channel_max = 2047, .heartbeat_s = 60, .max_message_size = 128ull * 1024 * 1024, .consumer_timeout_ms = 1800000, .output_limit = 1024 * 1024,
    .version = GODWIT_VERSION};

/* ---- what the other files call -------------------------------------------------------------------------------------------------- */

void session_send(struct session *session, uint16_t channel, enum amqp_method_id id, const struct amqp_value *values)
{
    uint8_t frame[SESSION_METHOD_MAX] __attribute__((uninitialized));
    size_t size = amqp_method_frame(frame, sizeof(frame), channel, id, values);
    CHECK(size > 0);
    uint8_t *at = output_room(&session->output, size);
    if (!at)
        return;
    memcpy(at, frame, size);
    output_wrote(&session->output, at + size);
}

void session_dirty(struct session *session)
{
    if (session->told_dirty)
        return;
    session->told_dirty = true;
    if (session->host)
        session->host->dirty(session->host, session->owner);
}

static void tell_confirms(struct channel *channel)
{
    uint64_t upto;
    bool multiple, accepted;
    while (channel->state == CHANNEL_OPEN && confirms_tell(&channel->confirms, &upto, &multiple, &accepted)) {
        uint8_t *at = output_room(&channel->session->output, AMQP_ACK_FRAME_SIZE);
        if (!at)
            return;
        output_wrote(&channel->session->output, amqp_ack_write(at, channel->number, accepted ? AMQP_BASIC_ACK : AMQP_BASIC_NACK, upto, multiple));
    }
}

void session_flush(struct session *session)
{
    while (session->dirty_channels) {
        struct channel *channel = session->dirty_channels;
        session->dirty_channels = channel->dirty_next;
        channel->dirty = false;
        if (session->phase == PHASE_RUNNING)
            tell_confirms(channel);
    }
    if (session->owed_consumers && session->output.size < session->config->output_limit)
        consume_give_credit(session);
}

void session_release(struct session *session)
{
    for (uint32_t i = 0; i < session->channel_count; i++)
        channel_release(session->channels[i]);
}

void session_released(struct session *session)
{
    CHECK(session->releases > 0);
    if (--session->releases == 0 && session->phase == PHASE_CLOSING)
        handshake_close_ok(session);
}

void session_die(struct session *session)
{
    if (session->phase == PHASE_DEAD)
        return;
    session_release(session);
    session->phase = PHASE_DEAD;
    session_dirty(session);
}

/* After anything that may have produced output: when memory ran out, the connection ends. */
static void look_after(struct session *session)
{
    if (UNLIKELY(session->output.failed) && session->phase != PHASE_DEAD) {
        session_die(session);
        output_clear(&session->output);
    }
}

/* ---- the broker's answers ----------------------------------------------------------------------------------------------------------- */

static void on_deliver(struct client *client, const struct delivery *delivery)
{
    struct session *session = session_of(client);
    deliver_message(session, delivery);
    if (UNLIKELY(delivery->is_get))
        input_go_on(session);
}

static void on_replied(struct client *client, const struct reply *reply)
{
    struct session *session = session_of(client);
    struct channel *channel;
    session->now_us = worker_now(client->worker);
    switch (reply->kind) {
    case REQUEST_CONSUME: case REQUEST_CANCEL: case REQUEST_GET: consume_replied(session, reply); break;
    case REQUEST_CONTROL: control_replied(session, reply); break;
    case REQUEST_OPEN: handshake_opened(session, reply); break;
    case REQUEST_COMMIT:
        channel = channel_find(session, reply->channel);
        if (channel && channel->tx && channel->waiting && channel->state == CHANNEL_OPEN) {
            channel->waiting--;
            tx_committed(channel, reply);
        }
        break;
    default: request_replied(session, reply); break;
    }
    input_go_on(session);
}

static void on_confirmed(struct client *client, uint16_t number, uint64_t first, uint64_t count, bool accepted)
{
    struct session *session = session_of(client);
    struct channel *channel = channel_find_serial(session, number, publish_serial(first));
    if (!channel || channel->state != CHANNEL_OPEN)
        return;
    if (confirms_done(&channel->confirms, publish_sequence(first), count, accepted))
        error_out_of_memory(session);
    else
        channel_dirty(channel);
}

static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer)
{
    (void)channel;
    consume_cancelled(session_of(client), consumer);
}

static void on_resumed(struct client *client)
{
    struct session *session = session_of(client);
    session->now_us = session->received_us = worker_now(client->worker);
    input_go_on(session);
}

static void on_blocked(struct client *client, const char *reason)
{
    struct session *session = session_of(client);
    session->blocked_reason = reason;
    publish_tell_blocked(session);
}

static void on_closed(struct client *client, uint16_t code, struct bytes text)
{
    struct session *session = session_of(client);
    session->now_us = worker_now(client->worker);
    error_raise_text(session, NULL, code, 0, text);
    session_dirty(session);
}

static void on_turned(struct client *client)
{
    struct session *session = session_of(client);
    session->now_us = worker_now(client->worker);
    session_flush(session);
    look_after(session);
    if (session->output.size || session->phase == PHASE_DEAD)
        session_dirty(session);
}

static void on_describe(struct client *client, const struct client_listener *listener)
{
    const struct session *session = session_of(client);
    if (listener->channel)
        channel_describe(session, listener);
    if (listener->consumer)
        consume_describe(session, listener);
    for (uint32_t i = 0; listener->held && i < session->channel_count; i++)
        lateness_describe(session->channels[i], listener);
}

static const struct client_ops ops = {
    .deliver = on_deliver, .replied = on_replied, .confirmed = on_confirmed, .cancelled = on_cancelled, .resumed = on_resumed, .blocked = on_blocked, .closed = on_closed,
    .turned = on_turned, .describe = on_describe};

/* ---- lifecycle -------------------------------------------------------------------------------------------------------------------------- */

enum gw_err session_new(struct worker *worker, const struct session_config *config, struct session_host *host, void *owner, bool from_loopback, uint64_t now_us,
                        struct session **out)
{
    struct session *session = calloc(1, sizeof(*session));
    if (!session)
        return GW_ERR_NOMEM;
    session->config = config;
    session->host = host;
    session->owner = owner;
    session->from_loopback = from_loopback;
    session->now_us = session->started_us = session->received_us = session->sent_us = now_us;
    session->frame_max = AMQP_FRAME_MIN_SIZE;
    output_init(&session->output, worker_chunks(worker));
    enum gw_err err = client_attach(worker, &session->client, &ops);
    if (err) {
        free(session);
        return err;
    }
    *out = session;
    return GW_OK;
}

void session_addresses(struct session *session, struct session_address peer, struct session_address local)
{
    session->identity = identity_new(peer, local);
}

void session_watched(struct session *session, struct rate *failures) { session->failures = failures; }

void session_sealed(struct session *session, const struct session_seal *seal)
{
    identity_seal(session->identity, seal);
}

void session_free(struct session *session)
{
    session->host = NULL;
    /* Consumers need no cancelling: they go with the client. */
    for (uint32_t i = 0; i < session->channel_count; i++) {
        publish_abort(session->channels[i]);
        tx_abort(session->channels[i]);
        settle_release(session->channels[i], SETTLE_LOST);
    }
    request_forget_exclusive(session);
    consume_tell_gone(session);
    for (unsigned i = 0; i < session->channel_count; i++) {
        const struct client_news news = {.event = CLIENT_CHANNEL_CLOSED, .channel = session->channels[i]->number};
        client_tell(&session->client, &news);
    }
    client_detach(&session->client);
    consume_free_all(session);
    control_free_all(session);
    while (session->channel_count)
        channel_free(session->channels[session->channel_count - 1]);
    output_deinit(&session->output);
    input_deinit(session);
    free(session->channels);
    free(session->user);
    free(session->identity);
    free(session);
}

void session_feed(struct session *session, struct bytes in, uint64_t now_us)
{
    session->now_us = session->received_us = now_us;
    client_time(&session->client, now_us);
    input_feed(session, in);
    session_flush(session);
    look_after(session);
}

bool session_wants_input(const struct session *session)
{
    return !session->stalled && session->phase != PHASE_DEAD;
}

unsigned session_output(struct session *session, struct iovec *iov, unsigned room)
{
    session->told_dirty = false;
    return output_vectors(&session->output, iov, room);
}

void session_sent(struct session *session, size_t size, uint64_t now_us)
{
    session->now_us = session->sent_us = now_us;
    output_sent(&session->output, size);
    if (session->owed_consumers && session->output.size <= session->config->output_limit / 2)
        consume_give_credit(session);
    if (UNLIKELY(session->choked) && session->output.size <= SESSION_CHOKE_SIZE / 2) {
        session->choked = false;
        input_go_on(session);
        session_flush(session);
        look_after(session);
    }
}

bool session_finished(const struct session *session)
{
    return session->phase == PHASE_DEAD && session->output.size == 0;
}

void session_shutdown(struct session *session, uint64_t now_us)
{
    session->now_us = now_us;
    if (session->phase == PHASE_LEFT)
        session_die(session);
    error_raise(session, NULL, AMQP_CONNECTION_FORCED, 0, "broker forced connection closure with reason 'shutdown'");
    session_dirty(session);
}

/* ---- time --------------------------------------------------------------------------------------------------------------------------------- */

/* When the next heartbeat is to leave: half an interval after the last output; not while there is output that the peer does not take. */
static uint64_t heartbeat_due(const struct session *session)
{
    if (session->heartbeat_s == 0 || session->output.size || session->phase < PHASE_OPENING || session->phase > PHASE_RUNNING)
        return UINT64_MAX;
    return session->sent_us + session->heartbeat_s * SECOND_US / 2;
}

/* When the peer has missed two heartbeats; not while we do not read. */
static uint64_t silence_due(const struct session *session)
{
    if (session->heartbeat_s == 0 || session->stalled || session->phase < PHASE_OPENING || session->phase == PHASE_DEAD)
        return UINT64_MAX;
    return session->received_us + 2 * session->heartbeat_s * SECOND_US;
}

/* When a peer that has not come in, or not gone out, is given up. */
static uint64_t patience_due(const struct session *session)
{
    if (session->phase < PHASE_RUNNING)
        return session->started_us + LOGIN_TIMEOUT_US;
    return session->phase == PHASE_CLOSED || session->phase == PHASE_LEFT ? session->closing_us : UINT64_MAX;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t session_deadline(const struct session *session)
{
    uint64_t resume_due = session->resume_due_us ? session->resume_due_us : UINT64_MAX;
    uint64_t lateness_due = session->lateness_due_us ? session->lateness_due_us : UINT64_MAX;
    return earlier(earlier(heartbeat_due(session), resume_due), earlier(lateness_due, earlier(silence_due(session), patience_due(session))));
}

void session_tick(struct session *session, uint64_t now_us)
{
    session->now_us = now_us;
    if (silence_due(session) <= now_us || patience_due(session) <= now_us) {
        session_die(session);
        output_clear(&session->output);
        return;
    }
    if (session->resume_due_us && session->resume_due_us <= now_us)
        consume_resume_all(session);
    if (session->lateness_due_us && session->lateness_due_us <= now_us) {
        lateness_check(session);
        look_after(session);
    }
    if (heartbeat_due(session) <= now_us) {
        uint8_t *at = output_room(&session->output, AMQP_FRAME_OVERHEAD);
        if (at)
            output_wrote(&session->output, amqp_heartbeat_write(at));
        look_after(session);
    }
}
