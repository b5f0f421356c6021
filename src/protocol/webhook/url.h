/* The URL of a sink: http or https, a host, perhaps a port, and what is asked for there. It is read more strictly than it could be, so that nothing in it can be read in two ways:
 * no user or password, no fragment, no spaces, controls, backslashes or bytes beyond ASCII, no percent-encoding in the host, and a host that looks like a number is an IPv4
 * address with four decimal ones. */
#ifndef PROTOCOL_WEBHOOK_URL_H
#define PROTOCOL_WEBHOOK_URL_H

#include "protocol/webhook/reach.h"

#define URL_SIZE_MAX 2048u
#define URL_HOST_MAX 253u
#define URL_WHY_MAX 160u

struct sink_url {
    bool is_tls;
    bool is_address;                 /* the host is `address` */
    struct ip_address address;
    uint16_t port;
    char host[URL_HOST_MAX + 1];     /* in lower case, without brackets */
    struct bytes target;             /* path and query, "" or from "/" or "?" on; points into the text */
};

/* False: a sentence in `why` says what is wrong. */
bool sink_url_read(struct bytes text, struct sink_url *url, char why[URL_WHY_MAX]);

#endif
