#include "server/address.h"
#include "server/peer.h"
#include "server/visitors.h"

#include <stdlib.h>

static size_t feed(void *session, struct bytes input, uint64_t now_us)
{
    session_feed(session, input, now_us);
    return input.size;
}

static bool wants_input(const void *session) { return session_wants_input(session); }
static unsigned output(void *session, struct iovec *iov, unsigned room) { return session_output(session, iov, room); }
static void sent(void *session, size_t size, uint64_t now_us) { session_sent(session, size, now_us); }
static uint64_t deadline(const void *session) { return session_deadline(session); }
static void tick(void *session, uint64_t now_us) { session_tick(session, now_us); }
static void stop(void *session, uint64_t now_us) { session_shutdown(session, now_us); }
static bool finished(const void *session) { return session_finished(session); }
static void end(void *session) { session_free(session); }

static const struct peer_protocol protocol = {
    .feed = feed, .wants_input = wants_input, .output = output, .sent = sent, .deadline = deadline, .tick = tick, .shutdown = stop, .finished = finished,
    .free = end,
};

static void on_dirty(struct session_host *host, void *owner)
{
    (void)host;
    peer_dirty(owner);
}

static void tell_addresses(struct session *session, struct connection *connection)
{
    struct sockaddr_storage remote, local;
    char remote_host[ADDRESS_TEXT_SIZE], local_host[ADDRESS_TEXT_SIZE];
    if (!connection_peer(connection, &remote) || !connection_local(connection, &local))
        return;
    address_host(&remote, remote_host);
    address_host(&local, local_host);
    session_addresses(session, (struct session_address){remote_host, address_port(&remote)}, (struct session_address){local_host, address_port(&local)});
}

static void tell_seal(struct session *session, struct connection *connection)
{
    struct connection_tls tls;
    if (connection_tls(connection, &tls))
        session_sealed(session, &(struct session_seal){.version = tls.version, .cipher = tls.cipher, .peer_name = tls.peer_name});
}

static void *accepted(void *owner, struct connection *connection)
{
    struct service *s = owner;
    struct session *session;
    struct peer *peer = peer_new(s, connection, &protocol);
    if (!peer)
        return NULL;
    if (session_new(s->worker, s->amqp.config, &s->amqp.host, peer, connection_is_loopback(connection), reactor_now(s->reactor), &session) != GW_OK) {
        free(peer);
        return NULL;
    }
    tell_addresses(session, connection);
    tell_seal(session, connection);
    struct visitor *visitor = connection_place(connection);
    if (visitor)
        session_watched(session, &visitor->rates.failures);
    peer_join(peer, session);
    return peer;
}

/* A client that sends no more is gone: `ended` is left out. */
const struct connection_events service_amqp_events = {
    .accepted = accepted, .received = peer_received, .output = peer_output, .sent = peer_sent, .closed = peer_closed,
};

void service_amqp_init(struct service *s, const struct session_config *config)
{
    s->amqp = (struct amqp_door){.host = {.dirty = on_dirty}, .config = config};
}
