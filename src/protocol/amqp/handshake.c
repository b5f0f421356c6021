#include "protocol/amqp/handshake.h"

#include "protocol/amqp/errors.h"
#include "protocol/amqp/requests.h"

#include <stdio.h>
#include <stdlib.h>

/* The header of 0-9, whose clients get along with 0-9-1. */
static const uint8_t header_0_9[AMQP_PROTOCOL_HEADER_SIZE] = {'A', 'M', 'Q', 'P', 1, 1, 0, 9};

/* How long a peer that was answered connection.close-ok may take to hang up. */
#define LEAVE_TIMEOUT_US (3 * 1000000ull)

/* ---- start ----------------------------------------------------------------------------------------------------------------------- */

/* Client libraries decide by product and version what a server does: kombu takes basic.qos for the specification's unless the product is RabbitMQ, and then Celery
 * stalls on tasks with an ETA. So these two say whose behaviour it is, of which version; who answers stands in `platform`. */
#define BEHAVES_LIKE "RabbitMQ"
#define BEHAVES_LIKE_VERSION "3.13.0"

static struct bytes server_properties(const struct session *session, uint8_t *room, size_t size)
{
    static const char *const capabilities[] = {
        "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked", "consumer_priorities",
        "authentication_failure_close", "per_consumer_qos", "direct_reply_to", "basic.nack-after"};
    struct amqp_table_writer writer;
    struct bytes table;
    amqp_table_begin(&writer, room, size);
    size_t mark = amqp_table_nest_begin(&writer, "capabilities");
    for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
        amqp_table_put_bool(&writer, capabilities[i], true);
    amqp_table_nest_end(&writer, mark);
    amqp_table_put_text(&writer, "cluster_name", bytes_of_text("godwit"));
    amqp_table_put_text(&writer, "copyright", bytes_of_text("Copyright (c) the Godwit authors"));
    amqp_table_put_text(&writer, "information", bytes_of_text("Licensed under the Apache License 2.0"));
    char platform[64];
    snprintf(platform, sizeof(platform), "Godwit %s", session->config->version);
    amqp_table_put_text(&writer, "platform", bytes_of_text(platform));
    amqp_table_put_text(&writer, "product", bytes_of_text(BEHAVES_LIKE));
    amqp_table_put_text(&writer, "version", bytes_of_text(BEHAVES_LIKE_VERSION));
    CHECK(amqp_table_finish(&writer, &table));
    return table;
}

size_t handshake_header(struct session *session, struct bytes in)
{
    enum wire_answer answer = amqp_protocol_header_read(in);
    bool is_0_9 = in.size >= sizeof(header_0_9) && memcmp(in.data, header_0_9, sizeof(header_0_9)) == 0;
    /* A wrong header is judged once it is whole, but what is not AMQP at all may never send eight bytes. */
    if (answer == WIRE_MORE || (answer == WIRE_BAD && in.size < AMQP_PROTOCOL_HEADER_SIZE && memcmp(in.data, "AMQP", in.size < 4 ? in.size : 4) == 0))
        return 0;
    if (answer == WIRE_BAD && !is_0_9) {
        uint8_t *at = output_room(&session->output, AMQP_PROTOCOL_HEADER_SIZE);
        if (at) {
            memcpy(at, amqp_protocol_header, AMQP_PROTOCOL_HEADER_SIZE);
            output_wrote(&session->output, at + AMQP_PROTOCOL_HEADER_SIZE);
        }
        session_die(session);
        return in.size;
    }
    uint8_t room[1024];
    struct amqp_value values[AMQP_CONNECTION_START_COUNT] = {
        [AMQP_CONNECTION_START_VERSION_MAJOR] = amqp_number(0), [AMQP_CONNECTION_START_VERSION_MINOR] = amqp_number(9),
        [AMQP_CONNECTION_START_SERVER_PROPERTIES] = amqp_bytes(server_properties(session, room, sizeof(room))),
        [AMQP_CONNECTION_START_MECHANISMS] = amqp_text(identity_peer_name(session->identity)[0] ? "EXTERNAL PLAIN AMQPLAIN" : "PLAIN AMQPLAIN"), [AMQP_CONNECTION_START_LOCALES] = amqp_text("en_US")};
    session->phase = PHASE_STARTING;
    session_send(session, 0, AMQP_CONNECTION_START, values);
    return AMQP_PROTOCOL_HEADER_SIZE;
}

