/* The server's side of one AMQP 0-9-1 connection, sans-I/O: bytes and the time in, bytes and the broker's verbs out.
 *
 * Whoever owns the socket (the reactor, the simulator, a test) calls, always on the worker's thread:
 *
 *     session_new                                          on accept
 *     session_feed                                         with what was received, while session_wants_input
 *     session_output, writev, session_sent                 at the end of a turn in which it was told to be dirty (or fed)
 *     session_tick                                         once session_deadline has passed
 *     session_finished → close the socket, session_free    after each of these; also session_free when the peer is gone
 *
 * The broker's answers arrive inside worker_turn; the session then tells `dirty` that it should be looked at after the turn. */
#ifndef PROTOCOL_AMQP_SESSION_H
#define PROTOCOL_AMQP_SESSION_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/rate.h"

#include <sys/uio.h>

struct worker;
struct session;

/* What the server offers. Shared by its sessions; borrowed for their lives. */
struct session_config {
    uint32_t frame_max;          /* bytes, frame header and end included */
    uint16_t channel_max;        /* channels open at a time */
    uint16_t heartbeat_s;        /* proposed; 0: none */
    uint64_t max_message_size;   /* bytes of body */
    uint64_t consumer_timeout_ms;   /* how long a delivery may wait for its ack, where the queue does not say; 0: for ever */
    struct rate_limit failure_limit;   /* passwords of one address that may be wrong; see session_watched */
    uint64_t output_limit;       /* bytes waiting to be sent above which consumers get nothing more until they have left */
    const char *version;         /* in the server's properties */
};

/* RabbitMQ's numbers: 131072, 2047, 60 s, 128 MiB; and 1 MiB of output. */
extern const struct session_config session_config_default;

struct session_host {
    /* Something changed outside session_feed: there is output, input is wanted again, the deadline has moved, or it is finished. Told once until the next
     * session_output. `owner` is session_new's. Called from inside worker_turn: only remember it. */
    void (*dirty)(struct session_host *host, void *owner);
};

/* `from_loopback`: the peer's address is the machine's own. GW_ERR_NOMEM, GW_ERR_LIMIT. */
enum gw_err session_new(struct worker *worker, const struct session_config *config, struct session_host *host, void *owner,
                        bool from_loopback, uint64_t now_us, struct session **session);

/* Where the connection comes from and to, as administrators are to see it: told before anything is fed. Borrowed until return. */
struct session_address {
    const char *host;            /* "127.0.0.1", "::1" */
    uint16_t port;
};
void session_addresses(struct session *session, struct session_address peer, struct session_address local);

/* Passwords of the peer's address that were wrong, by whatever protocol: once they are as many as the configuration allows, none is looked at until there is one again.
 * Borrowed for the session's life; told before anything is fed. */
void session_watched(struct session *session, struct rate *failures);

/* What TLS has agreed on, and the name in the client's certificate, if that was verified (empty: it has shown none), by which it may log in: told after the addresses,
 * before anything is fed. Texts are copied. */
struct session_seal {
    const char *version, *cipher, *peer_name;
};
void session_sealed(struct session *session, const struct session_seal *seal);

/* Gives back what the peer held unacknowledged and ends it. Not from inside a callback of the broker's. */
void session_free(struct session *session);

/* Takes all of `in` (borrowed until return). */
void session_feed(struct session *session, struct bytes in, uint64_t now_us);

/* False: stop reading the socket until `dirty` was told; what is fed nevertheless is kept. */
bool session_wants_input(const struct session *session);

/* What is to be sent, in order: fills in up to `room` vectors, returns how many. They stay valid until session_sent, session_feed or session_free. */
unsigned session_output(struct session *session, struct iovec *iov, unsigned room);

/* The first `size` bytes of it have left. */
void session_sent(struct session *session, size_t size, uint64_t now_us);

/* When session_tick must be called at the latest, monotonic microseconds; UINT64_MAX: never. */
uint64_t session_deadline(const struct session *session);
void session_tick(struct session *session, uint64_t now_us);

/* Everything is said and sent (or there is nobody left to say it to): the socket may be closed. */
bool session_finished(const struct session *session);

/* The broker shuts down: says so to the peer with connection.close (320) and waits for its answer. */
void session_shutdown(struct session *session, uint64_t now_us);

#endif
