#include "server/service.h"

#include "base/err.h"
#include "bus/bus.h"
#include "bus/intakes.h"
#include "server/peer.h"
#include "server/visitors.h"

#include <stdlib.h>

#define FAREWELL_US 5000000u   /* how long peers have to answer connection.close when the broker stops … */
#define LINGER_US 1000000u     /* … and to read to the end after that */

/* ---- Shutdown ---- */

void shutdown_request(struct shutdown *shutdown)
{
    atomic_fetch_add(&shutdown->requests, 1);
    for (unsigned i = 0; i < shutdown->count; i++)
        reactor_wake(shutdown->services[i].reactor);
}

/* ---- A peer ---- */

/* Brings the connection and the deadline in line with what the session says. */
static void peer_follow(struct peer *peer)
{
    struct service *s = peer->service;
    bool pause = !peer->protocol->wants_input(peer->session);
    if (pause != peer->is_paused) {
        peer->is_paused = pause;
        if (pause)
            connection_pause(peer->connection);
        else
            connection_resume(peer->connection);
    }
    uint64_t deadline_us = peer->protocol->deadline(peer->session), now_us = reactor_now(s->reactor);
    wheel_set(&s->deadlines, &peer->deadline, deadline_us > now_us ? deadline_us : now_us);
    if (!peer->is_finished && peer->protocol->finished(peer->session)) {
        peer->is_finished = true;
        connection_finish(peer->connection);
    }
}

void peer_dirty(struct peer *peer)
{
    if (peer->is_dirty)
        return;
    peer->is_dirty = true;
    peer->dirty_next = peer->service->dirty;
    peer->service->dirty = peer;
}

struct peer *peer_new(struct service *s, struct connection *connection, const struct peer_protocol *protocol)
{
    struct peer *peer = s->stopping ? NULL : calloc(1, sizeof(*peer));
    if (!peer)
        return NULL;
    peer->service = s;
    peer->connection = connection;
    peer->protocol = protocol;
    return peer;
}

void peer_join(struct peer *peer, void *session)
{
    struct service *s = peer->service;
    peer->session = session;
    peer->next = s->peers;
    if (s->peers)
        s->peers->previous = peer;
    s->peers = peer;
    peer_follow(peer);
}

size_t peer_received(void *session, struct bytes input)
{
    struct peer *peer = session;
    size_t taken = peer->protocol->feed(peer->session, input, reactor_now(peer->service->reactor));
    connection_has_output(peer->connection);
    peer_follow(peer);
    return taken;
}

void peer_ended(void *session)
{
    struct peer *peer = session;
    peer->protocol->ended(peer->session, reactor_now(peer->service->reactor));
    connection_has_output(peer->connection);
    peer_follow(peer);
}

unsigned peer_output(void *session, struct iovec *iov, unsigned room)
{
    struct peer *peer = session;
    return peer->protocol->output(peer->session, iov, room);
}

void peer_sent(void *session, size_t size)
{
    struct peer *peer = session;
    peer->protocol->sent(peer->session, size, reactor_now(peer->service->reactor));
    peer_follow(peer);
    /* It may have given credit back, which the worker, whose turn is over, has yet to hear of. */
    reactor_again(peer->service->reactor);
}

void peer_closed(void *session, enum connection_end end)
{
    struct peer *peer = session;
    struct service *s = peer->service;
    (void)end;
    if (peer->is_dirty) {
        struct peer **place = &s->dirty;
        while (*place != peer)
            place = &(*place)->dirty_next;
        *place = peer->dirty_next;
    }
    if (peer->next)
        peer->next->previous = peer->previous;
    if (peer->previous)
        peer->previous->next = peer->next;
    else
        s->peers = peer->next;
    wheel_remove(&s->deadlines, &peer->deadline);
    peer->protocol->free(peer->session);
    free(peer);
    /* What it held goes back to its queues in the worker's next turn. */
    reactor_again(s->reactor);
}

/* ---- The turn ---- */

