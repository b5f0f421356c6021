/* What an HTTP session is made of: for the files of this folder that make it up. */
#ifndef PROTOCOL_HTTP_SESSION_STATE_H
#define PROTOCOL_HTTP_SESSION_STATE_H

#include "protocol/amqp/output.h"
#include "protocol/http/chunked.h"
#include "protocol/http/session.h"

struct h2;

/* HTTP/1: the request under way. */
struct h1 {
    uint32_t seen;                   /* bytes of a head that were looked at already */
    bool whole, busy;                /* the request is; in feed: calls are ended by it */
    bool is_chunked;
    bool keep, streaming;            /* the connection outlives the answer; it is sent in chunks */
    union {
        struct http_chunked *chunked;   /* of a body in chunks; it lies behind the request's head */
        uint64_t left;               /* of any other */
    };
};

/* One version of HTTP. */
struct http_transport {
    size_t (*feed)(struct http_session *session, struct bytes in);
    /* Frames of what waits, as far as the output has room. NULL: everything is written at once. */
    void (*fill)(struct http_session *session);
    void (*answer)(struct http_call *call, const struct http_answer *answer, bool whole);
    void (*write)(struct http_call *call, struct bytes piece);
    /* The same, without a copy. NULL: it cannot. */
    void (*share)(struct http_call *call, const struct http_shared *shared);
    void (*end)(struct http_call *call);
    void (*abort)(struct http_call *call);
    /* Is it the peer who keeps its answer from being framed? NULL: it cannot. */
    bool (*is_held_up)(struct http_call *call);
    void (*shutdown)(struct http_session *session);
    void (*free)(struct http_session *session);   /* NULL: it has nothing */
};
extern const struct http_transport http_transport_1, http_transport_2;

struct http_session {
    const struct http_transport *transport;   /* NULL: not known yet */
    void *service_owner, *owner;
    struct http_host *host;
    struct output output;
    uint64_t now_us, heard_us;       /* when something was last received */
    uint64_t idle_us;                /* since when no request is under way; 0: one is */
    uint64_t head_us;                /* since when a request's head is on its way; 0: none is */
    struct http_call *calls;
    unsigned call_count;
    bool told_dirty, draining, dead; /* dead: nothing more is read; it is finished once the output has left */
    bool ended;                      /* the peer sends no more */
    bool agreed_2;                   /* it is HTTP/2, however it begins */
    bool has_own;                    /* `own` is one of the calls */
    bool held;                       /* HTTP/1: a request that came behind one that is not answered yet waits */
    uint64_t taken_us;               /* when the peer last took something of the output; 0: nothing waits for it */
    union {
        struct h1 h1;
        struct h2 *h2;
    };
    struct http_call own;            /* the first one has no memory of its own */
};

enum gw_err h2_new(struct http_session *session);

/* A call is made and in the session's list. NULL: out of memory. */
struct http_call *http_call_new(struct http_session *session);
/* It is over: the service is told, and it is freed. */
void http_call_end(struct http_call *call);

void http_session_dirty(struct http_session *session);
void http_session_die(struct http_session *session);

/* Copies bytes to the output. */
void http_session_say(struct http_session *session, struct bytes bytes);

/* The date as the time of day is now: 29 characters. */
const char *http_session_date(struct http_session *session);

/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7), in 30 bytes. */
void http_date(uint64_t wall_ms, char text[30]);

/* The reason phrase of a status. */
const char *http_reason(unsigned status);

#endif
