/* How a connection with TLS receives and sends. */
#include "runtime/reactor_state.h"

#include <errno.h>
#include <unistd.h>

static bool is(const struct connection *c, unsigned state)
{
    return c->state & state;
}

/* Sends what is sealed. False: the socket takes no more now, or it is broken. */
static bool flush(struct connection *c)
{
    struct bytes sealed;
    while ((sealed = tls_sealed(c->tls)).size > 0) {
        ssize_t sent = send(c->socket, sealed.data, sealed.size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN) {
            connection_broken(c);
            return false;
        }
        if (sent > 0)
            tls_sent(c->tls, (size_t)sent);
        if (sent < 0 || (size_t)sent < sealed.size) {
            c->state |= CONNECTION_CONGESTED;
            return false;
        }
    }
    return true;
}

/* Nobody can be told anything more but the alert that says so, which still leaves. */
static void give_up(struct connection *c)
{
    if (is(c, CONNECTION_SHAKING))
        reactor_tell_failed_handshake(c->reactor, c, tls_complaint(c->tls));
    c->state |= CONNECTION_SEVERED;
    connection_finish(c);
}

/* ---- Input ---- */

/* Reads once, into `room` of `size` bytes with TLS_SLACK among them; *got bytes came out. */
static enum tls_result receive_into(struct connection *c, uint8_t *room, size_t size, size_t *got)
{
    uint8_t *input = c->reactor->tls.input;
    size_t most = size - TLS_SLACK < TLS_INPUT_SIZE ? size - TLS_SLACK : TLS_INPUT_SIZE;
    ssize_t came = recv(c->socket, input, most, 0);
    *got = 0;
    if (came > 0)
        return tls_open(c->tls, bytes_of(input, (size_t)came), room, size, got);
    /* An end that TLS does not speak of may be anybody's doing. */
    if (came == 0 || (errno != EAGAIN && errno != EINTR))
        connection_kill(c, CONNECTION_LOST);
    return TLS_OK;
}

void sealed_receive(struct connection *c)
{
    size_t room = connection_room_behind(c), got;
    bool behind = room > 4 * TLS_SLACK;
    enum tls_result result =
        behind ? receive_into(c, c->tail->data + c->tail->end, room, &got) : receive_into(c, c->reactor->input, INPUT_SIZE, &got);
    /* Answers of TLS's own; they leave with what the session has to say. */
    if (tls_sealed(c->tls).size > 0)
        connection_has_output(c);
    if (is(c, CONNECTION_SHAKING) && tls_is_ready(c->tls))
        connection_shaken(c);
    if (got > 0 && !is(c, CONNECTION_DEAD | CONNECTION_FINISHING)) {
        if (behind) {
            c->tail->end += got;
            connection_present(c, c->tail->data, c->tail->end);
        } else {
            connection_present_behind(c, got);
        }
    }
    if (result == TLS_FAILED)
        give_up(c);
    else if (result == TLS_ENDED && !is(c, CONNECTION_DEAD | CONNECTION_FINISHING))
        connection_peer_ended(c);
}

/* ---- Output ---- */

/* Seals and sends what the session has to say. True: it has said everything, and that has left. */
static bool send_session(struct connection *c)
{
    struct reactor *r = c->reactor;
    size_t sent_in_turn = 0;
    for (;;) {
        unsigned count = c->events->output(c->session, r->iov, OUTPUT_VECTORS);
        size_t size = 0, taken;
        for (unsigned i = 0; i < count; i++)
            size += r->iov[i].iov_len;
        if (size == 0)
            return true;
        if (!tls_seal(c->tls, r->iov, count, &taken)) {
            connection_broken(c);
            return false;
        }
        c->events->sent(c->session, taken);
        if (!flush(c) || is(c, CONNECTION_DEAD))
            return false;
        if (taken == size && count < OUTPUT_VECTORS)
            return true;
        sent_in_turn += taken;
        if (sent_in_turn >= TURN_OUTPUT_MAX) {
            reactor_list(r, c);
            return false;
        }
    }
}

bool sealed_send_output(struct connection *c)
{
    if (!flush(c))
        return false;
    if (c->session && !is(c, CONNECTION_SEVERED) && !send_session(c))
        return false;
    if (is(c, CONNECTION_FINISHING) && !is(c, CONNECTION_LISTED))
        tls_say_end(c->tls);
    return flush(c);
}
