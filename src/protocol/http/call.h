/* One request and its answer, between a transport (HTTP/1 or HTTP/2) and the service that answers.
 *
 *   begun → body … → complete → (drained …) → gone
 *
 * The service may answer at any of these, or later; what comes after its answer is passed over. `gone` is always the last thing said of a call: it is answered and
 * sent, or the peer has given up. Everything happens on the session's thread. */
#ifndef PROTOCOL_HTTP_CALL_H
#define PROTOCOL_HTTP_CALL_H

#include "base/chunk.h"
#include "protocol/http/request.h"
#include "protocol/http/shared.h"

struct http_session;

#define HTTP_EXTRA_MAX 4u

/* Bytes [at, size) wait. */
struct http_waiting {
    size_t at, size, room;
    uint64_t since_us;               /* none of them could be framed since then; UINT64_MAX: that does not matter any more */
    uint8_t bytes[];
};

struct http_call {
    struct http_session *session;
    const struct http_request *request;   /* until `gone`, or http_call_forget_head: then one that says nothing */
    void *context;                   /* the service's */
    struct http_field *extra;        /* the service's: of whatever is answered; they lie in what lasts until the answer begins. NULL, or memory that is freed with the call */
    uint8_t extra_count;
    bool is_head;                    /* a HEAD: its answer has no body */
    uint8_t state;                   /* enum http_call_state */

    /* the transport's own: */
    struct http_call *next, *previous;
    uint8_t *head;                   /* what the request's bytes lie in */
    int32_t stream;                  /* HTTP/2's number */
    uint32_t discarded;              /* HTTP/2: bytes of a body that came after the answer */
    struct http_waiting *waiting;    /* HTTP/2: the answer's body that has not been framed yet; NULL: nothing */
};

enum http_call_state {
    HTTP_COMPLETE = 1,               /* the request is whole */
    HTTP_ANSWERED = 2,               /* the head of an answer has left for the peer */
    HTTP_ENDED = 4,                  /* the whole answer has */
    HTTP_CONTINUE = 8,               /* the peer waits for leave to send the body */
    HTTP_RAW = 16,                   /* upgraded: what comes and leaves is another protocol's */
    HTTP_BLOCK = 32,                 /* `head` is a block of the session's pool */
};

struct http_service {
    /* The request's head is here. */
    void (*begun)(struct http_call *call);
    /* A piece of its body, borrowed until return. */
    void (*body)(struct http_call *call, struct bytes piece);
    /* It is whole. */
    void (*complete)(struct http_call *call);
    /* What was written by http_stream_write has left; NULL: nobody asks. */
    void (*drained)(struct http_call *call);
    /* Forget it; `context` is the service's to free. */
    void (*gone)(struct http_call *call);
};

struct http_answer {
    unsigned status;
    const char *type;                /* content-type; NULL: none */
    const struct http_field *fields; /* further ones, names in lower case */
    unsigned field_count;
    struct bytes body;
};

/* Answers at once and wholly. Everything is copied. */
void http_answer(struct http_call *call, const struct http_answer *answer);

/* Begins an answer whose length nobody knows (its body is ignored), adds to it, what others are told too without a copy of it, ends it.
 * http_stream_waiting: bytes that the peer has not taken yet. */
void http_stream_begin(struct http_call *call, const struct http_answer *answer);
void http_stream_write(struct http_call *call, struct bytes piece);
void http_stream_share(struct http_call *call, const struct http_shared *shared);
void http_stream_end(struct http_call *call);
size_t http_stream_waiting(const struct http_call *call);

/* Another protocol from here on (101, whose fields say which): what the peer sends is given to `body`, and http_stream_write sends bytes as they are until http_stream_end,
 * which closes the connection. Of whole requests of HTTP/1.1 alone. */
bool http_may_upgrade(const struct http_call *call);
void http_upgrade(struct http_call *call, const struct http_answer *answer);

/* The answer will never be whole: HTTP/2's stream is reset, HTTP/1's connection closed. */
void http_call_abort(struct http_call *call);

/* The request's own bytes are given back: for answers that last. */
void http_call_forget_head(struct http_call *call);

#endif
