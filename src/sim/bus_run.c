#include "sim/bus_run.h"

#include "base/err.h"
#include "bus/bus.h"
#include "sim/bus_hand.h"
#include "sim/bus_sink.h"
#include "sim/sim_fate.h"

#include <inttypes.h>
#include <stdlib.h>

#define SECOND_US 1000000ull
#define DAY_US (86400 * SECOND_US)
#define IDLE_STEPS 64u               /* fruitless ones in a row: all is at rest */
#define REST_JUMPS 4u                /* in a row: what is not urgent is written down, too */
#define STEPS_MAX 200000u            /* of one round */
#define REST_STEPS_MAX 2000000u
#define END_JUMPS_MAX 5000u           /* until everything must have been posted */
#define PAST_US 1000000u             /* how long after a deadline time jumps to, at the most */

struct bus_run {
    const struct sim_options *options;
    struct random random;
    struct trace *trace;
    struct bus_plan plan;
    struct bus_model model;
    struct sim_disk *disk;
    struct sim_broker broker;
    struct sim_lodgers lodgers;
    struct bus *buses[SIM_WORKERS_MAX];
    struct bus_sinks sinks;
    struct bus_hands hands;
    struct bus_jobs jobs;
    struct bus_listeners listeners;
    unsigned idle;
    bool calm;
};

/* ---- what lives beside the broker --------------------------------------------------------------------------------------------- */

static bool on_made(void *owner)
{
    struct bus_run *run = owner;
    bus_doors_made(&run->hands.doors);
    for (unsigned i = 0; i < run->broker.worker_count; i++) {
        struct outgoing_sender *sender = &run->sinks.sender.sender;
        run->buses[i] = bus_new(run->broker.workers[i].worker, run->broker.worker_count, &(struct bus_senders){{sender, sender}, {sender, sender}});
        CHECK(run->buses[i]);
        run->hands.doors.houses[i].hall.bus = run->buses[i];
    }
    run->hands.is_ending = false;
    return true;
}

static bool on_before_turn(void *owner, unsigned worker)
{
    struct bus_run *run = owner;
    bool happened = bus_doors_before_turn(&run->hands.doors, worker);
    happened |= bus_deadline(run->buses[worker]) <= run->trace->now_us;
    bus_tick(run->buses[worker], run->trace->now_us);
    for (unsigned i = 0; i < run->plan.slots; i++) {
        char id[16];
        snprintf(id, sizeof(id), "s%u", i);
        if (run->model.slots[i] && bus_place(bytes_of_text("/"), bytes_of_text(id), run->broker.worker_count) == worker)
            run->model.slots[i]->is_blurred = false;
    }
    return happened;
}

static bool on_after_turn(void *owner, unsigned worker) { return bus_doors_after_turn(&((struct bus_run *)owner)->hands.doors, worker); }

static bool on_at_rest(const void *owner)
{
    const struct bus_run *run = owner;
    for (unsigned i = 0; i < run->broker.worker_count; i++)
        if (bus_deadline(run->buses[i]) <= run->trace->now_us)
            return false;
    return bus_doors_at_rest(&run->hands.doors) && bus_sinks_deadline(&run->sinks) > run->trace->now_us;
}

static uint64_t on_deadline(const void *owner)
{
    const struct bus_run *run = owner;
    uint64_t earliest = bus_doors_deadline(&run->hands.doors), deadline = bus_sinks_deadline(&run->sinks);
    earliest = deadline < earliest ? deadline : earliest;
    for (unsigned i = 0; i < run->broker.worker_count; i++) {
        deadline = bus_deadline(run->buses[i]);
        earliest = deadline < earliest ? deadline : earliest;
    }
    return earliest;
}

static void on_ending(void *owner)
{
    struct bus_run *run = owner;
    run->hands.is_ending = true;
    bus_doors_ending(&run->hands.doors);
    for (unsigned i = 0; i < run->broker.worker_count; i++) {
        bus_free(run->buses[i]);
        run->buses[i] = run->hands.doors.houses[i].hall.bus = NULL;   /* letters of other halls are read until the broker is closed */
    }
}

static void on_ended(void *owner)
{
    struct bus_run *run = owner;
    for (unsigned i = 0; i < run->broker.worker_count; i++) {
        bus_free(run->buses[i]);   /* where it was never opened */
        run->buses[i] = run->hands.doors.houses[i].hall.bus = NULL;
    }
    bus_doors_ended(&run->hands.doors);
}

/* ---- life and death --------------------------------------------------------------------------------------------------------------- */

