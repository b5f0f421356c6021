/* The embedded engine: a broker in this process, on the loop of the program's, as a client of the worker that it is. For its own files. */
#ifndef LIB_EMBEDDED_H
#define LIB_EMBEDDED_H

#include "broker/client.h"
#include "broker/worker.h"
#include "lib/bus.h"
#include "lib/house.h"

#define EMBEDDED_CHANNEL 1u
#define EMBEDDED_MEMORY (64u << 20)  /* bytes of events in memory, where the program does not say */

/* A message that was published and of which it is not known yet what becomes of it. */
struct outstanding {
    uint64_t ticket;                 /* 0: nobody asked */
    uint32_t size;                   /* bytes */
    bool known;
};

/* A consumer of a queue. Its number is its place in the engine's array, and it is another's once the broker has cancelled it. */
struct consumer {
    struct gw_handler *handler;      /* NULL: nobody's any more */
    uint64_t queue;
    uint32_t handle;
    uint32_t next;                   /* of the handler's, or of the free ones; 0: none */
    uint64_t held;                   /* bytes of its events in this process */
    uint32_t owed;                   /* of them, those that the broker has no credit for yet */
    bool consuming;
    bool starved;                    /* there was no memory for an event of it */
};

/* The answer to the request that is waited for. */
struct answer {
    bool known;
    uint16_t code;
    char text[400];
    uint64_t queue;
    uint32_t handle;
    bool empty;
    bool has_message;                /* of a get: it lies in `found` */
    struct delivery found;
};

/* How far its closing is. */
enum embedded_end {
    EMBEDDED_OPEN,
    EMBEDDED_TELLING,                /* it is waited for what becomes of what was published */
    EMBEDDED_LEAVING,                /* the client is detached; what it left behind is carried out, until the disk is idle */
    EMBEDDED_AWAY,                   /* the house is being closed, and nobody here may touch it */
};

struct embedded {
    struct client client;            /* first */
    struct gw_bus *bus;
    struct house *house;
    const char *blocked;             /* why nothing is published; NULL: it is */
    bool failed;                     /* the broker wants no more of this client */
    enum embedded_end end;
    char why[400];
    struct answer answer;
    uint32_t asked;                  /* the tag of the request that is waited for */
    struct outstanding *ring;
    uint64_t room, first, next;      /* of the ring, whose numbers are the confirms' tags */
    uint64_t unconfirmed, staged;    /* bytes; staged: since the last turn */
    struct consumer *consumers;
    uint32_t consumer_count, consumer_free;
    bool starved;                    /* one of them is */
    bool more;                       /* the last turn left something to do */
    unsigned rounds;                 /* turns made while something was waited for */
};

static inline struct embedded *embedded_of(const struct gw_bus *bus) { return bus->engine; }

/* Makes the bus's engine, with the client of an open broker that it is. The house is taken: it is closed with the bus, and at once on an error, of which a sentence was left. */
int embedded_open(struct gw_bus *bus, struct house *house, const gw_open_options *options);

/* One turn of the broker. True: there is more to do. */
bool embedded_turn(struct embedded *e, uint64_t now_us);
/* After a turn that did not bring what is waited for: waits, if there was no more to do, and has the next turn. A broker that never runs out of work needs the disk's answers, too. It
 * waits for at most that many milliseconds; < 0: for ever. */
void embedded_advance(struct embedded *e, int timeout_ms);
/* Asks and waits for the answer, in e->answer. < 0: it was refused; a sentence was left. */
int embedded_ask(struct embedded *e, struct request *request);

/* ---- embedded_publish.c ---- */
int embedded_publish(struct gw_bus *bus, const struct engine_message *message, uint64_t ticket);
void embedded_replace(struct gw_bus *bus, struct gw_event *event, const struct engine_message *message);
void embedded_confirmed(struct client *client, uint16_t channel, uint64_t first, uint64_t count, bool accepted);

/* ---- embedded_consume.c ---- */
int embedded_subscribe(struct gw_bus *bus, struct gw_handler *handler);
void embedded_unsubscribe(struct gw_bus *bus, struct gw_handler *handler);
void embedded_settle(struct gw_bus *bus, struct gw_event *event, enum settlement settlement);
void embedded_settle_after(struct gw_bus *bus, struct gw_event *event, uint64_t delay_ms);
void embedded_release(struct gw_bus *bus, struct gw_event *event);
void embedded_deliver(struct client *client, const struct delivery *delivery);
void embedded_cancelled(struct client *client, uint16_t channel, uint32_t consumer);
/* Those for whose events there was no memory get more. */
void embedded_resume(struct embedded *e);
/* The answer to a cancel. */
void embedded_uncoupled(struct embedded *e, uint32_t consumer);
int embedded_forget(struct gw_bus *bus, const char *queue);
int embedded_recall(struct gw_bus *bus, const char *queue, void (*recalled)(void *owner, int result, struct bytes body), void *owner);

#endif