/* ---- login ------------------------------------------------------------------------------------------------------------------------- */

/* RFC 4616: authorization identity, NUL, user, NUL, password. The first is to be empty or the user. */
static bool plain(struct bytes response, struct bytes *user, struct bytes *password)
{
    const uint8_t *end = response.data + response.size;
    const uint8_t *first = response.size ? memchr(response.data, 0, response.size) : NULL;
    const uint8_t *second = first ? memchr(first + 1, 0, (size_t)(end - first - 1)) : NULL;
    if (!second)
        return false;
    struct bytes identity = bytes_of(response.data, (size_t)(first - response.data));
    *user = bytes_of(first + 1, (size_t)(second - first - 1));
    *password = bytes_of(second + 1, (size_t)(end - second - 1));
    return identity.size == 0 || bytes_equal(identity, *user);
}

/* A field table without its size, of LOGIN and PASSWORD. */
static bool amqplain(struct bytes response, struct bytes *user, struct bytes *password)
{
    struct amqp_field login, secret;
    if (!amqp_table_valid(response) || !amqp_table_find(response, "LOGIN", &login) || login.type != 'S' ||
        !amqp_table_find(response, "PASSWORD", &secret) || secret.type != 'S')
        return false;
    *user = login.bytes;
    *password = secret.bytes;
    return true;
}

static void read_capabilities(struct session *session, struct bytes properties)
{
    struct amqp_field field;
    if (!amqp_table_find(properties, "capabilities", &field) || field.type != 'F')
        return;
    if (amqp_table_flag(field.bytes, "authentication_failure_close"))
        session->capabilities |= CLIENT_AUTHENTICATION_FAILURE_CLOSE;
    if (amqp_table_flag(field.bytes, "consumer_cancel_notify"))
        session->capabilities |= CLIENT_CONSUMER_CANCEL_NOTIFY;
    if (amqp_table_flag(field.bytes, "connection.blocked"))
        session->capabilities |= CLIENT_CONNECTION_BLOCKED;
}

/* After too many that were wrong no password is looked at, so that nobody tries them all, nor keeps the broker busy with it. The peer is told to come again, not that it was
 * refused: the wrong ones may have been another's at its address. */
static bool may_try(struct session *session)
{
    uint64_t wait_us = 0;
    if (!session->failures || rate_allows(session->failures, &session->config->failure_limit, session->now_us, &wait_us))
        return true;
    error_raise(session, NULL, AMQP_CONNECTION_FORCED, 0, "too many passwords from your address were wrong: log in again in %u s", (unsigned)(wait_us / 1000000) + 1);
    return false;
}

static void count_failure(struct session *session)
{
    uint64_t wait_us;
    if (session->failures)
        rate_take(session->failures, &session->config->failure_limit, session->now_us, &wait_us);
}

