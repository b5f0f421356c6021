/* The server's side of TLS before anybody connects: certificate, key, and whose certificates clients may show. Shared by all reactors of a program; it may be loaded
 * anew while they run. */
#ifndef RUNTIME_TLS_KEYS_H
#define RUNTIME_TLS_KEYS_H

#include "io/alarm.h"

#include <stdbool.h>
#include <stddef.h>

struct ssl_st;
struct tls_keys;

enum tls_verify {
    TLS_VERIFY_NONE,        /* clients are not asked for a certificate */
    TLS_VERIFY_OPTIONAL,    /* one that is shown must be good */
    TLS_VERIFY_REQUIRED,    /* one must be shown */
};

/* Paths of PEM files. Texts are copied. */
struct tls_settings {
    const char *certificate;   /* with what leads up to its authority behind it */
    const char *key;           /* not encrypted */
    const char *ca;            /* authorities of clients' certificates; NULL: none, then nothing is verified */
    enum tls_verify verify;
    const char *protocols;     /* for ALPN: names separated by commas, the best first; a client that offers others only is refused. NULL: whatever it offers is ignored */
};

/* Reads the files. What is no reason to refuse them (a key that everybody may read, a certificate that is past its time) is told to `alarms`, which may be NULL.
 * NULL: `why` says what is wrong with them. */
struct tls_keys *tls_keys_open(const struct tls_settings *settings, struct alarm_sink *alarms, char *why, size_t size);

/* Reads the files again, for connections to come. False: `why` says what is wrong, and everything stays as it was. From any thread. */
bool tls_keys_reload(struct tls_keys *keys, struct alarm_sink *alarms, char *why, size_t size);

/* The server's side of one more connection. NULL: out of memory. From any thread. */
struct ssl_st *tls_keys_connection(struct tls_keys *keys);

void tls_keys_free(struct tls_keys *keys);

#endif
