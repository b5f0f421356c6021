#include "sim/handler_loop.h"

#include "lib/embedded.h"
#include "lib/handler.h"

#include <stdio.h>

#define TICK_US 4000u                /* of the clock that costs next to nothing */
#define MOMENT_US 1000u
#define FRUITLESS_MAX 1000000u       /* of a thousand seconds: what is waited for does not come */
#define CLEARED_UP 3000u              /* … of three: the disk is no longer full */
#define TURNS_MAX 1000000u

static struct sim_loop *of(const struct gw_loop *loop) { return (struct sim_loop *)(uintptr_t)loop; }

/* ---- the loop -------------------------------------------------------------------------------------------------------------------- */

static int check(const struct gw_loop *loop) { return (void)loop, GW_DONE; }
static uint64_t now(const struct gw_loop *loop) { return of(loop)->trace->now_us; }
static uint64_t roughly(const struct gw_loop *loop) { return of(loop)->trace->now_us / TICK_US * TICK_US; }
static uint64_t wall_s(const struct gw_loop *loop) { return of(loop)->trace->now_us / 1000000; }
static void draw(struct gw_loop *loop, void *to, size_t size) { random_fill(of(loop)->random, to, size); }
static void keep_awake(struct gw_loop *loop) { loop->again_is_on = true; }

void sim_loop_begin(struct sim_loop *loop, struct random *random, struct trace *trace, struct sim_disk *disk)
{
    static const struct loop_ops ops = {.check = check, .clock = now, .clock_roughly = roughly, .wall_s = wall_s, .random = draw, .keep_awake = keep_awake};
    *loop = (struct sim_loop){.loop.ops = &ops, .random = random, .trace = trace, .disk = disk};
}

void sim_loop_end(struct sim_loop *loop) { loop_timers_deinit(&loop->loop.timers); }

bool sim_loop_turn(struct sim_loop *loop)
{
    void (*closed)(void *owner, int result) = random_chance(loop->random, 1, 4) ? loop->closed : NULL;
    if (closed) {
        loop->closed = NULL;
        closed(loop->closed_owner, GW_DONE);
    }
    loop->loop.now_us = loop->trace->now_us;
    loop->loop.again_is_on = false;
    loop->due_us = loop_turn(&loop->loop);
    return loop->loop.again_is_on || loop->due_us <= loop->trace->now_us;
}

/* ---- the house ------------------------------------------------------------------------------------------------------------------- */

static struct sim_loop *of_house(struct house *house) { return (struct sim_loop *)(void *)((char *)house - offsetof(struct sim_loop, house)); }

static void on_clock(struct house *house, uint64_t now_us) { (void)house, (void)now_us; }

/* The process has died, and what is waited for does not come: the library goes on to its end without it. */
static void lose_hope(struct gw_loop *loop)
{
    for (struct gw_bus *bus = loop->buses; bus; bus = bus->next) {
        if (bus->engine)
            embedded_of(bus)->failed = true;
        tickets_give_up(&bus->tickets, GW_E_STORAGE);
    }
}

static void on_wait(struct house *house, int timeout_ms)
{
    struct sim_loop *loop = of_house(house);
    if (sim_disk_stopped(loop->disk))
        lose_hope(&loop->loop);
    if (sim_disk_step(loop->disk)) {
        loop->trace->now_us += random_below(loop->random, 20);
        loop->fruitless = 0;
        return;
    }
    loop->trace->now_us += timeout_ms < 0 ? MOMENT_US : (uint64_t)timeout_ms * 1000 < MOMENT_US ? (uint64_t)timeout_ms * 1000 : MOMENT_US;
    CHECK(++loop->fruitless < FRUITLESS_MAX);
    if (loop->fruitless % CLEARED_UP == 0)
        sim_disk_set_capacity(loop->disk, UINT64_MAX);
}

/* The broker that lives in the house is ended by whoever began it. */
static int on_close(struct house *house, uint64_t now_us) { return (void)house, (void)now_us, GW_DONE; }

static void on_close_aside(struct house *house, uint64_t now_us, void (*closed)(void *owner, int result), void *owner)
{
    struct sim_loop *loop = of_house(house);
    (void)now_us;
    loop->closed = closed;
    loop->closed_owner = owner;
}

static bool on_is_idle(struct house *house) { return sim_disk_stopped(of_house(house)->disk) || !sim_disk_in_flight(of_house(house)->disk); }

static void on_forked(struct house *house) { (void)house; }

gw_bus *sim_loop_open(struct sim_loop *loop, struct worker *worker, const gw_open_options *options)
{
    static const struct house_ops ops = {.clock = on_clock, .wait = on_wait, .close = on_close, .close_aside = on_close_aside, .is_idle = on_is_idle, .forked = on_forked};
    loop->house = (struct house){&ops, worker};
    struct gw_bus *bus = bus_begin(&loop->loop, options->notice, options->notice_context);
    CHECK(bus);
    int result = embedded_open(bus, &loop->house, options);
    if (result == GW_DONE)
        return bus;
    bus_abandon(bus, result);
    return NULL;
}

gw_handler *sim_loop_drain(gw_bus *bus, const char *queue, gw_event_fn handle, void *context)
{
    struct plan plan = {.durable = true, .consumers = 1};
    snprintf(plan.queue, sizeof(plan.queue), "%s", queue);
    return handler_new(bus, &plan, handle, context);
}

bool sim_loop_is_back(const gw_event *event) { return event->state == EVENT_LATE; }
bool sim_loop_is_late(const struct sim_loop *loop, const gw_event *event) { return event->state == EVENT_LATE && event->due_us <= loop->loop.now_us; }

/* ---- the end --------------------------------------------------------------------------------------------------------------------- */

void sim_loop_die(struct sim_loop *loop)
{
    unsigned turns = 0;
    buses_close(&loop->loop, 0);
    for (struct gw_bus *bus; (bus = loop->loop.buses);) {
        bus->grace_us = 0;           /* one that was being closed has no time any more, either */
        lose_hope(&loop->loop);
        sim_loop_turn(loop);
        sim_disk_step(loop->disk);
        CHECK(++turns < TURNS_MAX);
    }
    sim_loop_end(loop);
}