static void start_ok(struct session *session, const struct amqp_value *values)
{
    struct bytes mechanism = values[AMQP_CONNECTION_START_OK_MECHANISM].bytes, response = values[AMQP_CONNECTION_START_OK_RESPONSE].bytes;
    struct bytes user = {NULL, 0}, password = {NULL, 0};
    bool is_plain = bytes_equal(mechanism, bytes_of_text("PLAIN")), is_amqplain = bytes_equal(mechanism, bytes_of_text("AMQPLAIN"));
    char peer_name[UINT8_MAX + 1];
    snprintf(peer_name, sizeof(peer_name), "%s", identity_peer_name(session->identity));
    bool is_external = peer_name[0] && bytes_equal(mechanism, bytes_of_text("EXTERNAL"));
    read_capabilities(session, values[AMQP_CONNECTION_START_OK_CLIENT_PROPERTIES].bytes);
    identity_introduce(&session->identity, mechanism, values[AMQP_CONNECTION_START_OK_CLIENT_PROPERTIES].bytes);
    if (!is_plain && !is_amqplain && !is_external) {
        error_raise(session, NULL, AMQP_CHANNEL_ERROR, AMQP_CONNECTION_START_OK, "unsupported authentication mechanism '%.*s'", (int)mechanism.size,
                    (const char *)mechanism.data);
        return;
    }
    if (!is_external && !may_try(session))
        return;
    bool understood = is_external || (is_plain ? plain(response, &user, &password) : amqplain(response, &user, &password));
    if (is_external)
        user = bytes_of_text(peer_name);
    char room[IDENTITY_NAME_MAX];
    struct bytes name = identity_name(session->identity, room);
    session->client.name = name;
    bool known = understood && user.size <= UINT8_MAX &&
                 (is_external ? client_identify(&session->client, user, session->from_loopback)
                              : client_authenticate(&session->client, user, password, session->from_loopback));
    if (!known) {
        if (!is_external)
            count_failure(session);
        error_raise(session, NULL, AMQP_ACCESS_REFUSED, 0,
                    "Login was refused using authentication mechanism %.*s. For details see the broker logfile.", (int)mechanism.size, (const char *)mechanism.data);
        session->client.name = (struct bytes){0};
        return;
    }
    session->user = malloc(user.size + 1 + name.size);
    session->client.name = (struct bytes){0};
    if (!session->user) {
        session_die(session);
        return;
    }
    memcpy(session->user, user.data, user.size);
    session->user[user.size] = 0;
    session->user_size = (uint8_t)user.size;
    session->client.user = bytes_of(session->user, session->user_size);
    if (name.size)
        session->client.name = bytes_of(memcpy(session->user + user.size + 1, name.data, name.size), name.size);
    session->phase = PHASE_TUNING;
    struct amqp_value tune[AMQP_CONNECTION_TUNE_COUNT] = {
        [AMQP_CONNECTION_TUNE_CHANNEL_MAX] = amqp_number(session->config->channel_max), [AMQP_CONNECTION_TUNE_FRAME_MAX] = amqp_number(session->config->frame_max),
        [AMQP_CONNECTION_TUNE_HEARTBEAT] = amqp_number(session->config->heartbeat_s)};
    session_send(session, 0, AMQP_CONNECTION_TUNE, tune);
}

/* ---- tune -------------------------------------------------------------------------------------------------------------------------- */

/* Is the peer's value neither below `min` nor above what we proposed (0 stands for no limit on either side)? */
static bool negotiated(struct session *session, const char *name, uint64_t min, uint64_t proposed, uint64_t value)
{
    if (value != 0 && value < min) {
        error_raise(session, NULL, AMQP_NOT_ALLOWED, AMQP_CONNECTION_TUNE, "negotiated %s = %llu is lower than the minimum allowed value (%llu)", name,
                    (unsigned long long)value, (unsigned long long)min);
        return false;
    }
    if (proposed != 0 && (value == 0 || value > proposed)) {
        error_raise(session, NULL, AMQP_NOT_ALLOWED, AMQP_CONNECTION_TUNE, "negotiated %s = %llu%s is higher than the maximum allowed value (%llu)", name,
                    (unsigned long long)value, value ? "" : " (no limit)", (unsigned long long)proposed);
        return false;
    }
    return true;
}

static void tune_ok(struct session *session, const struct amqp_value *values)
{
    uint64_t frame_max = values[AMQP_CONNECTION_TUNE_OK_FRAME_MAX].number, channel_max = values[AMQP_CONNECTION_TUNE_OK_CHANNEL_MAX].number;
    if (!negotiated(session, "frame_max", AMQP_FRAME_MIN_SIZE, session->config->frame_max, frame_max) ||
        !negotiated(session, "channel_max", 1, session->config->channel_max, channel_max))
        return;
    session->frame_max = (uint32_t)frame_max;
    session->channel_max = (uint16_t)channel_max;
    session->heartbeat_s = (uint16_t)values[AMQP_CONNECTION_TUNE_OK_HEARTBEAT].number;
    session->phase = PHASE_OPENING;
}