static void tick_due(struct service *s, uint64_t now_us)
{
    struct wheel_entry *entry;
    while ((entry = wheel_take(&s->deadlines, now_us))) {
        struct peer *peer = (struct peer *)entry;
        if (peer->protocol->deadline(peer->session) <= now_us) {
            peer->protocol->tick(peer->session, now_us);
            connection_has_output(peer->connection);
        }
        peer_follow(peer);
    }
}

static void settle_dirty(struct service *s)
{
    struct peer *peer = s->dirty;
    s->dirty = NULL;
    while (peer) {
        struct peer *next = peer->dirty_next;
        peer->is_dirty = false;
        connection_has_output(peer->connection);
        if (connection_is_congested(peer->connection)) {
            /* It tells us again only after it was asked; its output itself has to wait. */
            struct iovec unused;
            peer->protocol->output(peer->session, &unused, 1);
        }
        peer_follow(peer);
        peer = next;
    }
}

static void begin_stop(struct service *s, uint64_t now_us)
{
    s->stopping = true;
    hall_stop(&s->http.hall, now_us);
    bus_stop(s->bus);
    intakes_stop(s->intakes);
    s->stop_us = now_us + FAREWELL_US;
    reactor_stop_accepting(s->reactor);
    for (struct peer *peer = s->peers; peer; peer = peer->next) {
        peer->protocol->shutdown(peer->session, now_us);
        connection_has_output(peer->connection);
        peer_follow(peer);
    }
}

/* Ends the reactor once no service has connections any more, or time is up. */
static void go_on_stopping(struct service *s, uint64_t now_us)
{
    struct shutdown *all = s->shutdown;
    if (!s->peers && s->stop_us > now_us + LINGER_US)
        s->stop_us = now_us + LINGER_US;
    if (!s->drained && reactor_connections(s->reactor) == 0) {
        s->drained = true;
        if (atomic_fetch_add(&all->drained, 1) + 1 == all->count) {
            for (unsigned i = 0; i < all->count; i++)
                reactor_wake(all->services[i].reactor);
        }
    }
    if (atomic_load(&all->drained) == all->count || now_us >= s->stop_us || atomic_load(&all->requests) > 1)
        reactor_stop(s->reactor);
}

uint64_t service_turn(void *service, uint64_t now_us)
{
    struct service *s = service;
    host_receive(s->place);
    if (!s->stopping && atomic_load_explicit(&s->shutdown->requests, memory_order_relaxed) > 0)
        begin_stop(s, now_us);
    tick_due(s, now_us);
    host_clock(s->place, now_us);
    hall_tick(&s->http.hall, now_us);
    bus_tick(s->bus, now_us);
    intakes_tick(s->intakes, now_us);
    bool more = worker_turn(s->worker, now_us);
    settle_dirty(s);
    host_post(s->place);
    uint64_t deadline_us = worker_deadline(s->worker), next_us = wheel_next(&s->deadlines);
    if (next_us < deadline_us)
        deadline_us = next_us;
    next_us = hall_deadline(&s->http.hall);
    if (next_us < deadline_us)
        deadline_us = next_us;
    next_us = bus_deadline(s->bus);
    if (next_us < deadline_us)
        deadline_us = next_us;
    next_us = intakes_deadline(s->intakes);
    if (next_us < deadline_us)
        deadline_us = next_us;
    if (s->stopping) {
        go_on_stopping(s, now_us);
        if (s->stop_us < deadline_us)
            deadline_us = s->stop_us;
    }
    return more ? now_us : deadline_us;
}

bool service_enter(void *service, const struct sockaddr *peer, void **place)
{
    struct service *s = service;
    *place = visitors_enter(s->visitors, peer, reactor_now(s->reactor));
    return *place;
}

void service_leave(void *service, void *place)
{
    struct service *s = service;
    visitors_leave(s->visitors, place, reactor_now(s->reactor));
}

void service_init(struct service *s, unsigned index, struct shutdown *shutdown)
{
    *s = (struct service){.index = index, .shutdown = shutdown};
}
