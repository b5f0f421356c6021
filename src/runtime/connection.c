#include "base/err.h"
#include "runtime/reactor_state.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TAIL_COPY_MAX (16u * 1024u)       /* a longer tail is read onto rather than copied in front of each read */

static bool is(const struct connection *c, unsigned state)
{
    return c->state & state;
}

/* ---- Lists ---- */

static void list_append(struct connection_list *list, struct connection *c)
{
    c->next = NULL;
    c->previous = list->last;
    if (list->last)
        list->last->next = c;
    else
        list->first = c;
    list->last = c;
}

static void list_remove(struct connection_list *list, struct connection *c)
{
    if (c->previous)
        c->previous->next = c->next;
    else
        list->first = c->next;
    if (c->next)
        c->next->previous = c->previous;
    else
        list->last = c->previous;
}

static struct connection_list *list_of(struct connection *c)
{
    return is(c, CONNECTION_FINISHING) ? &c->reactor->closing : is(c, CONNECTION_SHAKING) ? &c->reactor->shaking : &c->reactor->open;
}

/* ---- Polling ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

/* Asks for the events that the state calls for. libuv makes each change cost two system calls, so it is called late, where
 * the state is settled, and a pause takes effect only when something arrives during it. */
static void watch(struct connection *c)
{
    unsigned wanted = 0;
    if (!is(c, CONNECTION_ENDED) && (!is(c, CONNECTION_PAUSED) || is(c, CONNECTION_FINISHING)))
        wanted |= UV_READABLE;
    if (is(c, CONNECTION_CONGESTED))
        wanted |= UV_WRITABLE;
    if (wanted == c->watched)
        return;
    c->watched = (uint8_t)wanted;
    if (wanted)
        uv_poll_start(&c->poll, (int)wanted, on_poll);
    else
        uv_poll_stop(&c->poll);
}

/* ---- The tail ---- */

static void tail_free(struct connection *c)
{
    free(c->tail);
    c->tail = NULL;
}

/* Keeps `size` bytes at `rest`, which may lie in the tail itself, as the tail. False: out of memory. */
static bool tail_keep(struct connection *c, const uint8_t *rest, size_t size)
{
    struct tail *tail = c->tail;
    if (size == 0) {
        tail_free(c);
        return true;
    }
    if (tail && rest >= tail->data && rest < tail->data + tail->capacity) {
        tail->begin = (size_t)(rest - tail->data);
        tail->end = tail->begin + size;
        return true;
    }
    /* A long one will be read onto, up to the longest that a session may leave. */
    size_t room = size > TAIL_COPY_MAX && size < c->reactor->config.tail_max ? c->reactor->config.tail_max : size;
    if (!tail || tail->capacity < size) {
        free(tail);
        c->tail = tail = malloc(sizeof(*tail) + room);
        if (!tail)
            return false;
        tail->capacity = room;
    }
    tail->begin = 0;
    tail->end = size;
    memcpy(tail->data, rest, size);
    return true;
}

/* Presents bytes to the session and keeps what it leaves. */
void connection_present(struct connection *c, const uint8_t *begin, size_t size)
{
    size_t consumed = c->events->received(c->session, bytes_of(begin, size));
    CHECK(consumed <= size);
    size_t rest = size - consumed;
    if (is(c, CONNECTION_FINISHING | CONNECTION_DEAD))
        tail_free(c);
    else if (rest > c->reactor->config.tail_max && !is(c, CONNECTION_PAUSED | CONNECTION_FEED))
        connection_kill(c, CONNECTION_ABORTED);
    else if (!tail_keep(c, begin + consumed, rest))
        connection_kill(c, CONNECTION_ABORTED);
}

void connection_feed_tail(struct connection *c)
{
    if (c->tail && !is(c, CONNECTION_PAUSED | CONNECTION_FINISHING | CONNECTION_DEAD))
        connection_present(c, c->tail->data + c->tail->begin, c->tail->end - c->tail->begin);
}

