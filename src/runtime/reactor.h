/* A reactor: a thread with an event loop, the connections that it accepted, and an owner who has a turn after each look at the sockets.
 *
 * A turn: sockets are read (at most once each) and sessions get their bytes → the owner's `turn` → everything that sessions have
 * to say leaves, in one write a connection → sleep until something happens or a deadline passes. */
#ifndef RUNTIME_REACTOR_H
#define RUNTIME_REACTOR_H

#include "base/err.h"
#include "io/alarm.h"
#include "runtime/connection.h"
#include "runtime/wake.h"

#include <stdatomic.h>
#include <stdint.h>
#include <uv.h>

struct reactor;
struct tls_keys;

/* How many connections all reactors together may have; more wait in the kernel until one closes. Leave descriptors for files. */
struct connection_budget {
    atomic_uint used;
    unsigned limit;
};

struct reactor_config {
    /* The owner's share of a turn. `now_us`: monotonic microseconds. Answers when it wants another turn at the latest: UINT64_MAX never,
     * anything up to now_us for at once (after another look at the sockets). */
    uint64_t (*turn)(void *owner, uint64_t now_us);
    void *owner;
    size_t tail_max;                     /* bytes that a session may leave unconsumed; default 256 KiB when 0 */
    unsigned handshake_ms;               /* how long TLS may take to be agreed on; default 10000 when 0 */
    unsigned linger_ms;                  /* how long a connection that is finished may take to close; default 3000 when 0 */
    /* May one more connection come from there? Its *place is given to `leave` when it is closed, whatever comes of it. NULL: all may. */
    bool (*enter)(void *owner, const struct sockaddr *peer, void **place);
    void (*leave)(void *owner, void *place);
    struct connection_budget *budget;    /* shared, borrowed; NULL: as many as there are descriptors */
    struct alarm_sink *alarms;           /* thread-safe, borrowed; may be NULL */
};

/* NULL: out of memory or descriptors. */
struct reactor *reactor_new(const struct reactor_config *config);

/* Runs the loop until every handle on it is closed (those of disks too), then frees. Not while it runs. */
void reactor_free(struct reactor *reactor);

/* Accepts connections on `address` for `events` (borrowed); `owner` is given to events->accepted. Before it runs, or on its thread.
 * The reactors of one program listen on the same address each, and the kernel spreads connections over them.
 * GW_ERR_EXISTS when somebody else listens there (listener_probe), GW_ERR_PERMISSION, GW_ERR_INVALID (no such address here), GW_ERR_LIMIT … */
enum gw_err reactor_listen(struct reactor *reactor, const struct sockaddr *address, const struct connection_events *events, void *owner);

/* The same with TLS; `keys` are borrowed for the reactor's life. */
enum gw_err reactor_listen_sealed(struct reactor *reactor, const struct sockaddr *address, struct tls_keys *keys, const struct connection_events *events, void *owner);

/* Runs on this thread until reactor_stop; then all connections have been closed. */
void reactor_run(struct reactor *reactor);

/* The same on a thread of its own. GW_ERR_LIMIT: no more threads. */
enum gw_err reactor_start(struct reactor *reactor);
void reactor_join(struct reactor *reactor);

/* ---- From any thread ---- */

/* Makes it have a turn soon. */
void reactor_wake(struct reactor *reactor);

/* ---- On its thread ---- */

/* Closes its listeners; connections go on. */
void reactor_stop_accepting(struct reactor *reactor);

/* Ends reactor_run after this turn: connections are closed as they are. */
void reactor_stop(struct reactor *reactor);

/* Another turn of the owner's without sleeping before it: something was left to do after the owner's turn (in `sent` or `closed`). */
void reactor_again(struct reactor *reactor);

/* Monotonic microseconds, read at most once a turn. */
uint64_t reactor_now(struct reactor *reactor);

/* Connections, those that are still closing included. */
unsigned reactor_connections(const struct reactor *reactor);

/* For disks and signals, and for mailboxes that wake it. */
uv_loop_t *reactor_loop(struct reactor *reactor);
struct wake *reactor_wake_handle(struct reactor *reactor);

#endif
