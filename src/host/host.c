#include "host/host.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define MAILBOX_SIZE 256u            /* batches that one place may have under way to another */
#define CLOCK_TOLD_US 100000u
#define CLOSING_ROUNDS_MAX 10000u

struct host {
    struct directory *directory;
    struct broker *broker;
    unsigned count;
    struct host_place places[];
};

/* ---- making it --------------------------------------------------------------------------------------------------------------------- */

static bool post(struct worker_port *port, unsigned to, struct batch *batch)
{
    return mailbox_put(((struct host_place *)port)->out[to], batch);
}

static enum gw_err no_memory(char *why, unsigned room)
{
    snprintf(why, room, "out of memory");
    return GW_ERR_NOMEM;
}

static enum gw_err make_mailboxes(struct host *host, const struct host_config *config, char *why, unsigned room)
{
    for (unsigned to = 0; to < host->count; to++)
        for (unsigned from = 0; from < host->count; from++) {
            if (from == to)
                continue;
            struct mailbox *mailbox = mailbox_new(MAILBOX_SIZE, config->loops[to].wake, config->loops[from].wake);
            if (!mailbox)
                return no_memory(why, room);
            host->places[to].in[from] = host->places[from].out[to] = mailbox;
        }
    return GW_OK;
}

static enum gw_err make_broker(struct host *host, const struct host_config *config, char *why, unsigned room)
{
    uint8_t random[32];
    char name[64] = "localhost", node[80];
    struct broker_config broker = *config->broker;
    gethostname(name, sizeof(name) - 1);
    snprintf(node, sizeof(node), "godwit@%s", name);
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        snprintf(why, room, "the system gives no random numbers");
        return GW_ERR_IO;
    }
    broker.workers = host->count;
    broker.node = node;
    broker.random = random;
    host->broker = broker_new(&broker);
    if (!host->broker)
        return no_memory(why, room);
    for (unsigned i = 0; i < host->count; i++) {
        struct host_place *place = &host->places[i];
        place->worker = worker_new(host->broker, i, place->disk, &place->port);
        if (!place->worker)
            return no_memory(why, room);
    }
    return GW_OK;
}

static enum gw_err make_disks(struct host *host, const struct host_config *config, char *why, unsigned room)
{
    if (!config->directory)
        return GW_OK;
    enum gw_err err = directory_open(config->directory, why, room, &host->directory);
    for (unsigned i = 0; !err && i < host->count; i++) {
        err = disk_open(config->loops[i].uv, host->directory, config->disk_mode, &host->places[i].disk);
        if (err)
            snprintf(why, room, "cannot start the disk's threads: %s", gw_err_text(err));
    }
    return err;
}

enum gw_err host_new(const struct host_config *config, char *why, unsigned room, struct host **made)
{
    CHECK(config->count >= 1 && config->count <= HOST_PLACES_MAX);
    struct host *host = calloc(1, sizeof(*host) + config->count * sizeof(host->places[0]));
    if (!host)
        return no_memory(why, room);
    host->count = config->count;
    for (unsigned i = 0; i < host->count; i++) {
        host->places[i].port.post = post;
        host->places[i].host = host;
        host->places[i].index = i;
    }
    enum gw_err err = make_disks(host, config, why, room);
    if (!err)
        err = make_mailboxes(host, config, why, room);
    if (!err)
        err = make_broker(host, config, why, room);
    if (err) {
        host_end(host);
        host_free(host);
        return err;
    }
    *made = host;
    return GW_OK;
}

enum gw_err host_open(struct host *host, char *why, unsigned room) { return broker_open(host->broker, why, room); }

struct host_place *host_place(struct host *host, unsigned index) { return &host->places[index]; }

/* ---- its turns ------------------------------------------------------------------------------------------------------------------------- */

bool host_receive(struct host_place *place)
{
    bool any = false;
    for (unsigned from = 0; from < place->host->count; from++) {
        struct batch *batch;
        while (place->in[from] && (batch = mailbox_take(place->in[from]))) {
            worker_receive(place->worker, batch);
            any = true;
        }
    }
    return any;
}

static uint64_t microseconds(const struct timespec *time) { return (uint64_t)time->tv_sec * 1000000u + (uint64_t)time->tv_nsec / 1000u; }

void host_clock(struct host_place *place, uint64_t now_us)
{
    struct timespec wall, monotonic;
    /* The turn's own time is some time ago already, so both clocks are read. */
    if (now_us < place->clock_us || clock_gettime(CLOCK_REALTIME, &wall) || clock_gettime(CLOCK_MONOTONIC, &monotonic))
        return;
    place->clock_us = now_us + CLOCK_TOLD_US;
    worker_set_clock(place->worker, microseconds(&wall) - (microseconds(&monotonic) - now_us), now_us);
}

void host_post(struct host_place *place)
{
    for (unsigned to = 0; to < place->host->count; to++)
        if (place->out[to])
            mailbox_post(place->out[to]);
}

/* ---- the end ---------------------------------------------------------------------------------------------------------------------------- */

enum gw_err host_close(struct host *host, uint64_t now_us)
{
    bool more = true;
    for (unsigned round = 0; more && round < CLOSING_ROUNDS_MAX; round++) {
        more = false;
        for (unsigned i = 0; i < host->count; i++) {
            more |= host_receive(&host->places[i]);
            more |= worker_turn(host->places[i].worker, now_us);
        }
    }
    return broker_close(host->broker);
}

void host_end(struct host *host)
{
    if (!host)
        return;
    broker_free(host->broker);
    host->broker = NULL;
    for (unsigned i = 0; i < host->count; i++) {
        if (host->places[i].disk)
            disk_close(host->places[i].disk);
        host->places[i].disk = NULL;
    }
}

void host_free(struct host *host)
{
    if (!host)
        return;
    for (unsigned to = 0; to < host->count; to++)
        for (unsigned from = 0; from < host->count; from++)
            mailbox_free(host->places[to].in[from]);
    directory_close(host->directory);
    free(host);
}

void host_forked(struct host *host)
{
    directory_forked(host->directory);
    host->directory = NULL;
}
