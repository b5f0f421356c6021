/* What reactor.c and connection.c share; nobody else includes it. */
#ifndef RUNTIME_REACTOR_STATE_H
#define RUNTIME_REACTOR_STATE_H

#include "runtime/reactor.h"

#define INPUT_SIZE (256u * 1024u)        /* bytes that one read takes */
#define OUTPUT_VECTORS 256u              /* of one write */

/* Unconsumed input of one connection; exists only while there is any. */
struct tail {
    size_t begin, end, capacity;
    uint8_t data[];
};

enum connection_state {
    CONNECTION_ENDED = 1,       /* the peer sends no more */
    CONNECTION_PAUSED = 2,
    CONNECTION_CONGESTED = 4,   /* waits for room in the socket */
    CONNECTION_LISTED = 8,      /* in the reactor's list of those to look at in this turn */
    CONNECTION_FEED = 16,       /* its tail is to be presented again */
    CONNECTION_FINISHING = 32,
    CONNECTION_LINGERING = 64,  /* everything is sent and the session is gone; the peer's last words are discarded */
    CONNECTION_DEAD = 128,      /* to be closed at the end of the turn */
    CONNECTION_BROKEN = 256,    /* nothing can be sent any more; reading goes on to the end */
};

/* Kept small: thousands of them are idle. */
struct connection {
    uv_poll_t poll;
    struct reactor *reactor;
    const struct connection_events *events;
    void *session;                              /* NULL: none yet, or no more */
    struct tail *tail;
    struct connection *listed_next;
    struct connection *previous, *next;         /* among the open or the closing ones */
    uint64_t deadline_us;                       /* of a closing one */
    int socket;
    uint16_t state;
    uint8_t watched;                            /* uv_poll events asked for */
    uint8_t end;                                /* enum connection_end */
};

_Static_assert(sizeof(struct connection) <= 256, "an idle connection shall stay small");

struct connection_list {
    struct connection *first, *last;
};

struct listener {
    uv_poll_t poll;
    struct reactor *reactor;
    const struct connection_events *events;
    void *owner;
    struct listener *next;
    int socket;
};

struct reactor {
    struct reactor_config config;
    uv_loop_t loop;
    struct wake wake;
    uv_check_t check;       /* a turn after each look at the sockets */
    uv_idle_t again;        /* runs while the loop must not sleep */
    uv_timer_t timer;
    uv_thread_t thread;

    uint64_t now_us;
    bool now_is_fresh;
    bool again_is_on, again_wanted;
    bool stopping;
    bool accept_paused, accept_told;
    uint64_t accept_retry_us;
    uint64_t timer_us;      /* what the timer is set to; UINT64_MAX: off */

    struct listener *listeners;
    struct connection_list open, closing;     /* closing: in the order of their deadlines */
    struct connection *listed, **listed_last; /* to look at in this turn */
    unsigned count;

    uint8_t *memory;        /* tail_max bytes in front of `input` for a tail, then INPUT_SIZE bytes */
    uint8_t *input;
    struct iovec iov[OUTPUT_VECTORS];
};

/* ---- connection.c ---- */

/* Makes a connection of an accepted socket and tells events->accepted. False: no memory, or refused; the socket is closed. */
bool connection_new(struct reactor *reactor, const struct connection_events *events, void *owner, int socket);

/* Presents the tail of a connection that was resumed. */
void connection_feed_tail(struct connection *connection);

/* End of turn: sends, or closes a dead one. It is not listed. */
void connection_settle(struct connection *connection);

/* The end of whatever it was doing, at the end of the turn. */
void connection_kill(struct connection *connection, enum connection_end end);

/* ---- reactor.c ---- */

void reactor_list(struct reactor *reactor, struct connection *connection);
void reactor_connection_closed(struct reactor *reactor);

#endif
