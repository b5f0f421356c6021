/* The broker's process: workers with their mailboxes and sessions, on a simulated disk. It can be started, turned, ended in good order, or killed. */
#ifndef SIM_SIM_BROKER_H
#define SIM_SIM_BROKER_H

#include "broker/broker.h"
#include "protocol/amqp/session.h"
#include "sim/plan.h"
#include "sim/sim_disk.h"
#include "sim/sim_net.h"

#define SIM_WORKERS_MAX 4u
#define SIM_MAILBOX_ROOM 4u

struct sim_worker;

/* The server's side of a connection. */
struct sim_session {
    struct sim_worker *worker;
    struct session *session;
    struct link *link;          /* the client's until the client is gone for good; then the session's own */
    bool look;                  /* fed, or told to be dirty */
    bool orphan;                /* the link is this struct's */
    unsigned client;
    struct sim_session *next;
};

struct sim_mailbox {
    struct batch *batches[SIM_MAILBOX_ROOM];
    unsigned first, count;
};

struct sim_broker;

struct sim_worker {
    struct worker_port port;
    struct session_host host;
    struct sim_broker *broker;
    struct worker *worker;
    unsigned index;
    struct sim_session *sessions;
    struct sim_mailbox from[SIM_WORKERS_MAX];   /* by sender */
    bool busy;                  /* worker_turn said that there is more to do */
};

/* What lives in the process beside AMQP's sessions. */
struct sim_lodgers {
    void *owner;
    bool (*made)(void *owner);                        /* there are workers, and the broker is about to open. False: out of memory */
    bool (*before_turn)(void *owner, unsigned worker);   /* these two: true: something happened */
    bool (*after_turn)(void *owner, unsigned worker);
    bool (*at_rest)(const void *owner);
    uint64_t (*deadline)(const void *owner);
    void (*ending)(void *owner);                      /* nobody calls them any more; the broker closes, and goes */
    void (*ended)(void *owner);
};

struct sim_broker {
    const struct plan *plan;
    struct random *random;
    struct trace *trace;
    struct sim_disk *disk;
    const struct sim_lodgers *lodgers;   /* NULL: there are none */
    struct alarm_sink alarms;
    uint64_t alarm_count;       /* warnings and errors */
    struct session_config sessions;
    struct broker *broker;      /* NULL: not running */
    struct sim_worker workers[SIM_WORKERS_MAX];
    unsigned worker_count;
    bool calm;                  /* mailboxes always have room, bytes arrive whole */
    bool closing;               /* one thread again: batches arrive at once */
    char why[512];
};

void sim_broker_init(struct sim_broker *broker, const struct plan *plan, struct random *random, struct trace *trace, struct sim_disk *disk);

/* Starts the process. On an error everything is freed again and `why` says what was said. */
enum gw_err sim_broker_start(struct sim_broker *broker);

/* Ends it in good order: sessions are gone, everything is at rest. */
enum gw_err sim_broker_close(struct sim_broker *broker);

/* Throws everything in memory away; the disk has stopped already. */
void sim_broker_kill(struct sim_broker *broker);

/* A client has connected. False: refused. */
bool sim_broker_accept(struct sim_broker *broker, struct link *link, unsigned client);

/* The client forgets its link: it is copied, and what the server still does with it leads nowhere. */
void sim_broker_orphan(struct sim_broker *broker, struct link *link);

/* One loop turn of one worker. True: something happened. */
bool sim_broker_turn(struct sim_broker *broker, unsigned worker);

/* Nothing is under way: no bytes, batches or disk operations, and no worker wants another turn at once. */
bool sim_broker_at_rest(const struct sim_broker *broker);

/* The earliest time at which a worker or a session wants a turn; UINT64_MAX: none. */
uint64_t sim_broker_deadline(const struct sim_broker *broker);

/* Time passes until something is due (a second at most), when nothing else happens. */
void sim_broker_jump(const struct sim_broker *broker);

/* Tells a verbose trace what everybody is doing. */
void sim_broker_note(const struct sim_broker *broker);

unsigned sim_broker_sessions(const struct sim_broker *broker);

#endif
