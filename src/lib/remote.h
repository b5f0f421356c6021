/* The engine of a bus at a broker elsewhere: a line (client/line.h) on the loop. */
#ifndef LIB_REMOTE_H
#define LIB_REMOTE_H

#include "client/line.h"
#include "lib/bus.h"
#include "lib/handler.h"

struct outbound;
struct resting;
struct ssl_ctx_st;

struct remote_bus {
    struct gw_bus *bus;
    struct line *line;
    struct outbound *outbound;           /* NULL: no connection is there or wanted */
    struct ssl_ctx_st *tls;              /* of the connection; NULL: it is in the open */
    char *ca_file;                       /* of the options; NULL: none */
    bool connected;
    char dial_failed[300];               /* why there is not even an attempt; empty: there is */
    bool closing, said_goodbye;
    struct resting *resting;             /* the soonest first */
};

static inline struct remote_bus *remote_of(const struct gw_bus *bus) { return bus->engine; }

/* ---- remote_rest.c: brokers that know no backoff ---- */
/* The event failed: a copy that says how often comes after a delay, which the event waits for here; or it is given up. */
void remote_rest(struct remote_bus *remote, struct gw_event *event);
/* Sends the copies that are due; answers when the next one is. */
uint64_t remote_rested(struct remote_bus *remote, uint64_t now_us);
/* They wait no longer: the broker has the events. */
void remote_rest_end(struct remote_bus *remote);

#endif
