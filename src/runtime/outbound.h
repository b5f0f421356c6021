/* A connection to a host elsewhere, over TCP or TLS: found, made, read and written on a libuv loop. Names are looked up in a thread of their own. Where the loop does not run, outbound_wait
 * waits for the same things and does them.
 *
 * Everything happens on the loop's thread; events are called from the loop or inside outbound_wait, outbound_write, never inside outbound_new. */
#ifndef RUNTIME_OUTBOUND_H
#define RUNTIME_OUTBOUND_H

#include "base/bytes.h"

struct outbound;
struct sockaddr;
struct ssl_ctx_st;
struct uv_loop_s;

struct outbound_events {
    void *owner;
    void (*connected)(void *owner);
    /* It could not be made, or broke; `why` is a sentence part, NULL: the peer hung up. Then only outbound_free may be called. */
    void (*failed)(void *owner, const char *why);
    /* Bytes have come; valid until it returns. */
    void (*came)(void *owner, struct bytes bytes);
    /* There is room to write again, after outbound_write took less than all. */
    void (*room)(void *owner);
};

struct outbound_settings {
    struct uv_loop_s *loop;
    const char *host;              /* a name or an address; copied */
    uint16_t port;
    struct ssl_ctx_st *tls;        /* tls_client.h; NULL: in the open. Stays until outbound_free */
    /* Why an address may not be connected to, asked right before it is; NULL: it may. NULL instead of a function: all may. */
    const char *(*refusal)(void *owner, const struct sockaddr *address);
};

/* NULL: out of memory or descriptors. */
struct outbound *outbound_new(const struct outbound_settings *settings, const struct outbound_events *events);

/* Ends it without an event. What the loop has of it is freed by the loop. From within an event, too. */
void outbound_free(struct outbound *outbound);

/* Bytes that were taken; less than all: `room` will tell. */
size_t outbound_write(struct outbound *outbound, struct bytes bytes);

/* Once it is connected: nothing is read while it is paused, so that the peer has to wait with what it writes; that it has hung up is not noticed then, either. */
void outbound_pause(struct outbound *outbound, bool paused);

/* Waits for what the loop would wait for, at most that long, and does it. */
void outbound_wait(struct outbound *outbound, int timeout_ms);

/* In a child of fork: closes the descriptor, and touches nothing else. */
void outbound_forked(struct outbound *outbound);

#endif
