/* What sends an HTTP request for somebody, or publishes a message at another broker, and says how it went: the reactor's curl, its circuits (host/amqp_sender.h), or the simulator. */
#ifndef IO_OUTGOING_H
#define IO_OUTGOING_H

#include "base/bytes.h"

enum outgoing_outcome {
    OUTGOING_ANSWERED,               /* `status` says what */
    OUTGOING_FORBIDDEN,              /* the host has no address that may be connected to */
    OUTGOING_UNRESOLVED,             /* the host has no address */
    OUTGOING_UNREACHABLE,            /* nobody takes the connection */
    OUTGOING_TIMED_OUT,
    OUTGOING_BROKEN,                 /* what came is no HTTP, or ended half-way */
    OUTGOING_UNTRUSTED,              /* the peer's certificate is not good */
    OUTGOING_REFUSED,                /* a broker lets nobody in by that name, or answered with basic.nack */
    OUTGOING_BUSY,                   /* a broker takes no publishes for now */
    OUTGOING_OUTCOMES
};

#define OUTGOING_WHY_MAX 160u
#define OUTGOING_NO_TIME UINT64_MAX
#define OUTGOING_ASKED_MAX 2u        /* headers of an answer that are wanted */
#define OUTGOING_FOUND_MAX 256u      /* bytes of each, with a zero behind it */

struct outgoing_result {
    enum outgoing_outcome outcome;
    unsigned status;                 /* 0: there was no answer. A broker's is a reply code of AMQP 0-9-1: 200, it is confirmed; 312, no queue takes it; or why it closed the channel */
    uint64_t retry_after_s;          /* what the answer says, in seconds; OUTGOING_NO_TIME: nothing */
    uint64_t duration_us;
    uint64_t now_us;                 /* when that was known, monotonic: what follows is counted from then */
    char why[OUTGOING_WHY_MAX];      /* a sentence; empty: the status says it all */
    const char *found[OUTGOING_ASKED_MAX];   /* what was asked for, until `done` returns; NULL: it was not there */
};

/* A request of the asker's, who embeds it. */
struct outgoing {
    void (*done)(struct outgoing *outgoing, const struct outgoing_result *result);
    void *transport;                 /* the sender's; NULL: it is not under way */
};

/* What is published at a broker, beside the body. */
struct outgoing_message {
    const char *name;                /* of the connection in the broker's lists; messages with another one have another connection */
    struct bytes exchange, routing_key;
    struct bytes properties;         /* encoded */
    bool is_mandatory;               /* it must come to a queue */
};

/* Borrowed until `begin` returns, but for the body, which is borrowed until `done` or `cancel`, and `asked`. */
struct outgoing_request {
    const char *url;
    const struct outgoing_message *message;   /* NULL: an HTTP request; otherwise the URL is a sink of protocol/amqp/sink_uri.h, and nothing of HTTP is looked at */
    const char *method;              /* NULL: POST; any other has no body */
    const char *const *asked;        /* names of headers in lower case, OUTGOING_ASKED_MAX of them, borrowed until `done` or `cancel`; NULL: none */
    const char *const *headers;      /* "name: value"; "name:" is not sent, even where the sender would have added it */
    unsigned header_count;
    struct bytes body;
    uint64_t timeout_ms;
    uint64_t attempt;                /* from 1; 0: it is a question. For the simulator: no broker is told */
};

struct outgoing_sender {
    /* Sends it; `done` is called later, not from inside, and outside of any turn of the broker's. False: there is too little memory. */
    bool (*begin)(struct outgoing_sender *sender, struct outgoing *outgoing, const struct outgoing_request *request);
    /* `done` is not called any more. */
    void (*cancel)(struct outgoing_sender *sender, struct outgoing *outgoing);
};

#endif
