/* What reactor.c and connection.c share; nobody else includes it. */
#ifndef RUNTIME_REACTOR_STATE_H
#define RUNTIME_REACTOR_STATE_H

#include "runtime/reactor.h"
#include "runtime/tls.h"

#define INPUT_SIZE (256u * 1024u)        /* bytes that one read takes */
#define OUTPUT_VECTORS 256u              /* of one write */
#define TURN_OUTPUT_MAX (1024u * 1024u)   /* bytes sent for one connection in a turn, so that others have theirs */

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
    CONNECTION_SHAKING = 512,   /* TLS is being agreed on; there is no session before that */
    CONNECTION_SEVERED = 1024,  /* TLS has failed: the session is not asked any more */
};

/* Kept small: thousands of them are idle. */
struct connection {
    uv_poll_t poll;
    struct reactor *reactor;
    const struct connection_events *events;
    void *session;                              /* NULL: none yet, or no more */
    struct tail *tail;
    struct tls *tls;                            /* NULL: in the open */
    void *place;                                /* the reactor's `enter`'s */
    struct connection *listed_next;
    struct connection *previous, *next;         /* among the open, the closing or the shaking ones */
    uint64_t deadline_us;                       /* of a closing or a shaking one */
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
    struct tls_keys *keys;  /* NULL: connections are in the open */
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
    struct connection_list open;
    struct connection_list closing, shaking;  /* in the order of their deadlines */
    struct connection *listed, **listed_last; /* to look at in this turn */
    unsigned count;

    uint8_t *memory;        /* tail_max bytes in front of `input` for a tail, then INPUT_SIZE bytes */
    uint8_t *input;
    struct iovec iov[OUTPUT_VECTORS];
    struct tls_pool tls;
    uint64_t shake_told_us; /* when a handshake that failed was last told of … */
    unsigned shake_untold;  /* … and how many have since */
};

/* ---- connection.c ---- */

/* Makes a connection of a socket that `listener` accepted and tells events->accepted, with TLS once that is agreed on. False: no memory, or refused; the socket is closed. */
bool connection_new(const struct listener *listener, int socket, void *place);

/* Presents the tail of a connection that was resumed. */
void connection_feed_tail(struct connection *connection);

/* End of turn: sends, or closes a dead one. It is not listed. */
void connection_settle(struct connection *connection);

/* The end of whatever it was doing, at the end of the turn. */
void connection_kill(struct connection *connection, enum connection_end end);

/* For connection_sealed.c. Presents bytes and keeps what the session leaves; the same of `size` bytes in the reactor's input, behind the tail. */
void connection_present(struct connection *connection, const uint8_t *begin, size_t size);
void connection_present_behind(struct connection *connection, size_t size);
/* Room in a long tail's own memory; 0: it is none. */
size_t connection_room_behind(struct connection *connection);
/* The peer has ended; nothing can be sent any more. */
void connection_peer_ended(struct connection *connection);
void connection_broken(struct connection *connection);
/* The protocol hears of the connection, which is killed if it refuses it: at once, or when TLS is agreed on. */
void connection_begin(struct connection *connection, void *owner);
void connection_shaken(struct connection *connection);

/* ---- connection_sealed.c: the same with TLS ---- */

void sealed_receive(struct connection *connection);
bool sealed_send_output(struct connection *connection);

/* ---- reactor.c ---- */

void reactor_list(struct reactor *reactor, struct connection *connection);
void reactor_connection_closed(struct reactor *reactor);
/* One line about handshakes that fail, however many do. */
void reactor_tell_failed_handshake(struct reactor *reactor, const struct connection *connection, const char *cause);

#endif
