/* A connection: one accepted socket on its reactor, and the session that speaks on it. Everything here happens on the reactor's thread.
 *
 * Life: accepted → received … output/sent … → (ended) → closed. Whatever happens, a session that `accepted` answered gets `closed`
 * exactly once, at the end of a turn, never from inside a connection_ verb. */
#ifndef RUNTIME_CONNECTION_H
#define RUNTIME_CONNECTION_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct connection;

enum connection_end {
    CONNECTION_FINISHED,   /* by connection_finish, after everything was sent */
    CONNECTION_LOST,       /* the peer reset it, or it broke */
    CONNECTION_ABORTED,    /* by connection_abort, or the peer would not take the last output in time */
    CONNECTION_STOPPED,    /* the reactor stops */
};

/* What a protocol does with its connections. */
struct connection_events {
    /* A new connection, with TLS once that is agreed on. Answers its session, NULL to refuse (the socket is closed without a word). */
    void *(*accepted)(void *owner, struct connection *connection);

    /* What the peer sent. Answers how many bytes were consumed; the rest (a part of a frame, or what a paused session would not take) is
     * presented again in front of what comes next. Not consuming more than the reactor's `tail_max` while not paused ends the connection. */
    size_t (*received)(void *session, struct bytes input);

    /* The peer will send no more, but may still read. The session may go on sending, and calls connection_finish when it is through.
     * NULL: that is done at once. */
    void (*ended)(void *session);

    /* What is to be sent, in order: fills in up to `room` vectors, answers how many; fewer than `room` means that this is all. They
     * stay valid until `sent`. Asked at the end of a turn in which connection_has_output was called, when the socket can take it. */
    unsigned (*output)(void *session, struct iovec *iov, unsigned room);

    /* The first `size` bytes of it have left. */
    void (*sent)(void *session, size_t size);

    /* It is over: the connection is not to be touched after this. */
    void (*closed)(void *session, enum connection_end end);
};

/* There is output: it will leave at the end of this turn. Cheap to call often. */
void connection_has_output(struct connection *connection);

/* Did the last write leave something behind, so that output has to wait for the peer? */
bool connection_is_congested(const struct connection *connection);

/* Backpressure: nothing is received until connection_resume. Bytes that are being presented may be left unconsumed. */
void connection_pause(struct connection *connection);
void connection_resume(struct connection *connection);

/* Sends what `output` still has (for a few seconds at most), then closes so that the peer can read it all. What it sends is discarded
 * from now on. */
void connection_finish(struct connection *connection);

/* Closes without sending anything more. */
void connection_abort(struct connection *connection);

/* What the reactor's `enter` has said of it. */
void *connection_place(const struct connection *connection);

/* The peer's and our own address; false (and an empty one) when the peer is gone already. */
bool connection_peer(const struct connection *connection, struct sockaddr_storage *address);
bool connection_local(const struct connection *connection, struct sockaddr_storage *address);

/* What was agreed on where there is TLS; false: there is none. Texts are static. */
struct connection_tls {
    const char *version, *cipher;   /* "TLSv1.3", "TLS_AES_256_GCM_SHA384" */
    char peer_name[256];            /* in the peer's certificate, which was verified; empty: it has shown none */
    bool is_http2;                  /* ALPN has chosen "h2" */
};
bool connection_tls(const struct connection *connection, struct connection_tls *tls);

/* Is the peer on this machine, judged by its address? */
bool connection_is_loopback(const struct connection *connection);

#endif
