/* HTTP's door to the broker: one connection whose requests are the broker's verbs, sans-I/O.
 *
 *     gateway_new, gateway_addresses                  on accept
 *     gateway_feed                                    with what was received and what it left of it before
 *     gateway_output, writev, gateway_sent            when it has said `dirty` or was fed
 *     gateway_tick                                    once gateway_deadline has passed
 *     gateway_finished → close, gateway_free
 *
 * A request is authenticated (Basic), becomes a task, and is answered when the broker has done what it asks: a 2xx says that what was published is on disk. */
#ifndef PROTOCOL_GATEWAY_GATEWAY_H
#define PROTOCOL_GATEWAY_GATEWAY_H

#include "base/rate.h"
#include "protocol/http/session.h"

struct bus;
struct gateway;
struct ip_networks;
struct worker;

/* What the connections of one reactor share, borrowed for their lives. */
struct gateway_config {
    struct http_config http;
    uint64_t max_message_size;       /* bytes of a body */
    bool no_guest;                   /* who says no user is none, even on this machine */
    const char *origins;             /* of pages that may use it, see origin.h; NULL: none but its own */
    uint64_t upload_min;             /* bytes of a body from which on it goes to its place at once, see upload.h: as many as have a place of their own in the broker */
    struct rate_limit address_limit, user_limit;   /* requests of one address, of one user; none: any number … */
    struct rate_limit failure_limit; /* … and passwords and tokens of one address that were wrong; see pace.h */
    uint64_t gather_limit;           /* bytes of bodies that are still coming, of all connections together */
};
extern const struct gateway_config gateway_config_default;

struct gateway_hall {
    const struct gateway_config *config;
    struct worker *worker;
    struct http_host *host;          /* told of changes, with the connection's owner */
    uint64_t gathered;               /* bytes of bodies that are still coming */
    struct reception *reception;     /* what is received and not settled yet, see reception.h; NULL: nothing ever was */
    unsigned workers;                /* halls that there are; this one has its worker's index */
    struct idempotency *idempotency; /* answers that may be asked for again, see idempotency.h; NULL: there was none */
    struct listeners *listeners;     /* see event_stream.h; NULL: there was none */
    struct bus *bus;                 /* what drains subscriptions here; NULL: nothing does */
    struct intakes *intakes;         /* what runs the broker's own sources here; NULL: nothing does */
    const struct ip_networks *networks;   /* which sinks may be connected to: of all subscriptions, and of those made on this machine; NULL: any */
    const struct gateway_users *users;   /* who knows how often a user has asked; NULL: nobody */
    bool stopping;
    uint64_t seed, next_id;          /* of the ids that events get: a number that no other hall has, and how many there were */
};

/* Users' rates, which the halls of a program share. */
struct gateway_users {
    void *owner;
    struct rate *(*enter)(void *owner, struct bytes user, uint64_t now_us);   /* NULL: no memory */
    void (*leave)(void *owner, struct rate *rate, uint64_t now_us);
};

/* Texts are copied. */
struct gateway_addresses {
    const char *peer, *local;        /* hosts */
    const char *tls_version, *tls_cipher;   /* static; NULL: in the open */
    uint16_t peer_port, local_port;
    struct rates *rates;             /* of the peer's address, borrowed for the connection's life; NULL: nobody counts */
    bool from_loopback;
    bool is_http2;                   /* as was agreed with the peer; otherwise its first bytes say so */
};

/* GW_ERR_NOMEM. */
enum gw_err gateway_new(struct gateway_hall *hall, void *owner, const struct gateway_addresses *addresses, uint64_t now_us, struct gateway **gateway);
void gateway_free(struct gateway *gateway);

/* The hall's own: when it wants hall_tick at the latest, and what other reactors' halls have to say. hall_stop: the broker stops, nothing is held from now on. */
uint64_t hall_deadline(const struct gateway_hall *hall);
void hall_tick(struct gateway_hall *hall, uint64_t now_us);
void hall_letter(void *hall, unsigned from, struct bytes letter);
void hall_stop(struct gateway_hall *hall, uint64_t now_us);
/* After hall_stop, and the last connection. */
void hall_free(struct gateway_hall *hall);

/* See http/session.h. */
size_t gateway_feed(struct gateway *gateway, struct bytes in, uint64_t now_us);
bool gateway_wants_input(const struct gateway *gateway);
unsigned gateway_output(struct gateway *gateway, struct iovec *iov, unsigned room);
void gateway_sent(struct gateway *gateway, size_t size, uint64_t now_us);
uint64_t gateway_deadline(const struct gateway *gateway);
void gateway_tick(struct gateway *gateway, uint64_t now_us);
void gateway_ended(struct gateway *gateway, uint64_t now_us);
void gateway_shutdown(struct gateway *gateway, uint64_t now_us);
bool gateway_finished(const struct gateway *gateway);

#endif
