/* A replay of a subscription: the events that the stream `events` still has of it are put into its queue once more. What is wanted and how far it has come is a parameter
 * `subscription-replay` of the virtual host, named after the subscription:
 *
 *   {"id": "r1", "state": "asked", "from": 7, "from_ms": 1700000000000, "to": 9, "to_ms": …, "ids": ["a", "b"], …}
 *   {"id": "r1", "state": "running", …, "next": 8, "end": 9, "read": 1, "replayed": 1, "passed_over": 0, "lost": 0, "found": {"a": 1234}}
 *
 *   asked ──▶ running ──▶ done | failed            one that runs and that no bus knows was interrupted by a restart: it goes on at `next`
 *
 * The stream is read as the subscription's owner with the types and filters that the subscription had at the beginning (or after the restart), up to what was its end at the beginning. At
 * most RERUN_WINDOW events are held at a time; each is published once, again only when the queue has refused it, or when a crash came before `next` was written. What is written down is as of
 * `next`: what lies before that is in the queue, as far as it was wanted. For the files of this folder. */
#ifndef BUS_RERUN_H
#define BUS_RERUN_H

#include "broker/client.h"
#include "bus/bus.h"
#include "bus/subscription.h"

#include "base/map.h"

#define RERUN_WINDOW 1024u           /* events; the bytes of them are bounded by the stream's window for a consumer */

/* One that is held until its publish is confirmed. */
struct rerun_event {
    struct chunk *chunk;
    struct bytes content;
    uint64_t seq, offset, tag;
    uint64_t read_before, lost_before;   /* the replay's counts, without this one and all that came later */
    enum { RERUN_HELD, RERUN_SENT, RERUN_REFUSED, RERUN_DONE } state;
    bool is_record;
};

/* An event that was asked for by its id. */
struct rerun_id {
    struct bytes id;                 /* lies in the record */
    uint64_t source;                 /* a hash of the first one's that was found: another event may have the same id … */
    uint64_t offset;                 /* … and where that was; 0: before the restart */
    bool found;
};

struct rerun {
    struct client client;            /* first */
    struct bus *bus;
    struct rerun *next;
    bool is_seen;
    struct bytes vhost, id;          /* they lie in `texts` */
    char *texts;
    struct bytes value;              /* the parameter as it is now; its own memory */
    json_t *record;
    struct subscription subscription;
    enum rerun_stage {
        RERUN_WAITING,               /* others are served */
        RERUN_OPENING, RERUN_COUNTING, RERUN_LOOKING /* for the stream's last event */, RERUN_MARKING, RERUN_READING, RERUN_ENDING, RERUN_OVER,
    } stage;
    bool is_resumed;                 /* it was running before the broker's last start */
    bool is_attached, is_putting, is_final;   /* what is being put is the last of it */
    bool read_all;                   /* nothing more is wanted of the stream */
    const char *outcome;             /* with which it is to end; NULL: it goes on */
    uint64_t queue, due_us;
    uint32_t handle;
    uint64_t from, from_ms, to, to_ms;   /* UINT64_MAX, 0: as far as it goes */
    uint64_t end;                    /* the last offset that is wanted */
    uint64_t expected;               /* the next offset; UINT64_MAX: any */
    struct rerun_id *ids;
    unsigned id_count;
    struct name_map by_id;
    struct rerun_event events[RERUN_WINDOW];   /* a ring */
    unsigned first, count;
    unsigned published;              /* those before this one, of the ring's, need not be published now */
    uint64_t next_tag, again_us, save_us, idle_us;
    uint64_t read, replayed, lost, saved, seen;
    char name[SUBSCRIPTION_ID_MAX + 32];
    char why[SUBSCRIPTION_WHY_MAX];
};

/* For a parameter that says `asked` or `running`. NULL: it says something else, there is no such subscription, or out of memory. */
struct rerun *rerun_new(struct bus *bus, struct bytes vhost, struct bytes id, struct bytes value);
void rerun_free(struct rerun *rerun);

/* Is it still the one that the parameter speaks of? */
bool rerun_is(const struct rerun *rerun, struct bytes value);

/* Between turns of the worker's. `may_begin`: there are not too many. False: it is over, and to be freed. */
bool rerun_tick(struct rerun *rerun, uint64_t now_us, bool may_begin);

/* The broker stops: writes down how far it has come. */
void rerun_stop(struct rerun *rerun);

/* The record as it would be written now; free() it. NULL: out of memory. */
char *rerun_describe(const struct rerun *rerun);

/* ---- bus.c ---- */
void bus_rerun_due(struct rerun *rerun, uint64_t at_us);

#endif
