/* TLS over a socket that is connected already, for a client: what leaves is sealed, what comes is opened. */
#ifndef CLIENT_SEAL_H
#define CLIENT_SEAL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct seal;

/* A record's content at most: who receives with less room may leave something behind that no poll tells of. */
#define SEAL_RECORD_MAX 16384u

struct seal_settings {
    const char *host;                /* whom the certificate must name */
    const char *ca;                  /* a file of authorities (PEM); NULL: the system's */
    bool trusts_anybody;             /* any certificate will do */
    uint32_t timeout_ms;
};

/* Agrees on TLS over `fd`, which is non-blocking and stays the caller's. GW_ERR_IO, GW_ERR_PERMISSION (the certificate is not good), GW_ERR_NOMEM: `complaint` says why. */
enum gw_err seal_connect(int fd, const struct seal_settings *settings, struct seal **seal, char *complaint, size_t complaint_size);

/* Like send and recv: -1 with errno EAGAIN says that the socket has to be waited for; 0 that the other side has said its end. */
ssize_t seal_send(struct seal *seal, const void *data, size_t size);
ssize_t seal_recv(struct seal *seal, void *room, size_t size);

/* Says the end, if the socket takes that at once. NULL is fine. */
void seal_free(struct seal *seal);

#endif