/* At which operation of the disk the process is to die for the first time; 0: nobody says. */
static uint64_t crash_at(const struct bus_run *run) { return run->model.epoch == 1 ? run->options->crash_at : 0; }

static void trouble(struct bus_run *run, bool on)
{
    run->calm = !on;
    sim_fate_trouble(&run->broker, on, crash_at(run));
}

static void start(struct bus_run *run)
{
    run->calm = true;
    sim_fate_start(&run->broker, crash_at(run));
}

static void crash(struct bus_run *run)
{
    bool power = random_chance(&run->random, 1, 2);
    sim_disk_stop(run->disk);
    trace_event(run->trace, TRACE_BROKER_CRASH, power, 0, 0, 0);
    sim_broker_kill(&run->broker);
    bus_restart(&run->model);
    sim_disk_restart(run->disk, power);
    start(run);
}

static void close_cleanly(struct bus_run *run)
{
    sim_fate_close(&run->broker);
    bus_restart(&run->model);
    sim_disk_restart(run->disk, random_chance(&run->random, 1, 2));
}

/* ---- steps -------------------------------------------------------------------------------------------------------------------------- */

static bool anybody_waits(const struct bus_run *run)
{
    for (unsigned i = 0; i < run->hands.doors.count; i++)
        if (bus_door_is_pressing(&run->hands.list[i]))
            return true;
    return false;
}

static bool read_door(struct bus_run *run, unsigned door)
{
    unsigned listener = door - (run->hands.doors.count - run->listeners.count);
    return listener < run->listeners.count ? bus_listener_read(&run->listeners.list[listener]) : bus_door_read(&run->hands.list[door]);
}

static void step(struct bus_run *run)
{
    bool happened = false;
    run->trace->now_us += random_below(&run->random, 20);
    switch (random_below(&run->random, 8)) {
    case 0: case 1: case 2:
        happened = sim_broker_turn(&run->broker, (unsigned)random_below(&run->random, run->broker.worker_count));
        break;
    case 3: case 4:
        happened = sim_disk_step(run->disk);
        break;
    case 5:
        happened = bus_sinks_step(&run->sinks);
        break;
    default:
        happened = read_door(run, (unsigned)random_below(&run->random, run->hands.doors.count));
    }
    run->idle = happened ? 0 : run->idle + 1;
}

/* Somebody thinks of something to ask. */
static void act(struct bus_run *run)
{
    if (random_below(&run->random, 4096) < run->plan.change)
        bus_hand_keep(&run->hands.keepers[random_below(&run->random, run->plan.slots)]);
    else if (run->plan.workers && random_chance(&run->random, 1, 60))
        bus_job_act(&run->jobs.workers[random_below(&run->random, run->plan.workers)]);
    else if (run->plan.listeners && random_chance(&run->random, 1, 400))
        bus_listener_act(&run->listeners.list[random_below(&run->random, run->plan.listeners)]);
    else if (random_chance(&run->random, 1, 24))
        bus_hand_publish(&run->hands.publishers[random_below(&run->random, run->plan.publishers)]);
}

/* Time jumps: just behind what is due next, or by any time at all. Not while somebody waits for an answer, which would come too late. */
static void jump(struct bus_run *run)
{
    uint64_t deadline = sim_broker_deadline(&run->broker), now_us = run->trace->now_us;
    if (anybody_waits(run))
        return;
    for (unsigned i = 0; i < run->hands.doors.count; i++)
        if (random_chance(&run->random, 1, 8))
            bus_door_close(&run->hands.list[i]);
    if (random_chance(&run->random, 2, 3) && deadline > now_us && deadline - now_us < run->plan.jump_us)
        run->trace->now_us = deadline + random_below(&run->random, random_chance(&run->random, 1, 2) ? 10 : PAST_US);
    else
        run->trace->now_us += random_size(&run->random, run->plan.jump_us);
}

static void work(struct bus_run *run, uint64_t until_ops)
{
    trace_event(run->trace, TRACE_PHASE, 1, until_ops, 0, 0);
    trouble(run, true);
    run->sinks.calm = false;
    for (uint64_t steps = 0; run->hands.ops + run->model.posted < until_ops && !run->trace->failed && steps < STEPS_MAX; steps++) {
        act(run);
        step(run);
        if (sim_disk_stopped(run->disk)) {
            crash(run);
            if (!run->trace->failed)
                trouble(run, true);
        }
        if (random_below(&run->random, 4096) < run->plan.jump)
            jump(run);
    }
}

