/* Sockets that wait for connections. */
#ifndef RUNTIME_LISTENER_H
#define RUNTIME_LISTENER_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* A socket that listens on `address` (IPv6 ones for IPv6 only), non-blocking. `shared`: others of this user may listen there too, and
 * the kernel spreads connections over them. GW_ERR_EXISTS: taken; GW_ERR_PERMISSION; GW_ERR_INVALID: not an address of this machine;
 * GW_ERR_NOT_FOUND: the machine has no such protocol (IPv6 switched off); GW_ERR_LIMIT; GW_ERR_IO. */
enum gw_err listener_open(const struct sockaddr *address, bool shared, int *listener);

/* GW_OK when nobody listens on `address` yet. Shared listeners alone would not notice a second program on the same port: it would
 * silently get a part of the connections. A port of 0 is replaced by one that is free. */
enum gw_err listener_probe(struct sockaddr *address);

socklen_t listener_address_size(const struct sockaddr *address);

#endif
