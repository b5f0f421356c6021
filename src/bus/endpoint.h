/* Where sinks are: a scheme (http, https, amqp, amqps), a host and a port. What subscriptions share whose sinks are at the same one, on one worker's bus:
 *
 *   breaker   after ENDPOINT_FAILURES requests in a row to which nobody answered (or a gateway did: 502, 504, and 503 without a time) nothing is posted there for a while (1 s, then
 *             twice as long each time, a minute at most), then one to see how it goes
 *   room      no more than ENDPOINT_ROOM requests are under way; who wants room waits in a line
 *
 * For the files of this folder. */
#ifndef BUS_ENDPOINT_H
#define BUS_ENDPOINT_H

#include "base/map.h"
#include "io/outgoing.h"
#include "protocol/webhook/url.h"

#include <stdbool.h>

#define ENDPOINT_FAILURES 5u
#define ENDPOINT_ROOM 256u
#define ENDPOINT_NAME_SIZE (URL_HOST_MAX + 24u)

struct drain;

struct endpoint {
    struct endpoints *all;
    unsigned users;                  /* drains, and requests under way */
    unsigned under_way;
    unsigned failures;               /* in a row */
    uint64_t opened, open_until_us;  /* how often the breaker did since somebody answered */
    struct drain *first, *last;      /* who waits for room */
    char name[ENDPOINT_NAME_SIZE];   /* "https://example.com:443"; a broker's: "amqp://example.com:5672" */
};

struct endpoints { struct name_map by_name; };
void endpoints_init(struct endpoints *all, uint64_t seed);
void endpoints_deinit(struct endpoints *all);

/* The URL's, or that of a broker there, with one user more. NULL: out of memory. */
struct endpoint *endpoint_take(struct endpoints *all, const struct sink_url *url, bool is_broker);
/* One user less; NULL is allowed here and below: nothing holds back. */
void endpoint_leave(struct endpoint *endpoint);

bool endpoint_is_open(const struct endpoint *endpoint, uint64_t now_us);
bool endpoint_has_room(const struct endpoint *endpoint, uint64_t now_us);

/* A request begins, which is a user; it is over, whatever became of it. */
void endpoint_begin(struct endpoint *endpoint);
void endpoint_end(struct endpoint *endpoint, uint64_t now_us);

/* What the end of a request says of the endpoint. */
void endpoint_learn(struct endpoint *endpoint, const struct outgoing_result *result, uint64_t now_us);

/* Somebody who knows better says that it is worth a try. */
void endpoint_try(struct endpoint *endpoint);

/* The drain wants room: it gets its turn (bus_due). It does not any more. */
void endpoint_wait(struct endpoint *endpoint, struct drain *drain, uint64_t now_us);
void endpoint_unwait(struct endpoint *endpoint, struct drain *drain);
/* Whoever had his turn says so, that the next one gets his. */
void endpoint_pass_on(struct endpoint *endpoint, uint64_t now_us);

#endif
