/* An AMQP URI: amqp://user:password@host:port/vhost?heartbeat=SECONDS&connection_timeout=MILLISECONDS, and of amqps:// also cacertfile=FILE and verify=verify_none
 * (https://www.rabbitmq.com/uri-spec.html, https://www.rabbitmq.com/uri-query-parameters.html). Every part may be left out; "host:port" without a scheme is understood too. */
#ifndef PROTOCOL_AMQP_URI_H
#define PROTOCOL_AMQP_URI_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define URI_PART_MAX 255   /* bytes of one decoded part; the protocol's short strings hold no more */

struct uri {
    char host[URI_PART_MAX + 1];
    char user[URI_PART_MAX + 1];
    char password[URI_PART_MAX + 1];
    char vhost[URI_PART_MAX + 1];
    uint16_t port;
    bool tls;                        /* amqps:// */
    bool trusts_anybody;             /* verify=verify_none */
    char ca[URI_PART_MAX + 1];       /* cacertfile; empty: the system's authorities */
    uint32_t heartbeat_s;            /* 0: none */
    uint32_t connection_timeout_ms;
};

/* Fills `uri` from `text`, in the open or with TLS (whose port is 5671); what is not named gets its default: guest:guest@localhost:5672, vhost /, heartbeat 60 s,
 * 10 s to connect. An empty vhost is / as in most clients. Errors: GW_ERR_INVALID, and then *complaint says what is wrong
 * (static storage). */
enum gw_err uri_parse(struct uri *uri, const char *text, const char **complaint);

/* Undoes percent-encoding of text[0..size). False: malformed, too long, or a NUL inside. */
bool uri_decode(char part[URI_PART_MAX + 1], const char *text, size_t size);

#endif
