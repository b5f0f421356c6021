#include "server/address.h"
#include "server/peer.h"
#include "server/visitors.h"

#include <stdlib.h>

static size_t feed(void *session, struct bytes input, uint64_t now_us) { return gateway_feed(session, input, now_us); }
static bool wants_input(const void *session) { return gateway_wants_input(session); }
static unsigned output(void *session, struct iovec *iov, unsigned room) { return gateway_output(session, iov, room); }
static void sent(void *session, size_t size, uint64_t now_us) { gateway_sent(session, size, now_us); }
static void ended(void *session, uint64_t now_us) { gateway_ended(session, now_us); }
static uint64_t deadline(const void *session) { return gateway_deadline(session); }
static void tick(void *session, uint64_t now_us) { gateway_tick(session, now_us); }
static void stop(void *session, uint64_t now_us) { gateway_shutdown(session, now_us); }
static bool finished(const void *session) { return gateway_finished(session); }
static void end(void *session) { gateway_free(session); }

static const struct peer_protocol protocol = {
    .feed = feed, .wants_input = wants_input, .output = output, .sent = sent, .ended = ended, .deadline = deadline, .tick = tick, .shutdown = stop,
    .finished = finished, .free = end,
};

static void on_dirty(struct http_host *host, void *owner)
{
    (void)host;
    peer_dirty(owner);
}

static void *accepted(void *owner, struct connection *connection)
{
    struct service *s = owner;
    struct sockaddr_storage remote, local;
    char remote_host[ADDRESS_TEXT_SIZE] = "", local_host[ADDRESS_TEXT_SIZE] = "";
    struct gateway_addresses addresses = {.peer = remote_host, .local = local_host, .from_loopback = connection_is_loopback(connection)};
    struct connection_tls tls;
    struct gateway *gateway;
    struct peer *peer = peer_new(s, connection, &protocol);
    if (!peer)
        return NULL;
    if (connection_peer(connection, &remote) && connection_local(connection, &local)) {
        address_host(&remote, remote_host);
        address_host(&local, local_host);
        addresses.peer_port = address_port(&remote);
        addresses.local_port = address_port(&local);
    }
    struct visitor *visitor = connection_place(connection);
    if (visitor)
        addresses.rates = &visitor->rates;
    if (connection_tls(connection, &tls)) {
        addresses.tls_version = tls.version;
        addresses.tls_cipher = tls.cipher;
        addresses.is_http2 = tls.is_http2;
    }
    if (gateway_new(&s->http.hall, peer, &addresses, reactor_now(s->reactor), &gateway) != GW_OK) {
        free(peer);
        return NULL;
    }
    peer_join(peer, gateway);
    return peer;
}

const struct connection_events service_http_events = {
    .accepted = accepted, .received = peer_received, .ended = peer_ended, .output = peer_output, .sent = peer_sent, .closed = peer_closed,
};

void service_http_init(struct service *s, const struct gateway_config *config, const struct gateway_users *users, uint64_t seed)
{
    s->http.host.dirty = on_dirty;
    s->http.hall = (struct gateway_hall){.config = config, .worker = s->worker, .host = &s->http.host, .workers = s->shutdown->count, .users = users, .seed = seed};
    worker_set_letters(s->worker, &(struct worker_letters){.take = hall_letter, .owner = &s->http.hall});
}
