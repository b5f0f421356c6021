/* TLS of one connection, between the socket's bytes and the session's: OpenSSL without a socket. What the peer sent goes in whole and comes out open; what is to
 * be sent goes in open and waits sealed until the socket takes it. Everything happens on the connection's thread. */
#ifndef RUNTIME_TLS_H
#define RUNTIME_TLS_H

#include "base/bytes.h"

#include <stdbool.h>
#include <sys/uio.h>

struct bio_method_st;
struct ssl_st;
struct tls;
struct tls_keys;

/* What the connections of a reactor share, so that an idle one needs none of its own. */
struct tls_pool {
    struct bio_method_st *methods;
    uint8_t *spare;                  /* a buffer for what is sealed; NULL: none */
    uint8_t *input;                  /* TLS_INPUT_SIZE bytes for what a read takes; NULL: nobody needed it yet */
    uint8_t *record;                 /* TLS_RECORD bytes that small pieces are put together in; NULL: the same */
};

/* A record's content at most. What comes out of TLS_INPUT_SIZE sealed bytes, and of a record that began before them, fits into TLS_INPUT_SIZE + TLS_SLACK. */
#define TLS_RECORD 16384u
#define TLS_INPUT_SIZE (224u * 1024u)
#define TLS_SLACK (TLS_RECORD + 1024u)

/* False: out of memory; for the first connection of a reactor. tls_pool_deinit of one that was never prepared is fine. */
bool tls_pool_prepare(struct tls_pool *pool);
void tls_pool_deinit(struct tls_pool *pool);

/* The server's side. `context` is the owner's, for tls_context. NULL: out of memory. */
struct tls *tls_new(struct tls_keys *keys, struct tls_pool *pool, void *context);
/* Either side, as `ssl` was made (tls_client.h); `ssl` is taken, NULL is let through. A client begins with a tls_open of nothing. */
struct tls *tls_over(struct ssl_st *ssl, struct tls_pool *pool, void *context);
void tls_free(struct tls *tls);
void *tls_context(const struct tls *tls);

enum tls_result {
    TLS_OK,
    TLS_ENDED,                       /* the peer has said that it sends no more (close_notify) */
    TLS_FAILED,                      /* it is over: tls_complaint says why. An alert for the peer may be among what is sealed */
};

/* Takes all of `sealed` in, answers what came out of it in `room` (sealed.size + TLS_SLACK bytes): *got bytes, in any case. */
enum tls_result tls_open(struct tls *tls, struct bytes sealed, uint8_t *room, size_t size, size_t *got);
const char *tls_complaint(const struct tls *tls);

/* Is the handshake over? Until then nothing comes out and nothing may be sealed. */
bool tls_is_ready(const struct tls *tls);
bool tls_has_ended(const struct tls *tls);

/* Seals the beginning of these vectors, a few records of them. *taken: how much. False: it is over. */
bool tls_seal(struct tls *tls, const struct iovec *iov, unsigned count, size_t *taken);

/* Seals the word that nothing more will be sent; once. */
void tls_say_end(struct tls *tls);

/* What is sealed and to be sent, and that `size` bytes of it have left. */
struct bytes tls_sealed(const struct tls *tls);
void tls_sent(struct tls *tls, size_t size);

/* What was agreed on, and the name (the subject's common name) in the client's certificate if that was verified; empty: there is none. */
const char *tls_version(const struct tls *tls);
const char *tls_cipher(const struct tls *tls);
bool tls_is_http2(const struct tls *tls);   /* by ALPN */
#define TLS_NAME_SIZE 256u
void tls_peer_name(const struct tls *tls, char name[TLS_NAME_SIZE]);

#endif
