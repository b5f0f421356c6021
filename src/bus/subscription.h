/* A subscription: which events go where, as it is kept: a parameter `subscription` of its virtual host, whose value is this object in JSON.
 *
 *   {"id": "s1", "owner": "guest", "types": ["order.*"], "source": "/shop", "filters": [{"exact": {"subject": "7"}}], "sink": "https://example.com/hook",
 *    "config": {"secrets": ["whsec_…"], "concurrency": 10, "timeout": 30, "retry": "5s,5m", "attempts": 10, "order": "subject", "origin": "a.example", "mode": "binary"},
 *    "paused": false, "ended": "…", "local": true, "made": "…", "governs": true}
 *
 * A sink that is another broker is a URI of protocol/amqp/sink_uri.h, its password included. `made` is a mark of the request that made it (protocol/gateway/idempotency.h). Its events wait
 * in the durable queue `subscription.ID`, those that were given up in `subscription.ID.dead`. */
#ifndef BUS_SUBSCRIPTION_H
#define BUS_SUBSCRIPTION_H

#include "broker/selector.h"
#include "protocol/amqp/sink_uri.h"
#include "protocol/webhook/signature.h"
#include "protocol/webhook/url.h"

#include <jansson.h>

#define SUBSCRIPTION_COMPONENT "subscription"
#define SUBSCRIPTION_REPLAY_COMPONENT "subscription-replay"   /* see rerun.h */
#define SUBSCRIPTION_ID_MAX 64u
#define SUBSCRIPTION_TYPES_MAX 32u
#define SUBSCRIPTION_WHY_MAX 512u
#define SUBSCRIPTION_CONCURRENCY 10u
#define SUBSCRIPTION_CONCURRENCY_AMQP 100u   /* of publishes at another broker, which are confirmed many at a time */
#define SUBSCRIPTION_CONCURRENCY_MAX 256u
#define SUBSCRIPTION_TIMEOUT_S 30u
#define SUBSCRIPTION_ATTEMPTS 10u
#define SUBSCRIPTION_ATTEMPTS_MAX 1000u
#define SUBSCRIPTION_RETRY "5s,5m,30m,2h,5h,10h,14h,20h,1d"
#define SUBSCRIPTION_QUEUE_MAX (SUBSCRIPTION_ID_MAX + 20u)

struct subscription {
    json_t *root;                    /* what the texts below lie in */
    const char *id, *owner, *sink;
    const char *types[SUBSCRIPTION_TYPES_MAX];   /* patterns of a topic exchange */
    unsigned type_count;
    struct sink_url url;             /* of a broker: where it is */
    struct sink_uri *broker;         /* its sink is another broker, and this says where there; NULL: it is posted to */
    struct selector *selector;       /* source and filters; NULL: all events of its types */
    struct webhook_secret secrets[SECRETS_MAX];
    unsigned secret_count;
    unsigned concurrency, attempts;
    uint64_t timeout_ms;
    const char *retry, *order;       /* a backoff's text; an attribute, "*" for all events one after the other, or NULL */
    const char *origin;              /* whom the sink must allow to post to it; NULL: it is not asked */
    bool is_structured;              /* events are posted as JSON, attributes and all; otherwise in binary mode */
    bool governs;                    /* the queue's arguments are to be what this says: it was changed */
    bool paused, local;              /* local: its sink may be on the broker's own machine */
    const char *ended;               /* why it gets no more; NULL: it does */
};

/* Reads and judges it; the root is kept. False: a sentence in `why` says what is wrong, and nothing is to be freed. */
bool subscription_read(struct subscription *subscription, json_t *root, char why[SUBSCRIPTION_WHY_MAX]);
void subscription_deinit(struct subscription *subscription);

void subscription_queue(const char *id, bool dead, char name[SUBSCRIPTION_QUEUE_MAX]);

/* The arguments of the queue that its events wait in. */
#define SUBSCRIPTION_ARGUMENTS_SIZE 2048u
struct bytes subscription_arguments(const struct subscription *subscription, uint8_t room[SUBSCRIPTION_ARGUMENTS_SIZE]);

/* Does one of its types match? Words between dots; * is one, # any number of them. */
bool subscription_has_type(const struct subscription *subscription, struct bytes type);

/* Letters, digits, dots, dashes and underscores. */
bool subscription_id_is_possible(const char *id);

#endif
