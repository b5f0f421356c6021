/* The server's side of one HTTP connection, sans-I/O, of version 1.0, 1.1 or 2 (with prior knowledge, RFC 9113 section 3.3, or by ALPN): bytes and the time in, bytes
 * and calls of a service out.
 *
 *     http_session_new                                     on accept
 *     http_session_feed                                    with what was received and what it left of it before
 *     http_session_output, writev, http_session_sent       when it has said `dirty` or was fed
 *     http_session_tick                                    once http_session_deadline has passed
 *     http_session_finished → close, http_session_free
 */
#ifndef PROTOCOL_HTTP_SESSION_H
#define PROTOCOL_HTTP_SESSION_H

#include "base/err.h"
#include "protocol/http/call.h"

#include <sys/uio.h>

struct http_session;

/* Shared by sessions, borrowed for their lives. */
struct http_config {
    uint32_t streams_max;            /* HTTP/2: requests at a time; default 128 */
    uint32_t head_timeout_ms;        /* a request's head must have come in this time; 10 s */
    uint32_t body_timeout_ms;        /* nothing of a body for so long ends it; 30 s */
    uint32_t output_timeout_ms;      /* a peer that takes nothing of what waits for it for so long is given up; 30 s */
    uint32_t idle_timeout_ms;        /* a connection without a request is closed; 60 s */
    uint64_t output_limit;           /* bytes waiting for the peer above which no further request is looked at; 1 MiB */
    const char *server;              /* of the server header */
};
extern const struct http_config http_config_default;

/* What sessions have in common; borrowed for their lives. */
struct http_host {
    const struct http_config *config;
    const struct http_service *service;
    /* It has changed outside feed, sent and tick: look at it after this turn. Told once until the next http_session_output. */
    void (*dirty)(struct http_host *host, void *owner);
    /* The sessions' own: the time of day as one of them was last told, and the Date header of its second. */
    uint64_t wall_ms, dated_s;
    char date[30];
};

/* `owner` is given to `host`, `service_owner` is what http_session_owner answers. GW_ERR_NOMEM. */
enum gw_err http_session_new(struct http_host *host, void *owner, void *service_owner, struct chunk_pool *pool, uint64_t now_us, struct http_session **session);
void http_session_free(struct http_session *session);
/* It was agreed (ALPN) that this connection speaks HTTP/2: what begins otherwise is its error (RFC 9113 section 3.4). Before anything is fed. */
void http_session_agreed_2(struct http_session *session);
void *http_session_owner(const struct http_session *session);

/* Milliseconds since 1970, for the Date header of all sessions of the host; told now and then. */
void http_session_clock(struct http_session *session, uint64_t wall_ms);

/* Answers how many bytes it took; the rest is to be given again in front of what comes next, at once when it wants input again. */
size_t http_session_feed(struct http_session *session, struct bytes in, uint64_t now_us);
bool http_session_wants_input(const struct http_session *session);

unsigned http_session_output(struct http_session *session, struct iovec *iov, unsigned room);
void http_session_sent(struct http_session *session, size_t size, uint64_t now_us);

uint64_t http_session_deadline(const struct http_session *session);
void http_session_tick(struct http_session *session, uint64_t now_us);

/* The peer sends no more. */
void http_session_ended(struct http_session *session, uint64_t now_us);
bool http_session_finished(const struct http_session *session);

/* What is under way is answered, nothing new is begun. */
void http_session_shutdown(struct http_session *session, uint64_t now_us);

#endif
