/* What posts webhooks, and publishes events at other brokers: a reactor's bus, and its senders, two of each kind, one of which may reach this machine. */
#ifndef SERVER_WEBHOOKS_H
#define SERVER_WEBHOOKS_H

#include "protocol/webhook/reach.h"
#include "runtime/http_sender.h"

struct address_list;
struct service;

/* Which addresses may be connected to, by those two. */
struct webhook_networks {
    struct ip_networks items[2];
};

/* `text`: webhook_networks of the configuration; NULL: none. `listens`: who listens on this machine's own addresses alone has nobody else's subscriptions. False: *wrong is not
 * understood. */
bool webhook_networks_read(struct webhook_networks *networks, const char *text, const struct address_list *listens, struct bytes *wrong);

/* Why an address may not be connected to; NULL: it may. */
const char *webhook_refusal(const struct ip_networks *networks, const struct sockaddr *address);

/* Is there a certificate in that file? */
bool webhook_authorities_check(const char *path);

/* Its reactor and worker are there. Networks and the name of the authorities' file (NULL: none) are borrowed. False: out of memory. */
bool service_webhooks_init(struct service *service, const struct webhook_networks *networks, const char *authorities);
/* Its bus is stopped, its reactor does not run any more. */
void service_webhooks_free(struct service *service);

#endif