/* Until nothing moves any more, and nobody waits for an answer: first at this time, then for long enough that what is not urgent is on disk, too, with sinks that say nothing meanwhile. */
static void rest(struct bus_run *run)
{
    uint64_t steps = 0;
    unsigned jumps = 0;
    bool held = run->sinks.is_held;
    run->idle = 0;
    while (!run->trace->failed) {
        if (run->idle >= IDLE_STEPS && sim_broker_at_rest(&run->broker) && !anybody_waits(run)) {
            if (++jumps > REST_JUMPS)
                break;
            run->sinks.is_held = true;
            sim_broker_jump(&run->broker);
            run->idle = 0;
        }
        step(run);
        if (++steps > REST_STEPS_MAX) {
            trace_fail(run->trace, "progress", "after %" PRIu64 " steps without faults %s", steps, anybody_waits(run) ? "somebody still waits for an answer" : "there is no rest");
            sim_broker_note(&run->broker);
        } else if (run->idle >= 4 * IDLE_STEPS) {
            sim_broker_jump(&run->broker);   /* something wants time to pass */
            run->idle = 0;
        }
    }
    run->sinks.is_held = held;
    if (run->trace->failed)
        return;
    bus_quiet(&run->model);
    bus_jobs_quiet(&run->jobs);
}

static void ask_all(struct bus_run *run, bool (*ask)(struct bus_hand *keeper))
{
    for (unsigned i = 0; i < run->plan.slots; i++)
        ask(&run->hands.keepers[i]);
    rest(run);
}

static bool read_log(struct bus_hand *keeper)
{
    bus_hand_read_log(keeper);
    return true;
}

static void look_around(struct bus_run *run)
{
    trace_event(run->trace, TRACE_PHASE, 3, 0, 0, 0);
    trouble(run, false);
    rest(run);
    for (unsigned i = 0; i < 2 && !run->trace->failed; i++)   /* what is known after the first time may settle something for the second */
        ask_all(run, bus_hand_find_out);
    run->sinks.is_held = true;   /* so that the log is still true when it is read */
    if (!run->trace->failed)
        ask_all(run, read_log);
    run->sinks.is_held = false;
}

/* ---- the end --------------------------------------------------------------------------------------------------------------------------- */

static bool anything_is_owed(const struct bus_run *run)
{
    for (unsigned i = 0; i < run->plan.slots; i++)
        if (run->model.slots[i] && bus_is_owed(&run->model, run->model.slots[i]))
            return true;
    for (unsigned i = 0; i < run->plan.slots; i++)
        if (run->model.slots[i] && run->model.slots[i]->replay.is_asked && !run->model.slots[i]->is_leaving && !run->model.slots[i]->ended)
            return true;
    return run->sinks.count > 0;
}

/* Tells a verbose trace how it goes with a subscription. */
static void note(const struct bus_run *run, unsigned slot)
{
    char id[16], *text = NULL;
    snprintf(id, sizeof(id), "s%u", slot);
    for (unsigned i = 0; i < run->broker.worker_count && !text; i++)
        text = bus_describe(run->buses[i], bytes_of_text("/"), bytes_of_text(id), false);
    trace_note(run->trace, "subscription s%u: %s", slot, text ? text : "nobody drains it");
    free(text);
}

/* No lease lasts any more, and everything that is there is taken. */
static void finish_jobs(struct bus_run *run)
{
    struct bus_worker *worker = &run->jobs.workers[0];
    run->trace->now_us += 2 * BUS_LEASE_MAX_S * SECOND_US;
    rest(run);
    for (worker->found = true; worker->found && !run->trace->failed;) {
        worker->door->is_patient = false;
        bus_job_take(worker);
        rest(run);
    }
    if (!run->trace->failed)
        bus_jobs_check_end(&run->jobs);
}

