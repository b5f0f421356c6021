/* A sink that is a broker: an AMQP URI (uri.h) that also says where there.
 *
 *     amqp://user:password@host:port/vhost?exchange=orders&routing_key=order.created&mandatory=false
 *
 *   exchange      `events` when it is not said; empty: the default exchange
 *   routing_key   the message's own when it is not said
 *   mandatory     true when it is not said: what no queue takes is a failure
 *
 * Read more strictly than a URI of one's own: it may be anybody's. It names a host, and no file of this machine. */
#ifndef PROTOCOL_AMQP_SINK_URI_H
#define PROTOCOL_AMQP_SINK_URI_H

#include "base/bytes.h"
#include "protocol/amqp/uri.h"

#define SINK_URI_SIZE_MAX 2048u
#define SINK_URI_WHY_MAX 160u
#define SINK_URI_EXCHANGE "events"

struct sink_uri {
    struct uri uri;
    char exchange[URI_PART_MAX + 1];
    char routing_key[URI_PART_MAX + 1];
    bool has_routing_key, is_mandatory;
};

/* Does it begin like one? */
bool sink_uri_is(const char *text);

/* False: a sentence in `why` says what is wrong; it never has the password in it. */
bool sink_uri_read(const char *text, struct sink_uri *sink, char why[SINK_URI_WHY_MAX]);

#endif