/* ---- open -------------------------------------------------------------------------------------------------------------------------- */

static void open_vhost(struct session *session, const struct amqp_value *values)
{
    uint8_t room[IDENTITY_TABLE_MAX];
    const struct identity_terms terms = {session->frame_max, session->channel_max, session->heartbeat_s};
    struct request request = {.kind = REQUEST_OPEN, .name = values[AMQP_CONNECTION_OPEN_VIRTUAL_HOST].bytes, .source = session->client.user,
                              .arguments = identity_table(session->identity, &terms, room)};
    session->opening = true;
    client_request(&session->client, &request);
    free(session->identity);
    session->identity = NULL;
}

void handshake_opened(struct session *session, const struct reply *reply)
{
    session->opening = false;
    if (session->phase != PHASE_OPENING)
        return;
    if (reply->code) {
        error_raise_text(session, NULL, reply->code, AMQP_CONNECTION_OPEN, reply->text);
        return;
    }
    struct amqp_value ok[AMQP_CONNECTION_OPEN_OK_COUNT] = {amqp_text("")};
    session->phase = PHASE_RUNNING;
    session_send(session, 0, AMQP_CONNECTION_OPEN_OK, ok);
}

/* ---- the end ------------------------------------------------------------------------------------------------------------------------ */

void handshake_close_ok(struct session *session)
{
    session_send(session, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    session->phase = PHASE_LEFT;
    session->closing_us = session->now_us + LEAVE_TIMEOUT_US;
    session_dirty(session);
}

static void close_asked(struct session *session)
{
    session_flush(session);
    session->phase = PHASE_CLOSING;
    session->releases++;
    session_release(session);
    request_delete_exclusive(session);
    session_released(session);
}

void handshake_closed_method(struct session *session, uint32_t id)
{
    if (id == AMQP_CONNECTION_CLOSE)
        session_send(session, 0, AMQP_CONNECTION_CLOSE_OK, NULL);
    else if (id == AMQP_CONNECTION_CLOSE_OK && session->phase == PHASE_CLOSED)
        session_die(session);
}

/* ---- sending methods on -------------------------------------------------------------------------------------------------------------- */

/* RabbitMQ's names of the phases. */
static const char *phase_name(const struct session *session)
{
    switch (session->phase) {
    case PHASE_STARTING: return "starting";
    case PHASE_TUNING: return "tuning";
    case PHASE_OPENING: return "opening";
    default: return "running";
    }
}

void handshake_method(struct session *session, struct bytes payload)
{
    struct amqp_method method;
    uint32_t id = amqp_method_id_read(payload.data);
    enum amqp_decoded decoded = amqp_method_decode(payload, &method);
    if (decoded != AMQP_DECODED)
        error_raise_undecoded(session, &method, decoded, payload);
    else if (id == AMQP_CONNECTION_START_OK && session->phase == PHASE_STARTING)
        start_ok(session, method.values);
    else if (id == AMQP_CONNECTION_TUNE_OK && session->phase == PHASE_TUNING)
        tune_ok(session, method.values);
    else if (id == AMQP_CONNECTION_OPEN && session->phase == PHASE_OPENING)
        open_vhost(session, method.values);
    else if (id == AMQP_CONNECTION_CLOSE && session->phase == PHASE_RUNNING)
        close_asked(session);
    else if (id == AMQP_CONNECTION_UPDATE_SECRET && session->phase == PHASE_RUNNING)
        session_send(session, 0, AMQP_CONNECTION_UPDATE_SECRET_OK, NULL);
    else
        error_raise(session, NULL, AMQP_CHANNEL_ERROR, id, "unexpected method in connection state %s", phase_name(session));
}
