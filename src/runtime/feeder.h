/* Feeds (io/feed.h) on a libuv loop: libcurl, files with inotify, sockets, processes, signals. One thread. */
#ifndef RUNTIME_FEEDER_H
#define RUNTIME_FEEDER_H

#include "io/feed.h"

#include <sys/socket.h>
#include <uv.h>

struct feeder_set;
struct feeding_kind;

struct feeder_config {
    uv_loop_t *loop;
    /* Why an address may not be connected to by HTTP or AMQP; NULL: it may. `reach` as the request says. NULL instead of a function: all may. */
    const char *(*refusal)(void *owner, enum feed_reach reach, const struct sockaddr *address);
    /* Something was told: whoever heard of it may have something to do. */
    void (*told)(void *owner);
    void *owner;
    const char *authorities;         /* a file of certificates that https servers' may come from, beside the system's; NULL: none. Borrowed */
    const struct feeding_kind *amqp; /* FEED_AMQP, which a layer above knows how to do; NULL: there is no such kind */
};

/* libcurl's beginning: before the first set, as often as one likes. False: it does not want to. */
bool feeder_prepare(void);

/* NULL: out of memory. */
struct feeder_set *feeder_set_new(const struct feeder_config *config);
struct feeder *feeder_set_io(struct feeder_set *set);
/* No feed is under way any more. Its handles are closed when the loop has run again; the memory goes with the last of them. */
void feeder_set_free(struct feeder_set *set);

#endif
