/* The client's side of TLS: whom to trust, and that the server is who it should be. */
#ifndef RUNTIME_TLS_CLIENT_H
#define RUNTIME_TLS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

struct ssl_ctx_st;
struct ssl_st;

/* Trusts the authorities in `ca_file` (PEM), or the system's when it is NULL; or whoever answers, with `trusts_anybody`. NULL: `why` says what is wrong with the file. */
struct ssl_ctx_st *tls_client_open(const char *ca_file, bool trusts_anybody, char *why, size_t size);
/* Trusts the authorities in a file, too. False: `why` says what is wrong with it. */
bool tls_client_trust(struct ssl_ctx_st *context, const char *ca_file, char *why, size_t size);
void tls_client_free(struct ssl_ctx_st *context);

/* One more connection, to a server whose certificate must be good for `host`, a name or an address. NULL: out of memory. */
struct ssl_st *tls_client_connection(struct ssl_ctx_st *context, const char *host);

#endif
