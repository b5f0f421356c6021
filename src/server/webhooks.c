#include "server/webhooks.h"

#include "bus/bus.h"
#include "host/amqp_sender.h"
#include "server/address.h"
#include "server/service.h"

#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <string.h>

#define LOOPBACK "127.0.0.0/8,::1"

static bool from_sockaddr(const struct sockaddr *address, struct ip_address *out)
{
    *out = (struct ip_address){0};
    if (address->sa_family == AF_INET) {
        out->size = 4;
        memcpy(out->bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        out->size = 16;
        memcpy(out->bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
    }
    return out->size > 0;
}

const char *webhook_refusal(const struct ip_networks *networks, const struct sockaddr *address)
{
    struct ip_address read;
    return from_sockaddr(address, &read) ? ip_address_refusal(&read, networks) : "of another family";
}

static const char *refusal(void *owner, const struct sockaddr *address) { return webhook_refusal(((const struct webhook_sender *)owner)->networks, address); }

/* What the bus said to the broker is done in a turn. */
static void told(void *owner) { reactor_again(((struct webhook_sender *)owner)->reactor); }

bool webhook_networks_read(struct webhook_networks *networks, const char *text, const struct address_list *listens, struct bytes *wrong)
{
    struct ip_networks loopback = {0};
    struct ip_address read;
    bool all = listens->count > 0;
    *networks = (struct webhook_networks){0};
    ip_networks_read(bytes_of_text(LOOPBACK), &loopback, wrong);
    for (unsigned i = 0; i < listens->count; i++)
        all = all && from_sockaddr((const struct sockaddr *)&listens->items[i], &read) && ip_networks_have(&loopback, &read);
    if (text && !ip_networks_read(bytes_of_text(text), &networks->items[0], wrong))
        return false;
    networks->items[1] = networks->items[0];
    return ip_networks_read(bytes_of_text(LOOPBACK), &networks->items[1], wrong) && (!all || ip_networks_read(bytes_of_text(LOOPBACK), &networks->items[0], wrong));
}

bool webhook_authorities_check(const char *path)
{
    X509_STORE *store = X509_STORE_new();
    bool good = store && X509_STORE_load_file(store, path) == 1;
    X509_STORE_free(store);
    ERR_clear_error();
    return good;
}

bool service_webhooks_init(struct service *s, const struct webhook_networks *networks, const char *authorities)
{
    struct bus_senders senders;
    for (unsigned i = 0; i < 2; i++) {
        struct webhook_sender *sender = &s->senders[i];
        sender->networks = &networks->items[i];
        sender->reactor = s->reactor;
        sender->sender = http_sender_new(&(struct http_sender_config){.loop = reactor_loop(s->reactor), .refusal = refusal, .told = told, .owner = sender,
                                                                              .authorities = authorities});
        sender->forwarder = amqp_sender_new(&(struct amqp_sender_config){.loop = reactor_loop(s->reactor), .refusal = refusal, .told = told, .owner = sender, .authorities = authorities});
        if (!sender->sender || !sender->forwarder)
            return false;
        senders.http[i] = http_sender_outgoing(sender->sender);
        senders.amqp[i] = amqp_sender_outgoing(sender->forwarder);
    }
    s->bus = bus_new(s->worker, s->shutdown->count, &senders);
    s->http.hall.bus = s->bus;
    s->http.hall.networks = networks->items;
    return s->bus;
}

void service_webhooks_free(struct service *s)
{
    bus_free(s->bus);
    s->bus = s->http.hall.bus = NULL;
    for (unsigned i = 0; i < 2; i++) {
        http_sender_free(s->senders[i].sender);
        amqp_sender_free(s->senders[i].forwarder);
    }
}
