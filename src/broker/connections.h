/* The master's list of open connections: who is connected to which vhost, from where, with how many channels. It decides who may open one, by the limits that
 * administrators set, and is what they see of connections. */
#ifndef BROKER_CONNECTIONS_H
#define BROKER_CONNECTIONS_H

#include "base/map.h"

struct connection_entry {
    uint64_t client;
    struct connection_user *user;
    uint32_t vhost;                /* its id */
    uint32_t channels;
    uint64_t connected_ms;         /* since 1970 */
    struct bytes facts;            /* an AMQP table: name, peer_host, peer_port, client_properties, … as the session told them */
};

/* A user with open connections. */
struct connection_user {
    struct bytes name;
    uint32_t connections, channels;
};

struct connections {
    struct map by_client;          /* struct connection_entry */
    struct name_map users;         /* struct connection_user */
    struct map vhosts;             /* id → connections there, as a number in the pointer */
};

void connections_init(struct connections *connections, uint64_t seed);
void connections_deinit(struct connections *connections);

/* GW_ERR_NOMEM. `user` and `facts` are copied. A client that is there already is what it is now. */
enum gw_err connections_add(struct connections *connections, uint64_t client, struct bytes user, uint32_t vhost, uint64_t connected_ms, struct bytes facts);
/* One that is not there is passed over: it never got in. */
void connections_remove(struct connections *connections, uint64_t client);

struct connection_entry *connections_find(const struct connections *connections, uint64_t client);
/* The first whose facts say that its name is this; NULL: none. */
struct connection_entry *connections_named(const struct connections *connections, struct bytes name);

/* RabbitMQ's name of the protocol that it speaks: "{0,9,1}" of AMQP, what the facts say of another one. */
struct bytes connection_protocol(struct bytes facts);

/* Do the facts say that there is TLS? */
bool connection_is_sealed(struct bytes facts);

/* One more or one fewer channel. */
void connections_channel(struct connections *connections, uint64_t client, bool opened);

uint32_t connections_in(const struct connections *connections, uint32_t vhost);
/* Zeros for a user who has none. */
struct connection_user connections_of(const struct connections *connections, struct bytes user);

#endif
