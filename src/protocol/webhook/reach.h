/* Which addresses the broker may be sent to by whoever subscribes: those of the public internet, and the networks that the configuration allows. Otherwise a subscription
 * would be a way to what only the broker's own machine can reach (server-side request forgery). Every address is judged as what it leads to: an IPv4 address that is mapped
 * into, or translated from, an IPv6 one is judged as that IPv4 address. */
#ifndef PROTOCOL_WEBHOOK_REACH_H
#define PROTOCOL_WEBHOOK_REACH_H

#include "base/bytes.h"

#define NETWORKS_MAX 32u

struct ip_address {
    uint8_t size;                    /* 4 or 16 */
    uint8_t bytes[16];               /* in the network's order */
};

struct ip_network {
    struct ip_address address;
    uint8_t bits;                    /* that all of it have in common */
};

struct ip_networks {
    struct ip_network items[NETWORKS_MAX];
    unsigned count;
};

/* "192.0.2.1" with four decimal numbers (and nothing else that libc takes for an address), or an IPv6 address without a zone. */
bool ip_address_read(struct bytes text, struct ip_address *address);

/* "10.0.0.0/8, ::1" added to the list. False: that is none, or they are too many; *wrong is what is not understood. */
bool ip_networks_read(struct bytes text, struct ip_networks *networks, struct bytes *wrong);
bool ip_networks_have(const struct ip_networks *networks, const struct ip_address *address);

/* Why it may not be connected to: "loopback", "private", "link-local", …; NULL: it may. */
const char *ip_address_refusal(const struct ip_address *address, const struct ip_networks *allowed);

#endif