/* ---- Input ---- */

void connection_peer_ended(struct connection *c)
{
    c->state |= CONNECTION_ENDED;
    if (is(c, CONNECTION_LINGERING))
        connection_kill(c, CONNECTION_FINISHED);
    else if (is(c, CONNECTION_BROKEN | CONNECTION_SHAKING))
        connection_kill(c, CONNECTION_LOST);
    else if (is(c, CONNECTION_FINISHING))
        return;
    else if (c->events->ended)
        c->events->ended(c->session);
    else
        connection_finish(c);
}

/* Takes recv's answer into account: true when there are bytes to present. */
static bool has_input(struct connection *c, ssize_t got)
{
    if (got > 0)
        return true;
    if (got == 0)
        connection_peer_ended(c);
    else if (errno != EAGAIN && errno != EINTR)
        connection_kill(c, is(c, CONNECTION_LINGERING) ? CONNECTION_FINISHED : CONNECTION_LOST);
    return false;
}

static void discard(struct connection *c)
{
    has_input(c, recv(c->socket, c->reactor->input, INPUT_SIZE, 0));
}

/* A long tail: what comes goes behind it in its own memory, so that a peer who sends byte by byte does not make us copy it each time. Answers how much room
 * there is, 0: the tail is none of these. */
size_t connection_room_behind(struct connection *c)
{
    struct tail *tail = c->tail;
    size_t waiting = tail ? tail->end - tail->begin : 0;
    if (waiting <= TAIL_COPY_MAX || waiting >= tail->capacity)
        return 0;
    if (tail->begin > 0)
        memmove(tail->data, tail->data + tail->begin, waiting);
    tail->begin = 0;
    tail->end = waiting;
    return tail->capacity - waiting;
}

/* What came lies behind the `waiting` bytes of a tail, which are put in front of it. */
void connection_present_behind(struct connection *c, size_t size)
{
    struct reactor *r = c->reactor;
    size_t waiting = c->tail ? c->tail->end - c->tail->begin : 0;
    if (waiting > 0)
        memcpy(r->input - waiting, c->tail->data + c->tail->begin, waiting);
    connection_present(c, r->input - waiting, waiting + size);
}

static void receive(struct connection *c)
{
    struct reactor *r = c->reactor;
    if (c->tail && c->tail->end - c->tail->begin > r->config.tail_max) {
        /* Left over from a pause; the session has it presented again before anything new is read. */
        connection_present(c, c->tail->data + c->tail->begin, c->tail->end - c->tail->begin);
        return;
    }
    if (c->tls) {
        sealed_receive(c);
        return;
    }
    size_t room = connection_room_behind(c);
    ssize_t got = room ? recv(c->socket, c->tail->data + c->tail->end, room, 0) : recv(c->socket, r->input, INPUT_SIZE, 0);
    if (!has_input(c, got))
        return;
    if (room) {
        c->tail->end += (size_t)got;
        connection_present(c, c->tail->data, c->tail->end);
    } else {
        connection_present_behind(c, (size_t)got);
    }
}

/* Nothing can be sent any more. What arrived before is still to be read (it may be a publisher's last words), unless nobody wants it now. */
void connection_broken(struct connection *c)
{
    c->state |= CONNECTION_BROKEN;
    c->state &= (uint16_t)~CONNECTION_CONGESTED;
    if (is(c, CONNECTION_PAUSED | CONNECTION_ENDED | CONNECTION_FINISHING))
        connection_kill(c, CONNECTION_LOST);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct connection *c = poll->data;
    if (status < 0) {
        /* libuv has stopped polling. */
        c->watched = 0;
        events = UV_READABLE;
        connection_broken(c);
    }
    if (is(c, CONNECTION_DEAD))
        return;
    if (events & UV_READABLE) {
        if (is(c, CONNECTION_FINISHING))
            discard(c);
        else if (!is(c, CONNECTION_PAUSED | CONNECTION_ENDED))
            receive(c);
    }
    if ((events & UV_WRITABLE) && is(c, CONNECTION_CONGESTED)) {
        c->state &= (uint16_t)~CONNECTION_CONGESTED;
        reactor_list(c->reactor, c);
    }
    if (!is(c, CONNECTION_DEAD | CONNECTION_LISTED))
        watch(c);
}

