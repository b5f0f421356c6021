/* Where a user's permissions are asked for, which is where RabbitMQ does: when something is declared, deleted, bound, got, consumed, purged, and when a route is
 * looked up for a publish. What is passive needs no permission; what the session asks for on its own behalf (REQUEST_TRUSTED) none either.
 *
 *   queue.declare      configure; with a dead-letter exchange, of a new one: read from the queue, write to that exchange
 *   exchange.declare   configure; with an alternate exchange, of a new one: read from the exchange, write to the other
 *   delete             configure
 *   bind, unbind       write to the destination, read from the source; of a topic exchange, read with that key
 *   get, consume, purge  read
 *   publish            write; to a topic exchange, write with that key
 */
#ifndef BROKER_PERMISSIONS_H
#define BROKER_PERMISSIONS_H

#include "broker/worker_internal.h"

/* Answers the request with a refusal (403) when its user may not; false: he may. */
bool permission_refuses(struct worker *worker, const struct client *client, const struct command_request *request);

/* Of a client whose scope says that there is something to look at. PUBLISH_ROUTED: allowed. */
enum publish_result permission_to_publish(const struct client *client, const struct vhost *vhost, const struct publish *publish);
/* Of one that is restricted by itself: may it publish to that exchange at all? */
static inline bool permission_is_restricted(const struct client *client, struct bytes exchange)
{
    return UNLIKELY(client->limits != NULL) && !access_allows(client->limits, ACCESS_WRITE, exchange);
}
enum publish_result permission_to_publish_key(const struct client *client, const struct exchange *exchange, const struct publish *publish);

/* Users that may publish anywhere in a vhost share the cached routes of that; each of the others has its own, found only where he may publish. */
#define SCOPE_RESTRICTED (1ull << 55)

/* Sets the client's scope, and whether he may do everything, from what the topology says now. */
void permissions_of(struct worker *worker, struct client *client);

/* The topology changed: those clients that it is about. */
void permissions_changed(struct worker *worker, const struct topology_change *change);

#endif