/* With all sinks in a good mood everything comes to its end, in days. */
static void finish(struct bus_run *run)
{
    trace_event(run->trace, TRACE_PHASE, 4, 0, 0, 0);
    run->sinks.calm = true;
    look_around(run);
    if (!run->trace->failed)
        ask_all(run, bus_hand_resume);
    for (unsigned jumps = 0; jumps < END_JUMPS_MAX && !run->trace->failed && (jumps < 8 || anything_is_owed(run));) {
        uint64_t now_us = run->trace->now_us, deadline = bus_sinks_deadline(&run->sinks), most_us = jumps < 17 ? SECOND_US << jumps : DAY_US;
        for (unsigned k = 0; k < run->hands.doors.count; k++)
            bus_door_close(&run->hands.list[k]);
        if (deadline <= now_us + most_us) {   /* a sink has only to answer */
            run->trace->now_us = deadline > now_us ? deadline : now_us;
        } else {
            deadline = sim_broker_deadline(&run->broker);
            run->trace->now_us = deadline > now_us && deadline - now_us < most_us && jumps % 4 ? deadline : now_us + most_us;
            jumps++;
        }
        rest(run);
        if (jumps % 4 == 3 && !run->trace->failed)
            ask_all(run, bus_hand_look_at_replay);
    }
    for (unsigned i = 0; i < run->plan.slots && !run->trace->failed; i++) {
        struct bus_hand *keeper = &run->hands.keepers[i];
        struct bus_life *life = run->model.slots[i];
        keeper->dead_count = 0;
        if (!life || life->is_leaving)
            continue;
        note(run, i);
        bus_hand_read_dead(keeper);
        rest(run);
        if (!run->trace->failed)
            bus_check_end(&run->model, life, keeper->dead, keeper->dead_count);
    }
    if (run->plan.workers && !run->trace->failed)
        finish_jobs(run);
    for (unsigned i = 0; i < run->plan.listeners && run->model.event_count && !run->trace->failed; i++) {
        if (!run->listeners.list[i].door->is_waiting)
            bus_listener_act(&run->listeners.list[i]);
        rest(run);
        if (!run->trace->failed)
            bus_listener_rested(&run->listeners.list[i]);
    }
}

/* ---- a seed ------------------------------------------------------------------------------------------------------------------------------- */

static void set_up(struct bus_run *run, const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    run->options = options;
    run->trace = trace;
    random_init(&run->random, seed);
    bus_plan_make(&run->plan, options, seed);
    bus_model_init(&run->model, &run->plan, trace);
    run->disk = sim_disk_new(&run->random, trace);
    sim_broker_init(&run->broker, &run->plan.base, &run->random, trace, run->disk);
    run->lodgers = (struct sim_lodgers){.owner = run, .made = on_made, .before_turn = on_before_turn, .after_turn = on_after_turn, .at_rest = on_at_rest, .deadline = on_deadline,
                                        .ending = on_ending, .ended = on_ended};
    run->broker.lodgers = &run->lodgers;
    bus_sinks_init(&run->sinks, &run->plan, &run->random, trace, &run->model);
    bus_hands_init(&run->hands, &run->plan, &run->random, trace, &run->model, &run->broker);
    bus_jobs_init(&run->jobs, &run->random, trace, &run->model.epoch, &run->hands.list[run->plan.publishers + run->plan.slots], run->plan.workers);
    bus_listeners_init(&run->listeners, &run->model, &run->random, &run->hands.list[run->plan.publishers + run->plan.slots + run->plan.workers], run->plan.listeners);
}

static void tear_down(struct bus_run *run)
{
    if (run->broker.broker) {
        sim_disk_stop(run->disk);
        sim_broker_kill(&run->broker);
    }
    bus_hands_deinit(&run->hands);
    bus_jobs_deinit(&run->jobs);
    bus_listeners_deinit(&run->listeners);
    bus_sinks_deinit(&run->sinks);
    sim_disk_free(run->disk);
    bus_model_deinit(&run->model);
}

uint64_t bus_run(const struct sim_options *options, uint64_t seed, struct trace *trace)
{
    struct bus_run *run = calloc(1, sizeof(*run));
    CHECK(run);
    set_up(run, options, seed, trace);
    start(run);
    if (run->plan.workers && !trace->failed) {
        bus_jobs_declare(&run->jobs, run->broker.workers[0].worker);
        rest(run);
        bus_jobs_declared(&run->jobs);
    }
    uint64_t done = 0;
    while (!trace->failed && (done = run->hands.ops + run->model.posted) < options->ops) {
        uint64_t left = options->ops - done, round = random_between(&run->random, 100, 1500);
        work(run, done + (round < left ? round : left));
        if (!trace->failed)
            look_around(run);
        if (trace->failed)
            break;
        switch (random_below(&run->random, 3)) {
        case 0:
            close_cleanly(run);
            start(run);
            break;
        case 1:
            if (run->plan.base.crashes)
                crash(run);
            break;
        default: break;
        }
    }
    if (!trace->failed)
        finish(run);
    if (!trace->failed)
        close_cleanly(run);
    tear_down(run);
    free(run);
    return done;
}