/* ---- Output ---- */

/* Everything is sent. */
static void linger(struct connection *c)
{
    void *session = c->session;
    c->session = NULL;
    c->state |= CONNECTION_LINGERING;
    if (session)
        c->events->closed(session, CONNECTION_FINISHED);
    if (is(c, CONNECTION_ENDED) || shutdown(c->socket, SHUT_WR) != 0)
        connection_kill(c, CONNECTION_FINISHED);
}

/* True: nothing is left to be sent. */
static bool send_output(struct connection *c)
{
    struct reactor *r = c->reactor;
    if (c->tls)
        return sealed_send_output(c);
    size_t sent_in_turn = 0;
    for (;;) {
        unsigned count = c->events->output(c->session, r->iov, OUTPUT_VECTORS);
        size_t size = 0;
        for (unsigned i = 0; i < count; i++)
            size += r->iov[i].iov_len;
        if (size == 0)
            return true;
        struct msghdr message = {.msg_iov = r->iov, .msg_iovlen = count};
        ssize_t sent = count == 1 ? send(c->socket, r->iov->iov_base, r->iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                                  : sendmsg(c->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN) {
            connection_broken(c);
            return false;
        }
        if (sent > 0)
            c->events->sent(c->session, (size_t)sent);
        if (sent < 0 || (size_t)sent < size) {
            c->state |= CONNECTION_CONGESTED;
            return false;
        }
        if (is(c, CONNECTION_DEAD))
            return false;
        if (count < OUTPUT_VECTORS)
            return true;
        sent_in_turn += size;
        if (sent_in_turn >= TURN_OUTPUT_MAX) {
            reactor_list(r, c);
            return false;
        }
    }
}

static void destroy(struct connection *c);

void connection_settle(struct connection *c)
{
    if (!is(c, CONNECTION_DEAD | CONNECTION_BROKEN | CONNECTION_LINGERING | CONNECTION_CONGESTED) && send_output(c) &&
        is(c, CONNECTION_FINISHING) && !is(c, CONNECTION_LISTED))
        linger(c);
    if (is(c, CONNECTION_DEAD)) {
        /* Listed again meanwhile: it is destroyed when its turn in the list comes. */
        if (!is(c, CONNECTION_LISTED))
            destroy(c);
        return;
    }
    watch(c);
}

/* ---- Verbs ---- */

void connection_has_output(struct connection *c)
{
    if (!is(c, CONNECTION_LISTED | CONNECTION_CONGESTED))
        reactor_list(c->reactor, c);
}

bool connection_is_congested(const struct connection *c)
{
    return is(c, CONNECTION_CONGESTED);
}

void connection_pause(struct connection *c)
{
    c->state |= CONNECTION_PAUSED;
}

void connection_resume(struct connection *c)
{
    if (!is(c, CONNECTION_PAUSED))
        return;
    c->state &= (uint16_t)~CONNECTION_PAUSED;
    c->state |= CONNECTION_FEED;
    /* Listed even without a tail, so that polling goes on if it had stopped. */
    reactor_list(c->reactor, c);
}

void connection_finish(struct connection *c)
{
    if (is(c, CONNECTION_FINISHING | CONNECTION_DEAD))
        return;
    list_remove(list_of(c), c);
    c->state |= CONNECTION_FINISHING;
    list_append(list_of(c), c);
    c->deadline_us = reactor_now(c->reactor) + c->reactor->config.linger_ms * 1000ull;
    if (is(c, CONNECTION_BROKEN))
        connection_kill(c, CONNECTION_LOST);
    else
        connection_has_output(c);
}

void connection_abort(struct connection *c)
{
    connection_kill(c, CONNECTION_ABORTED);
}

void connection_kill(struct connection *c, enum connection_end end)
{
    if (is(c, CONNECTION_DEAD))
        return;
    c->state |= CONNECTION_DEAD;
    c->state &= (uint16_t)~CONNECTION_FEED;
    c->end = (uint8_t)end;
    reactor_list(c->reactor, c);
}

static bool address_of(const struct connection *c, struct sockaddr_storage *address,
                       int (*which)(int socket, struct sockaddr *address, socklen_t *size))
{
    socklen_t size = sizeof(*address);
    memset(address, 0, sizeof(*address));
    return which(c->socket, (struct sockaddr *)address, &size) == 0;
}

bool connection_peer(const struct connection *c, struct sockaddr_storage *address)
{
    return address_of(c, address, getpeername);
}

bool connection_local(const struct connection *c, struct sockaddr_storage *address)
{
    return address_of(c, address, getsockname);
}

void *connection_place(const struct connection *c) { return c->place; }

bool connection_tls(const struct connection *c, struct connection_tls *tls)
{
    if (!c->tls)
        return false;
    tls->version = tls_version(c->tls);
    tls->cipher = tls_cipher(c->tls);
    tls_peer_name(c->tls, tls->peer_name);
    tls->is_http2 = tls_is_http2(c->tls);
    return true;
}

bool connection_is_loopback(const struct connection *c)
{
    struct sockaddr_storage peer;
    if (!connection_peer(c, &peer))
        return false;
    if (peer.ss_family == AF_INET)
        return (ntohl(((struct sockaddr_in *)&peer)->sin_addr.s_addr) >> 24) == 127;
    return peer.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&peer)->sin6_addr);
}

