/* One subscription's drain: a consumer of its queue, and the hooks under way: events that are posted, or published at another broker. For the files of this folder.
 *
 *   bindings  it sees to them itself: whoever makes a subscription may be interrupted half-way, and one that has ended gets no more
 *   order     the queue's groups see to it that events of a key come in order; here the first of them is posted alone, and when it fails, the others go back to come behind it
 *   window    how many may be under way: from one, when the sink has said 429, to the subscription's concurrency
 *   origin    where the subscription names one, the sink is asked first (OPTIONS, WebHook-Request-Origin) whether that may post to it, and how often a minute
 *   slow      nothing is posted until the sink's Retry-After has passed (429, 503; a second, when it is a broker that takes nothing); what it said that of is posted again, and that costs it no
 *             attempt
 *   endpoint  what several subscriptions share whose sinks are at one host and port, see endpoint.h
 *   breaker   after BREAKER_FAILURES failures in a row nothing is posted for a while (1 s, then twice as long each time, a minute at most), then one to see how it goes */
#ifndef BUS_DRAIN_H
#define BUS_DRAIN_H

#include "base/map.h"
#include "broker/client.h"
#include "bus/bus.h"
#include "bus/endpoint.h"
#include "bus/forward.h"
#include "bus/hook_request.h"
#include "io/outgoing.h"

#define DRAIN_NEVER UINT64_MAX
#define ATTEMPTS_KEPT 50u
#define BREAKER_FAILURES 5u

struct attempt {
    uint64_t wall_us, duration_us;
    uint32_t number;
    unsigned status;
    enum outgoing_outcome outcome;
    char id[64];                     /* of the event, as much of it as fits */
    char why[OUTGOING_WHY_MAX];
};

struct hook {
    struct outgoing outgoing;        /* first */
    struct drain *drain;
    struct hook *next, *previous;
    struct chunk *chunk;             /* what `content` lies in */
    struct bytes content;
    char *event;                     /* what is posted of it in structured mode; NULL: the message's body is */
    uint64_t seq, attempt;
    uint64_t key;                    /* events with the same one are posted one after the other; 0: none */
    bool under_way;
    struct endpoint *endpoint;       /* where it is under way */
    uint32_t sink_version;           /* the drain's when it was posted */
    char id[HOOK_ID_MAX];
};

/* An event of the key went back to the queue. Later ones that were already on their way here then go back, too, until it has come again. */
struct block {
    uint64_t key, seq;
    unsigned count;                  /* of those: no more than were under way can come before it */
};

struct drain {
    struct client client;            /* first */
    struct bus *bus;
    struct drain *next;
    struct bytes key;                /* vhost, a zero, id; they lie in `texts` */
    struct bytes vhost, id, value;   /* the parameter; the value is memory of its own */
    char *texts;
    bool is_seen, is_ready;
    struct drain *ready_next;        /* of the bus's: to be looked at in its next tick */
    uint64_t due_us;
    struct subscription subscription;
    bool is_valid;                   /* the subscription was understood */
    bool attached, is_open, consuming, broken;
    bool unbound;                    /* its queue could not be bound to what it wants */
    enum ending { ENDING_NOT, ENDING_SAID /* the sink did, and so does the parameter soon */, ENDING_KEPT /* it does */ } ending;
    uint64_t queue;
    uint32_t handle, prefetch;
    uint32_t sink_version;           /* another one whenever the sink is */
    struct hook *first, *last;
    unsigned waiting, under_way, window, successes;
    struct endpoint *endpoint;       /* of the sink; NULL: there was no memory for it, or there is no sink */
    struct drain *line_next, *line_previous;   /* of the endpoint's, see there */
    bool in_line;
    struct map blocks;               /* key → struct block: what may not overtake */
    struct outgoing question;        /* whether the origin may post */
    enum leave { LEAVE_UNASKED, LEAVE_ASKED, LEAVE_GIVEN, LEAVE_REFUSED } leave;
    uint64_t interval_us;            /* between two posts; 0: as it comes */
    uint64_t next_post_us, ask_again_us;
    unsigned failures;               /* in a row */
    uint64_t opened;                 /* how often the breaker did since something went well */
    uint64_t slow_until_us, open_until_us, retry_us, bind_again_us;
    uint64_t delivered, refused, passed_over;
    struct attempt *attempts;        /* a ring of ATTEMPTS_KEPT; NULL: there was none */
    uint64_t attempt_count;
    char name[SUBSCRIPTION_QUEUE_MAX + 16];
    char why[SUBSCRIPTION_WHY_MAX];
};

/* NULL: out of memory. */
struct drain *drain_new(struct bus *bus, struct bytes vhost, struct bytes id);
void drain_free(struct drain *drain);

/* What the parameter says now. True: something else than before. */
bool drain_follow(struct drain *drain, struct bytes value);

/* Does what is due, between turns of the worker's; answers when there is something again. */
uint64_t drain_tick(struct drain *drain, uint64_t now_us);

char *drain_describe(const struct drain *drain, bool attempts, uint64_t now_us);

/* ---- bus.c ---- */
/* What carries the subscription's events. */
struct outgoing_sender *bus_sender(const struct bus *bus, const struct subscription *subscription);
struct worker *bus_worker(const struct bus *bus);
struct endpoints *bus_endpoints(struct bus *bus);
/* The drain wants drain_tick then; 0: in the next tick of the bus. */
void bus_due(struct drain *drain, uint64_t at_us);
uint64_t bus_now(const struct bus *bus);

/* Somebody has changed parameters since the last tick: until the next one, drains may believe what is not so any more. */
bool bus_has_news(const struct bus *bus);

#endif
