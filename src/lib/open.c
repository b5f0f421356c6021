/* gw_open: an embedded bus on a data directory, whose disk is waited for by the loop. */
#include "host/host.h"
#include "lib/embedded.h"
#include "lib/uvloop.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define MOMENT_NS 1000000            /* where the disk has nothing to do, and yet something is waited for */

struct directory {
    struct house house;              /* first */
    struct gw_bus *bus;
    struct host *host;
    struct host_place *place;
    struct alarm_sink alarms;
    /* While it is closed aside: */
    pthread_t thread;
    bool has_thread;
    struct wake ended;               /* sent by the thread, at its end */
    uint64_t now_us;
    enum gw_err err;
    struct remark *remarks, **remarks_last;   /* the thread's, to be told when it has ended */
    void (*closed)(void *owner, int result);
    void *owner;
};

/* An alarm that was raised where nobody may be told. */
struct remark {
    struct remark *next;
    enum alarm_level level;
    char text[];
};

static struct directory *directory_of(struct house *house) { return (struct directory *)house; }

/* ---- the house ----------------------------------------------------------------------------------------------------------------------- */

static void on_clock(struct house *house, uint64_t now_us) { host_clock(directory_of(house)->place, now_us); }

static void on_wait(struct house *house, int timeout_ms)
{
    struct disk *disk = directory_of(house)->place->disk;
    if (disk && !disk_is_idle(disk))
        disk_wait_for(disk, timeout_ms);
    else
        nanosleep(&(struct timespec){.tv_nsec = MOMENT_NS}, NULL);
}

static int on_close(struct house *house, uint64_t now_us)
{
    struct directory *d = directory_of(house);
    enum gw_err err = host_close(d->host, now_us);
    host_end(d->host);
    host_free(d->host);
    free(d);
    return loop_result(err);
}

static bool on_is_idle(struct house *house)
{
    const struct disk *disk = directory_of(house)->place->disk;
    return !disk || disk_is_idle(disk);
}

static void on_forked(struct house *house) { host_forked(directory_of(house)->host); }

/* ---- what the operator would be told ---------------------------------------------------------------------------------------------------- */

static void tell(struct directory *d, enum alarm_level level, const char *text)
{
    static const enum gw_notice_level levels[] = {[ALARM_INFO] = GW_NOTICE_INFO, [ALARM_WARNING] = GW_NOTICE_WARNING, [ALARM_ERROR] = GW_NOTICE_ERROR};
    bus_notice(d->bus, levels[level], "%s", text);
}

static void on_alarm(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct directory *d = (struct directory *)(void *)((char *)sink - offsetof(struct directory, alarms));
    if (!d->closed) {
        tell(d, level, text);
        return;
    }
    struct remark *remark = malloc(sizeof(*remark) + strlen(text) + 1);
    if (!remark)
        return;
    *remark = (struct remark){.level = level};
    strcpy(remark->text, text);
    *d->remarks_last = remark;
    d->remarks_last = &remark->next;
}

/* ---- closing it aside -------------------------------------------------------------------------------------------------------------------- */

/* The broker writes what it has in memory, and waits for the disk, all of it on its own. */
static void *close_host(void *argument)
{
    struct directory *d = argument;
    d->err = host_close(d->host, d->now_us);
    wake_send(&d->ended);
    return NULL;
}

static void on_wake_closed(struct wake *wake) { free((char *)wake - offsetof(struct directory, ended)); }

static void on_ended(struct wake *wake)
{
    struct directory *d = (struct directory *)(void *)((char *)wake - offsetof(struct directory, ended));
    if (d->has_thread)
        pthread_join(d->thread, NULL);
    for (struct remark *remark; (remark = d->remarks);) {
        d->remarks = remark->next;
        tell(d, remark->level, remark->text);
        free(remark);
    }
    host_end(d->host);
    host_free(d->host);
    int result = loop_result(d->err);
    d->closed(d->owner, result);
    wake_close(&d->ended, on_wake_closed);
}

/* Signals belong to the program's threads. */
static void start_thread(struct directory *d)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    d->has_thread = pthread_create(&d->thread, NULL, close_host, d) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void on_close_aside(struct house *house, uint64_t now_us, void (*closed)(void *owner, int result), void *owner)
{
    struct directory *d = directory_of(house);
    d->remarks_last = &d->remarks;
    d->now_us = now_us;
    d->owner = owner;
    if (!d->place->disk || wake_init(&d->ended, uvloop_of(d->bus->loop)->uv, on_ended) != GW_OK) {
        closed(owner, on_close(house, now_us));
        return;
    }
    disk_leave_loop(d->place->disk);
    d->closed = closed;
    start_thread(d);
    if (!d->has_thread)
        close_host(d);
}

static const struct house_ops house_ops = {.clock = on_clock, .wait = on_wait, .close = on_close, .close_aside = on_close_aside, .is_idle = on_is_idle, .forked = on_forked};

/* ---- opening ---------------------------------------------------------------------------------------------------------------------------- */

static int open_host(struct directory *d, const char *path, const gw_open_options *options)
{
    struct gw_loop *loop = d->bus->loop;
    bool keeps = strcmp(path, ":memory:") != 0;
    char why[500] = "";
    const struct host_loop loops[] = {{.uv = uvloop_of(loop)->uv}};
    struct broker_config broker = {
        .shards = options->shards, .log_body = keeps ? LOG_FILE : LOG_MEMORY, .memory_per_worker = options->memory_bytes ? options->memory_bytes : EMBEDDED_MEMORY,
        .disk_free_limit = options->disk_free_bytes, .alarms = &d->alarms, .shards_when_new = 1};
    const struct host_config config = {.directory = keeps ? path : NULL, .disk_mode = options->without_uring ? DISK_MODE_THREADS : DISK_MODE_AUTO, .loops = loops, .count = 1,
                                       .broker = &broker};
    enum gw_err err = host_new(&config, why, sizeof(why), &d->host);
    if (err)
        return loop_fail(loop, loop_result(err), "%s", why);
    d->place = host_place(d->host, 0);
    d->house.worker = d->place->worker;
    host_clock(d->place, loop_clock(loop));
    err = host_open(d->host, why, sizeof(why));
    if (!err)
        return GW_DONE;
    host_end(d->host);
    host_free(d->host);
    return loop_fail(loop, loop_result(err), "cannot open data directory %s: %s", path, why[0] ? why : gw_err_text(err));
}

static int open_bus(struct gw_bus *bus, const char *path, const gw_open_options *options)
{
    struct directory *d = malloc(sizeof(*d));
    if (!d)
        return loop_fail(bus->loop, GW_E_MEMORY, "out of memory");
    *d = (struct directory){.house.ops = &house_ops, .bus = bus, .alarms.raise = on_alarm};
    int result = open_host(d, path, options);
    if (result == GW_DONE)
        return embedded_open(bus, &d->house, options);
    free(d);
    return result;
}

gw_bus *gw_open(gw_loop *loop, const char *directory, const gw_open_options *options)
{
    static const gw_open_options defaults;
    if (loop_check(loop) != GW_DONE)
        return NULL;
    if (!directory || !directory[0]) {
        loop_fail(loop, GW_E_INVALID, "which directory is to be opened is not said; \":memory:\" keeps nothing");
        return NULL;
    }
    if (!options)
        options = &defaults;
    struct gw_bus *bus = bus_begin(loop, options->notice, options->notice_context);
    int result = bus ? open_bus(bus, directory, options) : GW_E_MEMORY;
    if (result == GW_DONE)
        return bus;
    if (bus)
        bus_abandon(bus, result);
    return NULL;
}