/* TLS is agreed on. */
void connection_shaken(struct connection *c)
{
    list_remove(list_of(c), c);
    c->state &= (uint16_t)~CONNECTION_SHAKING;
    list_append(list_of(c), c);
    connection_begin(c, tls_context(c->tls));
}

/* ---- Life ---- */

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void destroy(struct connection *c)
{
    void *session = c->session;
    c->session = NULL;
    if (session)
        c->events->closed(session, c->end);
    list_remove(list_of(c), c);
    tail_free(c);
    tls_free(c->tls);
    if (c->reactor->config.leave)
        c->reactor->config.leave(c->reactor->config.owner, c->place);
    uv_close((uv_handle_t *)&c->poll, on_closed);
    close(c->socket);
    reactor_connection_closed(c->reactor);
}

/* Its protocol hears of it. */
void connection_begin(struct connection *c, void *owner)
{
    c->session = c->events->accepted(owner, c);
    if (!c->session)
        connection_kill(c, CONNECTION_ABORTED);
}

bool connection_new(const struct listener *listener, int s, void *place)
{
    int on = 1;
    struct reactor *r = listener->reactor;
    struct connection *c = calloc(1, sizeof(*c));
    if (!c)
        goto err_after_socket;
    c->reactor = r;
    c->events = listener->events;
    c->socket = s;
    c->place = place;
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (listener->keys) {
        c->tls = tls_new(listener->keys, &r->tls, listener->owner);
        if (!c->tls)
            goto err_after_alloc;
        c->state = CONNECTION_SHAKING;
        c->deadline_us = reactor_now(r) + r->config.handshake_ms * 1000ull;
    }
    if (uv_poll_init_socket(&r->loop, &c->poll, s) != 0)
        goto err_after_alloc;
    c->poll.data = c;
    list_append(list_of(c), c);
    r->count++;
    if (!c->tls)
        connection_begin(c, listener->owner);
    if (is(c, CONNECTION_DEAD))
        return false;
    watch(c);
    return true;

err_after_alloc:
    tls_free(c->tls);
    free(c);
err_after_socket:
    if (r->config.leave)
        r->config.leave(r->config.owner, place);
    close(s);
    return false;
}
