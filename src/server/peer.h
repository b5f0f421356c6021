/* A peer: one client's connection and the session that speaks on it, whatever its protocol. */
#ifndef SERVER_PEER_H
#define SERVER_PEER_H

#include "server/service.h"

/* What a service does with the sessions of a protocol. Times are monotonic microseconds. */
struct peer_protocol {
    size_t (*feed)(void *session, struct bytes input, uint64_t now_us);
    bool (*wants_input)(const void *session);
    unsigned (*output)(void *session, struct iovec *iov, unsigned room);
    void (*sent)(void *session, size_t size, uint64_t now_us);
    void (*ended)(void *session, uint64_t now_us);
    uint64_t (*deadline)(const void *session);
    void (*tick)(void *session, uint64_t now_us);
    void (*shutdown)(void *session, uint64_t now_us);
    bool (*finished)(const void *session);
    void (*free)(void *session);
};

struct peer {
    struct wheel_entry deadline;      /* first: see tick_due */
    struct service *service;
    struct connection *connection;
    const struct peer_protocol *protocol;
    void *session;
    struct peer *dirty_next;
    struct peer *previous, *next;
    bool is_dirty, is_paused, is_finished;
};

/* NULL: out of memory, or no more are taken. Free it when no session can be made for it, otherwise have it join the others. */
struct peer *peer_new(struct service *service, struct connection *connection, const struct peer_protocol *protocol);
void peer_join(struct peer *peer, void *session);

/* Its session has something to say, or to be asked, after this turn. */
void peer_dirty(struct peer *peer);

/* For struct connection_events. */
size_t peer_received(void *peer, struct bytes input);
void peer_ended(void *peer);
unsigned peer_output(void *peer, struct iovec *iov, unsigned room);
void peer_sent(void *peer, size_t size);
void peer_closed(void *peer, enum connection_end end);

#endif
