/* A service: what joins one reactor, its worker and the sessions of the connections that the reactor accepted. */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include "host/host.h"
#include "protocol/amqp/session.h"
#include "protocol/gateway/gateway.h"
#include "runtime/reactor.h"
#include "server/wheel.h"

struct amqp_sender;
struct bus;
struct http_sender;
struct ip_networks;
struct service;
struct visitors;

/* Shared by all services of a program: how they end together. A reactor runs on until every one has closed its connections, since their
 * sessions need the others' shards to the last. */
struct shutdown {
    atomic_uint requests;     /* 1: peers are asked to go, with a few seconds to do so; 2: at once */
    atomic_uint drained;      /* services without connections */
    struct service *services;
    unsigned count;
};

/* From any thread: ends all of them, at once when it is called again. */
void shutdown_request(struct shutdown *shutdown);

struct service {
    struct reactor *reactor;
    struct host_place *place;                    /* set once the host is made … */
    struct worker *worker;                       /* … and its worker */
    unsigned index;
    struct shutdown *shutdown;
    struct alarm_sink *alarms;                   /* thread-safe, borrowed */

    struct visitors *visitors;                   /* of all services; borrowed */
    struct wheel deadlines;
    struct peer *dirty;
    struct peer *peers;                          /* all */
    bool stopping, drained;
    uint64_t stop_us;

    struct amqp_door {
        struct session_host host;
        const struct session_config *config;
    } amqp;
    struct http_door {
        struct http_host host;
        struct gateway_hall hall;
    } http;
    struct intakes *intakes;                     /* see sources.h */
    struct feeder_set *feeders;
    struct intake_fixed *fixed_sources;
    struct system_zones *zones;
    struct bus *bus;                             /* see webhooks.h */
    struct webhook_sender {
        struct reactor *reactor;
        const struct ip_networks *networks;
        struct http_sender *sender;
        struct amqp_sender *forwarder;
    } senders[2];
};

void service_init(struct service *service, unsigned index, struct shutdown *shutdown);

/* The reactor's turn, and who comes and goes; its owner is the service. */
uint64_t service_turn(void *service, uint64_t now_us);
bool service_enter(void *service, const struct sockaddr *peer, void **place);
void service_leave(void *service, void *place);

/* What the protocols do with connections; the listeners' owner is the service, which has to know their configuration (borrowed) and its worker by then. */
void service_amqp_init(struct service *service, const struct session_config *config);
extern const struct connection_events service_amqp_events;
void service_http_init(struct service *service, const struct gateway_config *config, const struct gateway_users *users, uint64_t seed);
extern const struct connection_events service_http_events;

#endif
